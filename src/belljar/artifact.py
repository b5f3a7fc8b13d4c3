"""What the code showed: a figure, a table, a chart, as bytes with a media type.

All of it is the guest's: the bytes may be anything, whatever their type says.  belljar never
looks into them.  Whoever shows them decides where: HTML and SVG can hold scripts.
"""

from __future__ import annotations

from ._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

# From the richest on; a type that is not here stands before the last.
_RANKS = (
    "text/html",
    "image/svg+xml",
    "image/png",
    "image/jpeg",
    "image/webp",
    "image/gif",
    "application/pdf",
    "text/latex",
    "text/markdown",
    "application/json",
)
_PLAIN = "text/plain"


class Artifact(Record):
    """One thing that the code showed.

    ``name`` is what the code calls it (``figure-1``), or empty.  ``representations`` are its
    forms: bytes by media type, the richest first.  ``metadata`` holds numbers and short texts
    such as ``width`` and ``height``.  All three are the guest's claims.
    """

    name: str
    representations: Mapping[str, bytes]
    metadata: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        forms = self.representations
        self.__dict__["representations"] = {kind: forms[kind] for kind in sorted(forms, key=_rank)}

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.representations.items())))

    def __repr__(self) -> str:
        sizes = ", ".join(f"{kind}: {len(data)}" for kind, data in self.representations.items())
        return f"Artifact({self.name!r}, {sizes} bytes)"

    @property
    def media_type(self) -> str:
        """The type of the richest representation, such as ``image/png``."""
        return next(iter(self.representations))

    @property
    def data(self) -> bytes:
        """The bytes of the richest representation."""
        return self.representations[self.media_type]

    @property
    def text(self) -> str:
        """The richest representation if it is text, else the plain one; empty without either.

        Bytes that are not UTF-8 are replaced.
        """
        kind = self.media_type if is_text(self.media_type) else _PLAIN
        return self.representations.get(kind, b"").decode("utf-8", "replace")


def is_text(media_type: str) -> bool:
    """Whether bytes of this type are text, in UTF-8."""
    return (
        media_type.startswith("text/")
        or media_type.endswith(("+json", ".json", "+xml"))
        or media_type in ("application/json", "application/xml", "application/javascript")
    )


def _rank(media_type: str) -> tuple[int, str]:
    if media_type.startswith("application/vnd.") and media_type.endswith(("+json", ".json")):
        return 0, media_type  # charts: Vega-Lite, Plotly
    if media_type in _RANKS:
        return 1 + _RANKS.index(media_type), media_type
    return len(_RANKS) + 1 + (media_type == _PLAIN), media_type

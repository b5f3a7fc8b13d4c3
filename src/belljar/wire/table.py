"""What the encoder is handed for a table: its parts, and what to call them in a message."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

__all__ = ["Table"]


class Table:
    """Parts of a table, each a value; ``places`` are their paths below the table's."""

    __slots__ = ("parts", "places")

    def __init__(self, parts: Sequence[Any], places: Sequence[str] = ()) -> None:
        self.parts = parts
        self.places = places or [""] * len(parts)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.parts)

"""``belljar run --save-files DIR``: what the program made in ``/work``, on the host's disk."""

from __future__ import annotations

import os

from ..errors import PolicyError
from . import streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..files import Saved
    from ..result import Result

MOST_LEFT_OUT = 10  # told; --json has them all, as files that were not saved


def check_directory(path: str) -> None:
    """Before anything runs: whether there will be a place.  Raises ``PolicyError``."""
    try:
        full = bool(os.listdir(path))
    except FileNotFoundError:
        above = os.path.dirname(os.path.abspath(path))
        if not os.path.isdir(above):
            raise PolicyError("--save-files", f"there is no directory {above!r}") from None
        return
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise PolicyError("--save-files", f"{path!r}: {reason}") from None
    if full:
        text = f"{path!r} is not empty; the program chooses the names, so give it a new directory"
        raise PolicyError("--save-files", text)


def save(result: Result, path: str) -> Saved:
    """Write them, and say which were not; raises ``streams.OutputFailed`` where the disk fails."""
    try:
        saved = result.files.save_all(path)
    except OSError as error:
        raise streams.OutputFailed(path, error) from None
    told = list(saved.left_out.items())
    for name, reason in told[:MOST_LEFT_OUT]:
        streams.complain(streams.one_line(f"not saved: {name!r}: {reason}"))
    if len(told) > MOST_LEFT_OUT:
        streams.complain(f"not saved: {len(told) - MOST_LEFT_OUT} more")
    if not result.files.complete:
        streams.complain("not saved: files beyond those that are looked at")
    return saved

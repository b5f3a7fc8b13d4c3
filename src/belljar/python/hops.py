"""What decides which file a path names.

What: every symbolic link on the way of a path, and the file at its end, each by its own real
path.  Because: whoever may write where one of them lies chooses what is started by that path
the next time.  Then: a policy under which a guest could is refused.

Source: path_resolution(7).
"""

from __future__ import annotations

import os

__all__ = ["hops"]

_MOST_LINKS = 40  # MAXSYMLINKS: the kernel follows no more


def hops(path: str) -> tuple[str, ...]:
    """The links that resolving an absolute ``path`` follows, then where it leads.

    A part that is not there ends the way: what follows is taken as it is written.
    """
    todo = [part for part in path.split("/") if part][::-1]
    here = ""
    found: list[str] = []
    while todo:
        part = todo.pop()
        if part == ".":
            continue
        if part == "..":
            here = here.rpartition("/")[0]
            continue
        there = f"{here}/{part}"
        try:
            to = os.readlink(there) if len(found) < _MOST_LINKS else ""
        except OSError:
            to = ""
        if not to:
            here = there
            continue
        found.append(there)
        if to.startswith("/"):
            here = ""
        todo += [part for part in to.split("/") if part][::-1]
    return (*found, here or "/")

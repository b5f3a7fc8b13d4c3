"""Gives back an object whose every method is a trap; its finaliser springs it, inside.

tries:  to run its own methods on the host
expect: exited 99
prints: handing over a trap
"""

import os


class Trap:
    """Each of these ends the process that calls it."""

    def fire(self, *args, **kwargs):
        os._exit(99)

    __str__ = __eq__ = __hash__ = __bool__ = __len__ = __iter__ = __getitem__ = fire
    __reduce__ = __reduce_ex__ = __getstate__ = __index__ = __format__ = __del__ = fire

    def __repr__(self):
        return "<Trap" + "\0\x1b[2J" + "x" * 2**24

    @property
    def __class__(self):
        return dict


print("handing over a trap", flush=True)

{"trap": Trap()}

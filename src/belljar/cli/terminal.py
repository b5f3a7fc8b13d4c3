"""Texts that cannot drive a terminal.

What: control characters, and what else acts on a terminal instead of showing, come out as
``\\x1b`` and the like.  Because: a program that nobody trusts may print escape sequences
that retitle the window, type into the shell or hide what went before.  Then: the guest's
streams pass ``Harmless`` where they go to a terminal, and what *we* say of the guest passes
``harmless``.  Nothing of it is done to a pipe or a file, which want the bytes.

Colours go the same way: a rule with no exception is one that can be checked at a glance.
"""

from __future__ import annotations

import codecs

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))  # C0 and DEL, and C1, which some terminals obey
# Marks that reorder a line, and separators that start one: they forge what we say.
_REORDERING = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))


def _shown(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


_LINE = {code: _shown(code) for code in (*_CONTROLS, *_REORDERING)}
_TEXT = {code: shown for code, shown in _LINE.items() if code not in (0x09, 0x0A)}
# Of a stream, the mark of reordering belongs to the languages that need it, and the
# carriage return to progress bars.
_STREAM = {code: _shown(code) for code in _CONTROLS if code not in (0x09, 0x0A, 0x0D)}


def harmless(text: str) -> str:
    """``text`` on its lines, with tabs, and nothing else that acts on a terminal."""
    return text.translate(_TEXT)


def one_line(text: str) -> str:
    """``text`` on one line."""
    return text.translate(_LINE)


class Harmless:
    """The same for a stream of bytes in UTF-8 that comes in pieces.

    A character that is cut by the end of a piece waits for the next one.  Bytes that are
    not UTF-8 are shown as ``\\x9b``: terminals that are not set to UTF-8 obey some of them.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")

    def feed(self, data: bytes, final: bool = False) -> bytes:
        """What to write for ``data``; ``final`` lets go of a character that was cut."""
        return self._decoder.decode(data, final).translate(_STREAM).encode("utf-8")

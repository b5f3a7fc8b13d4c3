"""Texts that cannot drive a terminal.

What: control characters, and what else acts on a terminal instead of showing, come out as
``\\x1b`` and the like.  Because: a program that nobody trusts may print escape sequences
that retitle the window, type into the shell or hide what went before.  Then: the guest's
streams pass ``Harmless`` where they go to a terminal, and what *we* say of the guest passes
``harmless``.  Nothing of it is done to a pipe or a file, which want the bytes.

Colours go the same way: a rule with no exception is one that can be checked at a glance.
There is no state to get wrong either, because no sequence is ever parsed: without its first
byte none begins.
"""

from __future__ import annotations

import codecs

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0))  # C0 and DEL, and C1, which some terminals obey
# Marks that reorder a line, separators that start one, and characters that nobody sees: they
# forge what we say, such as the path of a grant.  See the property Default_Ignorable_Code_Point
# and the categories Zl and Zp of Unicode.
_UNSEEN = (
    *(0x00AD, 0x034F, 0x061C, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x3164, 0xFEFF, 0xFFA0, 0xE0001),
    *range(0x180B, 0x1810),
    *range(0x200B, 0x2010),
    *range(0x2028, 0x202F),
    *range(0x2060, 0x2070),
    *range(0xFE00, 0xFE10),
    *range(0xFFF0, 0xFFFC),
    *range(0x1BCA0, 0x1BCA4),
    *range(0x1D173, 0x1D17B),
    *range(0xE0020, 0xE0080),
    *range(0xE0100, 0xE01F0),
)


def _shown(code: int) -> str:
    """As a shell's ``$'...'`` takes it back: there ``\\x9b`` would be a byte, no character."""
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_LINE = {code: _shown(code) for code in (*_CONTROLS, *_UNSEEN)}
_TEXT = {code: shown for code, shown in _LINE.items() if code not in (0x09, 0x0A)}
# Of a stream, the marks of reordering belong to the languages that need them, and the
# carriage return to progress bars.  Neither reaches a line of ours: that starts on a new one.
_STREAM = {code: f"\\x{code:02x}" for code in _CONTROLS if code not in (0x09, 0x0A, 0x0D)}


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

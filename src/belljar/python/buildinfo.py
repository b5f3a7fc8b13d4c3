"""What an interpreter's installation wrote down about its build, without the paths in it.

Example::

    text = scrub_sysconfig(text, [(b"/opt/python-3.13", b"/usr")])

What: the text of ``_sysconfigdata_*.py`` with every absolute path either moved to where the
interpreter lies inside, or replaced by ``/build``.  Because: ``sysconfig`` needs the module,
and it names the installation, the directory of the sources and whatever else was given to
``configure``.  Then: the module has the same keys and types of values, and ``sysconfig``
answers for the interpreter as it is inside.

It is on the path of every first run, so it imports nothing and looks only at places where an
absolute path begins: some 0.2 ms for 50 KB.  Host names and dates of the build are in no
variable on Linux; where a path contained them, they go with it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NEUTRAL", "scrub_sysconfig"]

NEUTRAL = b"/build"  # in place of every path that is nobody's business
# What ends a path: the string, the word, the element of a list, the value of an option.
_ENDS = frozenset(b"\"'\\ \t\r\n:;,=()|&<>`$")
# What stands before an absolute path.  After other letters a slash is inside a relative one.
_BEFORE = frozenset(b"'\" \t=:,;(|&<>`@")
_OPTIONS = (
    *(b"-" + letter for letter in (b"I", b"L", b"B", b"R", b"F", b"T", b"o")),
    *(b"-i" + word for word in (b"system", b"quote", b"sysroot", b"dirafter", b"nclude")),
)
_OPTIONS_END = frozenset(option[-1] for option in _OPTIONS)
# Where every system has its files.
_STANDARD = (b"/usr/", b"/bin/", b"/sbin/", b"/lib/", b"/lib64/", b"/etc/", b"/dev/", b"/build/")
_BUILD_KEYS = (b"abs_builddir", b"abs_srcdir", b"projectbase")


def scrub_sysconfig(text: bytes, replacements: Iterable[tuple[bytes, bytes]]) -> bytes:
    """The text of ``_sysconfigdata_*.py`` as it may be shown inside.

    ``replacements`` are (directory on the host, directory inside), absolute and without a
    slash at the end: the prefixes of the installation.  The first that fits is taken, longer
    ones before shorter ones.
    """
    moved: list[tuple[bytes, bytes]] = []
    for old, new in replacements:
        moved += [(literal, new) for literal in _literals(old) if len(old) > 1]
    for directory in _build_directories(text):
        moved.append((directory, NEUTRAL))
    moved.sort(key=lambda pair: len(pair[0]), reverse=True)
    if any(_breaks(old) for old, _ in moved):
        text = _unwrapped(text)
    for old, new in moved:
        # Whole first: these may contain what ends a path elsewhere, such as a space.
        text = _move(text, old, new)
    return _neutral(text)


def _literals(path: bytes) -> set[bytes]:
    """A path as it can stand in a string literal, by the quotes that are around it."""
    path = path.replace(b"\\", b"\\\\")
    return {path, path.replace(b"'", b"\\'"), path.replace(b'"', b'\\"')}


def _breaks(path: bytes) -> bool:
    """Whether the module may have this path in two parts, on two lines."""
    return b" " in path


def _build_directories(text: bytes) -> list[bytes]:
    """The values of the variables that are directories of the build."""
    found: list[bytes] = []
    for key in _BUILD_KEYS:
        at = text.find(key)
        if at < 0:
            continue
        quote = text[at + len(key) : at + len(key) + 1]
        start = text.find(b"/", at)
        end = text.find(b"\n", at)
        # Not a relative one, such as '..', whose line ends before the next slash.
        if quote in (b"'", b'"') and 0 <= start < end:
            value = text[start : text.find(text[start - 1 : start], start)]
            if len(value) > 1 and text[start - 1 : start] in (b"'", b'"'):
                found.append(value.rstrip(b"/"))
    return found


def _unwrapped(text: bytes) -> bytes:
    """The text with each string literal in one piece.  They are broken after spaces."""
    for quote in (b"'", b'"'):
        pieces = text.split(b" " + quote + b"\n")
        joined = [pieces[0]]
        for piece in pieces[1:]:
            rest = piece.lstrip(b" ")
            if rest.startswith(quote):
                joined.append(b" " + rest[1:])
            else:
                joined.append(b" " + quote + b"\n" + piece)
        text = b"".join(joined)
    return text


def _move(text: bytes, old: bytes, new: bytes) -> bytes:
    """Every path in the directory ``old``, or this itself, moved to ``new``."""
    pieces = text.split(old)
    if len(pieces) == 1:
        return text
    made = [pieces[0]]
    for piece in pieces[1:]:
        # Not a longer name that begins alike, which is dealt with like any other path.
        whole = piece[:1] == b"/" or piece[:1] == b"" or piece[0] in _ENDS
        made.append(new if whole else old)
        made.append(piece)
    return b"".join(made)


def _neutral(text: bytes) -> bytes:
    """Every absolute path that is left and not a standard one, replaced by ``NEUTRAL``."""
    made: list[bytes] = []
    done = 0
    size = len(text)
    at = text.find(b"/", 1)
    while at >= 0:
        last = text[at - 1]
        if last in _BEFORE or (last in _OPTIONS_END and text.endswith(_OPTIONS, 0, at)):
            end = at + 1
            while end < size and text[end] not in _ENDS:
                end += 1
            if _is_private(text[at:end]):
                made.append(text[done:at])
                made.append(NEUTRAL)
                done = end
            at = end - 1
        at = text.find(b"/", at + 1)
    made.append(text[done:])
    return b"".join(made)


def _is_private(path: bytes) -> bool:
    # Lone slashes and the beginnings of comments are no paths.
    return path.lstrip(b"/*") != b"" and not (path + b"/").startswith(_STANDARD)

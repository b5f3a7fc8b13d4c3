"""Names that could follow what is typed.

Example::

    question("df.col")      # an expression for the guest: names in dir(df) that start with col
    answers("df.col", ["columns", "\\x1b]0;x"])     # ["df.columns"]

What: an expression that the guest evaluates, and a check of what it says.  Because: only the
guest knows its names, and ``dir`` and attribute access run its code, which answers what it
likes.  Then: what is offered is what was typed and a Python name behind it, of bounded length
and number, with no character that acts on a terminal or that nobody sees.
"""

from __future__ import annotations

import keyword

from .terminal import one_line

MOST = 2000  # names; a large package has that many, and readline asks before it lists them
MOST_CHARS = 200  # of one name; longer than any that a person lets complete
VALUE_BYTES = 512 * 2**10  # for as many of them
WAIT_S = 1.0  # a person waits so long for an answer

_CONSTANTS = ("None", "True", "False")
_TEST = "b.isinstance(n, b.str) and n.startswith({tail!r}) and ({tail!r} or n[:1] != '_')"
_OF_OBJECT = f"(lambda b, o: [n for n in b.dir(o) if {_TEST}][:{MOST}])({{builtins}}, {{head}})"
_OF_ALL = (
    f"(lambda b, c: [n for n in (*b.globals(), *(c if b.isinstance(c, b.dict) else b.dir(c)))"
    f" if {_TEST}][:{MOST}])({{builtins}}, __builtins__)"
)
_BUILTINS = '__import__("builtins")'


def question(text: str) -> str | None:
    """An expression whose value is a list of the names that fit; None where there are none.

    ``text`` is a name, or names with dots between them; the last one may be missing.  Only what
    stands before the last dot is evaluated.
    """
    head, dot, tail = text.rpartition(".")
    if tail and not tail.isidentifier():
        return None
    if not dot:
        return _OF_ALL.format(builtins=_BUILTINS, tail=tail)
    first, *rest = head.split(".")
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in rest):
        return None
    if not first.isidentifier() or (keyword.iskeyword(first) and first not in _CONSTANTS):
        return None
    return _OF_OBJECT.format(builtins=_BUILTINS, tail=tail, head=head)


def answers(text: str, said: object) -> list[str]:
    """What can stand in the place of ``text``, sorted; ``said`` is what the guest answered."""
    head, dot, tail = text.rpartition(".")
    names = list[object](said) if isinstance(said, list) else []  # pyright: ignore[reportUnknownArgumentType]
    del names[MOST:]
    if not dot:
        names += keyword.kwlist
    fit = {name for name in names if isinstance(name, str) and _is_plain(name)}
    return sorted(head + dot + name for name in fit if name.startswith(tail))


def _is_plain(name: str) -> bool:
    return len(name) <= MOST_CHARS and name.isidentifier() and one_line(name) == name

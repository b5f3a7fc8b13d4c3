"""Field types of the events, as data.

What: small functions that check a decoded value and give it its final form.  Because: what a
guest says is a claim, and its texts and lists are capped before anyone handles them.  Then:
both sides check with the same function, so a fault is found where it is made.

A check takes a value and returns it, frozen (a list becomes a tuple); it raises ``Mismatch``
whose text says what was expected and never repeats the value.
"""

from __future__ import annotations

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Check = Callable[[Any], Any]

__all__ = [
    "Field",
    "Mismatch",
    "anything",
    "check_fields",
    "clip",
    "encoded",
    "flat",
    "integer",
    "mapping",
    "media_type",
    "number",
    "octets",
    "one_of",
    "optional",
    "record",
    "scalar",
    "sequence",
    "source",
    "text",
    "truth",
]


_type: Any = type  # so that the checkers leave what it is compared with alone


class Mismatch(Exception):
    """A field does not hold what its schema says."""


class Field(Record):
    """A field of an event: its name, and what it must hold.

    ``data``: it is a list of values of the user's, which cross as what they are.
    """

    name: str
    check: Check
    data: bool = False

    def written(self, value: Any) -> Any:
        """The value as it is written."""
        if _type(value) in _AS_THEY_ARE:  # most are, and every frame has seven
            return value
        return list(value) if self.data and _type(value) is tuple else flat(value)


def text(chars: int) -> Check:
    """A str of at most so many characters."""

    def check(value: Any) -> Any:
        if type(value) is not str or len(value) > chars:
            raise Mismatch(f"a text of at most {chars} characters")
        return value

    return check


def integer(low: int, high: int) -> Check:
    """An int in a range, both ends included."""

    def check(value: Any) -> Any:
        if type(value) is not int or not low <= value <= high:
            raise Mismatch(f"an int from {low} to {high}")
        return value

    return check


def number(value: Any) -> Any:
    """A float that is finite and not negative: a duration in seconds."""
    if type(value) is not float or not 0.0 <= value < 1e18:
        raise Mismatch("a float from 0 to 1e18")
    return value


def truth(value: Any) -> Any:
    """A bool."""
    if type(value) is not bool:
        raise Mismatch("a bool")
    return value


def encoded(value: Any) -> Any:
    """Bytes that hold a value, left as they are: ``values.decode`` reads them, with its budget."""
    if type(value) is not bytes or not value:
        raise Mismatch("encoded bytes")
    return value


def source(value: Any) -> Any:
    """Program text, or its bytes, whose encoding Python finds out."""
    if type(value) is not str and type(value) is not bytes:
        raise Mismatch("str or bytes")
    return value


def octets(value: Any) -> Any:
    """Bytes, of any length that the frame has room for."""
    if type(value) is not bytes:
        raise Mismatch("bytes")
    return value


def anything(value: Any) -> Any:
    """Any value that crosses."""
    return value


# Of IANA's top-level types those of which a program makes something; see RFC 6838, section 4.2.
_TOP_LEVEL = frozenset(["application", "audio", "image", "model", "text", "video"])
_SUBTYPE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789.+-_")


def media_type(chars: int) -> Check:
    """A media type in small letters and without parameters, of at most so many characters.

    A closed grammar: what passes can stand in a header, in a log and on a terminal.
    """

    def check(value: Any) -> Any:
        if type(value) is str and len(value) <= chars:
            top, slash, rest = value.partition("/")
            plain = slash and rest[:1].isalnum() and _SUBTYPE.issuperset(rest)
            if plain and top in _TOP_LEVEL:
                return value
        raise Mismatch(f"a media type of at most {chars} characters")

    return check


def scalar(chars: int) -> Check:
    """None, a bool, an int of 64 bits, a float, or a text of at most so many characters."""

    def check(value: Any) -> Any:
        kind = _type(value)
        short = kind is str and len(value) <= chars
        small = kind is int and -(2**63) <= value < 2**63
        if value is None or kind is bool or kind is float or short or small:
            return value
        raise Mismatch(f"a number, or a text of at most {chars} characters")

    return check


def one_of(*names: str) -> Check:
    """One of a few words."""

    def check(value: Any) -> Any:
        if type(value) is not str or value not in names:
            raise Mismatch("one of " + ", ".join(names))
        return value

    return check


def optional(inner: Check) -> Check:
    """None, or what the inner check takes."""

    def check(value: Any) -> Any:
        return None if value is None else inner(value)

    return check


def sequence(inner: Check, most: int, least: int = 0) -> Check:
    """A list of ``least`` to ``most`` items; comes out as a tuple."""

    def check(value: Any) -> Any:
        if _type(value) is not list or not least <= len(value) <= most:
            raise Mismatch(f"a list of {least} to {most} items")
        return tuple([inner(item) for item in value])

    return check


def mapping(key: Check, inner: Check, most: int, least: int = 0) -> Check:
    """A dict of ``least`` to ``most`` items."""

    def check(value: Any) -> Any:
        if _type(value) is not dict or not least <= len(value) <= most:
            raise Mismatch(f"a dict of {least} to {most} items")
        return {key(name): inner(item) for name, item in value.items()}

    return check


def record(cls: type[Record], *fields: Field) -> Check:
    """A list with one item for each field; comes out as an instance of the class."""

    def check(value: Any) -> Any:
        if _type(value) is not list or len(value) != len(fields):
            raise Mismatch(f"a list of {len(fields)} items")
        return cls(*check_fields(fields, value))

    return check


def check_fields(fields: Sequence[Field], values: Sequence[Any]) -> list[Any]:
    """As many values as there are fields, checked.  Raises ``Mismatch`` that names the field."""
    checked: list[Any] = []
    try:
        # One frame of Python's for all: a live call checks sixteen on either side.
        for field, value in zip(fields, values, strict=True):
            checked.append(field.check(value))
    except Mismatch as mismatch:
        raise Mismatch(f"{fields[len(checked)].name}: expected {mismatch}") from None
    return checked


_AS_THEY_ARE = frozenset([type(None), bool, int, float, str, bytes, dict])


def flat(value: Any) -> Any:
    """A field's value as it is written: tuples and records as lists."""
    if _type(value) is tuple:
        return [flat(item) for item in value]
    if isinstance(value, Record):
        record: Any = value
        return [flat(getattr(record, name)) for name in record._fields]
    return value


def clip(value: str, chars: int) -> str:
    """A text cut to so many characters, 100 or more: its start, a note, its end.

    The end of a traceback says what happened and the start says where from.
    """
    if len(value) <= chars:
        return value
    note = f"\n... {len(value) - chars + 60} characters left out ...\n"
    start = (chars - len(note)) // 2
    end = chars - len(note) - start
    return value[:start] + note + value[len(value) - end :]

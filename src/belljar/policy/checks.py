"""Messages and key paths that every check of a policy shares.

What: how a value is shown in an error, how a key path grows, what a text must be.
Because: a policy is written by hand, so each refusal must name the place and the remedy in
the same words wherever it comes from.  Then: every check raises ``PolicyError`` with a key
such as ``grants.read[1]`` or ``grants.env['A=B']``.
"""

from __future__ import annotations

from ..errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any, TypeGuard

SHOWN_CHARACTERS = 80  # a value in an error stays on one terminal line
SHOWN_INT_BITS = 256  # beyond it digits help nobody, and int -> str has a cap of its own


def show(value: object) -> str:
    """``value`` as an error message shows it: its repr, on one line, bounded."""
    if isinstance(value, int) and value.bit_length() > SHOWN_INT_BITS:
        return f"an int of {value.bit_length()} bits"
    if isinstance(value, (str, bytes)):
        text = repr(value[: SHOWN_CHARACTERS + 1])
    elif value is None or isinstance(value, (int, float, complex)):
        text = repr(value)
    else:
        text = f"a {type(value).__name__}"
    if len(text) > SHOWN_CHARACTERS:
        text = text[: SHOWN_CHARACTERS - 1] + "…"
    return text


def told(error: BaseException) -> str:
    """What an exception of a parser's says, bounded: some repeat what they could not read."""
    text = str(error)
    most = 2 * SHOWN_CHARACTERS
    return text if len(text) <= most else f"{text[:SHOWN_CHARACTERS]} … {text[-SHOWN_CHARACTERS:]}"


def kind(value: object) -> str:
    """The type of ``value`` in an error message: ``None`` or the type's name."""
    return "None" if value is None else type(value).__name__


def at(key: str, part: object) -> str:
    """The key path of one entry of ``key``: ``.name``, ``[3]`` or ``['odd name']``."""
    if isinstance(part, str) and part.isascii() and part.replace("-", "_").isidentifier():
        if len(part) > SHOWN_CHARACTERS:  # a file's keys may be as long as the file
            return f"{key}[{show(part)}]"
        return f"{key}.{part}" if key else part
    return f"{key}[{show(part)}]"


def is_list(value: object) -> TypeGuard[list[object]]:
    """Is it a list?  For type checkers: of anything."""
    return isinstance(value, list)


def as_dict(value: object) -> dict[object, object] | None:
    """A dict, or a plain copy of another mapping; None if it is neither."""
    if is_dict(value):
        return value
    if hasattr(type(value), "keys") and hasattr(type(value), "__getitem__"):
        mapping: Any = value
        return dict(mapping)
    return None


def is_dict(value: object) -> TypeGuard[dict[object, object]]:
    """Is it a dict?  For type checkers: of anything."""
    return isinstance(value, dict)


def is_table(value: object) -> TypeGuard[dict[str, object]]:
    """Is it a table from a file?  Parsers make dicts with str keys only."""
    return isinstance(value, dict)


def is_bunch(
    value: object,
) -> TypeGuard[list[object] | tuple[object, ...] | set[object] | frozenset[object]]:
    """Is it a container of entries, and no mapping, text or iterator?"""
    return isinstance(value, (list, tuple, set, frozenset))


def check_text(value: object, key: str, what: str) -> str:
    """``value`` if it is text that every later layer can carry.

    Args:
        what: what the text is, for the message ("a path", "a value").

    Raises:
        PolicyError: not a str; or it holds NUL, because the kernel's strings end there; or a
            lone surrogate, because it has no UTF-8 form and could not cross to the guest.
    """
    if not isinstance(value, str):
        raise PolicyError(key, f"expected {what} (str), got {kind(value)}")
    text = str.__str__(value)  # a plain str, even from a subclass with opinions of its own
    if "\0" in text:
        raise PolicyError(key, f"{show(text)} holds a NUL character")
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise PolicyError(
                key, f"{show(text)} holds a lone surrogate, which is not valid Unicode"
            ) from None
    return text


def check_count(count: int, most: int, key: str, what: str) -> None:
    """Refuse more than ``most`` entries of ``what`` under ``key``."""
    if count > most:
        raise PolicyError(key, f"{count} {what}; at most {most} are accepted")


def unknown(key: str, name: str, known: Iterable[str], note: str = "") -> PolicyError:
    """The error for a key that does not exist, with the nearest one that does."""
    import difflib  # only on the way to an error: it brings re and collections

    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(names)}"
    return PolicyError(at(key, name), f"unknown key {show(name)}; {note or hint}")

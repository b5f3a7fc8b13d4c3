"""Plain data for the ``names`` grant: frozen, thawed, and in file form.

What: ``freeze`` turns a value of the closed set (None, bool, int, float, complex, str, bytes,
list, tuple, dict, set, frozenset, date, time, datetime, timedelta, Decimal, Fraction, UUID)
into nested tuples; ``thaw`` makes a fresh value of it; ``to_plain`` and ``from_plain`` carry
it through TOML and JSON.  Because: a policy is frozen, and a list inside it would not be;
and because ``1 == True == 1.0`` would call two policies equal that are not.  Then: equality
of the frozen form is equality of type and content (the order of a dict counts, as the guest
can see it), and each look at ``Policy.names`` is a copy.

File form: a value that TOML or JSON has no word for is a table with one key that starts with
``$``, such as ``{ "$bytes" = "AAE=" }``; a dict with such a key, or with keys that are not
str, is ``{ "$dict" = [[key, value], ...] }``.
"""

from __future__ import annotations

from ..errors import PolicyError
from .checks import at, is_bunch, is_dict, is_list, is_table, kind, show, told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeAlias

    Frozen: TypeAlias = tuple[str, Any]  # (tag, payload)

# A name in a policy is a setting, not a data set; bulk data is handed to each run instead.
MAX_DEPTH = 16
MAX_NODES = 10_000
MAX_DATA_BYTES = 256 * 2**10  # all texts, bytes and digits of one policy; a file holds 1 MiB
MAX_INT_BITS = 4096  # 1,234 digits, within the 4,300 that int() reads back
MAX_PLAIN_DEPTH = 4 * MAX_DEPTH  # one level of a value is at most three in a file

PLAIN = (
    "None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, "
    "date, time, datetime, timedelta, Decimal, Fraction, UUID"
)


class Budget:
    """What is left to spend while one policy's values are frozen."""

    def __init__(self) -> None:
        self.nodes = MAX_NODES
        self.data_bytes = MAX_DATA_BYTES

    def spend(self, key: str, data_bytes: int) -> None:
        """Count one node with so many bytes of data; ``PolicyError`` when too much."""
        self.nodes -= 1
        self.data_bytes -= data_bytes
        if self.nodes < 0:
            raise PolicyError(key, f"more than {MAX_NODES} values; hand bulk data to the run")
        if self.data_bytes < 0:
            raise PolicyError(key, f"more than {MAX_DATA_BYTES} bytes; hand bulk data to the run")


def freeze(value: object, key: str, budget: Budget, depth: int = 0) -> Frozen:
    """``value`` as nested (tag, payload) tuples: hashable, immutable, told apart by type.

    Raises:
        PolicyError: a type outside the closed set (subclasses too), or too deep or too big.
    """
    if depth > MAX_DEPTH:
        raise PolicyError(key, f"nested deeper than {MAX_DEPTH} levels")
    if value is None:
        budget.spend(key, 1)
        return ("none", None)
    tag = type(value).__name__
    scalar = _SCALARS.get(type(value))
    if scalar is not None:
        payload, size = scalar(value, key)
        budget.spend(key, size)
        return (tag, payload)
    budget.spend(key, 1)
    if is_dict(value) and type(value) is dict:
        return (
            tag,
            tuple(
                (
                    freeze(name, at(key, name), budget, depth + 1),
                    freeze(item, at(key, name), budget, depth + 1),
                )
                for name, item in value.items()
            ),
        )
    if is_bunch(value) and type(value) in (list, tuple, set, frozenset):
        items = [freeze(item, at(key, i), budget, depth + 1) for i, item in enumerate(value)]
        return (tag, frozenset(items) if tag in ("set", "frozenset") else tuple(items))
    for tag, (module, name, encode, _) in _STDLIB.items():
        if type(value).__name__ == name and type(value).__module__ == module:
            payload = encode(value, key)
            budget.spend(key, 1 if isinstance(payload, int) else len(payload))
            return (tag, payload)
    raise PolicyError(key, f"{kind(value)} is not plain data; plain data are {PLAIN}")


def thaw(frozen: Frozen) -> object:
    """A fresh value of what ``freeze`` made."""
    tag, payload = frozen
    if tag in ("none", "bool", "int", "str", "bytes"):
        return payload
    if tag == "float":
        return float.fromhex(payload)
    if tag == "complex":
        return complex(float.fromhex(payload[0]), float.fromhex(payload[1]))
    if tag == "dict":
        return {thaw(name): thaw(item) for name, item in payload}
    if tag in _CONTAINERS:
        return _CONTAINERS[tag](thaw(item) for item in payload)
    module, name, _, decode = _STDLIB[tag]
    return decode(getattr(__import__(module), name), payload)


def to_plain(frozen: Frozen) -> object:
    """The file form: str, bool, int, finite float, list and dict with str keys only."""
    tag, payload = frozen
    if tag in ("bool", "int", "str"):
        return payload
    if tag == "none":
        return {"$none": True}
    if tag == "float":
        number = float.fromhex(payload)
        return number if number - number == 0 else {"$float": payload}
    if tag == "complex":
        return {"$complex": [to_plain(("float", part)) for part in payload]}
    if tag == "bytes":
        import binascii

        return {"$bytes": binascii.b2a_base64(payload, newline=False).decode("ascii")}
    if tag == "list":
        return [to_plain(item) for item in payload]
    if tag == "dict":
        pairs = [(name, to_plain(item)) for name, item in payload]
        if all(name[0] == "str" and not name[1].startswith("$") for name, _ in pairs):
            return {name[1]: item for name, item in pairs}
        return {"$dict": [[to_plain(name), item] for name, item in pairs]}
    if tag in ("set", "frozenset"):
        return {f"${tag}": [to_plain(item) for item in sorted(payload, key=_order)]}
    if tag == "tuple":
        return {"$tuple": [to_plain(item) for item in payload]}
    return {f"${tag}": payload}


def from_plain(plain: object, key: str, depth: int = 0) -> object:
    """The value that a file's form stands for; ``freeze`` judges it afterwards.

    Raises:
        PolicyError: a ``$`` key that is unknown, not alone, or with the wrong content.
    """
    if depth > MAX_PLAIN_DEPTH:
        raise PolicyError(key, f"nested deeper than {MAX_DEPTH} levels")
    if is_list(plain):
        return [from_plain(item, at(key, i), depth + 1) for i, item in enumerate(plain)]
    if not is_table(plain):
        return plain
    tags = [name for name in plain if name.startswith("$")]
    if not tags:
        return {name: from_plain(item, at(key, name), depth + 1) for name, item in plain.items()}
    tag = tags[0][1:]
    key = at(key, tags[0])
    if len(plain) > 1:
        raise PolicyError(key, "a key that starts with $ stands alone in its table")
    content = plain[tags[0]]
    wanted = _FILE_CONTENT.get(tag)
    if wanted is None:
        raise PolicyError(key, "unknown; known: " + ", ".join(f"${name}" for name in _FILE_CONTENT))
    if type(content) is not wanted:
        raise PolicyError(key, f"expected {wanted.__name__}, got {kind(content)}")
    try:
        return _tagged(tag, content, key, depth)
    except (ValueError, ArithmeticError, TypeError) as error:
        if isinstance(error, PolicyError):
            raise
        raise PolicyError(key, f"not a {tag}: {told(error)}") from None


def _tagged(tag: str, content: Any, key: str, depth: int) -> object:
    if tag == "none":
        if content is not True:
            raise PolicyError(key, "expected true")
        return None
    if tag == "float":
        if content not in ("nan", "inf", "-inf"):
            raise PolicyError(key, "expected nan, inf or -inf; other numbers stand for themselves")
        return float(content)
    if tag == "bytes":
        import binascii

        return binascii.a2b_base64(content.encode("ascii"), strict_mode=True)
    if tag == "complex":
        parts: list[Any] = [
            from_plain(part, at(key, i), depth + 1) for i, part in enumerate(content)
        ]
        if len(parts) != 2 or not all(type(part) in (int, float) for part in parts):
            raise PolicyError(key, "expected two numbers")
        return complex(parts[0], parts[1])
    if tag == "dict":
        result: dict[object, object] = {}
        for index, pair in enumerate(content):
            entry = at(key, index)
            if not is_list(pair) or len(pair) != 2:
                raise PolicyError(entry, "expected [key, value]")
            name = from_plain(pair[0], entry, depth + 1)
            if name in result:
                raise PolicyError(entry, f"the key {show(name)} is there twice")
            result[name] = from_plain(pair[1], entry, depth + 1)
        return result
    if tag in _CONTAINERS:
        members = [from_plain(item, at(key, i), depth + 1) for i, item in enumerate(content)]
        made = _CONTAINERS[tag](members)
        if len(made) != len(members):
            raise PolicyError(key, "an entry is there twice")
        return made
    module, name, _, decode = _STDLIB[tag]
    return decode(getattr(__import__(module), name), content)


def _order(frozen: Frozen) -> str:
    """Sorts the members of a set, so that one policy has one text."""
    tag, payload = frozen
    if tag == "frozenset":
        return f"{tag} {sorted(_order(item) for item in payload)}"
    if tag in ("list", "tuple"):
        return f"{tag} {[_order(item) for item in payload]}"
    return f"{tag} {payload!r}"


def _freeze_bool(value: Any, _key: str) -> tuple[object, int]:
    return value, 1


def _freeze_int(value: Any, key: str) -> tuple[object, int]:
    if value.bit_length() > MAX_INT_BITS:
        raise PolicyError(key, f"{show(value)} has more than {MAX_INT_BITS} bits")
    return value, 1 + value.bit_length() // 8


def _freeze_float(value: Any, _key: str) -> tuple[object, int]:
    return value.hex(), 8


def _freeze_complex(value: Any, _key: str) -> tuple[object, int]:
    return (value.real.hex(), value.imag.hex()), 16


def _freeze_str(value: Any, key: str) -> tuple[object, int]:
    try:
        return value, len(value.encode())
    except UnicodeEncodeError:
        raise PolicyError(key, f"{show(value)} holds a lone surrogate") from None


def _freeze_bytes(value: Any, _key: str) -> tuple[object, int]:
    return value, len(value)


_SCALARS: dict[type, Callable[[Any, str], tuple[object, int]]] = {
    bool: _freeze_bool,
    int: _freeze_int,
    float: _freeze_float,
    complex: _freeze_complex,
    str: _freeze_str,
    bytes: _freeze_bytes,
}

_CONTAINERS: dict[str, Callable[[Any], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}


def _iso(value: Any, key: str) -> str:
    """ISO text of a date, time or datetime whose zone, if any, is a fixed offset."""
    zone = getattr(value, "tzinfo", None)
    if zone is not None and type(zone) is not __import__("datetime").timezone:
        raise PolicyError(key, f"the zone {kind(zone)} is not plain data; use a fixed offset")
    if getattr(value, "fold", 0):
        raise PolicyError(key, "fold=1 has no plain form; use a fixed offset")
    text: str = value.isoformat()
    return text


def _microseconds(value: Any, _key: str) -> int:
    whole: int = (value.days * 86_400 + value.seconds) * 1_000_000 + value.microseconds
    return whole


def _decimal(value: Any, _key: str) -> str:
    return str(value)


def _fraction(value: Any, key: str) -> str:
    for part in (value.numerator, value.denominator):
        _freeze_int(part, key)
    return f"{value.numerator}/{value.denominator}"


def _read_fraction(made: Any, text: str) -> object:
    if text.strip("-0123456789/"):  # Fraction("1e999999999") would be worked out in full
        raise ValueError(f"expected 'n/d', got {show(text)}")
    return made(text)


# tag -> module, class, to payload, from payload.  The module is imported when it is met.
_STDLIB: dict[str, tuple[str, str, Callable[[Any, str], Any], Callable[[Any, Any], Any]]] = {
    "date": ("datetime", "date", _iso, lambda made, text: made.fromisoformat(text)),
    "time": ("datetime", "time", _iso, lambda made, text: made.fromisoformat(text)),
    "datetime": ("datetime", "datetime", _iso, lambda made, text: made.fromisoformat(text)),
    "timedelta_us": (
        "datetime",
        "timedelta",
        _microseconds,
        lambda made, number: made(microseconds=number),
    ),
    "decimal": ("decimal", "Decimal", _decimal, lambda made, text: made(text)),
    "fraction": ("fractions", "Fraction", _fraction, _read_fraction),
    "uuid": ("uuid", "UUID", lambda value, _key: str(value), lambda made, text: made(text)),
}

# $tag -> the type of its content in a file.
_FILE_CONTENT: dict[str, type] = {
    "none": bool,
    "float": str,
    "complex": list,
    "bytes": str,
    "tuple": list,
    "set": list,
    "frozenset": list,
    "dict": list,
    "date": str,
    "time": str,
    "datetime": str,
    "timedelta_us": int,
    "decimal": str,
    "fraction": str,
    "uuid": str,
}

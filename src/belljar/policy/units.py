"""Sizes and times as people write them: ``256M``, ``1.5G``, ``500ms``, ``2s``.

What: texts with units into bytes and seconds, and back for display.  Because: units stand in
the names of every Python argument, but on a command line and in a policy file ``268435456``
is a riddle.  Then: exactly one reading per text, and anything else is a ``PolicyError``.
"""

from __future__ import annotations

from ..errors import PolicyError
from .checks import kind, show, unknown
from .limits import LIMITS, check_limit

MAX_CHARACTERS = 32  # longer than any size or time anyone writes

# Powers of 1024, as memory and tmpfs sizes are counted; case does not matter.
BYTE_UNITS: dict[str, int] = {
    "": 1,
    "b": 1,
    **{
        name + tail: 1 << 10 * power
        for power, name in enumerate("kmgt", start=1)
        for tail in ("", "i", "ib")
    },
}

# Case matters nowhere: there is no megasecond.
SECOND_UNITS = {
    "": (1, 1),  # unit -> seconds, as a fraction, so that 500ms is exactly 0.5
    "ms": (1, 1000),
    "s": (1, 1),
    "m": (60, 1),
    "min": (60, 1),
    "h": (3600, 1),
    "d": (86_400, 1),
}


def parse_bytes(text: str, key: str = "size") -> int:
    """Bytes of ``"256M"``, ``"1.5G"``, ``"64KiB"``, ``"1000"``.  Units are powers of 1024.

    A fraction of a byte is dropped.

    Args:
        key: the key path that an error names.

    Raises:
        PolicyError: not a plain number with one known unit; ``MB`` too, which some read as
            1,000,000 bytes and some as 1,048,576: write ``M`` or ``MiB``.
    """
    digits, scale, unit = _split(text, key, "a size such as 256M")
    if unit not in BYTE_UNITS:
        hint = "write K, M, G or T (powers of 1024)"
        if unit in ("kb", "mb", "gb", "tb"):
            hint = f"{show(unit)} means two things; write {unit[0].upper()}iB"
        raise PolicyError(key, f"{show(text)} has no known unit; {hint}")
    return digits * BYTE_UNITS[unit] // scale


def parse_seconds(text: str, key: str = "time") -> float:
    """Seconds of ``"2s"``, ``"500ms"``, ``"1.5m"``, ``"1h"``, ``"7d"``, ``"2"``.

    Args:
        key: the key path that an error names.

    Raises:
        PolicyError: not a plain number with one known unit.
    """
    digits, scale, unit = _split(text, key, "a time such as 2s")
    if unit not in SECOND_UNITS:
        raise PolicyError(key, f"{show(text)} has no known unit; write ms, s, m (minutes), h or d")
    times, over = SECOND_UNITS[unit]
    return digits * times / (scale * over)


def parse_limit(name: str, value: object) -> float:
    """The limit ``name`` from a number or a text with a unit, checked against its range.

    Raises:
        PolicyError: no such limit, no such unit, a text where a count is wanted, out of range.
    """
    if name not in LIMITS:
        raise unknown("limits", name, LIMITS)
    if isinstance(value, str):
        unit = LIMITS[name].unit
        key = f"limits.{name}"
        if unit in ("bytes", "bytes per second"):
            value = parse_bytes(value, key)
        elif unit == "seconds":
            value = parse_seconds(value, key)
        elif unit == "cores":
            value = _parse_number(value, key)
        elif value.isascii() and value.isdigit() and len(value) <= MAX_CHARACTERS:
            value = int(value)
        else:
            raise PolicyError(key, f"expected a whole number, got {show(value)}")
    return check_limit(name, value)


def _parse_number(text: str, key: str) -> float:
    digits, scale, unit = _split(text, key, "a number such as 0.5")
    if unit:
        raise PolicyError(key, f"expected a number such as 0.5, got {show(text)}")
    return digits / scale


def format_bytes(count: int) -> str:
    """``"256 MiB"``, in the largest unit that divides ``count``."""
    for unit, size in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count and count % size == 0:
            return f"{count // size} {unit}"
    return f"{count} bytes"


def format_seconds(seconds: float) -> str:
    """``"2 s"``, ``"500 ms"``, ``"7 d"``: the unit that gives the shortest number."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s" if seconds >= 1 or not seconds else f"{seconds * 1000:g} ms"


def format_limit(name: str, value: float) -> str:
    """The limit ``name`` for display, in its unit."""
    unit = LIMITS[name].unit
    if unit == "bytes":
        return format_bytes(int(value))
    if unit == "bytes per second":
        return f"{format_bytes(int(value))}/s"
    if unit == "cores":
        return f"{value:g}"
    return format_seconds(value) if unit == "seconds" else str(int(value))


def _split(text: object, key: str, wanted: str) -> tuple[int, int, str]:
    """(digits, scale, unit): the number is digits / scale, exactly."""
    if not isinstance(text, str):
        raise PolicyError(key, f"expected {wanted}, got {kind(text)}")
    if len(text) > MAX_CHARACTERS:
        raise PolicyError(key, f"expected {wanted}, got {len(text)} characters")
    stripped = text.strip().lower()
    number = stripped.rstrip("abcdefghijklmnopqrstuvwxyz")
    unit = stripped[len(number) :]
    whole, dot, part = number.rstrip().partition(".")
    digits = whole + part
    if not (digits.isascii() and digits.isdigit()) or not whole or (dot and not part):
        raise PolicyError(key, f"expected {wanted}, got {show(text)}")
    return int(digits), 10 ** len(part), unit

"""Abilities of the application's own: what each may be, how two meet, join and compare.

What: name -> ``True`` (a flag), a number (a cap), a frozenset of texts (a membership) or a text
(a value).  Because: an application has rights that no kernel knows, such as sending mail or
spending money, and they must be attenuated like every other right, not by a second set of rules.
Then: a policy carries them, ``broker.abilities`` counts and checks them on the host, and no wall
of the kernel knows of them.

The order, name by name; a name that is absent is below everything, and allows nothing::

    flag          absent < True
    cap           absent < 0 < 1 < 2.5 < ...
    membership    absent < {} < {"a"} < {"a", "b"}
    value         absent < "acme", absent < "other", and neither of the two is below the other

Two kinds under one name have only ``absent`` below them both.  A cap of 0 and an empty membership
are kept where two policies meet, because ``absent`` would forget the kind, and a later ``allow``
could then bring the name back as another one.
"""

from __future__ import annotations

from ..errors import PolicyError
from . import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeAlias

    from .grants import Texts

    Ability: TypeAlias = bool | int | float | frozenset[str] | str
    AbilityWanted: TypeAlias = bool | float | Texts | str

KEY = "grants.abilities"
FLAG, CAP, MEMBERSHIP, VALUE = "flag", "cap", "membership", "value"

MAX_ABILITIES = 256  # as many as names; more belongs into one membership
MAX_NAME = 64  # characters; it is repeated in every refusal
MAX_CAP = 2**63 - 1  # what a signed 64-bit integer holds, as TOML's do
MAX_ENTRIES = 4096  # of one membership; a longer list belongs into the application
MAX_VALUE = 4096  # characters of a value or an entry
MAX_BYTES = 256 * 2**10  # all together; they are sent with each start of a guest
_EXAMPLE = "{'send_mail': True, 'spend_cents': 500}"
_PER_ENTRY = 4  # bytes that an entry costs in a file besides its text: quotes, comma, space


def kind(ability: Ability) -> str:
    """Which of the four an ability is."""
    if ability is True:
        return FLAG
    if isinstance(ability, frozenset):
        return MEMBERSHIP
    return VALUE if isinstance(ability, str) else CAP


# ---------------------------------------------------------------------- what is accepted


def check(value: object) -> dict[str, Ability]:
    """The abilities wanted, each in its one form.

    Raises:
        PolicyError: no dict, a name that is not one, or an ability of no kind; names the key.
    """
    wanted = checks.as_dict(value)
    if wanted is None:
        raise PolicyError(
            KEY, f"expected a dict, got {checks.kind(value)}; write abilities={_EXAMPLE}"
        )
    checks.check_count(len(wanted), MAX_ABILITIES, KEY, "abilities")
    return {
        check_name(name, checks.at(KEY, name)): _check_one(ability, checks.at(KEY, name))
        for name, ability in wanted.items()
    }


def check_name(name: object, key: str) -> str:
    """``name`` if it is an identifier, or several with dots between them."""
    text = checks.check_text(name, key, "the name of an ability")
    if len(text) > MAX_NAME:
        raise PolicyError(key, f"a name of {len(text)} characters; at most {MAX_NAME} are accepted")
    if not all(part.isidentifier() for part in text.split(".")):
        raise PolicyError(
            key, f"{checks.show(text)} is not a name; write 'send_mail' or 'mail.send'"
        )
    return text


def _check_one(ability: object, key: str) -> Ability:
    if isinstance(ability, bool):
        if not ability:
            raise PolicyError(key, "False grants nothing; leave it out")
        return True
    if isinstance(ability, (int, float)):
        return _check_cap(ability, key)
    if isinstance(ability, str):
        return _check_value(ability, key, "a text")
    if checks.is_bunch(ability):
        checks.check_count(len(ability), MAX_ENTRIES, key, "entries")
        return frozenset(
            _check_value(entry, checks.at(key, index), "an entry")
            for index, entry in enumerate(ability)
        )
    hint = ""
    if checks.is_dict(ability):
        hint = "; in a TOML file a name with a dot is written in quotes"
    raise PolicyError(
        key,
        "expected True (a flag), a number (a cap), texts (a membership) or a text (a value), "
        f"got {checks.kind(ability)}{hint}",
    )


def _check_cap(cap: int | float, key: str) -> int | float:
    """A whole cap is an int, however it was written, so that equal caps are of one type."""
    plain = float(cap) if isinstance(cap, float) else int(cap)
    if not 0 <= plain <= MAX_CAP:  # false for NaN too
        raise PolicyError(key, f"{checks.show(plain)} is out of range: 0 to {MAX_CAP:,}")
    whole = int(plain)
    return whole if whole == plain else plain


def _check_value(value: object, key: str, what: str) -> str:
    text = checks.check_text(value, key, what)
    if len(text) > MAX_VALUE:
        raise PolicyError(
            key, f"a text of {len(text)} characters; at most {MAX_VALUE} are accepted"
        )
    return text


# ---------------------------------------------------------------------- join, meet, order


def join(held: Mapping[str, Ability], wanted: Mapping[str, Ability]) -> dict[str, Ability]:
    """Both, sorted by name: the higher cap, every member.  Never narrower than ``held``.

    Raises:
        PolicyError: a name with two kinds or two values, because nothing is wider than both; or
            too much in all.
    """
    joined = dict(held)
    for name, ability in wanted.items():
        old = joined.get(name)
        joined[name] = ability if old is None else _joined(old, ability, checks.at(KEY, name))
    checks.check_count(len(joined), MAX_ABILITIES, KEY, "abilities")
    checks.check_count(sum(map(_size, joined.values())), MAX_BYTES, KEY, "bytes")
    return dict(sorted(joined.items()))


def _joined(old: Ability, new: Ability, key: str) -> Ability:
    if kind(old) != kind(new):
        raise PolicyError(key, f"already granted as a {kind(old)}, and this is a {kind(new)}")
    if isinstance(old, frozenset) and isinstance(new, frozenset):
        return old | new
    if isinstance(old, str) or isinstance(new, str):
        if old != new:
            raise PolicyError(key, "already granted with another value; a policy holds one")
        return old
    if isinstance(old, (int, float)) and isinstance(new, (int, float)):  # flags, too
        return max(old, new)
    raise AssertionError("one kind and two types")


def _size(ability: Ability) -> int:
    texts = ability if isinstance(ability, frozenset) else (str(ability),)
    return sum(len(text.encode()) + _PER_ENTRY for text in texts)


def meet(a: Mapping[str, Ability], b: Mapping[str, Ability]) -> dict[str, Ability]:
    """What both allow, sorted by name: the lower cap, the common members, a value that is one."""
    met: dict[str, Ability] = {}
    for name in sorted(a.keys() & b.keys()):
        one, other = a[name], b[name]
        if kind(one) != kind(other):
            continue
        if isinstance(one, frozenset) and isinstance(other, frozenset):
            met[name] = one & other
        elif isinstance(one, str) or isinstance(other, str):
            if one == other:
                met[name] = one
        elif isinstance(one, (int, float)) and isinstance(other, (int, float)):  # flags, too
            met[name] = min(one, other)
    return met


def within(a: Mapping[str, Ability], b: Mapping[str, Ability]) -> bool:
    """Is each ability of ``a`` in ``b``, and no wider there?"""
    return all(name in b and _below(ability, b[name]) for name, ability in a.items())


def _below(low: Ability, high: Ability) -> bool:
    if kind(low) != kind(high):
        return False
    if isinstance(low, frozenset) and isinstance(high, frozenset):
        return low <= high
    if isinstance(low, (int, float)) and isinstance(high, (int, float)):  # flags, too
        return low <= high
    return low == high


# ---------------------------------------------------------------------- in other forms


def to_plain(abilities: Mapping[str, Ability]) -> dict[str, object]:
    """As a policy file has them: a membership is a sorted list."""
    return {
        name: sorted(ability) if isinstance(ability, frozenset) else ability
        for name, ability in abilities.items()
    }


def show(abilities: Mapping[str, Ability]) -> str:
    """As ``allow(abilities=...)`` takes them, one text for one value."""
    return "{" + ", ".join(f"{name!r}: {_show_one(a)}" for name, a in abilities.items()) + "}"


def _show_one(ability: Ability) -> str:
    if isinstance(ability, frozenset):
        return "{" + ", ".join(map(repr, sorted(ability))) + "}" if ability else "set()"
    return repr(ability)


def describe(ability: Ability) -> str:
    """In words, for people."""
    if isinstance(ability, frozenset):
        return f"any of {', '.join(sorted(ability))}" if ability else "a membership, empty"
    if isinstance(ability, str):
        return f"the value {ability}"
    return "a flag" if ability is True else f"a cap of {ability:,}"

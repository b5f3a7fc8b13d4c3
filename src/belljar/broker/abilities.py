"""``Abilities``: the application's own rights of one sandbox, checked and counted.

What: what a policy grants under ``abilities``, what of its caps is used up, and questions that a
host function asks before it acts.  Because: these rights are held by the application alone; a
check that each function writes for itself is forgotten in one of them, and two threads that count
by hand both spend the last cent.  Then: each question has one method, everything that is not
granted is refused, and a sandbox that another one launched also spends what its launcher has.

Example::

    def send(order: dict, abilities: Abilities) -> None:
        abilities.require("send_mail")
        abilities.require_member("tables", order["table"])
        abilities.spend("spend_cents", order["cents"])   # refused: nothing is spent
"""

from __future__ import annotations

from _thread import allocate_lock  # threading itself costs a millisecond

from ..errors import AbilityDenied
from ..policy import abilities as own
from ..policy import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..policy import Policy
    from ..policy.abilities import Ability

__all__ = ["Abilities"]

# Amounts are counted in whole multiples of the smallest float.  Because: in floats 1e16 + 0.5 is
# 1e16, so that small amounts beside a large one would be free.  Then: every sum is exact.
_BITS = 1074
_ONE = 1 << _BITS


class Abilities:
    """The abilities of one sandbox, for its life; every method may be called by any thread.

    A name that is not granted, or is granted as another kind, is refused: there is no count in a
    flag and no member in a cap.

    Args:
        policy: whose ``abilities`` count.
    """

    __slots__ = ("_caps", "_granted", "_launcher", "_lock", "_spent")

    def __init__(self, policy: Policy) -> None:
        self._launcher: Abilities | None = None
        self._lock = allocate_lock()  # one for all that count together
        self._settle(policy.abilities)

    def _settle(self, granted: Mapping[str, Ability]) -> None:
        self._granted = granted
        self._caps = {
            name: _exact(ability)
            for name, ability in granted.items()
            if isinstance(ability, (int, float)) and ability is not True
        }
        self._spent = dict.fromkeys(self._caps, 0)

    def attenuated(self, policy: Policy) -> Abilities:
        """Those of a sandbox that this one launches: what both allow.

        What it spends counts here as well, so that together they never spend more than was
        granted here (N2).
        """
        made = Abilities.__new__(Abilities)
        made._launcher, made._lock = self, self._lock
        made._settle(own.meet(self._granted, policy.abilities))
        return made

    # ------------------------------------------------------------------ flags

    def has(self, name: str) -> bool:
        """Is it granted, as whatever kind?  A cap of 0 and an empty membership are granted."""
        return name in self._granted

    def require(self, name: str) -> None:
        """Go on only if it is granted, as whatever kind.

        Raises:
            AbilityDenied: it is not.
        """
        if name not in self._granted:
            raise _denied(name, "the policy does not grant it")

    # ------------------------------------------------------------------ caps

    def spend(self, name: str, amount: float = 1) -> int | float:
        """Count ``amount`` against the cap; what is left.

        All or nothing, in one step for all threads, and against the launchers' caps as well.
        Sums are exact, so count in whole units: three times 0.1 is a little more than 0.3.

        Args:
            amount: 0 or more.  0 spends nothing, and asks whether there is a cap.

        Raises:
            AbilityDenied: more than is left, or no cap of this name; nothing is spent.
            TypeError: the amount is no number.
            ValueError: the amount is negative or NaN.
        """
        wanted = _check_amount(amount)
        if name not in self._caps:
            raise self._not_a(own.CAP, name)
        with self._lock:
            left = self._left(name)
            if wanted is None or wanted > left:
                raise _denied(name, f"{checks.show(amount)} is more than the {_number(left)} left")
            holder: Abilities | None = self
            while holder is not None:
                holder._spent[name] += wanted
                holder = holder._launcher
        return _number(left - wanted)

    def left(self, name: str) -> int | float:
        """What can still be spent: the least of this sandbox's and its launchers'; 0 without a cap."""
        if name not in self._caps:
            return 0
        with self._lock:
            return _number(self._left(name))

    def _left(self, name: str) -> int:
        """The lock is held.  A cap that is here is in every launcher: they only ever met."""
        left = self._caps[name] - self._spent[name]
        holder = self._launcher
        while holder is not None:
            left = min(left, holder._caps[name] - holder._spent[name])
            holder = holder._launcher
        return left

    @property
    def used(self) -> dict[str, int | float]:
        """What was spent of each cap, by this sandbox and those that it launched; a snapshot."""
        with self._lock:
            return {name: _number(spent) for name, spent in self._spent.items()}

    # ------------------------------------------------------------------ memberships and values

    def member(self, name: str, item: object) -> bool:
        """Is ``item`` an entry of the membership?"""
        granted = self._granted.get(name)
        # A subclass of str could answer == as it likes.
        return isinstance(granted, frozenset) and type(item) is str and item in granted

    def require_member(self, name: str, item: object) -> None:
        """Go on only if ``item`` is an entry of the membership.

        Raises:
            AbilityDenied: it is not, or there is no membership of this name.
        """
        if not isinstance(self._granted.get(name), frozenset):
            raise self._not_a(own.MEMBERSHIP, name)
        if not self.member(name, item):
            raise _denied(name, f"{checks.show(item)} is not in it")

    def value(self, name: str, default: str | None = None) -> str | None:
        """The text that is granted; ``default`` where there is none of this name."""
        granted = self._granted.get(name)
        return granted if isinstance(granted, str) else default

    # ------------------------------------------------------------------ as a whole

    @property
    def granted(self) -> Mapping[str, Ability]:
        """Name -> ``True``, number, frozenset or text, as the policy has them; read-only."""
        from ..policy.grants import FrozenDict

        return FrozenDict(dict(self._granted))  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        return f"<Abilities {own.show(self._granted)}, used {self.used!r}>"

    def _not_a(self, wanted: str, name: str) -> AbilityDenied:
        granted = self._granted.get(name)
        if granted is None:
            return _denied(name, "the policy does not grant it")
        return _denied(name, f"the policy grants it as a {own.kind(granted)}, not as a {wanted}")


def _denied(name: str, why: str) -> AbilityDenied:
    """A name may come from the guest, as an item may: both are shown bounded, on one line."""
    return AbilityDenied(name, f"ability {checks.show(name)}: {why}")


def _check_amount(amount: object) -> int | None:
    """The exact amount; None where it is more than any cap."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"the amount is no number: {checks.show(amount)}")
    number = float(amount) if isinstance(amount, float) else int(amount)
    if not number >= 0:  # true for NaN
        raise ValueError(f"the amount is not 0 or more: {checks.show(number)}")
    return None if number > own.MAX_CAP else _exact(number)


def _exact(number: int | float) -> int:
    """``number`` in units of 2**-1074."""
    numerator, denominator = number.as_integer_ratio()  # of a float it is a power of two
    return numerator * (_ONE // denominator)


def _number(exact: int) -> int | float:
    """The number again; a fraction that no float has is rounded, for display only."""
    whole, rest = divmod(exact, _ONE)
    return exact / _ONE if rest else whole

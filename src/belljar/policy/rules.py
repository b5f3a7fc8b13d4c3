"""Rules on names: what is said of a pattern, the most specific one deciding.

Example::

    Rules().set(["*"], BLOCK).set(["numpy.*"], ALLOW).at("numpy.random.mtrand") == ALLOW

What: a pattern is a name (``_ctypes``), a name with all below it (``numpy.*``), or ``*``;
each is said to be BLOCK < USUAL < ALLOW.  Because: two lists, one to allow and one to block,
leave open which of them wins.  Then: the most specific pattern wins, whatever the order in
which they were given; ``a & b`` takes the smaller of both at every point, so an intersection
is exact, and one meaning has one form.

USUAL leaves a name to what is decided without any rule.
"""

from __future__ import annotations

from ..errors import PolicyError
from . import checks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

BLOCK, USUAL, ALLOW = 0, 1, 2
EVERY = "*"
MAX_RULES = 1024  # patterns; every C module of a large environment by name
MAX_NAME = 200  # characters; longer than any module's full name


class Rules:
    """What is said of names.  Frozen; ``pairs`` is its one form, sorted.

    ``base`` is what holds where no pattern fits: USUAL, or ALLOW where nothing else decides.
    """

    __slots__ = ("_of", "base", "pairs")

    pairs: tuple[tuple[str, int], ...]

    def __init__(self, base: int = USUAL, of: dict[str, int] | None = None) -> None:
        self.base = base
        self._of: dict[str, int] = {}
        # Wider patterns first, so that each is compared with what is around it already.
        for pattern in sorted(of or (), key=width):
            said = (of or {})[pattern]
            if self._around(pattern) != said:
                self._of[pattern] = said
        self.pairs = tuple(sorted(self._of.items()))

    def at(self, name: str) -> int:
        """What is said of ``name``, or of the names that a pattern stands for."""
        found = self._of.get(name)
        return self._around(name) if found is None else found

    def _around(self, pattern: str) -> int:
        """What the next wider pattern says."""
        if pattern == EVERY:
            return self.base
        above = pattern[:-2].rpartition(".")[0] if pattern.endswith(".*") else pattern
        while above:
            found = self._of.get(above + ".*")
            if found is not None:
                return found
            above = above.rpartition(".")[0]
        return self._of.get(EVERY, self.base)

    def set(self, patterns: Iterable[str], said: int) -> Rules:
        """These rules with ``said`` for all that the patterns cover."""
        kept = dict(self._of)
        for pattern in patterns:
            kept = {other: value for other, value in kept.items() if not _covers(pattern, other)}
            kept[pattern] = said
        return Rules(self.base, kept)

    def __and__(self, other: Rules) -> Rules:
        """The smaller of both at every point."""
        points = {**self._of, **other._of, EVERY: 0}
        return Rules(self.base, {point: min(self.at(point), other.at(point)) for point in points})

    def __le__(self, other: Rules) -> bool:
        """Is nothing here above what is there?"""
        points = {**self._of, **other._of, EVERY: 0}
        return all(self.at(point) <= other.at(point) for point in points)

    def __eq__(self, other: object) -> bool:
        """Do both say the same?"""
        return isinstance(other, Rules) and (self.base, self.pairs) == (other.base, other.pairs)

    def __hash__(self) -> int:
        return hash((self.base, self.pairs))

    def __bool__(self) -> bool:
        """Is anything said?"""
        return bool(self.pairs)

    def __repr__(self) -> str:
        return f"Rules({self.base}, {dict(self.pairs)!r})"

    def patterns(self, said: int) -> list[str]:
        """The patterns of which just this is said, sorted."""
        return [pattern for pattern, value in self.pairs if value == said]

    def in_order(self) -> list[tuple[str, int]]:
        """The rules from wide to narrow: set one after the other they make these rules."""
        return sorted(self.pairs, key=lambda pair: (*width(pair[0]), pair[1], pair[0]))


def width(pattern: str) -> tuple[int, int]:
    """Sorts a pattern before all that it covers."""
    if pattern == EVERY:
        return 0, 0
    return 1 + pattern.count(".") - pattern.endswith(".*"), not pattern.endswith(".*")


def _covers(pattern: str, other: str) -> bool:
    if pattern in (EVERY, other):
        return True
    if not pattern.endswith(".*"):
        return False
    return other == pattern[:-2] or other.startswith(pattern[:-1])


def check_patterns(key: str, value: object, what: str, *, dotted: bool = True) -> list[str]:
    """Patterns from a list, each checked; ``what`` is what they are called in a message.

    Raises:
        PolicyError: not a list; or an entry is no Python name, ``name.*`` or ``*``.
    """
    if not checks.is_bunch(value):
        short = key.rpartition(".")[2]
        hint = f"; write {short}=[{checks.show(value)}]" if isinstance(value, str) else ""
        raise PolicyError(key, f"expected a list of {what}, got {checks.kind(value)}{hint}")
    checks.check_count(len(value), MAX_RULES, key, what)
    patterns: list[str] = []
    for index, item in enumerate(value):
        place = checks.at(key, index)
        text = checks.check_text(item, place, "a name")
        name = text.removesuffix(".*") if dotted else text
        if len(text) > MAX_NAME:
            raise PolicyError(place, f"{checks.show(text)} is longer than {MAX_NAME} characters")
        parts = name.split(".") if dotted else [name]
        if text != EVERY and not all(part.isidentifier() for part in parts):
            forms = "a name, 'name.*' or '*'" if dotted else "a name or '*'"
            raise PolicyError(place, f"{checks.show(text)} is none of these: {forms}")
        patterns.append(text)
    return patterns

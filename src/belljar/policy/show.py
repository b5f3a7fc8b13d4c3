"""A policy as the calls that make it.

Only for people: nothing reads it back but they.
"""

from __future__ import annotations

from .grants import STREAMS
from .limits import DEFAULTS, LIMITS
from .policy import Policy, digits
from .rules import ALLOW, BLOCK, USUAL, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .paths import PathGrant


def show_policy(policy: Policy) -> str:
    """``Policy().allow(...).block(...).limit(...)``, shortest form.

    Rules that only an intersection makes are shown as one.  Those that only a file makes (a name
    left to the usual list within a pattern that is allowed) are shown with the file's word,
    ``usual_modules``, which no verb takes.
    """
    rules = policy.modules
    if rules.patterns(USUAL):
        unblocked = Rules(rules.base, {name: said for name, said in rules.pairs if said != BLOCK})
        if not unblocked.patterns(USUAL):
            allowed = {name: ALLOW if said == USUAL else said for name, said in rules.pairs}
            sides = [Rules(rules.base, allowed), unblocked]
            return " & ".join(show_policy(_with_modules(policy, side)) for side in sides)
    granted: list[str] = []
    blocked: list[str] = []
    for verb, places in (("read", policy.read), ("write", policy.write)):
        if places:
            granted.append(f"{verb}={_show_paths(places)}")
    if policy.streams:
        granted.append(f"streams={[name for name in STREAMS if name in policy.streams]!r}")
    if policy.env:
        granted.append(f"env={dict(policy.env)!r}")
    if policy.argv:
        granted.append(f"argv={list(policy.argv)!r}")
    if policy.names:
        granted.append(f"names={dict(policy.names)!r}")
    if policy.packages:
        granted.append(f"packages={sorted(policy.packages)!r}")
    if policy.stand_ins:
        granted.append(f"stand_ins={dict(policy.stand_ins)!r}")
    if policy.run:
        granted.append(f"run={sorted(policy.run)!r}")
    if policy.python is not None:
        granted.append(f"python={policy.python!r}")
    if policy.jit:
        granted.append("jit=True")
    if policy.system_info:
        granted.append("system_info=True")
    if policy.abilities:
        from .abilities import show

        granted.append(f"abilities={show(policy.abilities)}")
    if policy.blocked_packages:
        blocked.append(f"packages={sorted(policy.blocked_packages)!r}")
    if policy.blocked_functions:
        blocked.append(f"functions={sorted(policy.blocked_functions)!r}")
    lower: list[str] = []
    for name in LIMITS:
        value, default = policy.limits[name], DEFAULTS[name]
        if value != default:
            (granted if value > default else lower).append(f"{name}={digits(value)}")
    calls = [("allow", granted), ("block", blocked)]
    calls += _rule_calls("modules", policy.modules) + _rule_calls("builtins", policy.builtins)
    calls.append(("limit", lower))
    return "Policy()" + _chain(calls)


def _chain(calls: list[tuple[str, list[str]]]) -> str:
    """The calls one after the other; neighbours of one verb with other keywords are one call."""
    text = ""
    last, held = "", list[str]()
    for verb, arguments in [*calls, ("", [])]:
        if not arguments and verb:
            continue
        if verb == last and not {_key(one) for one in held} & {_key(one) for one in arguments}:
            held += arguments
            continue
        if held:
            text += f".{last}({', '.join(held)})"
        last, held = verb, arguments
    return text


def _key(argument: str) -> str:
    return argument.partition("=")[0]


def _rule_calls(name: str, rules: Rules) -> list[tuple[str, list[str]]]:
    """Calls that set wider patterns before narrower ones."""
    calls: list[tuple[str, list[str]]] = []
    last, held = "", list[str]()
    for pattern, said in rules.in_order():
        word = _WORDS[said] + name
        if held and word != last:
            calls.append(_rule_call(last, held))
            held = []
        last = word
        held.append(pattern)
    if held:
        calls.append(_rule_call(last, held))
    return calls


_WORDS = {ALLOW: "allow ", BLOCK: "block ", USUAL: "allow usual_"}


def _rule_call(word: str, patterns: list[str]) -> tuple[str, list[str]]:
    verb, _, keyword = word.partition(" ")
    return verb, [f"{keyword}={patterns!r}"]


def _with_modules(policy: Policy, rules: Rules) -> Policy:
    return policy._with(modules=rules)  # pyright: ignore[reportPrivateUsage]


def _show_paths(places: tuple[PathGrant, ...]) -> str:
    """A list if all are shown where they are, a dict if each is shown once, else grants."""
    if all(place.host == place.inside for place in places):
        return repr([place.host for place in places])
    table = {place.host: place.inside for place in places}
    return repr(table if len(table) == len(places) else list(places))

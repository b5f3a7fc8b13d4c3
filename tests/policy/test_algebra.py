"""The algebra of policies, against laws and against a model (M3, M10, N1)."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.errors import PolicyError
from belljar.policy import LIMITS, Limits, PathGrant, Policy
from belljar.policy.rules import ALLOW, BLOCK

from .strategies import PLACES, limit_values, path_grants, paths_allowed, policies, raw_grants

some = settings(max_examples=60, deadline=None)


@some
@given(policies(), policies())
def test_intersection_is_never_wider_than_either_side(a: Policy, b: Policy) -> None:
    both = a & b
    assert both <= a
    assert both <= b
    assert Policy() & both <= both


@some
@given(policies(), policies(), policies())
def test_intersection_is_a_lattice_meet(a: Policy, b: Policy, c: Policy) -> None:
    assert (a & b) & c == a & (b & c)
    assert a & b == b & a
    assert a & a == a
    assert hash(a & b) == hash(b & a)
    if c <= a and c <= b:
        assert c <= a & b  # the greatest of all that are within both


@some
@given(policies(), policies())
def test_order_and_intersection_agree(a: Policy, b: Policy) -> None:
    both = a & b
    for low, high in ((a, b), (both, a), (both, b), (a, both)):
        assert (low <= high) == (low & high == low)
    assert (a < b) == (a <= b and a != b)
    assert (a >= b) == (b <= a)
    assert (a > b) == (b < a)


@some
@given(policies(), policies(), policies())
def test_order_is_partial(a: Policy, b: Policy, c: Policy) -> None:
    assert a <= a
    if a <= b and b <= a:
        assert a == b
        assert hash(a) == hash(b)
    low, middle = a & b & c, a & b
    assert low <= middle <= a
    assert low <= a


@some
@given(policies(), policies())
def test_allow_never_narrows(a: Policy, b: Policy) -> None:
    """Granting what another policy grants is at least both, or a contradiction by name."""
    wanted = {
        "read": b.read,
        "write": b.write,
        "streams": b.streams,
        "env": b.env,
        "argv": b.argv,
        "names": b.names,
        "packages": b.packages,
        "modules": b.modules.patterns(ALLOW),
        "stand_ins": b.stand_ins,
        "run": b.run,
        "jit": b.jit,
        "builtins": b.builtins.patterns(ALLOW),
        "system_info": b.system_info,
        "abilities": b.abilities,
        **{name: b.limits[name] for name in LIMITS},
    }
    wide, refused = a, set()
    for name, value in wanted.items():
        try:
            wide = wide.allow(**{name: value})
        except PolicyError:  # a contradiction; which ones are, other tests say
            refused.add(name)
        assert a <= wide
    assert a & wide == a
    assert refused <= {"read", "write", "env", "argv", "names", "stand_ins", "abilities"}
    if not refused:
        if _blocks_nothing(a) and b.python is None:
            assert b <= wide
        assert a.allow(**wanted) == wide


def _blocks_nothing(policy: Policy) -> bool:
    blocked = policy.blocked_packages | policy.blocked_functions
    return not (blocked or policy.modules or policy.builtins)


@some
@given(policies(), policies())
def test_block_never_widens(a: Policy, b: Policy) -> None:
    """Blocking what another policy blocks is at most both in code, and keeps all else."""
    strict = a.block(
        modules=b.modules.patterns(BLOCK),
        packages=b.blocked_packages,
        functions=b.blocked_functions,
        builtins=b.builtins.patterns(BLOCK),
    )
    assert strict <= a
    assert strict & a == strict
    assert strict.blocked_packages >= a.blocked_packages | b.blocked_packages
    assert strict.blocked_functions >= a.blocked_functions | b.blocked_functions
    for name in b.modules.patterns(BLOCK):
        assert strict.modules.at(name) == BLOCK
    assert strict.limits == a.limits
    assert strict.read == a.read


@some
@given(policies(), limit_values)
def test_limit_never_widens(policy: Policy, wanted: dict[str, float]) -> None:
    above = [name for name, value in wanted.items() if value > policy.limits[name]]
    if above:
        with pytest.raises(PolicyError, match=r"use allow\(") as caught:
            policy.limit(**wanted)
        assert caught.value.key.removeprefix("limits.") in above
    within = {name: value for name, value in wanted.items() if name not in above}
    lower = policy.limit(**within)
    assert lower <= policy
    assert all(lower.limits[name] == value for name, value in within.items())


@some
@given(policies(), limit_values)
def test_allow_raises_a_limit_and_never_lowers_it(policy: Policy, wanted: dict[str, float]) -> None:
    wide = policy.allow(**wanted)
    for name in LIMITS:
        assert wide.limits[name] == max(policy.limits[name], wanted.get(name, 0))


@some
@given(raw_grants, st.randoms())
def test_order_of_granting_does_not_matter(
    grants: list[tuple[str, PathGrant]], random: object
) -> None:
    policy, taken = paths_allowed(grants)
    random.shuffle(taken)
    again, _ = paths_allowed(taken)
    assert again == policy
    assert again.read == policy.read
    assert again.write == policy.write


# ---------------------------------------------------------------------- the model of paths

PROBES = sorted({*PLACES, "/x", "/x/a", "/x/a/b", "/tmp", "/tmp/out", "/tmp/out/a", "/a/b/b/a"})
Access = tuple[str, str] | None


def model(grants: list[tuple[str, PathGrant]], probe: str) -> Access:
    """What an inside path shows, from the grants as they were asked for, one by one."""
    shown: set[str] = set()
    mode = ""
    for verb, grant in grants:
        inside, wanted = grant.inside.split("/"), probe.split("/")
        if wanted[: len(inside)] == inside:
            shown.add("/".join([grant.host, *wanted[len(inside) :]]))
            mode = "write" if "write" in (verb, mode) else "read"
    assert len(shown) <= 1, "a policy must not show two places at one path"
    return (shown.pop(), mode) if shown else None


def access(policy: Policy, probe: str) -> Access:
    """The same question to the policy's own, reduced grants."""
    return model(
        [("read", grant) for grant in policy.read] + [("write", grant) for grant in policy.write],
        probe,
    )


def narrower(a: Access, b: Access) -> Access:
    if a is None or b is None or a[0] != b[0]:
        return None
    return a[0], min(a[1], b[1])  # "read" < "write"


@some
@given(raw_grants, raw_grants)
def test_paths_mean_what_the_model_says(
    left: list[tuple[str, PathGrant]], right: list[tuple[str, PathGrant]]
) -> None:
    a, asked_a = paths_allowed(left)
    b, asked_b = paths_allowed(right)
    both = a & b
    within = same = True
    for probe in PROBES:
        wanted_a, wanted_b = model(asked_a, probe), model(asked_b, probe)
        assert access(a, probe) == wanted_a
        assert access(both, probe) == narrower(wanted_a, wanted_b)
        within &= narrower(wanted_a, wanted_b) == wanted_a
        same &= wanted_a == wanted_b
    assert (a <= b) == within
    assert (a == b) == same


@some
@given(raw_grants, path_grants, st.sampled_from(["read", "write"]))
def test_a_conflict_is_refused_and_nothing_else_is(
    grants: list[tuple[str, PathGrant]], extra: PathGrant, verb: str
) -> None:
    """A grant is refused just when an inside path would have to show two host paths."""
    policy, taken = paths_allowed(grants)
    deep = [f"{grant.inside}{rest}" for _, grant in [*taken, (verb, extra)] for rest in ("", "/z")]
    clash = False
    for probe in deep:
        old, new = model(taken, probe), model([(verb, extra)], probe)
        clash |= old is not None and new is not None and old[0] != new[0]
    if clash:
        with pytest.raises(PolicyError, match=rf"^grants\.{verb}\[0\]"):
            policy.allow(**{verb: [extra]})
    else:
        assert policy <= policy.allow(**{verb: [extra]})


def test_reduction_by_example() -> None:
    assert Policy().allow(read=["/srv", "/srv/data"]) == Policy().allow(read=["/srv"])
    assert Policy().allow(read=["/srv"], write=["/srv"]) == Policy().allow(write=["/srv"])
    assert Policy().allow(read=["/srv/a"], write=["/srv"]).read == ()
    kept = Policy().allow(read=["/srv"], write=["/srv/out"])
    assert kept.read == (PathGrant("/srv", "/srv"),)
    assert kept.write == (PathGrant("/srv/out", "/srv/out"),)
    assert Policy().allow(read=["/srv-2", "/srv"]).read[1].inside == "/srv-2"


def test_intersection_by_example() -> None:
    srv, data = Policy().allow(read=["/srv"]), Policy().allow(read=["/srv/data"])
    assert srv & data == data
    assert srv & Policy().allow(write=["/srv/data"]) == data
    assert srv & Policy().allow(read=["/srv-data"]) == Policy()
    alias = Policy().allow(read={"/srv": "/s"})
    assert srv & alias == Policy()
    assert alias & Policy().allow(read={"/srv/data": "/s/data"}) == Policy().allow(
        read={"/srv/data": "/s/data"}
    )
    assert alias & Policy().allow(read={"/srv/data": "/s/other"}) == Policy()


ALONE = [
    {"read": ["/srv"]},
    {"write": ["/srv"]},
    {"streams": ["stdin"]},
    {"env": {"A": "1"}},
    {"argv": ["x"]},
    {"names": {"n": 1}},
    {"packages": ["numpy"]},
    {"modules": ["_curses"]},
    {"stand_ins": {"_curses": "/srv/_curses.py"}},
    {"run": ["git", "/bin/ls"]},
    {"python": "/srv/venv"},
    {"jit": True},
    {"system_info": True},
    {"abilities": {"send_mail": True}},
    *({name: 2 * spec.low + 1} for name, spec in LIMITS.items()),
]


@pytest.mark.parametrize("wanted", ALONE, ids=[next(iter(wanted)) for wanted in ALONE])
def test_each_grant_and_limit_alone_makes_a_policy_wider(wanted: dict[str, object]) -> None:
    """M10: whatever is granted counts in every comparison, even if all else is equal."""
    least = Policy().limit(
        **{name: min(spec.low, Policy().limits[name]) for name, spec in LIMITS.items()}
    )
    wide = least.allow(**wanted)
    assert least < wide
    assert not wide <= least
    assert wide != least
    assert wide & least == least
    assert wide & wide == wide
    for other in ALONE:
        if other is not wanted and not {"read", "write"} >= {*other, *wanted}:
            assert not wide <= least.allow(**other)
            assert wide & least.allow(**other) == least


BLOCKS_ALONE = [
    {"modules": ["_ctypes"]},
    {"packages": ["numpy"]},
    {"functions": ["os:system"]},
    {"builtins": ["eval"]},
]


@pytest.mark.parametrize("wanted", BLOCKS_ALONE, ids=[next(iter(w)) for w in BLOCKS_ALONE])
def test_each_block_alone_makes_a_policy_stricter(wanted: dict[str, list[str]]) -> None:
    strict = Policy().block(**wanted)
    assert strict < Policy()
    assert strict & Policy() == strict
    assert strict.allow(**wanted) >= Policy()
    if "modules" not in wanted and "packages" not in wanted:
        assert strict.allow(**wanted) == Policy()


def test_a_blocked_package_is_granted_no_more_and_a_granted_one_blocked_no_more() -> None:
    """C4: the last word counts, extras go with their distribution."""
    policy = Policy().allow(packages=["pandas[excel,plot]", "numpy"])
    assert policy.packages == {"pandas", "pandas[excel]", "pandas[plot]", "numpy"}
    policy = policy.block(packages=["Pandas"])
    assert (policy.packages, policy.blocked_packages) == ({"numpy"}, {"pandas"})
    policy = policy.allow(packages=["pandas"])
    assert (policy.packages, policy.blocked_packages) == ({"numpy", "pandas"}, frozenset())


def test_values_of_different_types_are_different_grants() -> None:
    """``1 == True == 1.0`` in Python, but a guest can tell them apart."""
    policies = [Policy().allow(names={"n": value}) for value in (1, True, 1.0, 0.0, -0.0, "1")]
    assert len(set(policies)) == 6
    for policy in policies[1:]:
        assert policies[0] & policy == Policy()
        assert not policies[0] <= policy
    nan = float("nan")
    assert Policy().allow(names={"n": nan}) == Policy().allow(names={"n": -nan * 1})


def test_comparison_with_something_else() -> None:
    assert Policy() != 1
    different = [Policy().allow(env={"A": value}) for value in "12"]
    assert different[0] & different[1] == Policy()
    assert not different[0] <= different[1]
    for compare in ("__le__", "__lt__", "__ge__", "__gt__", "__and__", "__eq__"):
        assert getattr(Policy(), compare)(1) is NotImplemented
    with pytest.raises(TypeError):
        Policy() & 1  # type: ignore[operator]


# ---------------------------------------------------------------------- a frozen value (M3)


def test_nothing_can_be_changed_afterwards() -> None:
    """M3: the creator settles the policy; later nobody changes it, not by accident either."""
    numbers = [1, 2]
    policy = Policy().allow(env={"A": "1"}, names={"n": numbers})
    before = hash(policy)
    numbers.append(3)
    policy.names["n"].append(4)
    with pytest.raises(AttributeError, match="frozen"):
        policy.env = {}
    with pytest.raises(AttributeError, match="frozen"):
        policy.invented = 1
    with pytest.raises(AttributeError, match="frozen"):
        del policy.read
    with pytest.raises(TypeError):
        policy.env["B"] = "2"
    with pytest.raises(TypeError):
        policy.names["m"] = 2
    with pytest.raises(AttributeError):
        policy.limits.wall_s = 9
    assert policy.names == {"n": [1, 2]}
    assert hash(policy) == before


def test_policy_is_final() -> None:
    with pytest.raises(TypeError, match="final"):
        type("Lenient", (Policy,), {"__le__": lambda self, other: True})


@settings(max_examples=40, deadline=None)
@given(policies(wide_values=True))
def test_copies_and_pickles(policy: Policy) -> None:
    assert copy.copy(policy) is policy
    assert copy.deepcopy({"p": policy})["p"] is policy
    assert pickle.loads(pickle.dumps(policy)) == policy


@some
@given(policies())
def test_repr_makes_the_policy_again(policy: Policy) -> None:
    from decimal import Decimal
    from fractions import Fraction

    scope = {"Policy": Policy, "PathGrant": PathGrant, "Decimal": Decimal, "Fraction": Fraction}
    assert eval(repr(policy), scope) == policy


def test_repr_by_example() -> None:
    policy = Policy().allow(read=["/srv"]).limit(wall_s=2)
    assert repr(policy) == "Policy().allow(read=['/srv']).limit(wall_s=2)"
    assert repr(Policy()) == "Policy()"
    raised = Policy().allow(wall_s=60.5, write={"/tmp/out": "/out"})
    assert repr(raised) == "Policy().allow(write={'/tmp/out': '/out'}, wall_s=60.5)"


def test_limits_meet_and_join() -> None:
    a, b = Limits(wall_s=1, processes=3), Limits(wall_s=2, processes=1)
    assert a & b == Limits(wall_s=1, processes=1)
    assert a | b == Limits(wall_s=2, processes=3)
    assert not a <= b
    assert not b <= a
    assert a & b <= a <= a | b
    with pytest.raises(KeyError):
        a["replace"]

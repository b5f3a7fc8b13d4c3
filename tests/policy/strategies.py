"""Hypothesis strategies for policies, small enough that policies overlap often."""

from __future__ import annotations

import datetime
import decimal
import fractions

from hypothesis import strategies as st

from belljar.errors import PolicyError
from belljar.policy import PathGrant, Policy

COMPONENTS = ("a", "b")
PLACES = [f"/{x}" for x in COMPONENTS]
PLACES += [f"/{x}/{y}" for x in COMPONENTS for y in COMPONENTS]
PLACES += [f"/a/{y}/{z}" for y in COMPONENTS for z in COMPONENTS]

path_grants = st.builds(
    PathGrant,
    host=st.sampled_from(PLACES),
    inside=st.one_of(st.sampled_from(PLACES), st.sampled_from(["/x", "/x/a", "/tmp/out"])),
) | st.sampled_from([PathGrant(place, place) for place in PLACES])

raw_grants = st.lists(st.tuples(st.sampled_from(["read", "write"]), path_grants), max_size=5)

limit_values = st.fixed_dictionaries(
    {},
    optional={
        "wall_s": st.sampled_from([0.001, 0.5, 5, 5.25, 60]),
        "memory_bytes": st.sampled_from([16 * 2**20, 256 * 2**20, 2**30]),
        "processes": st.sampled_from([0, 1, 4096]),
        "open_files": st.integers(16, 65_536),
        "grace_s": st.sampled_from([0, 0.5, 60]),
        "cpu_cores": st.sampled_from([0.01, 2, 1024]),
    },
)

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
env_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)

offsets = st.integers(-1439, 1439).map(
    lambda minutes: datetime.timezone(datetime.timedelta(minutes=minutes))
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.complex_numbers(),
    text,
    st.binary(max_size=6),
    st.dates(),
    st.times(timezones=st.none() | offsets).map(lambda value: value.replace(fold=0)),
    st.datetimes(timezones=st.none() | offsets).map(lambda value: value.replace(fold=0)),
    st.timedeltas(),
    st.decimals().filter(lambda value: not value.is_snan()),
    st.fractions(),
    st.uuids(),
)
keys = st.one_of(text, st.sampled_from(["$bytes", "$", "a.b", ""]), st.integers(), st.dates())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
        st.sets(st.integers() | text | st.frozensets(text, max_size=2), max_size=3),
        st.frozensets(st.booleans() | st.binary(max_size=3) | st.tuples(text), max_size=3),
    ),
    max_leaves=8,
)

# A closed choice of names and values, so that two policies often share some.
small_values = st.sampled_from([0, False, 0.0, 1, "x", [1], (1,), decimal.Decimal(1)])
small_values |= st.just(fractions.Fraction(1, 2))


def paths_allowed(
    grants: list[tuple[str, PathGrant]],
) -> tuple[Policy, list[tuple[str, PathGrant]]]:
    """A policy with as many of ``grants`` as do not conflict, and those that were taken."""
    policy, taken = Policy(), []
    for verb, grant in grants:
        try:
            policy = policy.allow(**{verb: [grant]})
        except PolicyError:
            continue
        taken.append((verb, grant))
    return policy, taken


# Patterns that cover one another, so that wider and narrower rules meet.
patterns = st.sampled_from(["*", "a", "a.*", "a.b", "a.b.*", "b.*", "_ctypes"])
rule_steps = st.lists(
    st.tuples(st.sampled_from(["allow", "block"]), st.lists(patterns, max_size=2)), max_size=4
)

# Every kind under every name, so that kinds meet; and both forms of a whole cap.
caps = st.sampled_from([0, 1, 1.0, 0.5, 2.5, 500, 2**63 - 1])
abilities = st.dictionaries(
    st.sampled_from(["spend", "mail.send", "größe"]),
    st.one_of(
        st.just(True), caps, st.sets(st.sampled_from(["a", "b", ""])), st.sampled_from(["x", "1"])
    ),
    max_size=3,
)
wide_abilities = st.dictionaries(
    st.sampled_from(["spend", "mail.send", "größe", "__x"]),
    st.one_of(
        st.just(True),
        st.floats(0, 2**62),
        st.integers(0, 2**63 - 1),
        st.sets(env_text, max_size=4),
        env_text,
    ),
    max_size=4,
)


@st.composite
def policies(draw: st.DrawFn, *, wide_values: bool = False) -> Policy:
    """Any policy: every grant and every limit has its share."""
    policy, _ = paths_allowed(draw(raw_grants))
    name_values = values if wide_values else small_values
    env_values = env_text if wide_values else st.sampled_from(["1", "2"])
    env_names = env_text.filter(lambda name: name and "=" not in name)
    policy = policy.allow(
        streams=draw(st.sets(st.sampled_from(["stdin", "stdout", "stderr"]))),
        env=draw(
            st.dictionaries(
                env_names if wide_values else st.sampled_from(["A", "B"]), env_values, max_size=3
            )
        ),
        argv=draw(st.lists(env_text if wide_values else st.sampled_from("pq"), max_size=2)),
        names=draw(st.dictionaries(st.sampled_from(["n", "m", "größe"]), name_values, max_size=3)),
        packages=draw(st.sets(st.sampled_from(["numpy", "Foo_Bar", "foo-bar", "x.y"]))),
        stand_ins=draw(
            st.dictionaries(
                st.sampled_from(["_curses", "a.b"]), st.sampled_from(["/x.py", "/y.py"])
            )
        ),
        run=draw(st.sets(st.sampled_from(["git", "/bin/ls"]))),
        jit=draw(st.booleans()),
        system_info=draw(st.booleans()),
        abilities=draw(wide_abilities if wide_values else abilities),
    )
    if draw(st.booleans()):
        policy = policy.allow(python=draw(st.sampled_from(["/venv", "/usr/bin/python3"])))
    policy = policy.block(
        packages=draw(st.sets(st.sampled_from(["numpy", "other"]))),
        functions=draw(st.sets(st.sampled_from(["os:system", "pathlib:Path.unlink"]))),
    )
    for verb, names in draw(rule_steps):
        policy = getattr(policy, verb)(modules=names)
    for verb, names in draw(rule_steps):
        builtins = [name for name in names if "." not in name]
        policy = getattr(policy, verb)(builtins=builtins)
    wanted = draw(limit_values)
    return policy.allow(**wanted).limit(**wanted)

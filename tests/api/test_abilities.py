"""What the code sees of its abilities: information, read-only, and no wall (R15)."""

from __future__ import annotations

import belljar
from belljar import Policy
from belljar.broker.abilities import Abilities

POLICY = Policy().allow(
    abilities={
        "send_mail": True,
        "spend_cents": 500,
        "rate.max": 2.5,
        "tables": ["orders", "news"],
        "empty": [],
        "tenant": "größe",
    }
)
ALL = "import belljar; [(n, type(a).__name__, a) for n, a in belljar.abilities.items()]"
TOLD = [(name, type(ability).__name__, ability) for name, ability in POLICY.abilities.items()]


def test_R15_run_tells_the_code_what_was_granted() -> None:
    assert belljar.run(ALL, POLICY).unwrap() == TOLD
    assert belljar.run(ALL).unwrap() == []


def test_R15_a_sandbox_tells_it_in_every_run() -> None:
    with belljar.Sandbox(POLICY) as sandbox:
        for _ in range(2):
            assert sandbox.run(ALL).unwrap() == TOLD
        sandbox.reset()
        assert sandbox.run(ALL).unwrap() == TOLD


def test_R15_the_mapping_cannot_be_written_to() -> None:
    code = """
import belljar
refused = []
for attempt in ("abilities['fire'] = True", "abilities['spend_cents'] = 9", "del abilities['tenant']"):
    try:
        exec(attempt, {"abilities": belljar.abilities})
    except TypeError:
        refused.append(attempt)
[len(refused), "fire" in belljar.abilities, belljar.abilities["spend_cents"]]
"""
    assert belljar.run(code, POLICY).unwrap() == [3, False, 500]


def test_R15_code_that_replaces_it_fools_only_itself() -> None:
    """The host asks its own account, and the next run of another guest is told the truth."""
    code = """
import belljar, gc
for held in gc.get_referents(belljar.abilities):
    held["spend_cents"] = 10**6
belljar.abilities = {**belljar.abilities, "fire": True}
belljar.abilities
"""
    account = Abilities(POLICY)
    told = belljar.run(code, POLICY).unwrap()
    assert (told["fire"], told["spend_cents"]) == (True, 10**6)
    assert not account.has("fire")
    assert account.left("spend_cents") == 500
    assert POLICY.abilities["spend_cents"] == 500
    assert belljar.run(ALL, POLICY).unwrap() == TOLD


def test_R15_each_run_is_told_its_own() -> None:
    """Policies that differ in nothing else share a zygote, and see nothing of one another."""
    values = [
        belljar.run(
            "import belljar; dict(belljar.abilities)", Policy().allow(abilities=wanted)
        ).value
        for wanted in ({"a": True}, {"a": 1}, {"b": "x"}, {})
    ]
    assert values == [{"a": True}, {"a": 1}, {"b": "x"}, {}]
    assert [type(value["a"]) for value in values[:2]] == [bool, int]


def test_R15_as_much_as_a_policy_may_hold_arrives() -> None:
    tables = {f"t{i:050}" for i in range(4096)}
    policy = Policy().allow(
        abilities={"tables": tables, **{f"n{i}": 2**63 - 1 for i in range(255)}}
    )
    assert belljar.run("import belljar; belljar.abilities['tables']", policy).value == tables

"""Plans in words: nothing is left out, and the table is aligned (X6)."""

from __future__ import annotations

import json

import pytest

from belljar import Policy
from belljar.api.machine import plan_for, support
from belljar.plan import explain as x
from belljar.plan import landlock as ll
from belljar.plan.steps import Plan, Step
from belljar.plan.support import Support


@pytest.fixture(scope="module")
def here() -> Support:
    return support()


def machines(here: Support) -> dict[str, Support]:
    full = here.replace(
        namespaces=frozenset(x.NAMESPACE_KINDS), mounts=True, proc=True, landlock_abi=7
    )
    return {
        "full": full,
        "root": full.replace(uid=0, gid=0),
        "user": full.replace(uid=1000, gid=1000),
        "bare": full.replace(namespaces=frozenset(), mounts=False, proc=False),
        "no landlock": full.replace(landlock_abi=0),
    }


def plans(here: Support) -> dict[str, Plan]:
    policies = {
        name: Policy().allow(system_info=True) if name == "bare" else Policy()
        for name in machines(here)
    }
    return {name: plan_for(policies[name], machine) for name, machine in machines(here).items()}


def test_every_verb_has_a_purpose_and_every_step_a_row(here: Support) -> None:
    for plan in plans(here).values():
        sections = {section.title: section for section in x.explain_plan(plan)}
        launch = sections["launch: from the host to the zygote"]
        guest = sections["guest: from the fork to the code"]
        assert [row[1] for row in launch.rows] == [step.verb for step in plan.launch]
        assert [row[1] for row in guest.rows] == [step.verb for step in plan.guest]
        assert all(row[2] for row in (*launch.rows, *guest.rows)), "a verb without a purpose"
        for section in sections.values():
            assert all(len(row) == len(section.columns) for row in section.rows)


def test_the_sections_follow_the_plan(here: Support) -> None:
    found = plans(here)
    titles = {name: [s.title for s in x.explain_plan(plan)] for name, plan in found.items()}
    assert "Landlock rules" in titles["full"]
    assert "Landlock rules" not in titles["no landlock"]
    assert "notes" in titles["bare"]
    assert "files a guest sees" in titles["full"]
    bare = x.explain_limits(found["bare"]).rows
    assert ("threads", "0 (policy: 16)", "threads beyond the main one") in bare


def test_grants_and_limits() -> None:
    assert x.explain_grants(Policy()).rows == (("none", "it computes and prints"),)
    policy = Policy().allow(
        read={"/srv/a": "/a"},
        write=["/srv/b"],
        streams=["stdin"],
        env={"A": "b"},
        argv=["x", "y"],
        names={"n": 1},
        packages=["numpy"],
        system_info=True,
    )
    assert x.explain_grants(policy).rows == (
        ("read", "/srv/a, shown as /a"),
        ("write", "/srv/b"),
        ("stream", "stdin"),
        ("env", "A=b"),
        ("argv", "x y"),
        ("name", "n"),
        ("package", "numpy"),
        ("system_info", "host name, processor, memory and uptime may be seen"),
    )


def test_steps_say_their_arguments(here: Support) -> None:
    plan = plans(here)["full"]
    for step, text in (
        (Step("limit", ("cpu", 6)), "RLIMIT_CPU 6"),
        (Step("become", (65534, 65534)), "user 65534, group 65534"),
        (Step("set_host_name", (b"belljar",)), "belljar"),
        (Step("unshare", (["user", "pid"],)), "user, pid"),
        (
            Step("map_identity", (0, 0, 5, 6)),
            "user 0 and group 0 inside are 5 and 6 outside",
        ),
        (
            Step("limit_address_space", (2**20,)),
            "RLIMIT_AS 1 MiB beyond the interpreter's own",
        ),
        (Step("some_new_verb", (1, None, [b"\xff", "x"])), "1, None, \\xff, x"),
    ):
        assert x.explain_step(step, plan) == text
    assert x.explain_step(plan.guest[-1], plan).startswith(plan.filter.arch)


def test_rights_in_words() -> None:
    assert x.explain_rights(ll.READ) == "read"
    assert x.explain_rights(ll.READ_FILE | ll.WRITE_FILE) == "write files, read files"
    assert x.explain_rights(0) == "nothing"
    every = x.explain_rights(ll.handled_fs(7))
    assert every.count(",") == 15, "each of the 16 rights has a name"


def test_missing_guarantees_and_machines(here: Support) -> None:
    bare = machines(here)["bare"].replace(
        why=(("user", "EPERM"),), container="Docker", landlock_abi=0
    )
    rows = dict(x.explain_machine(bare).rows)
    assert rows["namespaces"] == "none"
    assert rows["Landlock"] == "none"
    assert rows["root of its own"] == "no"
    assert rows["container"] == "Docker"
    assert rows["why no user"] == "EPERM"
    section = x.explain_missing(["a: b"], ["do c"])
    assert section.rows == (("missing", "a: b"), ("remedy", "do c"))


def test_text_is_aligned() -> None:
    one = x.Section("first", ("a", "b"), (("xxx", "1"), ("y", "22")))
    two = x.Section("second", ("", "", ""), (("p", "qqqq", ""), ("pp", "q", "r")))
    assert x.to_text([one, two]) == (
        "first\n  a    b\n  xxx  1\n  y    22\n\nsecond\n  p   qqqq\n  pp  q     r\n"
    )
    assert x.to_text([]) == ""


def test_data_is_json(here: Support) -> None:
    for name, plan in plans(here).items():
        data = json.loads(json.dumps(x.plan_data(plan), allow_nan=False))
        assert data["isolated"] is (name != "bare")
        assert [step[0] for step in data["guest"]] == [step.verb for step in plan.guest]
        assert data["policy"]["version"] == 1
    data = json.loads(json.dumps(x.machine_data(here)))
    assert data["kernel"] == list(here.kernel)
    assert set(data["namespaces"]) == set(here.namespaces)

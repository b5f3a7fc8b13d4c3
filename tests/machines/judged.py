"""What a survey must say: claimed is held, refused is refused with a remedy, nothing is left.

What: the comparison of what ``belljar check`` and ``belljar explain`` claimed on a machine with
what the attacks found there.  Because: a wall that is claimed and missing is the worst fault
there is, and one that is refused without need is the next.  Then: every test of another machine
calls ``judge`` first and adds what is special about its own.
"""

from __future__ import annotations

import json
from typing import Any

Survey = dict[str, Any]

# What a plain process can do on every machine; the attacks on these prove something.
ALWAYS_OPEN = frozenset(
    ["files", "names", "network", "processes", "native code", "C modules", "others", "filter"]
)
# What a policy with system_info gives up.
GIVEN_UP = {"system_info": {"names"}, "empty": set[str]()}
# A host that is root has nobody else to be without a user namespace; it has no capability.
ROOT_WITHOUT_NAMESPACES = {"privileges": ["root's number"]}


def read(text: str) -> Survey:
    """The object that the survey printed last."""
    found: Survey = json.loads(text.splitlines()[-1])
    return found


def claimed(found: Survey) -> set[str]:
    """The guarantees that are claimed for the policy under which the attacks ran."""
    return {one["name"] for one in found["explain"]["guarantees"] if not one["lost"]}


def judge(found: Survey) -> None:
    """Fails where claims and findings differ."""
    _judge_control(found["control"])
    _judge_refusal(found)
    if found["policy"] is None:
        assert not any(key in found for key in ("attacks", "limits", "end"))
        return
    held = claimed(found)
    everything = {one["name"] for one in found["explain"]["guarantees"]}
    assert everything - held <= GIVEN_UP[found["policy"]]
    known = ROOT_WITHOUT_NAMESPACES if found["policy"] == "system_info" else {}
    _judge_attacks(found["attacks"], held, known if found["uid"] == 0 else {})
    for guarantee, name, result in found["limits"]:
        assert guarantee in held
        assert (result["status"], result["limit"]) == ("limit", name), result
    assert found["end"]["family"] >= 2
    assert found["end"]["left"] == 0
    assert found["left"] == []
    if "fill" in found:
        assert 0 < found["fill"]["value"] <= 2**21


def _judge_control(control: dict[str, Any]) -> None:
    assert "failed" not in control, control
    assert set(control) >= ALWAYS_OPEN, ALWAYS_OPEN - set(control)


def _judge_refusal(found: Survey) -> None:
    """``check`` and ``run`` agree, and a refusal says what to do."""
    check = found["check"]
    assert check["exit"] == (0 if check["enforceable"] else 3), check
    empty = found["run"]["empty"]
    if check["enforceable"]:
        assert (empty["status"], empty["stdout"]) == ("ok", "42\n"), empty
        return
    assert empty["status"] == "unsupported", empty
    assert empty["missing"] == check["missing"]
    assert empty["remedy"] == check["remedy"] != []
    lost = {one["name"] for one in check["guarantees"] if one["lost"]}
    assert {line.partition(":")[0] for line in check["missing"]} == lost
    if found["run"]["system_info"]["status"] != "ok":
        assert found["run"]["system_info"]["status"] == "unsupported"
        assert found["run"]["system_info"]["remedy"]


def _judge_attacks(attacks: dict[str, Any], held: set[str], known: dict[str, list[str]]) -> None:
    assert attacks["status"] == "ok", attacks
    fell = {name: ways for name, ways in attacks["value"].items() if name in held}
    assert fell == known, fell
    assert not attacks["changed"], "the attack changed files"
    assert attacks["reached"] == 0, "the attack reached a socket"
    assert attacks["victim"] is None, "the attack ended another process"
    assert attacks["execve"]["status"] == "ok", attacks["execve"]
    assert all(isinstance(answer, str) for answer in attacks["execve"]["value"])

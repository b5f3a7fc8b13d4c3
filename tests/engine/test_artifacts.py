"""X9: what the engine keeps of what a guest shows."""

from __future__ import annotations

import pytest

from belljar import Artifact
from belljar.engine import events as e
from belljar.wire import events as wire

PNG = {"image/png": b"12345"}


def show(scene, forms=PNG, name: str = "figure-1"):
    return scene.tell(e.LinkData(scene.guest.send(wire.Artifact(1, name, forms, {"width": 2}))))


def test_X9_an_artifact_is_handed_on_at_once_and_kept(started) -> None:
    sc = started()
    made = Artifact("figure-1", PNG, {"width": 2})
    assert show(sc) == [e.Present(made)]
    sc.finish()
    sc.exit()
    assert sc.result().artifacts == (made,)
    assert sc.result().truncated == ()


@pytest.mark.parametrize("how", ["killed", "raised", "crashed"])
def test_X9_they_are_kept_however_the_run_ends(started, how: str) -> None:
    sc = started(wall_s=1)
    show(sc)
    if how == "killed":
        assert sc.tick(1.1) == [e.Kill()]
        sc.exit(signal=9)
    elif how == "raised":
        sc.raise_()
        sc.exit(code=1)
    else:
        sc.exit(signal=11)
    assert [one.name for one in sc.result().artifacts] == ["figure-1"]


def test_X9_what_exceeds_the_limit_is_left_out_and_named(started) -> None:
    """K1: of a guest whose agent counts as it likes."""
    sc = started(artifact_bytes=12)
    assert show(sc)
    assert show(sc)
    assert show(sc) == []
    assert len(show(sc, {"text/plain": b"12"})) == 1, "a smaller one still fits"
    sc.finish()
    sc.exit()
    result = sc.result()
    assert (result.status, result.truncated) == ("ok", ("artifacts",))
    assert [len(one.data) for one in result.artifacts] == [5, 5, 2]


def test_X9_what_the_agent_left_out_is_named_once(started) -> None:
    sc = started(artifact_bytes=0)
    assert show(sc) == []
    sc.finish(truncated=("artifacts", "message"))
    sc.exit()
    assert sc.result().truncated == ("artifacts",)

"""X9, K1, K8: artifacts of a guest that says anything, with no agent and no layer before it.

What: frames of a peer that the test wrote (too many, too large, of types that are none, of other
runs, before and after their time), and code inside that reaches for the link itself.  Because:
what an artifact holds and is called ends in files, pages and terminals of the host's.  Then: one
result, bounded memory, and names and types of a closed form or none.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import belljar
from belljar import Artifact, Policy, Result
from belljar.cli.artifacts import Directory, artifact_object, describe, report
from belljar.testing.hostile_peer import READY, Peer, Script, finished, forge, play, shown

from .host_memory import bound
from .measure import cost

SHORT = Policy().limit(wall_s=1)
EVIL = "\x1b]0;x\x07../../\x1b[2J\r\n/etc/passwd\u202e.png\0"


def in_a_run(*pieces: bytes) -> Script:
    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        for piece in pieces:
            peer.say(piece)
        peer.hear()

    return script


def broke(result: Result) -> bool:
    error = result.error
    return result.status == "crashed" and error is not None and error.type == "GuestProtocolError"


def test_X9_an_honest_peer() -> None:
    seen: list[Artifact] = []
    script = in_a_run(shown("image/png", b"1", "a"), shown("text/html", b"2", "b"), finished(7))
    result = play(script, SHORT, on_artifact=seen.append)
    assert (result.status, result.value) == ("ok", 7)
    assert tuple(seen) == result.artifacts
    assert [(one.name, one.data) for one in seen] == [("a", b"1"), ("b", b"2")]


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "png",
        "image/",
        "image/png\n",
        "image/\x1b[2J",
        "../etc/passwd",
        "text/../x",
        "x" * 10**6,
    ],
)
def test_X9_a_media_type_that_is_none_is_a_breach(media_type: str) -> None:
    result = play(in_a_run(shown(media_type, b"x"), finished(1)), SHORT)
    assert broke(result)
    assert result.artifacts == ()
    assert (
        media_type[:20] not in ("" if result.error is None else result.error.message)
        or not media_type
    )


@pytest.mark.parametrize(
    "pieces",
    [
        (shown("image/png", b"x", run_id=2),),
        (shown("image/png", b"x", run_id=2**63),),
        (shown("image/png", b"x", "n" * 65),),
        (forge(0x85, [1, "", {}, {}]),),
        (forge(0x85, [1, "", {"image/png": [1] * 1000}, {}]),),
        (forge(0x85, [1, "", {"image/png": b""}, {"a": {"b": {}}}]),),
        (forge(0x85, b"\xc1"),),
        (forge(0x85, []),),
        (shown("image/png", b"x") * 257,),
    ],
    ids=["run", "number", "name", "empty", "list", "depth", "bytes", "fields", "many"],
)
def test_K1_what_no_agent_says_is_a_breach(pieces: tuple[bytes, ...]) -> None:
    assert broke(play(in_a_run(*pieces, finished(1)), SHORT))


def test_X9_before_it_is_ready_it_shows_nothing() -> None:
    result = play(lambda peer: peer.say(shown("image/png", b"x")), SHORT)
    assert broke(result)
    assert result.artifacts == ()


@pytest.mark.parametrize("together", [True, False])
def test_X9_after_the_last_word_nothing_is_kept(together: bool) -> None:
    late = shown("image/png", b"late")

    def script(peer: Peer) -> None:
        peer.say(READY)
        peer.hear()
        peer.say(finished(1) + late if together else finished(1))
        if not together:
            peer.hear()
            peer.say(late)

    result = play(script, SHORT)
    assert result.artifacts == ()


def test_K1_too_many_bytes_are_dropped_and_memory_is_bounded() -> None:
    policy = SHORT.allow(wall_s=10).limit(artifact_bytes=2**20)
    play(in_a_run(finished(1)), policy)  # what is loaded once
    with cost() as host:
        result = play(in_a_run(*[shown("image/png", bytes(2**23))] * 20, finished(1)), policy)
    assert (result.status, result.artifacts, result.truncated) == ("ok", (), ("artifacts",))
    assert host.peak_bytes < bound(policy.limits)


def test_K1_a_million_of_them_cost_the_host_next_to_nothing() -> None:
    script = in_a_run(shown("image/png", b"x") * 10**5)
    with cost() as host:
        assert broke(play(script, SHORT))
    assert host.peak_bytes < bound(SHORT.limits)


def test_X9_a_hostile_name_is_a_text_and_never_a_path(tmp_path: Path) -> None:
    result = play(in_a_run(shown("text/html", b"<script>", EVIL), finished(1)), SHORT)
    (one,) = result.artifacts
    assert one.name == EVIL, "a claim, as it came"
    directory = Directory(str(tmp_path / "out"))
    (path,) = directory.save(one).values()
    assert path == str(tmp_path / "out" / "001-0-x-2j-etc-passwd-png.html")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    text = describe(one) + report([one], directory) + json.dumps(artifact_object(one))
    assert text.replace("\n", "").isprintable()


def test_X9_files_are_new_and_follow_no_link(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    directory = Directory(str(out))
    (out / "001-x.png").symlink_to(target)  # after the directory was looked at
    (path,) = directory.save(Artifact("x", {"image/png": b"theirs"})).values()
    assert path.endswith("001-x-2.png")
    assert target.read_text() == "mine"
    assert Directory(str(out)).save(Artifact("x", {"image/png": b""})) == {
        "image/png": str(out / "002-x.png")
    }


def test_X9_types_with_the_same_ending_do_not_meet(tmp_path: Path) -> None:
    forms = {f"application/x{n}": b"%d" % n for n in range(16)}
    saved = Directory(str(tmp_path)).save(Artifact("x", forms))
    assert len(set(saved.values())) == 16
    for kind, path in saved.items():
        assert Path(path).read_bytes() == forms[kind]


# Code inside, the layer off: the link is descriptor 3, and it writes there what it likes.


@pytest.mark.parametrize(
    "data",
    [
        shown("image/png", b"x", run_id=9),
        shown("image/png", b"x") * 300,
        shown("text/\x1b[2J", b"x"),
        forge(0x85, b"\xdd\xff\xff\xff\xff"),
    ],
    ids=["run", "many", "type", "size"],
)
def test_X9_code_that_writes_on_the_link_itself(data: bytes) -> None:
    code = f"import os\nos.write(3, {data!r})\nimport time; time.sleep(5)"
    result = belljar.run(code, SHORT)
    assert result.status in ("crashed", "limit", "raised")
    assert len(result.artifacts) <= 256
    assert belljar.run("40 + 2").value == 42


def test_X9_forged_ones_are_claims_like_any_other() -> None:
    code = f"import os\nos.write(3, {shown('image/png', b'forged')!r})\n1"
    result = belljar.run(code, SHORT)
    assert result.value == 1
    assert [one.data for one in result.artifacts] == [b"forged"]


TORN = {
    "speaker": "import gc\nfor o in gc.get_objects():\n  if type(o).__name__ == 'Outgoing': o._writing = True",
    "frames": "import gc\nfor o in gc.get_objects():\n  if type(o).__name__ == 'Outgoing': o._frames = 7",
    "builtins": "import builtins\nfor n in ('len', 'map', 'sum', 'min', 'print'): delattr(builtins, n)",
    "hostile types": "class M(type):\n  def __getattr__(c, n): raise SystemError\nclass T(metaclass=M): pass\nT()",
    "hostile forms": "class B(bytes):\n  def __bytes__(s): return 7\n  def __len__(s): return -1\n"
    "display({'image/png': B(b'x')}, raw=True)",
    "hostile text": "class S(str):\n  def encode(s, *a): return 7\n  def partition(s, *a): return s\n"
    "display({S('text/html'): S('x')}, raw=True)",
    "hostile keys": "display({'a' * 10**6: 'x', 3: 'y', None: 'z'}, raw=True, metadata={1: 2, 'a': []})",
    "itself": "class T:\n  def _ipython_display_(s): display(s)\ndisplay(T())",
    "deep": "d = {}\nfor _ in range(10**5): d = {'a': d}\ndisplay({'application/json': d}, raw=True)",
}


@pytest.mark.parametrize("how", TORN)
def test_K8_a_torn_agent_harms_the_guest_alone(how: str) -> None:
    result = belljar.run(TORN[how], SHORT)
    assert result.status in ("ok", "raised", "exited", "crashed", "limit")
    assert all(type(one.data) is bytes for one in result.artifacts)
    assert belljar.run("40 + 2").value == 42

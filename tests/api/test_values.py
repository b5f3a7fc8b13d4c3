"""M1, X4, R1, K3, K8: values both ways, in ``run`` and in a sandbox that stays."""

from __future__ import annotations

import dataclasses
import enum
import gc
import sys
from typing import Any

import pytest

import belljar
from belljar import Policy, PolicyError, Sandbox
from belljar.api import machine
from belljar.drivers import bulk

LARGE = Policy().allow(memory_bytes=2**30, value_bytes=2**28, wall_s=60, cpu_s=60)


def granted(name: str, policy: Policy = LARGE, **more: Any) -> Policy:
    """A policy with a package; skips where it cannot be had."""
    pytest.importorskip(name, reason=f"{name} is not installed")
    policy = policy.allow(packages=[name], **more)
    try:
        machine.plan_for(policy, machine.support())
    except PolicyError as error:
        pytest.skip(f"no {name}: {error}")
    return policy


@dataclasses.dataclass
class Point:
    x: int
    y: Any = None


class Colour(enum.Enum):
    RED = "r"


# --- records ------------------------------------------------------------------------------


def test_M1_records_go_in_as_plain_data() -> None:
    code = "[type(p).__name__, p, c]"
    found = belljar.run(code, inputs={"p": Point(1, [Point(2)]), "c": Colour.RED}).unwrap()
    assert found == ["dict", {"x": 1, "y": [{"x": 2, "y": None}]}, "r"]


def test_M1_records_come_out_as_plain_data() -> None:
    code = """
import dataclasses, enum, collections
@dataclasses.dataclass
class P:
    x: int
class E(enum.Enum):
    A = (1, 2)
T = collections.namedtuple("T", "a b")
{"p": [P(1)], "e": E.A, "t": T(1, P(2))}
"""
    found = belljar.run(code).unwrap()
    assert found == {"p": [{"x": 1}], "e": (1, 2), "t": (1, {"x": 2})}
    assert type(found["t"]) is tuple


def test_M1_a_culprit_is_named_both_ways() -> None:
    with pytest.raises(PolicyError) as caught:
        belljar.run("1", inputs={"p": Point(1, {"k": [print]})})
    assert "value.y['k'][0]" in str(caught.value)
    point = Point(1)
    point.y = point
    with pytest.raises(PolicyError, match="contains itself"):
        belljar.run("1", inputs={"p": point})
    code = (
        "import dataclasses\n@dataclasses.dataclass\nclass P:\n  x: object\np = P(1)\np.x = [p]\np"
    )
    assert "contains itself" in str(belljar.run(code).value_error)
    assert "value.x[0]" in str(belljar.run(code.replace("[p]", "[len]")).value_error)


def test_K8_nothing_of_a_record_runs_on_the_host() -> None:
    code = """
import dataclasses
class Meta(type):
    def __getattribute__(cls, name): return super().__getattribute__(name)
@dataclasses.dataclass
class P(metaclass=Meta):
    x: int
    def __reduce__(self): return (print, ("pwned",))
    def __del__(self): print("gone")
    @property
    def y(self): raise SystemExit(5)
[P(1), P(2)]
"""
    assert belljar.run(code).value == [{"x": 1}, {"x": 2}]


# --- bytes --------------------------------------------------------------------------------


@pytest.fixture(params=["copied", "encoded"])
def way(request: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """As it is, and where the machine does not let the host read a guest's memory."""
    if request.param == "encoded":
        monkeypatch.setattr(bulk, "fetch", lambda *_: None)
    return str(request.param)


def test_X4_large_bytes_in_and_out(way: str) -> None:
    data = bytes(range(256)) * 4000
    code = "(a, bytearray(b), memoryview(a)[1:-1], {'k': [a]})"
    found = belljar.run(code, inputs={"a": data, "b": bytearray(data)}).unwrap()
    assert found == (data, bytearray(data), memoryview(data)[1:-1], {"k": [data]})
    assert [*map(type, found)] == [bytes, bytearray, memoryview, dict]


def test_X4_in_a_sandbox_by_every_way(way: str) -> None:
    data = b"x" * 3_000_000
    with Sandbox(LARGE, inputs={"first": data}) as sandbox:
        assert sandbox.get("first") == data
        sandbox.set(second=[data, 1])
        assert sandbox.run("len(second[0])").value == 3_000_000
        assert sandbox.call("bytes.upper", data) == data.upper()
        assert sandbox.run("third[::-1]", inputs={"third": data}).value == data
        assert sandbox.run("open('f', 'rb').read()", files={"f": data}).value == data
        assert sandbox.run("1 + 1").value == 2


def test_X4_more_than_a_message_takes() -> None:
    data = bytes(100 * 2**20)
    with Sandbox(LARGE) as sandbox:
        sandbox.set(data=data)
        assert len(sandbox.get("data")) == len(data)


def test_R1_large_values_count_against_value_bytes() -> None:
    policy = LARGE.limit(value_bytes=2**20)
    result = belljar.run("[bytes(400_000)] * 3", policy)
    assert result.status == "ok"
    assert "value_bytes" in str(result.value_error)
    assert len(belljar.run("[bytes(400_000)] * 2", policy).unwrap()) == 2


def test_R1_large_inputs_count_against_the_memory_inside() -> None:
    for memory_bytes in (2**26, 2**27, 2**28, 2**28 + 2**27):
        policy = Policy().allow(memory_bytes=2**30).limit(memory_bytes=memory_bytes)
        result = belljar.run("print('ran')", policy, inputs={"x": bytes(2**28)})
        assert result.limit is not None
        assert (result.limit.name, result.stdout) == ("memory", "")


def test_M1_the_history_keeps_what_went_in_within_its_bound() -> None:
    data = bytearray(b"a" * 1_000_000)
    with Sandbox(LARGE) as sandbox, Sandbox(LARGE) as other:
        sandbox.set(data=data)
        data[0] = 0
        other.replay(sandbox.history)
        assert other.get("data") == b"a" * 1_000_000
        sandbox.set(data=bytes(20 * 2**20))
        with pytest.raises(PolicyError, match="history"):
            _ = sandbox.history
        assert len(sandbox.get("data")) == 20 * 2**20


def test_R2_a_guest_that_is_poured_into_can_be_interrupted_by_its_limits() -> None:
    with Sandbox(LARGE) as sandbox:
        result = sandbox.run("while True: pass", inputs={"x": bytes(2**24)}, wall_s=0.5)
        assert result.limit is not None
        assert result.limit.name == "wall"


# --- NumPy --------------------------------------------------------------------------------


def test_X4_arrays_in_and_out(way: str) -> None:
    policy = granted("numpy")
    import numpy as np

    with Sandbox(policy, preload=["numpy"]) as sandbox:
        for array in (
            np.arange(1_000_000.0).reshape(1000, 1000),
            np.arange(1_000_000.0).reshape(1000, 1000).T,
            np.zeros(100_000, [("a", "U3"), ("b", "?")]),
            np.arange(10)[::3],
            np.array(5),
            np.zeros((0, 3)),
            np.array(["2020"], "M8[s]"),
        ):
            sandbox.set(a=array)
            (found,) = sandbox.run("[a]").unwrap()
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()
            assert found.flags.writeable
            assert type(sandbox.run("a.flags.writeable").value) is bool
        assert sandbox.run("a = a.astype('M8[D]'); a[0]").value == np.datetime64("2020-01-01")
        assert sandbox.run("import numpy as np\n[np.float32(1.5), np.int8(3)]").value == [1.5, 3]
        result = sandbox.run("{'a': [1, np.array([len])]}")
        assert "value['a'][1]" in str(result.value_error)


def test_X4_arrays_live_as_long_as_somebody_has_them() -> None:
    policy = granted("numpy")
    code = "import numpy as np\n[np.full(100_000, n) for n in range(5)]"
    kept = belljar.run(code, policy).unwrap()[3][10:20]
    gc.collect()
    assert kept.tolist() == [3] * 10


def test_X4_an_array_where_NumPy_is_not_granted_is_told_before_anything_runs() -> None:
    np = pytest.importorskip("numpy", reason="NumPy is not installed")
    result = belljar.run("print('ran')", inputs={"x": np.arange(3)})
    assert (result.status, result.stdout) == ("raised", "")
    assert result.error is not None
    assert result.error.type == "ModuleNotFoundError"
    assert "numpy" in result.error.message
    with Sandbox() as sandbox:
        with pytest.raises(belljar.GuestRaised, match="numpy"):
            sandbox.set(x=np.arange(100_000))
        assert sandbox.run("1 + 1").value == 2


def test_X4_an_array_for_a_host_without_NumPy(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = granted("numpy")
    with Sandbox(policy) as sandbox:
        sandbox.run("import numpy as np")
        monkeypatch.setitem(sys.modules, "numpy", None)
        for code in ("np.zeros(3)", "np.zeros(100_000)"):
            result = sandbox.run(code)
            assert (result.status, result.value) == ("ok", None)
            assert "NumPy is not to be had here" in str(result.value_error)
        monkeypatch.undo()
        assert sandbox.run("np.zeros(3)").value.tolist() == [0, 0, 0]


def test_K8_what_a_guest_makes_of_NumPy_stays_there() -> None:
    policy = granted("numpy")
    code = """
import numpy as np
class Own(np.ndarray):
    def __array_finalize__(self, other): print("called")
    def __reduce__(self): return (print, ("pwned",))
np.zeros(3).view(Own)
"""
    result = belljar.run(code, policy)
    assert result.value is None
    assert "asarray" in str(result.value_error)


# --- tables -------------------------------------------------------------------------------


def test_X4_pandas_in_and_out() -> None:
    policy = granted("pandas")
    import pandas as pd

    frame = pd.DataFrame({"a": range(100_000), "b": ["x", "y"] * 50_000}).set_index("a")
    with Sandbox(policy, preload=["pandas"]) as sandbox:
        sandbox.set(frame=frame)
        pd.testing.assert_frame_equal(sandbox.get("frame"), frame)
        found = sandbox.run("frame.groupby('b').size()").value
        assert found.tolist() == [50_000, 50_000]


def test_X4_arrow_in_and_out() -> None:
    policy = granted("pyarrow", memory_bytes=2**33, threads=32)
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    table = pa.table({"a": range(100_000), "b": ["x", None] * 50_000})
    with Sandbox(policy) as sandbox:
        sandbox.set(table=table)
        assert sandbox.get("table").equals(table)
        assert sandbox.run("table.slice(10, 3)").value.equals(table.slice(10, 3))

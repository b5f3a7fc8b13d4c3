"""X4, K1: Arrow tables, pandas and polars frames, honest ones and forged ones."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.wire import tables
from belljar.wire.encoder import encode as encode_plain
from belljar.wire.errors import NotConvertible, RemoteError
from belljar.wire.table import Table
from belljar.wire.values import decode, encode

from .test_arrays import there_and_back


@pytest.fixture(scope="module")
def pd() -> Any:
    return pytest.importorskip("pandas", reason="pandas is not installed")


@pytest.fixture(scope="module")
def pa() -> Any:
    pytest.importorskip("pyarrow.ipc", reason="pyarrow is not installed")
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed")


@pytest.fixture(scope="module")
def pl() -> Any:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    return pytest.importorskip("polars", reason="polars is not installed")


# --- pandas ---------------------------------------------------------------------------------


def frames(pd: Any) -> list[Any]:
    frame = pd.DataFrame(
        {
            "a": [1, 2, 3],
            "b": ["x", None, "z"],
            "c": [1.5, None, 2],
            "d": pd.Categorical(["u", "v", "u"]),
            "e": pd.to_datetime(["2020", "2021", None]),
            "f": pd.to_datetime(["2020", "2021", None]).tz_localize("Europe/Berlin"),
            "g": [[1], {"q": 2}, None],
            "h": pd.array(["x", None, "z"], dtype="string"),
            7: [True, False, True],
        }
    )
    return [
        frame,
        frame.set_index("a"),
        frame.iloc[::2],
        frame["b"],
        frame["a"],
        frame.set_index("e")["c"],
        pd.DataFrame(),
        pd.DataFrame({"x": range(100_000), "y": 0.5}),
    ]


@pytest.mark.parametrize("poured", [False, True])
@pytest.mark.parametrize("number", range(8))
def test_X4_pandas(pd: Any, number: int, poured: bool) -> None:
    frame = frames(pd)[number]
    (found,) = there_and_back([frame], poured=poured)
    if isinstance(frame, pd.DataFrame):
        pd.testing.assert_frame_equal(found, frame)
    else:
        pd.testing.assert_series_equal(found, frame)


def test_X4_what_pandas_has_that_cannot_cross(pd: Any) -> None:
    class Own(pd.DataFrame):  # type: ignore[misc,name-defined]
        pass

    frame = pd.DataFrame({"a": [1], "b": [2]})
    for value, path, reason in (
        ({"x": pd.DataFrame({"a": [1, [2, print]]})}, "value['x']['a'][1][1]", "function"),
        (
            [pd.DataFrame({"a": pd.array([1, None], dtype="Int64")})],
            "value[0]",
            "column 'a' .*Int64",
        ),
        ([frame.set_index(["a", "b"])], "value[0]", "levels"),
        ([frame.set_index(["a", "b"]).T], "value[0]", "levels"),
        ([Own({"a": [1]})], "value[0]", "cannot cross"),
    ):
        with pytest.raises(NotConvertible, match=reason) as caught:
            encode(value)
        assert caught.value.path == path


FORGED: list[list[Any]] = [
    [],
    ["pandas"],
    ["pickle", "x"],
    [["pandas"]],
    ["pandas", "frame"],
    ["pandas", "frame", [], None],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 1]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 0], [0, [1], "O"]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 10**30, 1], [0, [1], "O"]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 10**9, 1], [0, [1], "O"]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 1], [0, 5, "O"]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 1], [0, "ab", "<i8"]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 1], [1, "object", ["x"]]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 1], [1, "str", [1]]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 1], [2, [0], [0, ["x"], "O"], False]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 1], [3, [0], "/etc/passwd"]],
    ["pandas", "frame", ["a"], None, [0, None, 0, 1, 1], [9]],
    ["pandas", "frame", 5, None, [0, None, 0, 1, 1]],
    ["pandas", "series", [], [0, None, 0, 1, 1], [0, [1], "O"]],
    ["pandas", "panel", "a", None, [0, None, 0, 1, 1]],
    ["arrow", "table", b"bytes"],
    ["arrow", "table", memoryview(b"ARROW1\0\0")],
    ["polars", "frame", "", memoryview(b"")],
]


@pytest.mark.parametrize("parts", FORGED, ids=range(len(FORGED)))
def test_K1_forged_tables(parts: list[Any]) -> None:
    """Whether the libraries are there or not."""
    with pytest.raises(RemoteError):
        decode(encode_plain(Table(parts)))


def test_K1_a_wrong_code_of_a_category(pd: Any) -> None:
    np = pytest.importorskip("numpy")
    codes = np.array([0, 5], "i8")
    parts = ["pandas", "series", None, [0, None, 0, 2, 1], [2, codes, [0, ["x"], "O"], False]]
    with pytest.raises(RemoteError, match="malformed"):
        decode(encode_plain(Table(parts)))


# --- Arrow -----------------------------------------------------------------------------------


def arrow_tables(pa: Any) -> list[Any]:
    table = pa.table(
        {
            "a": [1, 2, None],
            "b": ["x", "y", None],
            "c": pa.array(["u", "v", "u"]).dictionary_encode(),
            "d": [[1], [2, 3], None],
            "e": [{"q": 1}, None, {"q": 2}],
            "f": pa.array([1, 2, 3], pa.timestamp("ns", "UTC")),
            "g": pa.nulls(3),
        }
    )
    return [table, table.slice(1, 1), table.slice(3), pa.table({"a": range(100_000)}), pa.table({})]


@pytest.mark.parametrize("poured", [False, True])
@pytest.mark.parametrize("number", range(5))
def test_X4_arrow(pa: Any, number: int, poured: bool) -> None:
    table = arrow_tables(pa)[number]
    assert there_and_back([table], poured=poured)[0].equals(table)


def test_X4_arrow_batches_and_metadata(pa: Any) -> None:
    (batch,) = arrow_tables(pa)[0].to_batches()
    found = there_and_back(batch, poured=False)
    assert type(found) is type(batch)
    assert found.equals(batch)
    told = arrow_tables(pa)[0].replace_schema_metadata({"pandas": "{}"})
    assert there_and_back(told, poured=False).schema.metadata is None


def stream_of(pa: Any, table: Any, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write(table)
    return bytes(sink.getvalue())


def decode_stream(stream: bytes) -> Any:
    return decode(encode_plain(Table(["arrow", "table", memoryview(stream)])))


def test_K1_what_an_arrow_stream_may_not_be(pa: Any) -> None:
    table = pa.table({"a": ["x" * 100] * 100})
    assert decode_stream(stream_of(pa, table)).equals(table)
    dictionary = pa.table({"a": table["a"].combine_chunks().dictionary_encode()})
    named = pa.schema([pa.field("a", pa.string(), metadata={"ARROW:extension:name": "x"})])
    for stream in (
        b"",
        stream_of(pa, table, compression="zstd"),
        stream_of(pa, dictionary, compression="lz4"),
        stream_of(pa, table.cast(named)),
        stream_of(pa, pa.table({"a": pa.array([b""], pa.binary(0))})),
        stream_of(pa, pa.table({"a": pa.nulls(2_000_000)})),
        stream_of(pa, table)[:-8] + stream_of(pa, table),
        stream_of(pa, table) + b"\0" * 8,
        stream_of(pa, table)[8:],
    ):
        with pytest.raises(RemoteError, match="malformed"):
            decode_stream(stream)


def test_K1_offsets_that_lie(pa: Any) -> None:
    """Arrow's own functions would read where they point."""
    stream = stream_of(pa, pa.table({"a": ["abc", "de"]}))
    offsets = struct.pack("<iii", 0, 3, 5)
    assert stream.count(offsets) == 1
    for forged in ((0, 3, 2**30), (0, -5, 5), (-(2**31), 3, 5), (5, 3, 5)):
        with pytest.raises(RemoteError, match="malformed"):
            decode_stream(stream.replace(offsets, struct.pack("<iii", *forged)))


@settings(deadline=None)
@given(data=st.data())
def test_K1_arrow_streams_with_bytes_changed(pa: Any, data: Any) -> None:
    raw = bytearray(stream_of(pa, data.draw(st.sampled_from(arrow_tables(pa)[:3]))))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_stream(bytes(raw))
    except RemoteError:
        return
    try:
        found.to_pylist()
    except pa.ArrowException:
        return  # a time zone that there is none of, say: whoever reads the table is told


@given(st.binary(max_size=300))
def test_K1_any_bytes_are_a_stream_or_an_error(data: bytes) -> None:
    head = struct.pack("<II", 0xFFFF_FFFF, len(data) // 8 * 8)
    for stream in (data, head + data):
        try:
            tables.check_stream(memoryview(stream))
        except ValueError:
            continue


# --- polars ------------------------------------------------------------------------------------


def test_X4_polars(pl: Any) -> None:
    frame = pl.DataFrame({"a": [1, 2, None], "b": ["x", "y", None], "c": [[1], [], None]})
    for poured in (False, True):
        for value in (frame, frame.head(0), pl.DataFrame({"x": range(100_000)})):
            assert there_and_back([value], poured=poured)[0].equals(value)
        series = pl.Series("q", [1, 2])
        found = there_and_back(series, poured=poured)
        assert found.equals(series)
        assert found.name == "q"
    with pytest.raises(NotConvertible, match="Python objects"):
        encode([pl.DataFrame({"a": [object()]})])

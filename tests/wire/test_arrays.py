"""X4, K8, R1: arrays and what is like bytes, honest ones and forged ones, on the wire."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.wire import arrays
from belljar.wire.bulk import BULK_BYTES, MOST_PIECES, Incoming, Outgoing
from belljar.wire.errors import NotConvertible, RemoteError, TooLarge
from belljar.wire.limits import Budget
from belljar.wire.values import decode, encode

BUDGET = Budget(memory_bytes=2**30)


def there_and_back(value: Any, *, poured: bool) -> Any:
    if not poured:
        return decode(encode(value, BUDGET), BUDGET)
    outgoing = Outgoing(2**30)
    encoded = encode(value, BUDGET, outgoing)
    pieces = [bytearray(memoryview(piece)) for piece in outgoing.pieces]
    assert [len(piece) for piece in pieces] == outgoing.sizes
    return decode(encoded, BUDGET, Incoming(pieces))


def extension(code: int, data: bytes) -> bytes:
    return b"\xc9" + struct.pack(">IB", len(data), code) + data


def array_bytes(shape: list[int], type_: bytes, contents: bytes = b"", flags: int = 0) -> bytes:
    head = bytes((flags, len(shape))) + b"".join(struct.pack(">Q", one) for one in shape)
    return head + struct.pack(">H", len(type_)) + type_ + contents


def simple(text: str) -> bytes:
    return bytes((0, len(text))) + text.encode()


F8 = simple("<f8")


# --- what is like bytes ---------------------------------------------------------------------


@pytest.mark.parametrize("poured", [False, True])
@pytest.mark.parametrize("size", [0, 1, BULK_BYTES, BULK_BYTES + 1, 300_000])
def test_X4_bytes_bytearray_and_memoryview_arrive_as_what_they_are(size: int, poured: bool) -> None:
    raw = bytes(range(256)) * (size // 256 + 1)
    for value in (raw[:size], bytearray(raw[:size]), memoryview(raw)[:size]):
        (found,) = there_and_back([value], poured=poured)
        assert type(found) is type(value)
        assert found == value


def test_X4_only_what_is_large_goes_beside_the_value() -> None:
    outgoing = Outgoing(2**30)
    encode([b"x" * BULK_BYTES, b"y" * (BULK_BYTES + 1)], BUDGET, outgoing)
    assert outgoing.pieces == [b"y" * (BULK_BYTES + 1)]


def test_R1_pieces_are_counted_and_bounded() -> None:
    large = b"x" * (BULK_BYTES + 1)
    outgoing = Outgoing(2**30)
    value = [large] * (MOST_PIECES + 5)
    encoded = encode(value, BUDGET, outgoing)
    assert len(outgoing.pieces) == MOST_PIECES
    assert decode(encoded, BUDGET, Incoming(outgoing.pieces)) == value
    small = Budget(memory_bytes=BULK_BYTES)
    with pytest.raises(TooLarge):
        encode(large, small, Outgoing(2**30))
    one = Outgoing(2**30)
    encoded = encode(large, BUDGET, one)
    with pytest.raises(RemoteError, match="memory"):
        decode(encoded, small, Incoming(one.pieces))


def test_K1_pieces_and_references_must_match() -> None:
    outgoing = Outgoing(2**30)
    encoded = encode([b"x" * 100_000], BUDGET, outgoing)
    for pieces in ([], [*outgoing.pieces, b"more"]):
        with pytest.raises(RemoteError, match="refer"):
            decode(encoded, BUDGET, Incoming(pieces))
    with pytest.raises(RemoteError, match="refer"):
        decode(encoded, BUDGET)
    with pytest.raises(RemoteError, match="refer"):
        decode(encode(1), BUDGET, Incoming([b"x"]))


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\0abc", b"\3abc", b"\xff"], ids=["nothing", "bytes", "small", "3", "255"]
)
def test_K1_forged_bytes_alike(data: bytes) -> None:
    with pytest.raises(RemoteError, match="malformed"):
        decode(extension(arrays.ALIKE, data))
    with pytest.raises(RemoteError):
        decode(extension(arrays.BULK, data), BUDGET, Incoming([b"x" * 10]))


def test_K8_what_is_like_bytes_is_no_key() -> None:
    for value in ({b"1": 1, 2: 3}, {1}):
        encode(value)
    for key in (bytearray(b"x"), memoryview(b"x"), memoryview(bytearray(b"x"))):
        raw = bytes(encode(key))
        with pytest.raises(RemoteError, match="key"):
            decode(b"\x81" + raw + b"\x01")
    with pytest.raises(NotConvertible, match="key"):
        encode({memoryview(b"x"): 1})


# --- the grammar of types, without NumPy --------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("|b1", 1), ("|i1", 1), ("<i8", 8), (">u2", 2), ("<f2", 2), (">c16", 16), ("<U3", 12),
        ("|S5", 5), ("|V7", 7), ("<M8", 8), ("<M8[ns]", 8), (">m8[25us]", 8), ("<M8[Y]", 8),
    ],
)  # fmt: skip
def test_X4_types_that_are_known(text: str, size: int) -> None:
    assert arrays.parse(simple(text)).size == size


@pytest.mark.parametrize(
    "text",
    [
        "", "<", "<f", "f8", "=f8", "|f8", "<f16", "<c32", "<f3", "<f08", "<f-8", "<f8 ", " <f8",
        "|O", "|O8", "<O8", "<U0", "|S0", "|V0", "<S5", "|U5", "<U4294967295", "|S99999999999",
        "<M8[", "<M8]", "<M8[]", "<M8[xx]", "<M8[0s]", "<M8[-1s]", "<M8[s/3]", "<M4[s]", "<i8,i8",
        "<f8[ns]", "<i٣", "<b1", "(2,)<f8", "<i8\0", "|T16", "|b8", "<a5",
    ],
)  # fmt: skip
def test_K1_types_that_are_not(text: str) -> None:
    raw = text.encode()
    with pytest.raises((ValueError, IndexError)):
        arrays.parse(bytes((0, len(raw))) + raw)


def structure(size: int, *fields: tuple[bytes, int, bytes]) -> bytes:
    made = b"\x01" + struct.pack(">IH", size, len(fields))
    for name, offset, inner in fields:
        made += struct.pack(">H", len(name)) + name + struct.pack(">I", offset) + inner
    return made


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x00", b"\x03", F8 + b"\0", b"\x02\x00" + F8, b"\x02\x01" + struct.pack(">I", 0) + F8,
        b"\x02\x02" + struct.pack(">II", 2**16, 2**16) + F8,
        b"\x02\x01" + struct.pack(">I", 2**31) + F8,
        structure(0), structure(2**32 - 1), structure(8, (b"a", 1, F8)),
        structure(16, (b"a", 0, F8), (b"a", 8, F8)), structure(8, (b"", 0, F8)),
        structure(8, (b"\xff", 0, F8)), structure(8, (b"a", 2**32 - 1, F8)),
        structure(8, (b"a", 0, simple("|O"))), structure(8, (b"a", 0, F8))[:-1],
        b"\x02\x01\0\0\0\x01" * 20 + F8, b"\0\x04<f8" + b"x" * 20_000,
    ],
)  # fmt: skip
def test_K1_structures_that_lie(data: bytes) -> None:
    with pytest.raises((ValueError, IndexError, struct.error)):
        arrays.parse(data)


@given(st.binary(max_size=200))
def test_K1_any_bytes_are_a_type_or_an_error(data: bytes) -> None:
    try:
        layout = arrays.parse(data)
    except (ValueError, IndexError, struct.error):
        return
    assert 1 <= layout.size < 2**31


@given(st.sampled_from([13, 14, 15]), st.binary(max_size=120), st.lists(st.binary(max_size=64)))
def test_K1_any_bytes_are_a_value_or_an_error(code: int, data: bytes, pieces: list[bytes]) -> None:
    """The invariant of the wire holds with pieces beside it."""
    budget = Budget(memory_bytes=2**20)
    try:
        decode(extension(code, data), budget, Incoming([bytearray(one) for one in pieces]))
    except RemoteError:
        return


# --- with NumPy ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def np() -> Any:
    return pytest.importorskip("numpy", reason="NumPy is not installed")


def every_array(np: Any) -> list[Any]:
    gaps = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    return [
        np.arange(10),
        np.array(5.0),
        np.zeros((3, 0, 5)),
        np.arange(24).reshape(2, 3, 4)[:, ::2, ::-1],
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.broadcast_to(np.arange(3), (4, 3)),
        np.arange(5, dtype=">i4"),
        np.array([True, False]),
        np.array([1.5, np.nan, -0.0, np.inf], "f2"),
        np.array([1 + 2j], "c8"),
        np.array(["a", "b\U0010ffff", ""]),
        np.array([b"a", b"xx"]),
        np.zeros(2, "V7"),
        np.array(["2020", "NaT"], "M8[D]"),
        np.array([1, 2], ">m8[25us]"),
        np.zeros(3, [("a", "i1"), ("b", "f8", (2, 2)), ("c", [("d", "U3"), ("e", "?")])]),
        np.zeros(3, gaps),
        np.arange(100_000.0),
        np.arange(200_000.0).reshape(400, 500).T,
        np.zeros((100, 100, 20), ">U2"),
        np.zeros(50_000, [("a", "U2"), ("b", "?")]),
    ]


@pytest.mark.parametrize("poured", [False, True])
@pytest.mark.parametrize("number", range(21))
def test_X4_arrays_of_every_plain_type(np: Any, number: int, poured: bool) -> None:
    array = every_array(np)[number]
    found = there_and_back({"a": [array]}, poured=poured)["a"][0]
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable


def test_X4_scalars_of_NumPy(np: Any) -> None:
    for scalar in (
        np.int32(-5),
        np.uint64(2**63),
        np.bool_(True),
        np.float32(0.5),
        np.complex64(1j),
    ):
        found = there_and_back(scalar, poured=False)
        assert type(found) in (int, bool, float, complex)
        assert found == scalar
    for scalar in (np.datetime64("2020-01-01T00:00:00.123456789"), np.timedelta64(5, "D")):
        found = there_and_back(scalar, poured=False)
        assert (type(found), found, found.dtype) == (type(scalar), scalar, scalar.dtype)
    record = np.array([(1, "x")], [("a", "i4"), ("b", "U1")])[0]
    assert there_and_back(record, poured=False).item() == (1, "x")
    assert there_and_back({np.int64(3): 1, np.str_("a"): 2}, poured=False) == {3: 1, "a": 2}


def test_X4_what_cannot_cross_is_named(np: Any) -> None:
    class Own(np.ndarray):  # type: ignore[misc,name-defined]
        pass

    for value, path, reason in (
        ({"a": [np.array([object()])]}, "value['a'][0]", "Python objects"),
        ([np.zeros(2, [("a", "O")])], "value[0]", "Python objects"),
        ([np.longdouble(1)], "value[0]", "longdouble"),
        ([np.zeros(2, "g")], "value[0]", "array of"),
        ([np.ma.array([1])], "value[0]", "asarray"),
        ([np.zeros(2).view(Own)], "value[0]", "asarray"),
    ):
        with pytest.raises(NotConvertible, match=reason) as caught:
            encode(value)
        assert caught.value.path == path
    with pytest.raises(NotConvertible):
        encode({np.datetime64("2020"): 1})


def test_K7_the_gaps_of_a_structure_do_not_cross(np: Any) -> None:
    """They hold what was in the memory before."""
    gaps = np.dtype([("a", "i1"), ("b", [("c", "i1"), ("d", "f8")])], align=True)
    inner = np.dtype([("a", "i1"), ("b", "i1")])
    odd = np.dtype({"names": ["x"], "formats": [inner], "offsets": [6], "itemsize": 12})
    for dtype in (gaps, odd, np.dtype((odd, (2,)))):
        array = np.frombuffer(b"\xee" * 10 * dtype.itemsize, dtype.base)
        encoded = bytes(encode(array))
        fields = [array.dtype[name].itemsize for name in array.dtype.names or ()]
        assert encoded.count(b"\xee") < 10 * dtype.itemsize
        assert fields
    plain = np.frombuffer(b"\xee" * 240, gaps)
    told = there_and_back(plain, poured=False)
    assert told["b"]["d"].tobytes() == b"\xee" * 80
    assert told.tobytes().count(b"\xee") == 10 * (1 + 1 + 8)


@pytest.mark.parametrize(
    "data",
    [
        array_bytes([2], F8, bytes(8)),
        array_bytes([2], F8, bytes(17)),
        array_bytes([2**63, 2], F8),
        array_bytes([2**62, 4], F8, bytes(8)),
        array_bytes([2**64 - 1], F8, bytes(8)),
        array_bytes([0, 2**63, 2**63], F8),
        array_bytes([0], F8, b"x"),
        array_bytes([1] * 33, F8, bytes(8)),
        array_bytes([1], F8, bytes(8), flags=2),
        array_bytes([1], F8, bytes(8), flags=4),
        array_bytes([1], simple("|O8"), bytes(8)),
        array_bytes([4], simple("|b1"), b"\0\1\2\1"),
        array_bytes([1], simple("<U1"), b"\0\0\x11\0"),
        array_bytes([2], structure(2, (b"a", 1, simple("|b1"))), b"\0\1\0\x80"),
        array_bytes(
            [1], structure(4, (b"a", 0, b"\x02\x01\0\0\0\x04" + simple("|b1"))), b"\0\0\0\7"
        ),
        b"",
        b"\0",
        b"\0\x20",
    ],
)
def test_K1_arrays_that_lie(np: Any, data: bytes) -> None:
    with pytest.raises(RemoteError):
        decode(extension(arrays.ARRAY, data))


def test_R1_a_type_is_paid_for(np: Any) -> None:
    """A thousand fields take a megabyte on the host and a few bytes each on the wire."""
    names = [f"f{n}".encode() for n in range(600)]
    wide = structure(600, *[(name, n, simple("|i1")) for n, name in enumerate(names)])
    one = extension(arrays.ARRAY, array_bytes([0], wide))
    many = b"\xdd" + struct.pack(">I", 100) + one * 100
    decode(one)
    with pytest.raises(RemoteError, match="memory"):
        decode(many)


@settings(deadline=None)
@given(data=st.data())
def test_K1_arrays_with_one_byte_changed(np: Any, data: Any) -> None:
    array = data.draw(st.sampled_from(every_array(np)[:17]))
    raw = bytearray(encode(array))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] = data.draw(st.integers(0, 255))
    try:
        found = decode(bytes(raw))
    except RemoteError:
        return
    if isinstance(found, np.ndarray):
        assert not found.dtype.hasobject
        assert found.nbytes <= len(raw)
        repr(found)
        found.copy()

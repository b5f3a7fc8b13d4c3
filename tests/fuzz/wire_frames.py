"""Hostile frames that are almost right: events or one RemoteError, within the memory promised.

What: sequences of legal frames, written out by an encoder of this file that can be told to
lie (lengths, heads, extension codes, order, number of fields, bytes cut, doubled, flipped), fed to
both roles in pieces of any size; and the part of the format that is MessagePack's own, held
against the ``msgpack`` package.  Because: random bytes end at the first length, and what is
wanted are inputs that get past it.  Then: the invariant of ``fuzz_wire`` for each, with the
peak of memory measured for some.
"""

from __future__ import annotations

import datetime
import math
import random
import struct
import tracemalloc
import uuid
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgpack

from belljar.wire.connection import Connection
from belljar.wire.errors import NotConvertible, RemoteError
from belljar.wire.events import Finished, HostCall, Ready, Run
from belljar.wire.limits import FRAME_HEAD, Budget
from belljar.wire.values import decode, encode

BUDGET = Budget(frame_bytes=2**16, depth=40, nodes=5_000, memory_bytes=2**18)
PIECE = 4096  # of a stream, at most: what comes out of one piece is held until it is looked at
# A frame of few nodes may take four times its bytes and this (``connection``).
_EVENT_BYTES = 4 * BUDGET.frame_bytes + 128 * 2**10
# The promise of ``limits`` for one value, and what the events of one piece may hold: the
# dearest byte is that of a record with three empty texts.
PROMISE = 2 * max(_EVENT_BYTES, BUDGET.memory_bytes) + 3 * BUDGET.frame_bytes + 250 * PIECE

RUN, CLOSE, RETURNED, READY, DENIED, FINISHED, ARTIFACT = 0x01, 0x02, 0x04, 0x81, 0x82, 0x83, 0x85
POUR, TAKEN, HOST_CALL, ROOM, HOLD = 0x09, 0x0A, 0x84, 0x8A, 0x8B


# ---------------------------------------------------------------------- an encoder that lies


class Liar:
    """Writes MessagePack; now and then something else, as often as ``rate`` says."""

    def __init__(self, rng: random.Random, rate: float) -> None:
        self.rng = rng
        self.rate = rate
        self.lies = 0

    def lie(self) -> bool:
        told = self.rng.random() < self.rate
        self.lies += told
        return told

    def length(self, true: int) -> int:
        """A length, the true one as a rule."""
        if not self.lie():
            return true
        near = true + self.rng.choice([-2, -1, 1, 2])
        return max(self.rng.choice([near, 0, 2**8, 2**16, 2**31, 2**32 - 1, true * 2]), 0)

    def head(self, kinds: list[tuple[int, int, int]], size: int) -> bytes:
        """One of the heads (first byte, bytes of length, most) that can say ``size``."""
        size = self.length(size)
        fitting = [k for k in kinds if size <= k[2]] or kinds[-1:]
        first, width, _ = self.rng.choice(fitting[:1] * 3 + fitting)
        if width == 0:
            return bytes([first + size])
        return bytes([first]) + (size & (256**width - 1)).to_bytes(width, "big")

    def write(self, value: object) -> bytes:
        if self.lie():
            return self.other(value)
        if value is None:
            return b"\xc0"
        if isinstance(value, bool):
            return b"\xc3" if value else b"\xc2"
        if isinstance(value, int):
            return self.integer(value)
        if isinstance(value, float):
            return struct.pack(">Bd", 0xCB, value)
        if isinstance(value, str):
            try:
                data = value.encode()
            except UnicodeEncodeError:
                data = value.encode("raw-unicode-escape")
                return self.extension(4, data)
            return (
                self.head(
                    [
                        (0xA0, 0, 31),
                        (0xD9, 1, 255),
                        (0xDA, 2, 65535),
                        (0xDB, 4, 2**32 - 1),
                    ],
                    len(data),
                )
                + data
            )
        if isinstance(value, bytes):
            heads = [(0xC4, 1, 255), (0xC5, 2, 65535), (0xC6, 4, 2**32 - 1)]
            return self.head(heads, len(value)) + value
        if isinstance(value, dict):
            pairs = [self.write(k) + self.write(v) for k, v in value.items()]
            if pairs and self.lie():
                pairs[-1] = pairs[0]  # the same key twice
            heads = [(0x80, 0, 15), (0xDE, 2, 65535), (0xDF, 4, 2**32 - 1)]
            return self.head(heads, len(pairs)) + b"".join(pairs)
        if isinstance(value, (list, tuple, set, frozenset)):
            parts = [self.write(part) for part in value]
            mark = {tuple: 1, set: 2, frozenset: 3}.get(type(value), 0)
            if self.lie():
                mark = self.rng.randrange(256)
            if mark:
                place = 0 if not self.lie() else self.rng.randint(0, len(parts))
                parts.insert(place, b"\xd4\x01" + bytes([mark]))
            heads = [(0x90, 0, 15), (0xDC, 2, 65535), (0xDD, 4, 2**32 - 1)]
            return self.head(heads, len(parts)) + b"".join(parts)
        plain = encode(value)
        if self.lie():
            code = self.rng.choice([0, 1, 4, 10, 11, 13, 14, 15, 16, 127, 128, 255])
            return self.extension(code, plain[-self.rng.randint(1, 20) :])
        return plain

    def integer(self, value: int) -> bytes:
        forms: list[bytes] = []
        if -32 <= value < 128:
            forms.append(struct.pack(">b", value))
        for first, form, low, high in (
            *((0xCC, ">BB", 0, 2**8), (0xCD, ">BH", 0, 2**16), (0xCE, ">BI", 0, 2**32)),
            *((0xCF, ">BQ", 0, 2**64), (0xD0, ">Bb", -(2**7), 2**7)),
            *((0xD1, ">Bh", -(2**15), 2**15), (0xD2, ">Bi", -(2**31), 2**31)),
            (0xD3, ">Bq", -(2**63), 2**63),
        ):
            if low <= value < high:
                forms.append(struct.pack(form, first, value))
        if forms:
            return self.rng.choice(forms)
        size = value.bit_length() // 8 + self.rng.choice([1, 1, 9])
        return self.extension(2, value.to_bytes(size, "big", signed=True))

    def extension(self, code: int, data: bytes) -> bytes:
        size = self.length(len(data))
        fixed = {1: 0xD4, 2: 0xD5, 4: 0xD6, 8: 0xD7, 16: 0xD8}
        if size in fixed and self.rng.random() < 0.8:
            return bytes([fixed[size], code]) + data
        heads = [(0xC7, 1, 255), (0xC8, 2, 65535), (0xC9, 4, 2**32 - 1)]
        return self.head(heads, size) + bytes([code]) + data

    def other(self, value: object) -> bytes:
        """Something else in the place of a value."""
        rng = self.rng
        return rng.choice(
            [
                lambda: b"",
                lambda: b"\xc1",
                lambda: rng.randbytes(rng.randint(1, 12)),
                lambda: b"\x91" * rng.choice([5, 39, 40, 41, 5000]) + b"\xc0",
                lambda: b"\x81\xc0" * rng.choice([5, 39, 41, 3000]) + b"\xc0",
                lambda: b"\xdd" + struct.pack(">I", rng.choice([3000, 60000])) + b"\xc0" * 60000,
                lambda: (
                    b"\xde\x0f\xa0"
                    + b"".join(struct.pack(">BH", 0xCD, n) + b"\xc0" for n in range(4000))
                ),
                lambda: self.extension(10, b"1E+" + b"9" * rng.choice([3, 17, 18, 19, 4000])),
                lambda: self.extension(10, b"sNaN"),
                lambda: self.extension(11, b"\x00\x01\x01\x00"),
                lambda: self.extension(11, b"\x04\x00" + b"\x7f" * 1024 + b"\x55" * 1024),
                lambda: self.extension(2, b"\x7f" * rng.choice([1, 8, 9, 5000])),
                lambda: self.extension(rng.randrange(256), rng.randbytes(rng.randint(0, 40))),
                lambda: self.write(_value(rng, 2)),
            ]
        )()


def _value(rng: random.Random, depth: int, *, plain: bool = False) -> Any:
    """A value of the closed set; ``plain``: of those that MessagePack has itself."""
    if depth and rng.random() < 0.6:
        parts = [_value(rng, depth - 1, plain=plain) for _ in range(rng.randint(0, 5))]
        make = rng.choice([list, dict] if plain else [list, dict, tuple, set, frozenset])
        if make is dict:
            return {_key(rng, plain=plain): part for part in parts}
        if make in (set, frozenset):
            return make(_key(rng, plain=plain) for _ in parts)
        return make(parts)
    scalars: list[Any] = [
        *(None, True, False, 0, 127, 128, -32, -33, 2**32, 2**63, 2**64 - 1, -(2**63)),
        *(0.0, -0.0, 1.5, math.inf, math.nan, 1e-320, "", "x" * 31, "ä€𝄞" * 11, b"", b"\xff" * 300),
        rng.randint(-(2**63), 2**64 - 1),
    ]
    if not plain:
        zone = datetime.timezone(datetime.timedelta(minutes=rng.randint(-1000, 1000)))
        scalars += [
            *(2**64, -(2**200), 1j, "\ud800", datetime.date(2024, 2, 29), datetime.time(1, 2)),
            *(datetime.datetime(2024, 1, 1, tzinfo=zone), zone, datetime.timedelta(-1, 5, 7)),
            *(Decimal("-1.5E+7"), Decimal("NaN"), Fraction(-1, 3), uuid.UUID(int=2**100)),
            *(bytearray(b"ab" * 9), memoryview(b"cd"), bytearray()),
        ]
    return rng.choice(scalars)


def _key(rng: random.Random, *, plain: bool) -> Any:
    keys: list[Any] = [
        f"k{rng.randint(0, 99)}",
        rng.randint(-100, 10**6),
        b"b%d" % rng.randint(0, 9),
    ]
    if not plain:
        keys += [(1, (2, rng.randint(0, 9))), Decimal(rng.randint(0, 9)), frozenset({1}), None, 1.5]
    return rng.choice(keys)


# ---------------------------------------------------------------------- sequences of frames


def _fields(rng: random.Random, kind: int, run_id: int) -> list[Any]:
    """The fields of a legal frame, almost always."""
    text = rng.choice(["", "x", "ä" * 50, "y" * 5000, "\x1b[2J"])
    error = ["ValueError", text, text, [text] * rng.randint(0, 3), rng.choice([None, "memory"])]
    if kind == READY:
        return [{f"s{n}": rng.random() for n in range(rng.randint(0, 4))}]
    if kind == DENIED:
        return [run_id, [["read", text[:4000], text[:4000]] for _ in range(rng.randint(1, 64))]]
    if kind == ARTIFACT:
        types = ["image/png", "text/html", "text/plain", "application/vnd.x+json"]
        forms = {name: rng.randbytes(rng.choice([0, 9, 900])) for name in rng.sample(types, 2)}
        if rng.random() < 0.05:
            forms["text/\x1b[2J"] = b""
        return [run_id, text[:60], forms, {"w": rng.choice([1, 0.5, None, True, "x", text])}]
    if kind == FINISHED:
        outcome = rng.choice(["ok", "raised", "exited", "ok", "lost"])
        value = encode(_value(rng, 3)) if outcome == "ok" else None
        raised = error if outcome == "raised" else None
        return [
            run_id,
            outcome,
            value,
            None,
            raised,
            3 if outcome == "exited" else None,
            ["message"],
        ]
    if kind in (CLOSE, ROOM):
        return []
    if kind == TAKEN:
        return [run_id, rng.random() < 0.5]
    sizes = [rng.choice([65_537, 2**20, 2**40]) for _ in range(rng.choice([1, 1, 3, 1024]))]
    if kind == POUR:
        return [sizes]
    if kind == HOLD:
        return [run_id, [rng.randrange(2**64) for _ in sizes], sizes]
    if kind == HOST_CALL:
        arguments = encode([[_value(rng, 2)], {"k": _value(rng, 2)}])
        return [rng.randint(1, 9), rng.choice(["f", "g" * 64, "\x1b[2J"]), arguments]
    if kind == RETURNED:
        if rng.random() < 0.5:
            return [rng.randint(1, 4), encode(_value(rng, 2)), "", "", ""]
        return [rng.randint(1, 4), None, "ValueError", text, text[:4000]]
    inputs = {f"i{n}": _value(rng, 3) for n in range(rng.randint(0, 4))}
    files = {"f": b"x" * rng.randint(0, 99)}
    return [run_id, text, "main.py", inputs, ["a", text], True, files, {"s": _value(rng, 2)}, False]


def stream(rng: random.Random, role: str) -> bytes:
    """What a peer of this role may get: a sequence that is legal but for its lies."""
    liar = Liar(rng, rng.choice([0.0, 0.002, 0.02, 0.1]))
    run_id = rng.choice([1, 1, 1, 2])
    if role == "host":
        kinds = (
            rng.choice([[READY], [], [], []])
            + [rng.choice([DENIED, ARTIFACT]) for _ in range(rng.choice([0, 1, 3, 17]))]
            + [HOST_CALL] * rng.choice([0, 0, 1, 5, 70])
            + [FINISHED]
        )
        kinds[-1:-1] = rng.choice([[], [], [HOLD]])
    else:
        kinds = rng.choice(
            [
                [RUN],
                [RUN, RUN],
                [CLOSE],
                [RUN, CLOSE],
                [POUR],
                [POUR, RUN],
                [RETURNED],
                [RETURNED, RETURNED, CLOSE],
            ]
        )
    if liar.lie():
        rng.shuffle(kinds)
    if liar.lie():
        kinds.append(
            rng.choice(
                [
                    RUN,
                    CLOSE,
                    RETURNED,
                    READY,
                    DENIED,
                    ARTIFACT,
                    FINISHED,
                    HOST_CALL,
                    POUR,
                    TAKEN,
                    ROOM,
                    HOLD,
                ]
            )
        )
    frames: list[bytes] = []
    calls = 0
    for kind in kinds:
        fields = _fields(rng, kind, run_id)
        if kind == HOST_CALL and not liar.lie():
            calls += 1
            fields[0] = calls
        if liar.lie() and fields:
            place = rng.randrange(len(fields))
            fields[place : place + rng.randint(0, 1)] = [_value(rng, 2)] * rng.randint(0, 2)
        payload = liar.write(fields)
        if liar.lie():
            payload = _damage(rng, payload)
        number = kind if not liar.lie() else rng.randrange(256)
        frames.append(struct.pack(">IB", liar.length(len(payload)), number) + payload)
    if liar.lie():
        rng.shuffle(frames)
    whole = b"".join(frames)
    return _damage(rng, whole) if liar.lie() else whole


def _damage(rng: random.Random, data: bytes) -> bytes:
    """Cut, double, flip, swap."""
    if not data:
        return rng.randbytes(3)
    a, b = sorted((rng.randint(0, len(data)), rng.randint(0, len(data))))
    place = rng.randrange(len(data))
    return rng.choice(
        [
            data[:a],
            data[b:],
            data[:a] + data[b:],
            data[:a] + data[a:b] * 2 + data[b:],
            data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :],
            data[:place] + rng.randbytes(4) + data[place + 4 :],
        ]
    )


# ---------------------------------------------------------------------- the invariant


def connection(role: str, waiting: bool) -> Connection:
    """An end that waits for its peer's first word; a host may wait for the end of a run."""
    made = Connection("host" if role == "host" else "guest", BUDGET)
    if role == "guest":
        made.send(Ready({}))
        if waiting:  # for the answers of three calls
            host = Connection("host", BUDGET)
            host.receive_data(Connection("guest").send(Ready({})))
            made.receive_data(host.send(Run(1, "", "main.py", {})))
            for call_id in (1, 2, 3):
                made.send(HostCall(call_id, "f", encode([[], {}])))
            made.send(Finished(1, "ok"))
    elif waiting:
        made.receive_data(Connection("guest").send(Ready({})))
        made.send(Run(1, "", "main.py", {}))
    return made


def receive(end: Connection, data: bytes, sizes: random.Random | None) -> list[str] | None:
    """The events as texts, or None after one RemoteError; raises whatever else there is."""
    told: list[str] = []
    at = 0
    try:
        while at < len(data):
            size = PIECE if sizes is None else sizes.choice([1, 4, 5, 6, 100, PIECE])
            events = end.receive_data(data[at : at + size])
            at += size
            told += [_shown(event) for event in events]
        end.receive_eof()
    except RemoteError as error:
        assert end.state == "ERROR", end.state
        _says_nothing_of_the_peers(str(error))
        _is_remembered(end, str(error))
        return None
    assert end.state == "CLOSED", end.state
    return told


def _is_remembered(end: Connection, breach: str) -> None:
    try:
        end.receive_data(encode(None))
    except RemoteError as error:
        again = str(error)
    else:
        again = "nothing"
    assert again == breach, f"first {breach}, then {again}"


def _shown(event: Any) -> str:
    if isinstance(event, Finished) and event.value is not None:
        encoded: Any = event.value
        _value_invariant(encoded)
    return type(event).__name__


def _says_nothing_of_the_peers(text: str) -> None:
    assert text.isascii(), text
    assert text.isprintable(), text
    assert len(text) < 300, len(text)


def _value_invariant(data: bytes) -> None:
    try:
        value = decode(data, BUDGET)
    except RemoteError as error:
        _says_nothing_of_the_peers(str(error))
        return
    try:
        again = encode(value)
    except NotConvertible as error:
        # Only the guard of the keys may differ: the encoder keeps a margin.
        if "collide" not in str(error):
            raise
        return
    decode(again)


def sequences(rng: random.Random) -> None:
    """Events or one error, the same however the bytes are cut, within the memory promised."""
    role = rng.choice(["host", "host", "guest"])
    data = stream(rng, role)
    waiting = data[4:5] != bytes([READY])
    if rng.random() < 0.1:
        peak = _peak(connection(role, waiting), data)
        assert peak <= PROMISE, f"{peak} bytes held, {PROMISE} promised"
    whole = receive(connection(role, waiting), data, None)
    cut = receive(connection(role, waiting), data, rng)
    assert whole == cut


def _peak(end: Connection, data: bytes) -> int:
    tracemalloc.start()
    try:
        pieces = [data[at : at + PIECE] for at in range(0, len(data), PIECE)]
        before, _ = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        for piece in pieces:
            try:
                end.receive_data(piece)
            except RemoteError:
                break
        _, peak = tracemalloc.get_traced_memory()
        return peak - before
    finally:
        tracemalloc.stop()


def values(rng: random.Random) -> None:
    """One value's bytes with lies: decoded, or one error; what comes in can go out again."""
    liar = Liar(rng, rng.choice([0.0, 0.01, 0.05, 0.3]))
    data = liar.write(_value(rng, rng.randint(0, 6)))
    if rng.random() < 0.3:
        data = _damage(rng, data)
    if rng.random() < 0.1:
        tracemalloc.start()
        try:
            try:
                decode(data, BUDGET)
            except RemoteError:
                pass
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        most = 2 * BUDGET.memory_bytes + 3 * BUDGET.frame_bytes
        assert peak <= most, f"{peak} bytes held, {most} promised"
    _value_invariant(data)
    _same_as_msgpack(data)


class _Extension(Exception):
    """An extension: beyond what both sides share."""


def _on_extension(_code: int, _data: bytes) -> object:
    raise _Extension


def _same_as_msgpack(data: bytes) -> None:
    """What we take, the package takes, and makes the same of."""
    try:
        ours = decode(data, BUDGET)
    except RemoteError:
        return
    try:
        theirs = msgpack.unpackb(data, strict_map_key=False, ext_hook=_on_extension, timestamp=0)
    except _Extension:
        return
    assert same(ours, theirs), f"{ours!r:.300} and {theirs!r:.300} of {data!r:.300}"


def plain(rng: random.Random) -> None:
    """Plain values: the bytes are the package's own, both ways."""
    made = _value(rng, rng.randint(0, 6), plain=True)
    packed = msgpack.packb(made)
    assert encode(made) == packed
    assert same(decode(packed), made)
    _same_as_msgpack(Liar(rng, 0.0).write(made))  # any legal form, not the shortest only


def same(a: Any, b: Any) -> bool:
    """Equal in type and value, NaN to NaN and -0.0 to -0.0, without calling itself."""
    pairs = [(a, b)]
    while pairs:
        left, right = pairs.pop()
        if type(left) is not type(right):
            return False
        if isinstance(left, float):
            if struct.pack("d", left) != struct.pack("d", right) and left == left:
                return False
        elif isinstance(left, dict):
            if list(left) != list(right):
                # NaN as a key is equal to nothing.
                if len(left) != len(right):
                    return False
                pairs += list(zip(left, right, strict=True))
            pairs += list(zip(left.values(), right.values(), strict=True))
        elif isinstance(left, list):
            if len(left) != len(right):
                return False
            pairs += list(zip(left, right, strict=True))
        elif left != right:
            return False
    return True


def target(rng: random.Random) -> None:
    """One input of any of the three kinds."""
    rng.choice([sequences, sequences, values, plain])(rng)


assert struct.calcsize(">IB") == FRAME_HEAD

"""Packed data, read at once and as a stream."""

import msgpack

data = {"n": [1, -2, 2**40], "b": b"\x00\xff", "t": "text", "f": 1.5}
packed = msgpack.packb(data)
stream = msgpack.Unpacker()
stream.feed(packed[:7])
stream.feed(packed[7:] + packed)
all(
    (
        msgpack.unpackb(packed) == data,
        list(stream) == [data, data],
        msgpack.Packer.__module__ == "msgpack._cmsgpack",
    )
)

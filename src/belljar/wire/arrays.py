"""NumPy arrays, bytearrays and memoryviews, as extensions.

What: an array is its shape, a description of its element type and its bytes in order.
Because: whoever sent it may be hostile, and NumPy believes what it is told.  Then: the
description is parsed here, from a closed grammar, and NumPy is given nothing that was not
computed from it; the number of bytes is held against shape and type before an array is made;
contents for which NumPy's own loops rely on a promise (a bool is 0 or 1, a character is one of
Unicode) are looked at.

code   type         bytes, big-endian
 13    bytes alike  kind: 0 bytes, 1 bytearray, 2 memoryview; contents
 14    array        flags, dimensions, each:8, length of the type:2, type, contents
 15    bulk         one of the codes above and its bytes but for the contents, which are the
                    next of ``bulk.Incoming``
flags  1: the contents are in Fortran's order; 2: a scalar of NumPy's
type   0 length text              one of ``<f8``, ``|b1``, ``>i4``, ``<U12``, ``|S5``, ``<M8[ns]`` ...
       1 size:4 fields:2          and for each field: length:2 name offset:4 type
       2 dimensions each:4 type   an array as element

Not objects, whose bytes are addresses; not ``longdouble``, whose bytes mean something else on
another machine, and which has gaps.  What fills the gaps of a structure is replaced by
zeros before it leaves: it is memory of the sender's with whatever was there before.
"""

from __future__ import annotations

import sys
from struct import Struct
from struct import error as StructError

from .errors import Refused, RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .bulk import Incoming, Outgoing

__all__ = ["ALIKE", "ARRAY", "BULK", "Layout", "decode", "encode", "missing", "parse", "price"]

ALIKE, ARRAY, BULK = 13, 14, 15
KIND_BYTES, KIND_BYTEARRAY, KIND_MEMORYVIEW = range(3)
_F_ORDER, _SCALAR = 1, 2

MAX_DIMENSIONS = 32  # of NumPy 1; NumPy 2 has 64
MAX_TYPE_BYTES = 16 * 2**10  # a table with 500 named columns
MAX_TYPE_DEPTH = 8
MAX_SIZE = 2**31 - 1  # of one element
_ARRAY_BYTES = 512  # the object, its shape and strides, its type
_PER_TYPE_BYTE = 128  # a field is nine bytes at least, and a dict entry, tuples and a type
_MOST = 2**62

_Q = Struct(">Q")
_I = Struct(">I")
_H = Struct(">H")
_type: Any = type

missing: list[str] | None = None
"""Where it is a list: what a value needed and is not to be had, ``numpy`` or ``memory``.

For a guest's agent, which says so as the outcome of the run; None: it is an error.
"""


# Types: pure ---------------------------------------------------------------------------------


class Layout:
    """An element type as it was described: ``size`` in bytes, and what is checked in it.

    ``text`` is set for a simple one, ``fields`` (name, offset, layout) for a structure,
    ``shape`` and ``inner`` for an array as element.
    """

    __slots__ = ("fields", "inner", "shape", "size", "text")

    def __init__(self, size: int) -> None:
        self.size = size
        self.text = ""
        self.fields: tuple[tuple[str, int, Layout], ...] | None = None
        self.shape: tuple[int, ...] = ()
        self.inner: Layout | None = None


_SIZES = {
    "b": (1,),
    "i": (1, 2, 4, 8),
    "u": (1, 2, 4, 8),
    "f": (2, 4, 8),
    "c": (8, 16),
    "m": (8,),
    "M": (8,),
}
_UNITS = ("Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as")


def parse(data: bytes) -> Layout:
    """The type that these bytes describe, all of them.  Raises ``ValueError``."""
    if len(data) > MAX_TYPE_BYTES:
        raise ValueError
    layout, end = _parse(data, 0, MAX_TYPE_DEPTH)
    if end != len(data):
        raise ValueError
    return layout


def _parse(data: bytes, at: int, depth: int) -> tuple[Layout, int]:
    if not depth:
        raise ValueError
    tag = data[at]
    at += 1
    if tag == 0:
        end = at + 1 + data[at]
        text = data[at + 1 : end].decode("ascii")
        layout = Layout(_simple_size(text))
        layout.text = text
        return layout, end
    if tag == 1:
        (size,) = _I.unpack_from(data, at)
        (count,) = _H.unpack_from(data, at + 4)
        at += 6
        if not 1 <= size <= MAX_SIZE:
            raise ValueError
        fields: list[tuple[str, int, Layout]] = []
        for _ in range(count):
            (length,) = _H.unpack_from(data, at)
            name = data[at + 2 : at + 2 + length].decode()
            at += 2 + length
            (offset,) = _I.unpack_from(data, at)
            inner, at = _parse(data, at + 4, depth - 1)
            if not name or offset + inner.size > size:
                raise ValueError
            fields.append((name, offset, inner))
        if len({name for name, _, _ in fields}) < len(fields):
            raise ValueError
        layout = Layout(size)
        layout.fields = tuple(fields)
        return layout, at
    if tag == 2:
        count = data[at]
        if not 1 <= count <= MAX_DIMENSIONS:
            raise ValueError
        shape = tuple(_I.unpack_from(data, at + 1 + 4 * n)[0] for n in range(count))
        inner, end = _parse(data, at + 1 + 4 * count, depth - 1)
        size = inner.size
        for length in shape:
            size *= length
            if not 1 <= size <= MAX_SIZE:
                raise ValueError
        layout = Layout(size)
        layout.shape, layout.inner = shape, inner
        return layout, end
    raise ValueError


def _simple_size(text: str) -> int:
    order, kind, rest = text[:1], text[1:2], text[2:]
    unit = ""
    if kind and kind in "mM" and rest.endswith("]"):
        rest, bracket, unit = rest[:-1].partition("[")
        count = unit.rstrip("YMWDhmsunpfa")
        if not bracket or unit[len(count) :] not in _UNITS or (count and not _number(count)):
            raise ValueError
    size = _number(rest)
    if kind in _SIZES:
        # A type of one byte has no order.
        if size not in _SIZES[kind] or order not in ("|" if size == 1 else "<>"):
            raise ValueError
        return size
    if kind and kind in "SV" and order == "|" and 1 <= size <= MAX_SIZE:
        return size
    if kind == "U" and order and order in "<>" and 1 <= size <= MAX_SIZE // 4:
        return 4 * size
    raise ValueError


def _number(digits: str) -> int:
    """A decimal number as NumPy writes it.  Raises ``ValueError``."""
    if not 1 <= len(digits) <= 10 or not digits.isascii() or not digits.isdigit():
        raise ValueError
    if digits[0] == "0" or int(digits) > MAX_SIZE:
        raise ValueError
    return int(digits)


# Encoding ------------------------------------------------------------------------------------


def encode(value: Any, outgoing: Outgoing | None) -> tuple[int, bytes, int] | None:
    """Code, bytes and memory of a value of these types; None when it is of none of them."""
    kind = _type(value)
    if kind is bytearray or kind is memoryview:
        head = bytes((ALIKE, KIND_BYTEARRAY if kind is bytearray else KIND_MEMORYVIEW))
        return _with_contents(head, bytes(value), outgoing)
    module = sys.modules.get("numpy")
    if module is None:
        return None
    numpy: Any = module
    if not issubclass(kind, (numpy.ndarray, numpy.generic)):
        return None
    flags = 0
    if issubclass(kind, numpy.generic):
        array = numpy.asarray(value)
        flags = _SCALAR
    elif kind in (numpy.ndarray, numpy.memmap, getattr(numpy, "recarray", None)):
        array = numpy.ndarray.view(value, numpy.ndarray)
    else:
        raise Refused(
            f"is of type {_name(kind)}, which cannot cross; numpy.asarray() makes it plain"
        )
    dtype = array.dtype
    described = _describe(dtype, MAX_TYPE_DEPTH)
    if len(described) > MAX_TYPE_BYTES or array.ndim > MAX_DIMENSIONS:
        raise Refused("is an array with too many fields or dimensions to cross")
    if _has_gaps(dtype):
        array = _without_gaps(numpy, array)
    if array.flags.f_contiguous and not array.flags.c_contiguous:
        flags |= _F_ORDER
        array = array.T
        shape = array.shape[::-1]
    else:
        shape = array.shape
        array = numpy.ascontiguousarray(array).reshape(shape)
    head = bytes((ARRAY, flags, len(shape))) + b"".join(map(_Q.pack, shape))
    head += _H.pack(len(described)) + described
    contents: Any = array.reshape(-1).view(numpy.uint8) if array.size else b""
    return _with_contents(head, contents, outgoing, _PER_TYPE_BYTE * len(described))


def _with_contents(
    head: bytes, contents: Any, outgoing: Outgoing | None, more: int = 0
) -> tuple[int, bytes, int]:
    size = len(contents)
    if outgoing is not None and outgoing.takes(size):
        price = outgoing.add(contents, size)
        return BULK, head, price + _ARRAY_BYTES + _PER_TYPE_BYTE * len(head)
    if outgoing is not None and outgoing.charged and outgoing.size + size > outgoing.most_bytes:
        return BULK, b"", size + _ARRAY_BYTES  # over the budget: nothing is copied for that
    data = head[1:] + bytes(contents)
    return head[0], data, _ARRAY_BYTES + 2 * len(data) + more


def encode_bytes(value: bytes, outgoing: Outgoing) -> tuple[bytes, int]:
    """The bytes of an extension ``BULK`` for plain bytes that are listed, and their price."""
    price = outgoing.add(value, len(value))
    return bytes((ALIKE, KIND_BYTES)), price + _ARRAY_BYTES


def _name(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _describe(dtype: Any, depth: int) -> bytes:
    if not depth:
        raise Refused("is an array whose type nests too deeply to cross")
    if dtype.hasobject:
        raise Refused("is an array of Python objects; tolist() makes a list of it")
    size = dtype.itemsize
    if not 1 <= size <= MAX_SIZE:
        raise Refused(f"is an array with elements of {size} bytes, which cannot cross")
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return bytes((2, len(shape))) + b"".join(map(_I.pack, shape)) + _describe(base, depth - 1)
    if dtype.names is not None:
        made = [b"\x01", _I.pack(size), _H.pack(len(dtype.names))]
        for name in dtype.names:
            inner, offset, *title = dtype.fields[name]
            if title:
                raise Refused("is an array whose fields have titles, which cannot cross")
            raw = _utf8(name)
            made += [_H.pack(len(raw)), raw, _I.pack(offset), _describe(inner, depth - 1)]
        return b"".join(made)
    text = str(dtype.str)
    try:
        if _simple_size(text) != size:
            raise ValueError
    except ValueError:
        raise Refused(f"is an array of {dtype}, which cannot cross") from None
    return bytes((0, len(text))) + text.encode("ascii")


def _utf8(name: str) -> bytes:
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        raise Refused("is an array with a field whose name is not text") from None
    if not 1 <= len(raw) <= 1000:
        raise Refused("is an array with a field whose name is empty or too long")
    return raw


def _has_gaps(dtype: Any) -> bool:
    if dtype.subdtype is not None:
        return _has_gaps(dtype.subdtype[0])
    if dtype.names is None:
        return False
    inner = [dtype.fields[name][0] for name in dtype.names]
    return sum(one.itemsize for one in inner) != dtype.itemsize or any(map(_has_gaps, inner))


def _without_gaps(numpy: Any, array: Any) -> Any:
    """A copy in which what lies between the fields is zero."""
    made = numpy.zeros(array.shape, array.dtype)
    _copy_fields(array, made)
    return made


def _copy_fields(source: Any, target: Any) -> None:
    if source.dtype.names is None:
        target[...] = source
        return
    for name in source.dtype.names:
        _copy_fields(source[name], target[name])


# Decoding --------------------------------------------------------------------------------------


def price(code: int, data: bytes, incoming: Incoming | None) -> int:
    """What it costs in memory.  Raises ``RemoteError`` for a reference to nothing."""
    if code == BULK:
        if incoming is None:
            raise RemoteError("a value refers to bytes that did not come with it")
        if data[:1] == b"\x0e":
            return _ARRAY_BYTES + incoming.price() + _PER_TYPE_BYTE * len(data)
        return _ARRAY_BYTES + incoming.price()
    if code == ARRAY:
        length: int = _H.unpack_from(data, 2 + 8 * data[1])[0]
        return _ARRAY_BYTES + 2 * len(data) + _PER_TYPE_BYTE * length
    return _ARRAY_BYTES + 2 * len(data)


def decode(code: int, data: bytes, incoming: Incoming | None) -> Any:
    """The value.  Raises ``RemoteError`` for anything that is not one of these types."""
    contents: Any = None
    if code == BULK:
        if incoming is None or not data:
            raise RemoteError("a value refers to bytes that did not come with it")
        code, data, contents = data[0], data[1:], incoming.take()
        if contents is None:
            if missing is None:
                raise RemoteError("a value refers to bytes that did not come with it")
            missing.append("memory")
            return None
    try:
        if code == ARRAY:
            return _decode_array(data, contents)
        if code == ALIKE:
            return _decode_alike(data, contents)
    except MemoryError:
        if missing is None:
            raise
        missing.append("memory")
        return None
    except (ValueError, IndexError, StructError, TypeError, OverflowError):
        pass  # NumPy's texts may repeat what the peer sent
    raise RemoteError("an array, or what is like bytes, is malformed")


def _decode_alike(data: bytes, contents: Any) -> object:
    kind = data[0]
    if contents is None:
        contents = data[1:]
        if kind == KIND_BYTES:
            raise ValueError
    elif len(data) != 1:
        raise ValueError
    if kind == KIND_BYTES:
        return bytes(contents)
    if kind == KIND_BYTEARRAY:
        return bytearray(contents)
    if kind == KIND_MEMORYVIEW:
        return memoryview(contents).toreadonly()
    raise ValueError


def _decode_array(data: bytes, contents: Any) -> Any:
    flags, dimensions = data[0], data[1]
    if flags & ~(_F_ORDER | _SCALAR) or dimensions > MAX_DIMENSIONS:
        raise ValueError
    at = 2
    shape: list[int] = []
    for _ in range(dimensions):
        shape.append(_Q.unpack_from(data, at)[0])
        at += 8
    (length,) = _H.unpack_from(data, at)
    at += 2
    if at + length > len(data):
        raise ValueError
    layout = parse(data[at : at + length])
    at += length
    if contents is None:
        contents = bytearray(data[at:])
    elif at != len(data):
        raise ValueError
    # NumPy multiplies the dimensions that are not zero, so those are what must not overflow.
    size, empty = layout.size, False
    for one in shape:
        empty = empty or not one
        size *= one or 1
        if size > _MOST:
            raise ValueError
    if (0 if empty else size) != len(contents) or (flags & _SCALAR and dimensions):
        raise ValueError
    np: Any = None
    try:
        np = __import__("numpy")
    except ImportError:
        pass
    if np is None:
        if missing is None:
            raise RemoteError("it holds a NumPy array, and NumPy is not to be had here")
        missing.append("numpy")
        return None
    dtype = _dtype(np, layout)
    if empty:
        return np.empty(shape, dtype)
    order = "F" if flags & _F_ORDER else "C"
    array = np.ndarray(shape, dtype, contents, 0, None, order)
    _check_contents(np, array, layout)
    return array[()] if flags & _SCALAR else array


def _dtype(np: Any, layout: Layout) -> Any:
    if layout.fields is not None:
        return np.dtype(
            {
                "names": [name for name, _, _ in layout.fields],
                "formats": [_dtype(np, inner) for _, _, inner in layout.fields],
                "offsets": [offset for _, offset, _ in layout.fields],
                "itemsize": layout.size,
            }
        )
    if layout.inner is not None:
        return np.dtype((_dtype(np, layout.inner), layout.shape))
    return np.dtype(layout.text)


def _check_contents(np: Any, array: Any, layout: Layout) -> None:
    """Bools are 0 or 1, or NumPy counts wrongly and writes past its arrays; characters exist."""
    if layout.fields is not None:
        for name, _, inner in layout.fields:
            _check_contents(np, array[name], inner)
        return
    while layout.inner is not None:
        layout = layout.inner
        if layout.fields is not None:
            _check_contents(np, array, layout)
            return
    kind = layout.text[1]
    if kind == "b":
        if array.view("|u1").max(initial=0) > 1:
            raise ValueError
    elif kind == "U":
        characters = np.ascontiguousarray(array).reshape(-1).view(layout.text[0] + "u4")
        if characters.max(initial=0) > 0x10FFFF:
            raise ValueError

"""Arrow tables, pandas and polars frames.

What: a table is an array that the marker 4 opens: its kind, then parts that are values by
themselves.  Because: columns are arrays or lists, names are values, and all of it is priced and
poured like everything else.  Then: whoever reads calls the libraries with plain data only.

arrow    table | batch, the columns as an Arrow stream (memoryview)
polars   frame | series, the name of the series, an Arrow stream
pandas   frame, names of the columns, name of these names, index, columns
         series, name, index, column
index    [0, name, start, stop, step] a range; [1, name, column]
column   [0, array or list, dtype] as it is; [1, dtype, list] texts; [2, codes, categories, ordered]
         [3, array of datetime64, zone] ; categories are a column

An Arrow stream is hostile.  Before pyarrow sees it, its messages are told apart here: a schema
and batches, nothing compressed (a few bytes could become terabytes), no extension types (those
are the application's classes).  Afterwards the types are held against a closed set and every
offset is validated, because Arrow's own functions believe them.
"""

from __future__ import annotations

import sys
from struct import Struct
from struct import error as StructError

from .errors import Refused, RemoteError
from .table import Table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["as_table", "build", "check_stream"]

_type: Any = type
_I = Struct("<I")
_SI = Struct("<i")
_H = Struct("<H")
_Q = Struct("<q")

_MOST_MESSAGES = 10_000
_MOST_HEAD = 2**20  # of the metadata of one message: a schema of ten thousand columns
_SCHEMA, _DICTIONARY, _BATCH = 1, 2, 3
_MOST_ROWS = 1_000_000  # that take no bytes: a column of nothing but nulls


# Encoding ------------------------------------------------------------------------------------


def as_table(item: Any) -> Any:
    """What is to be encoded for it; the object itself where it is none of these."""
    kind = _type(item)
    pandas: Any = sys.modules.get("pandas")
    if pandas is not None:
        if kind is getattr(pandas, "DataFrame", None):
            return _of_frame(pandas, item)
        if kind is getattr(pandas, "Series", None):
            parts = ["pandas", "series", item.name, _of_index(pandas, item.index)]
            parts.append(_of_column(pandas, item))
            return Table(parts, ["", "", ".name", ".index", ""])
    arrow: Any = sys.modules.get("pyarrow")
    if arrow is not None:
        if kind is getattr(arrow, "Table", None):
            return Table(["arrow", "table", _stream(arrow, item)])
        if kind is getattr(arrow, "RecordBatch", None):
            return Table(["arrow", "batch", _stream(arrow, item)])
    polars: Any = sys.modules.get("polars")
    if polars is not None:
        if kind is getattr(polars, "DataFrame", None):
            return Table(["polars", "frame", "", _polars_stream(polars, item)])
        if kind is getattr(polars, "Series", None):
            return Table(["polars", "series", item.name, _polars_stream(polars, item.to_frame())])
    return item


def _of_frame(pandas: Any, frame: Any) -> Table:
    if isinstance(frame.columns, pandas.MultiIndex):
        raise Refused("is a frame whose columns have levels; give them names of one level")
    names = list(frame.columns)
    parts = ["pandas", "frame", names, frame.columns.name, _of_index(pandas, frame.index)]
    places = ["", "", ".columns", ".columns.name", ".index"]
    for at, name in enumerate(names):
        place = f"[{name!r}]"[:60]
        try:
            parts.append(_of_column(pandas, frame.iloc[:, at]))
        except Refused as refused:
            raise Refused(f"has a column {place[1:-1]} that {refused.reason}") from None
        places.append(place)
    return Table(parts, places)


def _of_index(pandas: Any, index: Any) -> list[Any]:
    if isinstance(index, pandas.MultiIndex):
        raise Refused("has an index of several levels, which cannot cross; reset_index() helps")
    if isinstance(index, pandas.RangeIndex):
        return [0, index.name, index.start, index.stop, index.step]
    return [1, index.name, _of_column(pandas, index)]


def _of_column(pandas: Any, column: Any) -> list[Any]:
    dtype = column.dtype
    numpy: Any = sys.modules["numpy"]
    if isinstance(dtype, numpy.dtype):
        values = numpy.asarray(column)
        if dtype.kind == "O":
            return [0, list(values), "O"]
        return [0, values, dtype.str]
    if isinstance(dtype, pandas.CategoricalDtype):
        categories = _of_column(pandas, dtype.categories)
        return [2, numpy.asarray(column.array.codes), categories, bool(dtype.ordered)]
    if isinstance(dtype, pandas.StringDtype):
        texts = [
            None if missing else text
            for text, missing in zip(column.array, column.isna(), strict=True)
        ]
        return [1, "str" if str(dtype) == "str" else "string", texts]
    if isinstance(dtype, pandas.DatetimeTZDtype):
        return [3, numpy.asarray(column.array.tz_convert(None)), _zone(dtype.tz)]
    raise Refused(f"is of dtype {dtype}, which cannot cross; astype() makes it a plain one")


def _zone(zone: Any) -> str:
    key = getattr(zone, "key", None) or getattr(zone, "zone", None) or str(zone)
    if not isinstance(key, str) or not _is_zone(key):
        raise Refused("has a time zone without a name; tz_convert('UTC') gives it one")
    return key


def _is_zone(name: str) -> bool:
    return (
        0 < len(name) < 64
        and name[0].isalpha()
        and all(one.isalnum() or one in "/_+-" for one in name)
    )


def _stream(arrow: Any, table: Any) -> memoryview:
    try:
        __import__("pyarrow.ipc")
    except ImportError:
        raise Refused("is an Arrow table, and pyarrow.ipc cannot be imported") from None
    for field in table.schema:
        _check_type(
            arrow, field.type, Refused(f"has a column of type {field.type}, which cannot cross")
        )
    sink = arrow.BufferOutputStream()
    with arrow.ipc.new_stream(sink, table.schema.remove_metadata()) as writer:
        writer.write(table)
    return memoryview(sink.getvalue())


def _polars_stream(polars: Any, frame: Any) -> memoryview:
    oldest: Any = polars.CompatLevel.oldest()
    for dtype in frame.dtypes:
        if dtype == polars.Object:
            raise Refused("has a column of Python objects; a list of them is plain")
    return memoryview(
        frame.write_ipc_stream(None, compression="uncompressed", compat_level=oldest).getbuffer()
    )


# Decoding --------------------------------------------------------------------------------------


def build(parts: list[Any], missing: list[str] | None) -> Any:
    """The table of these parts.  Raises ``RemoteError`` for anything that is not one."""
    library = parts[0] if parts else None
    if library not in ("pandas", "arrow", "polars") or _type(library) is not str:
        raise RemoteError("a table is of no known kind")
    needed = "pyarrow" if library == "arrow" else library
    try:
        if library == "pandas":
            return _build_pandas(parts)
        try:
            return _build_arrow(parts, library == "polars", trusted=missing is not None)
        except ImportError as error:
            needed = error.name if error.name in ("pyarrow", "polars") else needed
            raise
    except ImportError:
        if missing is None:
            raise RemoteError(
                f"it holds a {library} table, and {needed} is not to be had here"
            ) from None
        missing.append(str(needed))
        return None
    except MemoryError:
        raise
    except RemoteError:
        raise
    except Exception:  # of the libraries', whose texts may repeat what the peer sent
        if missing is not None:
            missing.append(str(needed))
            return None
    raise RemoteError("a table is malformed")


def _build_pandas(parts: list[Any]) -> Any:
    pd: Any = __import__("pandas")
    if parts[1] == "series":
        _, _, name, index, column = parts
        return pd.Series(_to_column(pd, column), index=_to_index(pd, index), name=name, copy=False)
    _, kind, names, name, index, *columns = parts
    if kind != "frame" or len(names) != len(columns):
        raise ValueError
    rows = _to_index(pd, index)
    made = {
        at: pd.Series(_to_column(pd, column), index=rows, copy=False)
        for at, column in enumerate(columns)
    }
    frame = pd.DataFrame(made, index=rows, copy=False)
    frame.columns = pd.Index(names, name=name) if names else pd.RangeIndex(0)
    return frame


def _to_index(pd: Any, index: list[Any]) -> Any:
    if index[0] == 0:
        _, name, *bounds = index
        if [*map(_type, bounds)] != [int, int, int] or any(abs(one) > 2**62 for one in bounds):
            raise ValueError
        return pd.RangeIndex(*bounds, name=name)
    tag, name, column = index
    if tag != 1:
        raise ValueError
    return pd.Index(_to_column(pd, column), name=name, copy=False)


def _to_column(pd: Any, column: list[Any]) -> Any:
    tag = column[0]
    np: Any = sys.modules["numpy"]
    if tag == 0:
        _, values, dtype = column
        if _type(values) is list:
            made = np.empty(len(values), object)
            made[:] = values
            return made
        if _type(values) is not np.ndarray or values.ndim != 1 or values.dtype.str != dtype:
            raise ValueError
        return values
    if tag == 1:
        _, dtype, texts = column
        if dtype not in ("str", "string") or {*map(_type, texts)} - {str, _type(None)}:
            raise ValueError
        return pd.array(texts, dtype=dtype)
    if tag == 2:
        _, codes, categories, ordered = column
        if _type(codes) is not np.ndarray or codes.dtype.kind != "i":
            raise ValueError
        known = pd.Index(_to_column(pd, categories))
        return pd.Categorical.from_codes(codes, known, ordered=bool(ordered))
    _, values, zone = column
    if (
        tag != 3
        or _type(values) is not np.ndarray
        or values.dtype.kind != "M"
        or not _is_zone(zone)
    ):
        raise ValueError
    return pd.DatetimeIndex(values).tz_localize("UTC").tz_convert(zone).array


def _build_arrow(parts: list[Any], in_polars: bool, *, trusted: bool) -> Any:
    """``trusted``: it comes from the host, and polars may read it by itself."""
    stream = parts[-1]
    if _type(stream) is not memoryview:
        raise ValueError
    check_stream(stream)
    if in_polars and trusted:
        known: Any = __import__("polars")
        return _of_polars(parts, known.read_ipc_stream(bytes(stream)))
    arrow: Any = __import__("pyarrow.ipc")
    with arrow.ipc.open_stream(arrow.py_buffer(stream)) as reader:
        for field in reader.schema:
            _check_type(arrow, field.type, ValueError())
        table = reader.read_all()
    if table.num_rows > max(_MOST_ROWS, 8 * len(stream)):
        raise ValueError
    table.validate(full=True)
    table = table.replace_schema_metadata(None)
    if in_polars:
        polars: Any = __import__("polars")
        return _of_polars(parts, polars.from_arrow(table))
    _, kind, _ = parts
    if kind == "table":
        return table
    batches = table.to_batches()
    return batches[0] if batches else arrow.RecordBatch.from_pylist([], schema=table.schema)


def _of_polars(parts: list[Any], frame: Any) -> Any:
    _, kind, name, _ = parts
    return frame if kind == "frame" else frame.to_series(0).alias(name)


def _check_type(arrow: Any, kind: Any, error: Exception, depth: int = 8) -> None:
    """Hold a type against the closed set; raises the error."""
    types = arrow.types
    if not depth:
        raise error
    if types.is_dictionary(kind) or types.is_list(kind) or types.is_large_list(kind):
        _check_type(arrow, kind.value_type, error, depth - 1)
    elif types.is_fixed_size_list(kind):
        if kind.list_size < 1:
            raise error
        _check_type(arrow, kind.value_type, error, depth - 1)
    elif types.is_struct(kind):
        for at in range(kind.num_fields):
            _check_type(arrow, kind.field(at).type, error, depth - 1)
    elif types.is_fixed_size_binary(kind):
        if kind.byte_width < 1:
            raise error
    elif not any(getattr(types, f"is_{name}")(kind) for name in _PLAIN):
        raise error


_PLAIN = (
    "null",
    "boolean",
    "integer",
    "floating",
    "decimal",
    "date",
    "time",
    "timestamp",
    "duration",
    "string",
    "large_string",
    "binary",
    "large_binary",
)


def check_stream(stream: memoryview) -> None:
    """Tell the messages of an Arrow stream apart.  Raises ``ValueError``.

    See the format of Arrow's streams: FF FF FF FF, length of the metadata, metadata (a
    flatbuffer), body; a length of 0 ends it.
    """
    at = 0
    size = len(stream)
    count = 0
    try:
        while at < size:
            marker, length = _I.unpack_from(stream, at)[0], _I.unpack_from(stream, at + 4)[0]
            if marker != 0xFFFF_FFFF:
                raise ValueError
            at += 8
            if not length:
                break
            if length > _MOST_HEAD or length % 8 or at + length > size or count >= _MOST_MESSAGES:
                raise ValueError
            body = _check_message(bytes(stream[at : at + length]), first=not count)
            at += length
            if body % 8 or not 0 <= body <= size - at:
                raise ValueError
            at += body
            count += 1
    except (StructError, IndexError):
        raise ValueError from None
    if at != size or not count:
        raise ValueError


def _check_message(head: bytes, *, first: bool) -> int:
    """One message's metadata; the length of its body."""
    root = _Flat(head, _I.unpack_from(head, 0)[0])
    kind = root.byte(1)
    header = root.table(2)
    (body,) = _Q.unpack_from(head, place) if (place := root.field(3)) else (0,)
    if kind == _SCHEMA:
        if not first or body or b"ARROW:extension" in head:
            raise ValueError
        return 0
    if first:
        raise ValueError
    if kind == _DICTIONARY:
        header = header.table(1)
    elif kind != _BATCH:
        raise ValueError
    if header.field(3):
        raise ValueError  # compressed
    return int(body)


class _Flat:
    """A table of a flatbuffer: where its fields are.  Raises ``StructError`` out of bounds."""

    def __init__(self, data: bytes, at: int) -> None:
        self._data = data
        self._at = at
        self._vtable = at - _SI.unpack_from(data, at)[0]
        if self._vtable < 0:
            raise ValueError
        self._size = _H.unpack_from(data, self._vtable)[0]

    def field(self, number: int) -> int:
        """Where it is; 0 where it is not there."""
        slot = 4 + 2 * number
        if slot + 2 > self._size:
            return 0
        offset = int(_H.unpack_from(self._data, self._vtable + slot)[0])
        return self._at + offset if offset else 0

    def byte(self, number: int) -> int:
        place = self.field(number)
        return self._data[place] if place else 0

    def table(self, number: int) -> _Flat:
        place = self.field(number)
        if not place:
            raise ValueError
        return _Flat(self._data, place + _I.unpack_from(self._data, place)[0])

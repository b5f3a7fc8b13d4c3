"""Objects that are plain data in other clothes.

What: dataclasses, enums, pydantic models and attrs classes as dict or value, NumPy's scalars as
Python's.  Because: people have their data in them, and nothing of a class may cross.  Then: a
class is recognised by what its maker put into ``sys.modules`` and into the class, so that
nothing is imported for it, and fields are read one level at a time; the encoder goes on with
what comes out and holds that against its budget.

dataclass, attrs, pydantic  dict of the fields by name, in their order
pydantic RootModel          its root
enum                        its value; of an enum that is an int or a str too, that
named tuple                 tuple (it is one)
NumPy scalar                bool, int, float or complex; dates and records of NumPy's stay
"""

from __future__ import annotations

import sys

from . import late
from .errors import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["as_plain"]

_type: Any = type
_object: Any = object


def as_plain(item: Any) -> Any:
    """What is in it, one level deep; the object itself where it is of none of these kinds."""
    kind = _type(item)
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(kind, enum.EnumMeta):
        return _object.__getattribute__(item, "_value_")
    if _class_has(kind, "__dataclass_fields__"):
        marked = kind.__dataclass_fields__
        names = [name for name, field in marked.items() if _is_field(field)]
        return _fields(item, names)
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and issubclass(kind, numpy.generic):
        return _scalar(numpy, item, kind)
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        return _model(item, kind)
    if str(kind.__module__).partition(".")[0] in ("pandas", "pyarrow", "polars"):
        return late.tables().as_table(item)
    if _class_has(kind, "__attrs_attrs__"):
        return _fields(item, [one.name for one in kind.__attrs_attrs__])
    return item


def _class_has(kind: Any, name: str) -> bool:
    return any(name in _type.__getattribute__(base, "__dict__") for base in kind.__mro__)


def _is_field(field: Any) -> bool:
    """Not a class variable, not an argument of ``__init__`` alone."""
    return getattr(getattr(field, "_field_type", None), "name", "") == "_FIELD"


def _fields(item: Any, names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = getattr(item, name)
        except AttributeError:
            raise Refused(f"has no value in its field {name[:40]!r}") from None
    return found


def _scalar(numpy: Any, item: Any, kind: Any) -> Any:
    if issubclass(kind, (numpy.longdouble, numpy.clongdouble)):
        raise Refused(f"is of type numpy.{kind.__name__}, which cannot cross; round it to a float")
    if issubclass(kind, (numpy.bool_, numpy.number)) and not issubclass(kind, numpy.timedelta64):
        return item.item()
    return item


def _model(item: Any, kind: Any) -> Any:
    # The second name is that of version 1.
    known: Any = kind.model_fields if hasattr(kind, "model_fields") else kind.__fields__
    if getattr(kind, "__pydantic_root_model__", False):
        return item.root
    values = _fields(item, list(known))
    extra: Any = getattr(item, "__pydantic_extra__", None)
    if extra:
        values.update(extra)
    return values

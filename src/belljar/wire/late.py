"""Parts of the codec that most messages never need, loaded when one first does.

Because importing them costs more than a small message does.  A guest's agent calls ``load``
before any code runs: afterwards there is no file and no name of ours in sight.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

_loaded: dict[str, ModuleType] = {}


def scalars() -> Any:
    """The module of the types that are extensions."""
    if "scalars" not in _loaded:
        from . import scalars as module

        _loaded["scalars"] = module
    return _loaded["scalars"]


def keys() -> Any:
    """The module that bounds the cost of colliding keys."""
    if "keys" not in _loaded:
        from . import keys as module

        _loaded["keys"] = module
    return _loaded["keys"]


def arrays() -> Any:
    """The module of what is large, and of NumPy's arrays."""
    if "arrays" not in _loaded:
        from . import arrays as module

        _loaded["arrays"] = module
    return _loaded["arrays"]


def records() -> Any:
    """The module of dataclasses and their like."""
    if "records" not in _loaded:
        from . import records as module

        _loaded["records"] = module
    return _loaded["records"]


def tables() -> Any:
    """The module of Arrow tables and of frames."""
    if "tables" not in _loaded:
        from . import tables as module

        _loaded["tables"] = module
    return _loaded["tables"]


def load() -> None:
    """Everything, now."""
    scalars()
    keys()
    arrays()
    records()
    tables()

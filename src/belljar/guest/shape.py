"""Functions and built-ins that a program does not have (C7, C10, M7).

Shape, not wall: the same can be found elsewhere, and the grants decide what it reaches.
"""

from __future__ import annotations

import _frozen_importlib_external as external
import sys

from .refusals import ModuleRefused, refused_function, refused_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import ModuleType
    from typing import Any

    from .imports import Imports

BLOCK, EVERY = 0, "*"  # as in policy.rules, which is not here
_replaced: list[tuple[Any, str, Any]] = []  # (holder, name, what it was)
_returned: list[tuple[Any, str, Any]] = []  # (holder, name, what had taken its place)


def give_back() -> None:
    """Undo every replacement: the agent itself may need what the program may not have."""
    while _replaced:
        _exchange(*_replaced.pop(), _returned)


def take_back() -> None:
    """Undo ``give_back``, before the program goes on."""
    while _returned:
        _exchange(*_returned.pop(), _replaced)


def _exchange(holder: Any, name: str, value: Any, kept: list[tuple[Any, str, Any]]) -> None:
    try:
        was = vars(holder)[name] if isinstance(holder, type) else getattr(holder, name)
        setattr(holder, name, value)
        kept.append((holder, name, was))
    except BaseException as exception:
        # The guest has changed the class of its own module: its own business.
        del exception


def block_functions(
    imports: Imports, functions: Iterable[str], note: Callable[[str, str, str], None]
) -> None:
    """Replace ``module:name`` by what raises, now or when the module is loaded (C7)."""
    begun = False

    def tell(action: str, target: str, grant: str) -> None:
        if begun:  # what is refused now, the code has not asked for
            note(action, target, grant)

    for reference in functions:
        module, _, path = reference.partition(":")
        if module == "posix":
            # Imports ask the file system through it, and go on.
            external._os = _copy(external._os)  # type: ignore[attr-defined]
        try:
            imports.after(module, _replace(reference, path, tell))
        except ModuleRefused as refusal:
            del refusal  # it is raised again when the code imports the module
    begun = True


def _copy(module: ModuleType) -> ModuleType:
    made = type(module)(module.__name__)
    made.__dict__.update(module.__dict__)
    return made


def _replace(
    reference: str, path: str, note: Callable[[str, str, str], None]
) -> Callable[[Any], None]:
    *outer, name = path.split(".")
    grant = f'allow(functions=["{reference}"])'

    def refused(*args: Any, **kwargs: Any) -> Any:
        note("call", reference, grant)
        raise refused_function(reference, grant)

    refused.__name__, refused.__qualname__ = name, path
    refused.__module__ = reference.partition(":")[0]
    refused.__doc__ = "The policy blocks this function."

    def act(module: Any) -> None:
        holder: Any = module
        for part in outer:
            holder = getattr(holder, part, None)
        if holder is None or not hasattr(holder, name):
            return  # this version has no such function
        old = vars(holder).get(name) if isinstance(holder, type) else getattr(holder, name)
        if not isinstance(holder, type) and not callable(old):
            return  # data: what takes the place of a function would break what reads it
        try:
            setattr(
                holder, name, _refusing_class(old, refused) if isinstance(old, type) else refused
            )
        except (TypeError, AttributeError):
            # A class of the interpreter's own cannot be changed; a block that does nothing
            # would be a lie, so its module is not there.
            sys.modules.pop(module.__name__, None)
            note("import", module.__name__, grant)
            raise refused_module(
                module.__name__, f"{reference} cannot be replaced", grant
            ) from None
        if old is not None:
            _replaced.append((holder, name, old))

    return act


def _refusing_class(real: type, refused: Callable[..., Any]) -> Any:
    """A class that makes no instances: code that derives from it, or asks of it, goes on."""
    members = {"__new__": refused, "__module__": real.__module__, "__doc__": real.__doc__}
    try:
        return type(real)(real.__name__, (real,), members)
    except TypeError:
        return refused  # nothing can be derived from it


def chosen_builtins(builtins: ModuleType, rules: dict[str, int]) -> Any:
    """``__builtins__`` for the code: the module, or a dict of the names that are left (C10)."""
    if not rules:
        return builtins
    return {name: value for name, value in vars(builtins).items() if not left_out(rules, name)}


def left_out(rules: dict[str, int], name: str) -> bool:
    """Whether the code does not have this built-in name."""
    return name != "__sandboxed__" and rules.get(name, rules.get(EVERY)) == BLOCK


def make_sandboxed_read_only(builtins: ModuleType, sandboxed: bool) -> None:
    """``__sandboxed__`` says which kind this is; setting or deleting it is an error (M7)."""
    builtins.__sandboxed__ = sandboxed  # type: ignore[attr-defined]

    module: Any = type(builtins)

    def set_attribute(self: object, name: str, value: object) -> None:
        if name == "__sandboxed__":
            raise AttributeError("__sandboxed__ is read-only")
        module.__setattr__(self, name, value)

    def delete_attribute(self: object, name: str) -> None:
        if name == "__sandboxed__":
            raise AttributeError("__sandboxed__ is read-only")
        module.__delattr__(self, name)

    members = {"__setattr__": set_attribute, "__delattr__": delete_attribute}
    builtins.__class__ = type("module", (module,), {"__module__": "builtins", **members})

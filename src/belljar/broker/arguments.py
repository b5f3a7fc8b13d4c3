"""Arguments of a guest's, held against the annotations of the function that is to take them.

What: each value is checked by ``typeguard``, every item of a collection as well; data for a
dataclass, a named tuple, an enum or a pydantic model is made into one.  Because: a function that
says ``limit: int`` is not written for anything else, and its caller is an attacker.  Then: what
does not fit is the caller's ``TypeError``, and the function is not called.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import inspect
import types
import typing
from typing import Any, Union

from ..errors import PolicyError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Convert = Callable[[Any, "Work"], Any]

_type: Any = type  # so that the checkers leave what it is compared with alone
_MESSAGE_CHARS = 500
# What: so many alternatives of unions are tried for the arguments of a call.  Because: classes that
# hold each other make a tree of alternatives, and the caller chooses how deep.  Then: a second or two.
_MOST_TRIES = 500_000


class Unfit(Exception):
    """A value that the annotation does not allow; the text is for the guest."""


class Work:
    """What the arguments of one call may still cost."""

    __slots__ = ("tries",)

    def __init__(self) -> None:
        self.tries = _MOST_TRIES


class Arguments:
    """What one function takes."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        """Raises ``PolicyError`` where the annotations cannot be read."""
        try:
            self._signature: inspect.Signature | None = inspect.signature(function)
        except (TypeError, ValueError):
            self._signature = None  # a built-in one that says nothing: it checks by itself
        self._converts: dict[str, Convert] = {}
        self._in_order: list[tuple[str, Convert | None]] | None = None
        if self._signature is None:
            return
        try:
            hints = typing.get_type_hints(_annotated(function), include_extras=True)
        except Exception as error:
            raise PolicyError(
                f"functions[{name!r}]",
                f"its annotations cannot be read ({error}); correct them, or give check=False",
            ) from error
        for parameter in self._signature.parameters:
            hint = hints.get(parameter, Any)
            if hint is not Any:
                self._converts[parameter] = converter(hint)
        # Where everything came by position there is nothing to be sorted out.
        parameters = self._signature.parameters.values()
        kinds = {parameter.kind for parameter in parameters}
        if kinds <= {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}:
            self._in_order = [(each.name, self._converts.get(each.name)) for each in parameters]

    def fit(
        self, args: list[Any], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments to call it with.  Raises ``Unfit``."""
        signature = self._signature
        if signature is None:
            return tuple(args), kwargs
        in_order = self._in_order
        try:
            if in_order is not None and not kwargs and len(args) == len(in_order):
                work = Work()
                pairs = zip(in_order, args, strict=True)
                return tuple(
                    value if convert is None else _fit(name, convert, value, work)
                    for (name, convert), value in pairs
                ), {}
            try:
                bound = signature.bind(*args, **kwargs)
            except TypeError as error:
                raise Unfit(str(error)[:_MESSAGE_CHARS]) from None
            self._convert(bound, signature)
        except Unfit as unfit:
            text = str(unfit)
            raise Unfit(text if text[:1] != "'" else f"argument {text}") from None
        return bound.args, bound.kwargs

    def _convert(self, bound: inspect.BoundArguments, signature: inspect.Signature) -> None:
        work = Work()
        for name, value in bound.arguments.items():
            convert = self._converts.get(name)
            if convert is None:
                continue
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_POSITIONAL:
                fitted: Any = tuple(_fit(name, convert, item, work) for item in value)
            elif kind is inspect.Parameter.VAR_KEYWORD:
                fitted = {key: _fit(key, convert, item, work) for key, item in value.items()}
            else:
                fitted = _fit(name, convert, value, work)
            bound.arguments[name] = fitted


def _annotated(function: Callable[..., Any]) -> Any:
    """The object that holds the annotations of what a call runs."""
    while True:
        partial: Any = getattr(function, "func", None)
        if isinstance(function, type):
            return vars(function).get("__init__", function)
        if callable(partial) and hasattr(function, "keywords"):
            function = partial
        elif inspect.isroutine(function) or hasattr(function, "__wrapped__"):
            return inspect.unwrap(function)
        else:
            call: Any = type(function).__call__
            return call


def _fit(what: str, convert: Convert, value: Any, work: Work) -> Any:
    try:
        return convert(value, work)
    except Unfit as unfit:
        raise Unfit(f"{_short(what)}: {unfit}"[:_MESSAGE_CHARS]) from None


def _short(name: str) -> str:
    return repr(name if len(name) <= 64 else name[:61] + "...")


def converter(hint: Any, known: dict[type, Convert] | None = None) -> Convert:
    """A function that takes a plain value and returns what the hint asks for.

    ``known``: for classes that are being looked at already, because one may hold itself.
    """
    return _special(hint, {} if known is None else known) or _checker(hint)


def _checker(hint: Any) -> Convert:
    """For plain values."""
    import typeguard  # 40 ms, of no use where nothing is annotated

    every = typeguard.CollectionCheckStrategy.ALL_ITEMS
    unresolved = typeguard.ForwardRefPolicy.ERROR

    def check(value: Any, _work: Work) -> Any:
        if type(value) is hint:
            return value
        try:
            return typeguard.check_type(
                value, hint, collection_check_strategy=every, forward_ref_policy=unresolved
            )
        except typeguard.TypeCheckError as error:
            raise Unfit(str(error)[:_MESSAGE_CHARS]) from None

    return check


def _special(hint: Any, known: dict[type, Convert]) -> Convert | None:
    """For what no plain value is; None where ``typeguard`` can tell by itself."""
    origin = typing.get_origin(hint)
    if origin is typing.Annotated:
        return _special(typing.get_args(hint)[0], known)
    if origin is None:
        return _class(hint, known) if isinstance(hint, type) else None
    arguments = typing.get_args(hint)
    if origin is typing.Literal:
        return None
    inner = [_special(argument, known) for argument in arguments]
    if not any(inner):
        return None
    converts = [made or _checker(argument) for made, argument in zip(inner, arguments, strict=True)]
    if origin in (Union, types.UnionType):
        return _one_of(converts)
    if origin is tuple and Ellipsis not in arguments:
        return _fixed(converts)
    if origin is tuple:
        return _each(tuple, tuple, converts[0])
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return _pairs(converts[0], converts[1])
    for kind in (list, set, frozenset):
        if origin is kind:
            return _each(kind, kind, converts[0])
    if origin in (collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection):
        return _each((list, tuple), list, converts[0])
    return None


def _class(hint: type, known: dict[type, Convert]) -> Convert | None:
    if hint in known:
        return known[hint]
    validate: Any = getattr(hint, "model_validate", None)
    if validate is not None and hasattr(hint, "model_fields"):
        return _model(validate)
    if issubclass(hint, enum.Enum):
        return _member(hint)
    shape = _shape(hint)
    if shape is None:
        return None
    made: list[Convert] = []
    known[hint] = lambda value, work: made[0](value, work)
    made.append(_fields(hint, *shape, known))
    known[hint] = made[0]
    return made[0]


def _shape(hint: Any) -> tuple[set[str], tuple[str, ...]] | None:
    """The fields of a dataclass or a named tuple, and their order in the latter."""
    if dataclasses.is_dataclass(hint):
        return {field.name for field in dataclasses.fields(hint) if field.init}, ()
    made: Any = hint
    if tuple in made.__mro__ and hasattr(made, "_fields"):
        return set(made._fields), tuple(made._fields)
    return None


def _model(validate: Callable[[Any], Any]) -> Convert:
    def convert(value: Any, _work: Work) -> Any:
        try:
            return validate(value)
        except ValueError as error:
            raise Unfit(str(error)[:_MESSAGE_CHARS]) from None

    return convert


def _member(hint: type[enum.Enum]) -> Convert:
    names = ", ".join(repr(member.value) for member in hint)

    def convert(value: Any, _work: Work) -> Any:
        try:
            return hint(value)
        except ValueError:
            raise Unfit(f"is not one of {names}"[:_MESSAGE_CHARS]) from None

    return convert


def _fields(
    hint: Any, names: set[str], ordered: tuple[str, ...], known: dict[type, Convert]
) -> Convert:
    try:
        hints = typing.get_type_hints(hint, include_extras=True)
    except Exception as error:
        raise PolicyError("functions", f"annotations of {hint.__name__}: {error}") from error
    converts = {
        name: converter(hints[name], known) for name in names if hints.get(name, Any) is not Any
    }

    def convert(value: Any, work: Work) -> Any:
        if ordered and _type(value) in (tuple, list) and len(value) == len(ordered):
            value = dict(zip(ordered, value, strict=True))
        if _type(value) is not dict:
            raise Unfit(f"is no dict with the fields of {hint.__name__}")
        fitted: dict[str, Any] = {}
        for key, item in value.items():
            if _type(key) is not str or key not in names:
                raise Unfit(f"{hint.__name__} has no field {_short(str(key))}")
            fitted[key] = _fit(key, converts[key], item, work) if key in converts else item
        try:
            return hint(**fitted)
        except (TypeError, ValueError) as error:
            raise Unfit(str(error)[:_MESSAGE_CHARS]) from None

    return convert


def _one_of(converts: list[Convert]) -> Convert:
    def convert(value: Any, work: Work) -> Any:
        reasons: list[str] = []
        for each in converts:
            work.tries -= 1
            if work.tries < 0:
                raise Unfit("too many alternatives would have to be tried")
            try:
                return each(value, work)
            except Unfit as unfit:
                reasons.append(str(unfit))
        raise Unfit("; ".join(reasons)[:_MESSAGE_CHARS])

    return convert


def _fixed(converts: list[Convert]) -> Convert:
    def convert(value: Any, work: Work) -> Any:
        if _type(value) is not tuple or len(value) != len(converts):
            raise Unfit(f"is no tuple of {len(converts)}")
        pairs = enumerate(zip(converts, value, strict=True))
        return tuple(_fit(f"item {index}", each, item, work) for index, (each, item) in pairs)

    return convert


def _each(allowed: Any, make: Any, convert_item: Convert) -> Convert:
    def convert(value: Any, work: Work) -> Any:
        if not isinstance(value, allowed):
            raise Unfit(f"{type(value).__name__} is not a {make.__name__}")
        items: list[Any] = []
        for index, item in enumerate(value):
            try:
                items.append(convert_item(item, work))
            except Unfit as unfit:
                raise Unfit(f"item {index}: {unfit}"[:_MESSAGE_CHARS]) from None
        return make(items)

    return convert


def _pairs(convert_key: Convert, convert_item: Convert) -> Convert:
    def convert(value: Any, work: Work) -> Any:
        if _type(value) is not dict:
            raise Unfit(f"{type(value).__name__} is not a dict")
        made: dict[Any, Any] = {}
        for key, item in value.items():
            try:
                made[convert_key(key, work)] = convert_item(item, work)
            except Unfit as unfit:
                raise Unfit(f"of {_short(str(key))}: {unfit}"[:_MESSAGE_CHARS]) from None
        return made

    return convert

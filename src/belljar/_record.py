"""Frozen values with named fields.

What: a base class that turns annotations into a constructor, equality, hash and
repr, and refuses assignment.  Because: ``dataclasses`` pulls in ``inspect``,
``ast``, ``dis`` and ``re``, measured at 18 ms of a 30 ms budget for
``belljar run``.  Then: type checkers see the same thing through
``dataclass_transform``, and the standard library's cost is not paid.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self, dataclass_transform
else:

    def dataclass_transform(**_options):
        return lambda cls: cls


@dataclass_transform(frozen_default=True, eq_default=True)
class Record:
    """Base of belljar's frozen values.

    Subclasses only annotate fields, in order, with optional defaults (immutable
    ones).  A subclass may define ``__post_init__`` to check itself; it cannot
    assign.  Equality is by class and fields, the hash likewise.
    """

    _fields: tuple[str, ...] = ()  # not a field: the names of them, filled in per class
    _defaults: dict[str, Any] = {}  # noqa: RUF012 - replaced per class, never mutated
    _names: frozenset[str] = frozenset()  # the fields once more, to be compared with
    _checks: bool = False  # whether there is a ``__post_init__``
    _uses: int = 0  # of the constructor that serves every class

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        own = tuple(name for name in cls.__annotations__ if name[0] != "_")
        cls._fields = (*cls._fields, *(name for name in own if name not in cls._fields))
        cls._defaults = {
            **cls._defaults,
            **{name: cls.__dict__[name] for name in own if name in cls.__dict__},
        }
        cls._names = frozenset(cls._fields)
        cls._checks = hasattr(cls, "__post_init__")
        cls._uses = 0
        if not TYPE_CHECKING and "__init__" not in cls.__dict__:
            cls.__init__ = _init  # a base may have one for its own fields by now

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot set {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: cannot delete {name!r}")

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self._fields)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self._fields)))

    def __repr__(self) -> str:
        inner = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({inner})"

    def replace(self, **changes: Any) -> Self:
        """The same value with some fields changed.  Unknown fields are a ``TypeError``."""
        cls = type(self)
        if not changes.keys() <= cls._names:
            cls._refuse((), changes, self.__dict__)
        kept = self.__dict__
        if kept.keys() != cls._names:  # some classes remember more
            kept = {name: kept[name] for name in cls._fields}
        # Not by the constructor: all fields are there, and a live call makes five of these.
        made = object.__new__(cls)
        made.__dict__.update(kept)
        made.__dict__.update(changes)
        if cls._checks:
            made.__post_init__()  # type: ignore[attr-defined]
        return made

    @classmethod
    def _refuse(
        cls, args: tuple[object, ...], kwargs: dict[str, Any], values: dict[str, Any]
    ) -> None:
        """Raise ``TypeError`` where the arguments do not give each field one value."""
        fields = cls._fields
        if len(args) > len(fields):
            raise TypeError(f"{cls.__name__} takes {len(fields)} values, got {len(args)}")
        for name in kwargs:
            if name not in fields:
                raise TypeError(f"{cls.__name__} has no field {name!r}")
            if name in fields[: len(args)]:
                raise TypeError(f"{cls.__name__} got two values for {name!r}")
        missing = [name for name in fields if name not in values]
        if missing:
            raise TypeError(f"{cls.__name__} lacks {', '.join(missing)}")

    @classmethod
    def _specialise(cls) -> None:
        """Give a class that is much used a constructor with its fields as parameters.

        What: program text, compiled, as ``dataclasses`` does it.  Because: it takes a third of the
        time of the one that serves all, of which a live call makes twenty.  Then: compiling one for
        each class at its definition would cost every start more than all constructors together.
        """
        fields, defaults = cls._fields, cls._defaults
        if cls.__dict__.get("__init__") is not Record.__dict__["__init__"]:
            return  # it has one of its own, which called the one that serves all
        split = len(fields) - len(defaults)
        if defaults.keys() != {*fields[split:]}:
            return  # one without a default comes after one that has one: no function can have that
        parameters = [*fields[:split], *(f"{name}=None" for name in fields[split:])]
        lines = [f"def __init__(_self, {', '.join(parameters)}):", " _kept = _self.__dict__"]
        lines += [f" _kept[{name!r}] = {name}" for name in fields]
        if cls._checks:
            lines.append(" _self.__post_init__()")
        made: dict[str, Any] = {}
        try:
            _execute("\n".join(lines), made)
        except (MemoryError, RecursionError):
            return  # in a guest at its limits: the one that serves all goes on
        made["__init__"].__defaults__ = tuple([defaults[name] for name in fields[split:]])
        cls.__init__ = made["__init__"]  # type: ignore[method-assign]


_MANY = 200  # uses after which 0.1 ms for a constructor of its own is earned back
_execute = exec  # bound now, because code in a guest may put anything else in its place

if not TYPE_CHECKING:

    def _init(self, *args, **kwargs):
        cls = type(self)
        cls._uses += 1
        if cls._uses == _MANY:
            cls._specialise()
        if len(args) == len(cls._fields) and not kwargs and not cls._checks:
            self.__dict__.update(zip(cls._fields, args, strict=True))
            return
        values = {**cls._defaults, **dict(zip(cls._fields, args, strict=False)), **kwargs}
        if values.keys() != cls._names or (args and (kwargs or len(args) > len(values))):
            cls._refuse(args, kwargs, values)
        self.__dict__.update(values)
        if cls._checks:
            self.__post_init__()

    Record.__init__ = _init

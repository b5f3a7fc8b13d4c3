"""Host functions: what the application lends to a sandbox, call by call.

What: a function with its bounds, and the set of them that one sandbox has.  Because: the code
inside never holds the function, only a name; what it sends is decoded within a budget, held
against the annotations, and called by the host.  Then: what comes back is data, or a fresh
exception of a built-in type that was chosen, and the host's own errors stay with the host.
"""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any

from ..engine.calls import Bounds, Use
from ..engine.events import Answered
from ..errors import PolicyError
from ..wire.errors import NotConvertible, RemoteError
from ..wire.limits import CALL_BYTES, CALLS, MESSAGE, MESSAGE_CHARS, Budget
from ..wire.values import decode, encode
from .abilities import Abilities
from .arguments import Arguments, Unfit
from .current import CurrentCall, answering, is_answering
from .signature import check_name, definition, is_awaited

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ..policy import Policy
    from .given import Channels

_type: Any = type  # so that the checkers leave what it is compared with alone

# What: of these, text crosses.  Because: they are what a function says to its caller; others say
# something of the host (paths, addresses, its code), and their text stays there.
RAISES: tuple[type[Exception], ...] = (
    ValueError,
    TypeError,
    LookupError,
    KeyError,
    IndexError,
    ArithmeticError,
    ZeroDivisionError,
    OverflowError,
    TimeoutError,
    PermissionError,
    NotImplementedError,
)
ARGUMENT_BYTES = 2**20  # a query, a document, a small table
_MOST_FUNCTIONS = 1000
_SOURCES_CHARS = 2**18  # of all definitions; a tenth of the room that a first message has for them
_TEXT_CHARS = 1000  # of a refusal
_YEAR_S = 366 * 86_400


class HostFunction:
    """A function of the application's with bounds, to be lent to sandboxes.

        limited = belljar.HostFunction(search, calls=20, calls_per_s=5)
        belljar.run("search('x')", functions={"search": limited})

    The bounds hold for each sandbox by itself; ``revoke`` is for all of them.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        calls: int | None = None,
        concurrency: int | None = None,
        calls_per_s: float | None = None,
        total_s: float | None = None,
        argument_bytes: int = ARGUMENT_BYTES,
        raises: Iterable[type[Exception]] = RAISES,
        check: bool = True,
        in_thread: bool | None = None,
        clock_runs: bool = False,
    ) -> None:
        """
        Args:
            function: what is called, with plain data; an ``async def`` is awaited.
            calls: how often in all, 1 or more; further calls are refused.
            concurrency: how many at once, 1 .. 64; others wait.  If left out: 64 for an
                ``async def`` and for ``in_thread=True``, else 1.
            calls_per_s: others wait; a second's worth may come at once.
            total_s: seconds in all, those of calls at once added up; further calls are refused,
                and one under way is given up.
            argument_bytes: decoded size of the arguments of a call, 1 .. 16 MiB.
            raises: built-in exceptions that cross with their text, as the nearest of these; any
                other is a ``RuntimeError`` inside without it, and goes to the logger
                ``belljar.functions``.
            check: hold arguments against the annotations, and make dataclasses, named tuples,
                enums and pydantic models of data where these are asked for.
            in_thread: call it in a thread of its own, so that several calls run at once and one
                can be given up.  If left out: no for ``run`` and ``Sandbox``, which call it on
                the thread that asked for the run; yes for the async ones, whose event loop
                must not wait.
            clock_runs: whether the guest's ``wall_s`` goes on during a call.  If not, it stands
                still, for ``pause_s`` in a run.

        Raises:
            PolicyError: an argument makes no sense; names it.
        """
        if not callable(function):
            raise PolicyError("function", f"expected a function, got {type(function).__name__}")
        self._function = function
        self.awaited = is_awaited(function)
        many = self.awaited or in_thread is True
        if concurrency is None:
            concurrency = CALLS if many else 1
        _whole("concurrency", concurrency, CALLS)
        if concurrency > 1 and not many:
            raise PolicyError("concurrency", "several calls at once take in_thread=True")
        if self.awaited and in_thread:
            raise PolicyError("in_thread", "an async function runs in an event loop")
        if calls is not None:
            _whole("calls", calls, 2**53)
        for key, seconds in (("calls_per_s", calls_per_s), ("total_s", total_s)):
            if seconds is not None:
                _positive(key, seconds)
        _whole("argument_bytes", argument_bytes, CALL_BYTES)
        self.bounds = Bounds(calls, concurrency, calls_per_s, total_s, bool(clock_runs))
        self.in_thread = in_thread
        self._budget = Budget(memory_bytes=argument_bytes)
        self._raises = _exceptions(raises)
        name = getattr(function, "__name__", type(function).__name__)
        self._arguments = Arguments(name, function) if check else None
        self._revoked = False
        self._users: weakref.WeakSet[Functions] = weakref.WeakSet()
        self._lock = threading.Lock()  # around the users

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself, as the application."""
        return self._function(*args, **kwargs)

    def __repr__(self) -> str:
        state = " revoked" if self._revoked else ""
        return f"<belljar.HostFunction {self._function!r}{state}>"

    @property
    def revoked(self) -> bool:
        """Whether ``revoke`` was called."""
        return self._revoked

    def revoke(self) -> None:
        """From now on refuse every call from every sandbox; from any thread, for ever.

        A call under way is answered with ``PermissionError`` at once where it runs in a thread or
        an event loop; else what it returns is not told.
        """
        self._revoked = True
        with self._lock:
            users = list(self._users)
        for user in users:
            user.revoke_all(self)

    def used_by(self, user: Functions) -> None:
        """``user`` is told of a revocation."""
        with self._lock:
            self._users.add(user)
        if self._revoked:
            user.revoke_all(self)

    def source(self, name: str) -> str:
        """What the guest executes to have a stand-in for it."""
        return definition(name, self._function)

    # --- one call ---------------------------------------------------------------------------

    def read(self, arguments: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments that a guest has sent.  Raises ``Unfit``."""
        try:
            found: Any = decode(arguments, self._budget)
        except RemoteError as error:
            raise Unfit(f"its arguments: {error}, the bound argument_bytes") from None
        if _type(found) is not list or len(found) != 2:
            raise Unfit("its arguments: expected those by position and those by name")
        args, kwargs = found
        if _type(args) is not list or _type(kwargs) is not dict:
            raise Unfit("its arguments: expected a list and a dict")
        if not all(_type(key) is str for key in kwargs):
            raise Unfit("its arguments: names are texts")
        if self._arguments is None:
            return tuple(args), kwargs
        try:
            return self._arguments.fit(args, kwargs)
        except Unfit:
            raise
        except Exception as error:  # of the application's own classes
            raise Unfit(f"{type(error).__name__} while the arguments were checked") from error

    def start(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call it; an awaitable where it is an ``async def``."""
        return self._function(*args, **kwargs)

    def returned(self, name: str, call_id: int, value: object) -> Answered:
        """The answer for what it returned."""
        try:
            return Answered(call_id, bytes(encode(value, _RESULT)))
        except NotConvertible as error:
            _log(name, error)
            text = f"{name}: what it returned: {error}"[:_TEXT_CHARS]
            return Answered(call_id, None, "RuntimeError", text)
        except Exception as error:  # of the application's own classes
            _log(name, error)
            return Answered(call_id, None, "RuntimeError", f"{name} failed")

    def raised(self, name: str, call_id: int, error: BaseException) -> Answered:
        """The answer for what it raised."""
        for kind in type(error).__mro__:
            if kind in self._raises:
                return Answered(call_id, None, kind.__name__, _message(error))  # type: ignore[arg-type]
        _log(name, error)
        return Answered(call_id, None, "RuntimeError", f"{name} failed")


# Half a frame, so that there is room for the rest; decoded, what a message may take.
_RESULT = Budget(frame_bytes=MESSAGE.frame_bytes // 2)


class Functions:
    """The host functions of one sandbox: what it has of them, and how to take it back.

        sandbox.functions.revoke("search")
        "search" in sandbox.functions, sandbox.functions.revoked
        sandbox.functions.abilities.left("spend_cents")

    A mapping of names to ``HostFunction`` that cannot be changed.  It lasts as long as the
    sandbox: ``reset`` gives nothing back of what was used or revoked.

    abilities   the application's own rights of the sandbox, and what is left of them
    """

    def __init__(self, given: Mapping[str, Callable[..., Any]], policy: Policy) -> None:
        """Raises ``PolicyError`` that names what makes no sense."""
        if not hasattr(given, "items"):
            raise PolicyError("functions", f"expected a dict, got {type(given).__name__}")
        if len(given) > _MOST_FUNCTIONS:
            raise PolicyError("functions", f"{len(given)}; at most {_MOST_FUNCTIONS}")
        self._policy = policy
        self.abilities = Abilities(policy)
        self._by_name: dict[str, HostFunction] = {}
        for name, function in given.items():
            check_name(name)
            try:
                lent = function if isinstance(function, HostFunction) else HostFunction(function)
            except PolicyError as error:
                raise PolicyError(f"functions[{name!r}]", str(error)) from None
            self._by_name[name] = lent
        self.uses = {name: Use(lent.bounds) for name, lent in self._by_name.items()}
        self.sources = [[name, lent.source(name)] for name, lent in self._by_name.items()]
        size = sum(len(source) for _, source in self.sources)
        if size > _SOURCES_CHARS:
            text = f"names, annotations and docstrings of {size} characters; at most"
            raise PolicyError("functions", f"{text} {_SOURCES_CHARS}")
        self.on_revoke: Callable[[str], object] | None = None  # told of each, on any thread
        self.channels: Channels | None = None  # that the sandbox has as well
        for lent in self._by_name.values():
            lent.used_by(self)

    @property
    def all_uses(self) -> dict[str, Use]:
        """By what the sandbox calls them, those of its channels as well."""
        return self.uses if self.channels is None else {**self.uses, **self.channels.uses}

    @property
    def settings(self) -> dict[str, Any]:
        """For the guest."""
        settings: dict[str, Any] = {"functions": self.sources} if self.sources else {}
        if self.channels is not None:
            settings["channels"] = self.channels.settings
        return settings

    def for_branch(self) -> Functions:
        """The same for a branch of the sandbox: what either uses counts for both.

        Channels are not among them, since an end belongs to one sandbox.
        """
        made = Functions.__new__(Functions)
        made.__dict__.update(self.__dict__, channels=None, on_revoke=None)
        for lent in self._by_name.values():
            lent.used_by(made)
        return made

    def end(self) -> None:
        """The sandbox has ended, and its channels with it."""
        if self.channels is not None:
            self.channels.close()

    def __getitem__(self, name: str) -> HostFunction:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    def __repr__(self) -> str:
        return f"<belljar.Functions {', '.join(self._by_name)}>"

    @property
    def are_answering(self) -> bool:
        """Whether who asks is called by one of them, and so by the sandbox's run under way."""
        return is_answering(self)

    @property
    def revoked(self) -> frozenset[str]:
        """The names that may be used no longer."""
        return frozenset(name for name, use in self.uses.items() if use.revoked)

    def revoke(self, name: str) -> None:
        """This sandbox may use it no longer.  Raises ``PolicyError`` for one that it has not."""
        if name not in self._by_name:
            raise PolicyError("functions", f"there is no {name!r}")
        self.uses[name].revoked = True
        told = self.on_revoke
        if told is not None:
            told(name)

    def revoke_all(self, function: HostFunction) -> None:
        """The same by the function, under whatever names."""
        for name, lent in self._by_name.items():
            if lent is function:
                self.revoke(name)

    def read(self, name: str, call_id: int, arguments: bytes) -> Call | Answered:
        """A call that a guest asks for, ready to be made; or why it is not."""
        function = self._by_name[name]
        try:
            args, kwargs = function.read(arguments)
        except Unfit as unfit:
            text = f"{name}: {unfit}"[:_TEXT_CHARS]
            return Answered(call_id, None, "TypeError", text, refused=True)
        current = CurrentCall(name, self._policy, self.abilities)
        return Call(function, name, call_id, args, kwargs, answering(current, self))


class Call:
    """One call, read and checked."""

    def __init__(
        self,
        function: HostFunction,
        name: str,
        call_id: int,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        now: answering,
    ) -> None:
        self.function = function
        self.id = call_id
        self._name = name
        self._args = args
        self._kwargs = kwargs
        self._now = now

    def make(self) -> Answered:
        """Call it on this thread.  What is no ``Exception`` goes on to whoever waits here."""
        try:
            with self._now:
                value = self.function.start(self._args, self._kwargs)
        except Exception as error:
            return self.function.raised(self._name, self.id, error)
        return self.function.returned(self._name, self.id, value)

    def broken_off(self) -> Answered:
        """The answer where something beyond ``Exception`` has ended it."""
        return Answered(self.id, None, "RuntimeError", f"{self._name} failed")

    async def make_here(self) -> Answered:
        """The same in the event loop of whoever waits here."""
        try:
            with self._now:
                value = await self.function.start(self._args, self._kwargs)
        except Exception as error:
            return self.function.raised(self._name, self.id, error)
        return self.function.returned(self._name, self.id, value)

    async def make_awaited(self) -> Answered:
        """The same in a loop of ours, which nothing but the cancelling of its task leaves."""
        from asyncio import CancelledError

        try:
            with self._now:
                value = await self.function.start(self._args, self._kwargs)
        except CancelledError:
            raise
        except BaseException as error:  # SystemExit would end the loop, and with it all others
            return self.function.raised(self._name, self.id, error)
        return self.function.returned(self._name, self.id, value)


def _message(error: Exception) -> str:
    """What an exception says to the code inside."""
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        return str(error.strerror)[:MESSAGE_CHARS]  # without the path, which is the host's
    first: object = error.args[0] if len(error.args) == 1 else None
    try:
        text = first if isinstance(first, str) else str(error)
    except Exception:
        return ""
    return str.__str__(text)[:MESSAGE_CHARS]


def _exceptions(raises: Iterable[type[Exception]]) -> frozenset[type[Exception]]:
    import builtins

    found: set[type[Exception]] = set()
    for kind in raises:
        own: object = getattr(builtins, getattr(kind, "__name__", ""), None)
        if own is not kind or not issubclass(kind, Exception):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise PolicyError("raises", f"{kind!r} is no built-in exception")
        found.add(kind)
    return frozenset(found)


def _whole(key: str, value: object, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise PolicyError(key, f"{value!r} is no int from 1 to {most}")


def _positive(key: str, value: object) -> None:
    fits = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not fits or not math.isfinite(value) or not 0.001 <= value <= _YEAR_S:  # type: ignore[arg-type, operator]
        raise PolicyError(key, f"{value!r} is not between 0.001 and {_YEAR_S}")


def _log(name: str, error: BaseException) -> None:
    import logging

    logging.getLogger("belljar.functions").warning(
        "host function %s failed: %s", name, type(error).__name__, exc_info=error
    )

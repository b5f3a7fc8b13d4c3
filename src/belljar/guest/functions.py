"""Host functions as the code sees them: ordinary functions of the module ``belljar.functions``."""

from __future__ import annotations

import builtins
import errno
import posix
import sys

from ..wire.errors import NotConvertible, RemoteError
from ..wire.limits import CALL_BYTES, MESSAGE, Budget
from ..wire.values import decode, encode
from .refusals import FunctionRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

    from ..wire.events import Returned
    from .link import Link

MODULE = "belljar.functions"
_ASK, _ASK_AWAITED, _LEFT_OUT = "_belljar_ask", "_belljar_ask_awaited", "_belljar_left_out"
_BUDGET = Budget(frame_bytes=CALL_BYTES - 2**10)  # room for the name and the number
_CROWDED_S = 0.002
_link: Link | None = None
# Bound now: the code may change what is in ``builtins``.
_exceptions: dict[str, type[Exception]] = {
    name: kind
    for name, kind in vars(builtins).items()
    if isinstance(kind, type) and issubclass(kind, Exception)
}


class _LeftOut:
    """The default of a parameter that the host will fill in."""

    def __repr__(self) -> str:
        return "..."


def install(link: Link, sources: list[list[str]], public: ModuleType) -> dict[str, Any]:
    """Make the stand-ins; they are in ``belljar.functions`` and in what is returned."""
    global _link
    _link = link
    module: Any = type(sys)(MODULE, "Functions of the host's that this sandbox may call.")
    hidden = {_ASK: _ask, _ASK_AWAITED: _ask_awaited, _LEFT_OUT: _LeftOut()}
    names: dict[str, Any] = {"__name__": MODULE, "__builtins__": builtins, **hidden}
    own = __file__  # tracebacks leave out what is ours
    for _, source in sources:
        exec(compile(source, own, "exec", dont_inherit=True), names)
    made = {name: names[name] for name, _ in sources}
    module.__dict__.update(made, __all__=list(made))
    sys.modules[MODULE] = module
    public.__dict__["functions"] = module
    return made


def _ask(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    link, arguments = _encoded(name, args, kwargs)
    return _outcome(name, link.call(name, arguments))


async def _ask_awaited(name: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    import asyncio

    link, arguments = _encoded(name, args, kwargs)
    loop = asyncio.get_running_loop()
    answer: Any = loop.create_future()

    def settle(returned: Returned) -> None:
        if not answer.done():
            answer.set_result(returned)

    def told(returned: Returned) -> None:
        try:
            loop.call_soon_threadsafe(settle, returned)
        except RuntimeError:
            return  # the loop is closed: nobody waits

    while (call_id := link.call_later(name, arguments, told)) is None:
        await asyncio.sleep(_CROWDED_S)
    try:
        return _outcome(name, await answer)
    finally:
        link.forget(call_id)


def _encoded(name: str, args: list[Any], kwargs: dict[str, Any]) -> tuple[Link, Any]:
    link = _link
    if link is None or posix.getpid() != link.owner:
        raise RuntimeError(f"{name}: only the sandbox's first process can call the host")
    try:
        return link, encode([args, kwargs], _BUDGET)
    except NotConvertible as error:
        raise TypeError(f"{name}: its arguments: {error}") from None


def _outcome(name: str, returned: Returned) -> Any:
    if returned.value is not None:
        try:
            return decode(returned.value, MESSAGE)
        except RemoteError as error:
            raise RuntimeError(f"{name}: what it returned: {error}") from None
    if returned.grant:
        refused = FunctionRefused(errno.EPERM, returned.message)
        refused.add_note(f"belljar refused {name}; {returned.grant} would allow it")
        raise refused
    kind: Callable[[str], Exception] = _exceptions.get(returned.error_type, RuntimeError)
    try:
        made = kind(returned.message)
    except TypeError:
        made = RuntimeError(returned.message)  # it takes more than a text
    raise made

"""Which call a host function is answering just now."""

from __future__ import annotations

from contextvars import ContextVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy import Policy
    from .abilities import Abilities

_now: ContextVar[answering] = ContextVar("belljar.current_call")


class CurrentCall:
    """A call of a host function, as that function sees it.

    function   the name under which the sandbox has it
    policy     of the sandbox that calls
    abilities  the application's own rights of that sandbox; its counts last as long as it does
    """

    __slots__ = ("abilities", "function", "policy")

    def __init__(self, function: str, policy: Policy, abilities: Abilities) -> None:
        self.function = function
        self.policy = policy
        self.abilities = abilities

    def __repr__(self) -> str:
        return f"<belljar.CurrentCall {self.function}>"


def current_call() -> CurrentCall:
    """The call that is being answered: for host functions, to check what their caller may do.

        def send(to: str, text: str) -> None:
            belljar.current_call().abilities.require("send_mail")
            ...

    Raises:
        RuntimeError: no sandbox has called; the function was called by the application itself.
    """
    now = _now.get(None)
    if now is None:
        raise RuntimeError("no sandbox has called: this is for host functions")
    return now.call


class answering:
    """Around a host function: makes it known what it answers.

    call    what ``current_call`` gives
    lent    the functions of the sandbox that calls
    outer   what the call of another sandbox is answered by, if this sandbox runs for it
    over    whether it is answered; threads and tasks made meanwhile go on with its context
    """

    __slots__ = ("_token", "call", "lent", "outer", "over")

    def __init__(self, call: CurrentCall, lent: object) -> None:
        self.call = call
        self.lent = lent
        self.outer: answering | None = None
        self.over = False

    def __enter__(self) -> None:
        self.outer = _now.get(None)
        self._token = _now.set(self)

    def __exit__(self, *_: object) -> None:
        self.over = True
        _now.reset(self._token)


def is_answering(lent: object) -> bool:
    """Whether who asks is called by the sandbox that has these functions, at whatever remove."""
    now = _now.get(None)
    while now is not None:
        if now.lent is lent and not now.over:
            return True
        now = now.outer
    return False

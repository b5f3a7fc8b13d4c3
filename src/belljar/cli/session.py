"""The live guest of ``belljar repl``.

What: a ``Sandbox`` that runs one statement at a time as Python's own prompt does, and says of
itself whether it is still there.  Because: the value of an expression is shown inside, by the
guest's ``sys.displayhook``, so that one which cannot cross is shown as well.  Then: nothing of
a session but text reaches the host.
"""

from __future__ import annotations

from ..api.sandbox import Sandbox
from ..errors import ClosedError
from ..wire.events import Run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..result import Result

_REMEDY = "; reset() starts"  # how a Sandbox goes on, in the words of Python


class Session(Sandbox):
    """A ``Sandbox`` for somebody who types.  Used by one thread."""

    _interactive = False

    def enter(self, source: str, name: str, on_output: Callable[[str, bytes], object]) -> Result:
        """Run one statement; what its expressions evaluate to is shown inside.

        Raises: as ``run``.
        """
        self._interactive = True
        if self._live is not None:
            self._live.hear_signals()
        try:
            return self.run(source, name=name, on_output=on_output)
        finally:
            self._interactive = False

    def lost(self, on_output: Callable[[str, bytes], object]) -> str:
        """Why there is no interpreter any more; empty while there is one.

        Raises: as ``run``, but for ``ClosedError``.
        """
        try:
            self.run("", name="<look>", on_output=on_output)
        except ClosedError as error:
            return reason(error)
        return ""

    def _do(self, order: Any, *args: Any, **kwargs: Any) -> Result:
        if self._interactive and isinstance(order, Run):
            order = order.replace(interactive=True)
        return super()._do(order, *args, **kwargs)


def reason(error: ClosedError) -> str:
    """Why an interpreter has ended, without the advice to a program."""
    return str(error).partition(_REMEDY)[0]

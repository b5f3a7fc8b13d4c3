"""The live guest of ``belljar repl``.

What: a ``Sandbox`` that runs one statement at a time as Python's own prompt does.  Because:
the value of an expression is shown inside, by the guest's ``sys.displayhook``, so that one which
cannot cross is shown as well.  Then: nothing of a session but text reaches the host.
"""

from __future__ import annotations

from ..api.sandbox import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..errors import ClosedError
    from ..result import Result

_REMEDY = "; reset() starts"  # how a Sandbox goes on, in the words of Python


class Session(Sandbox):
    """A ``Sandbox`` for somebody who types.  Used by one thread."""

    def enter(self, source: str, name: str, on_output: Callable[[str, bytes], object]) -> Result:
        """Run one statement; what its expressions evaluate to is shown inside.

        Raises: as ``run``.
        """
        if self._live is not None:
            self._live.hear_signals()
        return self.run(source, name=name, on_output=on_output, interactive=True)


def reason(error: ClosedError) -> str:
    """Why an interpreter has ended, without the advice to a program."""
    return str(error).partition(_REMEDY)[0]

"""The code that a guest's tree is made of, found on this host, as one value."""

from __future__ import annotations

from .._record import Record
from .whitelist import Whitelist

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..python.distributions import PackageSet
    from ..python.interpreter import Interpreter
    from ..python.programs import Programs


class Code(Record):
    """What guests run with.

    ``interpreter``   the CPython, with the libraries of just the modules that are allowed
    ``packages``      the granted distributions
    ``whitelist``     which C modules of both may be loaded
    ``belljar``       directory of this package
    ``stdlib_names``  names in the interpreter's standard library, so that only what exists is
                      hidden
    ``covers``        (path in the standard library, bytes) of files that are shown otherwise;
                      None hides the file
    ``stand_ins``     (module, real host path) of the policy's stand-ins
    ``programs``      what the policy lets guests start; None if nothing
    ``layer``         (file name, text) of the modules that an interpreter begins with which a
                      guest starts anew; empty where none can be started
    """

    interpreter: Interpreter
    packages: PackageSet
    whitelist: Whitelist
    belljar: str
    stdlib_names: tuple[str, ...]
    covers: tuple[tuple[str, bytes | None], ...] = ()
    stand_ins: tuple[tuple[str, str], ...] = ()
    programs: Programs | None = None
    layer: tuple[tuple[str, bytes], ...] = ()

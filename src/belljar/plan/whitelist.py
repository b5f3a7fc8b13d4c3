"""Which C modules a guest may load: the policy's rules on the default list, decided.

Example::

    decide(Policy().modules, interpreter, packages).refused   # ("_curses", "readline", …)

Pure.  What: every extension module of an interpreter and of the granted distributions, and
every module that is built into the binary, is allowed or refused.  Because: one that is a file
can be kept from the guest by the kernel, one that is built in only by the import system, and
the two must not disagree.  Then: a file that is refused is not in the guest's tree; whatever
is refused is refused by name as well, with the grant that would allow it.
"""

from __future__ import annotations

from .._record import Record
from ..policy.rules import ALLOW, BLOCK, USUAL
from ..policy.whitelist import FACADES, standing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy.rules import Rules
    from ..python.distributions import PackageSet
    from ..python.interpreter import Interpreter

STARTS_WITH = frozenset(
    [
        "_abc",
        "_codecs",
        "_imp",
        "_io",
        "_signal",
        "_thread",
        "_warnings",
        "_weakref",
        "builtins",
        "marshal",
        "posix",
        "sys",
        "time",
    ]
)
"""What the interpreter has loaded before it reads any code: part of it, whatever a rule says."""

# What the zygote and the agent are made with; a guest of a policy that refuses one of these
# inherits its code in memory, but finds no file and no name of it.
RUNTIME = ("_ctypes", "_socket", "_struct", "fcntl", "mmap", "resource", "select")


class Whitelist(Record):
    """The outcome.

    ``shown``    (module, host path) of the standard extension modules that guests may read
    ``runtime``  the same of those that only the zygote may
    ``hidden``   files of granted distributions, relative to site-packages, that are covered
    ``refused``  names of C modules that are not allowed, sorted
    """

    shown: tuple[tuple[str, str], ...] = ()
    runtime: tuple[tuple[str, str], ...] = ()
    hidden: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()


def allows(rules: Rules, module: str) -> bool:
    """Whether rules and default list together allow a standard C module.

    What the list does not know is refused: it is a whitelist.
    """
    if module in STARTS_WITH:
        return True
    said = rules.at(module)
    return standing(module) is True if said == USUAL else said == ALLOW


def decide(rules: Rules, interpreter: Interpreter, packages: PackageSet) -> Whitelist:
    """Sort every C module that there is into allowed and refused."""
    shown = [pair for pair in interpreter.extensions if allows(rules, pair[0])]
    runtime = [pair for pair in interpreter.extensions if pair[0] in RUNTIME and pair not in shown]
    standard = (*(name for name, _ in interpreter.extensions), *interpreter.builtins)
    refused = {name for name in standard if not allows(rules, name)}
    hidden: list[str] = []
    if rules:
        lent = {name for name, _ in packages.modules if rules.at(name) >= USUAL}
        for name, path in packages.modules:
            if name not in lent:
                refused.add(name)
                hidden.append(path)
        if not lent:
            # Nothing is left that could link to them.
            hidden.extend(packages.bundled)
    return Whitelist(tuple(shown), tuple(runtime), tuple(sorted(hidden)), tuple(sorted(refused)))


def unknown_modules(rules: Rules, interpreter: Interpreter, packages: PackageSet) -> list[str]:
    """Names that are allowed one by one and that no C module has: slips, or pure Python."""
    known = {name for name, _ in (*interpreter.extensions, *packages.modules)}
    known.update(interpreter.builtins)
    return [
        name
        for name in rules.patterns(ALLOW)
        if not name.endswith("*")
        and name not in known
        and standing(name) is None
        and not _in_blocked_package(rules, name)
    ]


def _in_blocked_package(rules: Rules, name: str) -> bool:
    """Whether pure Python is meant: the exception of a package that is blocked by name."""
    said = dict(rules.pairs)
    while name:
        if name + ".*" in said:
            return said[name + ".*"] == BLOCK
        name = name.rpartition(".")[0]
    return False


def blocked_in_vain(rules: Rules) -> list[str]:
    """Names that are blocked one by one although no interpreter is without them."""
    return [name for name in rules.patterns(BLOCK) if name.removesuffix(".*") in STARTS_WITH]


def explain_unknown(name: str) -> str:
    """What to write instead of a name that no C module has."""
    if name in FACADES:
        needed = ", ".join(repr(module) for module in FACADES[name])
        return f"{name} is pure Python and needs {needed}; write modules=[{needed}]"
    return (
        f"no C module is called {name!r} in this interpreter and the granted packages; pure "
        f"Python needs no grant{_beneath(name)}, and a package is granted by packages=[...]"
    )


def _beneath(name: str) -> str:
    """The C module that is called like the pure one, if there is one."""
    return f" but for what is beneath it ('_{name}')" if standing("_" + name) is not None else ""

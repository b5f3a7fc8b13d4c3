"""Files of a standard library that are shown otherwise than they are.

What: the build variables that ``sysconfig`` reads, without the paths in them, and no bytecode
of the original.  Because: they name where the interpreter was built and installed.  Then: the
guest's copy answers for the interpreter as it lies inside.
"""

from __future__ import annotations

import os

from .buildinfo import scrub_sysconfig

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .interpreter import Interpreter

__all__ = ["covers"]

_VARIABLES = ("_sysconfigdata_", "_sysconfig_vars_", "build-details.json")


def covers(
    interpreter: Interpreter, stdlib_names: tuple[str, ...]
) -> tuple[tuple[str, bytes | None], ...]:
    """(path in the standard library, what to show there), None for nothing at all."""
    found: list[tuple[str, bytes | None]] = []
    for name in stdlib_names:
        if not name.startswith(_VARIABLES) or not name.endswith((".py", ".json")):
            continue
        try:
            with open(f"{interpreter.stdlib}/{name}", "rb") as file:
                text = file.read()
        except OSError:
            found.append((name, None))
            continue
        shown = scrub_sysconfig(text, [(os.fsencode(interpreter.prefix), b"/usr")])
        if shown == text:
            continue
        found.append((name, shown))
        module = name.removesuffix(".py")
        try:
            cached = os.listdir(f"{interpreter.stdlib}/__pycache__")
        except OSError:
            continue
        found.extend((f"__pycache__/{one}", None) for one in cached if one.startswith(module + "."))
    return tuple(found)

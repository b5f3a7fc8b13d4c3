"""Programs that a guest may start: where they are on this host, and what each needs.

What: from the names of a policy to real files, their dynamic loaders and shared libraries.
Because: the guest's root holds just what is listed, so a program without its libraries would
only print an error of its loader.  Then: each program is shown as ``/usr/bin/NAME``, and a
script is granted together with the interpreter that its first line names.

Source: execve(2), ld.so(8).
"""

from __future__ import annotations

import os

from .._record import Record
from ..errors import PolicyError
from .elf import ElfError
from .hops import hops
from .libraries import read_elf, resolve, search_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .interpreter import Interpreter

__all__ = ["PLACES", "Programs", "find_programs"]

PLACES = ("/usr/local/bin", "/usr/bin", "/bin")  # where a bare name is looked up, in order
_SHEBANG_BYTES = 256  # BINPRM_BUF_SIZE: the kernel reads no more of a first line


class Programs(Record):
    """What a set of programs is made of.

    ``files``      (name inside ``/usr/bin``, real path), sorted
    ``loaders``    (path as the programs ask for it, real path) of their dynamic loaders
    ``libraries``  (name as asked for, real path) of what they link to
    ``hops``       the symbolic links by which they were found
    """

    files: tuple[tuple[str, str], ...] = ()
    loaders: tuple[tuple[str, str], ...] = ()
    libraries: tuple[tuple[str, str], ...] = ()
    hops: tuple[str, ...] = ()


def find_programs(wanted: frozenset[str], interpreter: Interpreter, jit: bool = False) -> Programs:
    """Look up the programs of a policy; ``interpreter`` is the guests' own Python.

    ``jit``: whether guests may have memory that they can write and execute.

    Raises ``PolicyError`` with the key ``grants.run`` if one is not there, cannot be executed,
    is built for another machine, has a name that is taken, lacks a library, is a script
    whose interpreter is not granted, or asks the kernel for memory that can be written and
    executed.
    """
    major, minor = interpreter.version[:2]
    own = {"python", f"python{major}", f"python{major}.{minor}"}
    files: dict[str, str] = {}
    loaders: dict[str, str] = {}
    libraries: dict[str, str] = {}
    scripts: list[tuple[str, str]] = []  # (program, first line)
    ways: list[str] = []
    for program in sorted(wanted):
        path = _locate(program)
        ways += hops(path)[:-1]
        name = path.rpartition("/")[2]
        real = os.path.realpath(path)
        if real == interpreter.executable:
            continue  # there already, under all its names
        if name in own:
            raise _error(program, f"the guest's own Python is /usr/bin/{name}; grant python=PATH")
        if files.setdefault(name, real) != real:
            raise _error(program, f"another program is granted as /usr/bin/{name}")
        line = _first_line(real, program)
        if line is not None:
            scripts.append((program, line))
            continue
        try:
            elf = read_elf(real)
            if elf.machine != interpreter.machine:
                raise _error(program, f"it is built for {elf.machine}")
            closure = resolve(real, (), search_rules(elf.machine, elf.interpreter))
            loader = elf if elf.interpreter is None else read_elf(elf.interpreter)
        except (ElfError, OSError) as error:
            raise _error(program, f"it cannot be read as a program: {error}") from None
        if (elf.writable_code or loader.writable_code) and not jit:
            # The kernel maps it so when it starts the program, and no filter is asked.
            raise _error(program, "its stack or data would be executable; jit=True allows it")
        if closure.missing:
            raise _error(program, f"this host has no {closure.missing[0][0]}, which it needs")
        if elf.interpreter is not None:
            loaders[elf.interpreter] = os.path.realpath(elf.interpreter)
        for soname, source in closure.libraries:
            libraries.setdefault(soname, source)
    for program, line in scripts:
        _check_script(program, line, {*files, *own})
    return Programs(
        files=tuple(sorted(files.items())),
        loaders=tuple(loaders.items()),
        libraries=tuple(libraries.items()),
        hops=tuple(dict.fromkeys(ways)),
    )


def _locate(program: str) -> str:
    """The path of an executable file."""
    candidates = [program] if "/" in program else [f"{place}/{program}" for place in PLACES]
    for path in candidates:
        if os.path.isfile(path):
            if not os.access(path, os.X_OK):
                raise _error(program, f"{path} is not executable")
            return path
    where = program if "/" in program else f"one of {', '.join(PLACES)}"
    raise _error(
        program, f"there is no such file in {where}" if "/" not in program else "no such file"
    )


def _first_line(path: str, program: str) -> str | None:
    """What follows ``#!``, None for a file that is no script."""
    try:
        with open(path, "rb") as file:
            head = file.read(_SHEBANG_BYTES)
    except OSError as error:
        raise _error(program, str(error.strerror)) from None
    if not head.startswith(b"#!"):
        return None
    return head[2:].split(b"\n")[0].decode("utf-8", "replace").strip()


def _check_script(program: str, line: str, names: set[str]) -> None:
    """The interpreter of a script, and what ``env`` would start, must be there inside."""
    words = line.split()
    needed = words[:1]
    if needed and needed[0].rpartition("/")[2] == "env":
        needed += [f"/usr/bin/{word}" for word in words[1:2]]
    for path in needed:
        directory, _, name = path.rpartition("/")
        if directory not in ("/usr/bin", "/bin") or name not in names:
            hint = (
                f"grant {name} as well"
                if directory in ("/usr/bin", "/bin")
                else (
                    "which is not there inside; start that interpreter with the script as its argument"
                )
            )
            raise _error(program, f"it is a script for {path}: {hint}")
    if not needed:
        raise _error(program, "its first line names no interpreter")


def _error(program: str, message: str) -> PolicyError:
    return PolicyError("grants.run", f"{program}: {message}")

"""One CPython as the guest will need it: binary, standard library, shared libraries.

What: describes the running interpreter, or another one by path.  Because: the zygote
executes that binary in a root that holds nothing but what is listed here.  Then: the
running one is described from what ``sys`` knows, without importing ``sysconfig``
(8 ms); any other is asked once, in isolated mode, with a clean environment.

Source: "The initialization of the sys.path module search path" and ``site`` in the
Python documentation, PEP 405 (virtual environments), ld.so(8).
"""

from __future__ import annotations

import os
import sys

from .._record import Record
from ..errors import PolicyError
from ..policy.whitelist import standing
from .elf import ElfError
from .hops import hops
from .libraries import Closure, read_elf, resolve, search_rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = [
    "OLDEST",
    "RUNTIME_LIBRARIES",
    "Interpreter",
    "deciding",
    "describe_interpreter",
    "link",
]

OLDEST = (3, 11)  # the zygote and the guest's agent use what 3.11 brought

RUNTIME_LIBRARIES: dict[str, str] = {
    "libgcc_s.so.1": "pthread_exit and pthread_cancel unwind with it, and abort without it",
    "libnss_files.so.2": "getpwnam reads /etc/passwd through it before glibc 2.34",
}
"""Libraries that glibc opens by itself at run time, so that no file names them, and why."""

# A cold interpreter on a slow disk starts in under 2 s; the rest is for a loaded machine.
_ASK_TIMEOUT_S = 15.0
# The answer has under 4 KiB; a program that is no Python may write without end.
_ASK_MAX_BYTES = 64 * 1024


class Interpreter(Record):
    """A CPython on this host.

    ``command``     path that starts it in its environment: the venv's ``bin/python``
    ``executable``  real path of the binary
    ``machine``     ``x86_64`` or ``aarch64``
    ``version``     major, minor, micro
    ``cache_tag``   middle part of the names of its bytecode files: ``cpython-311``
    ``prefix``      where it is installed (``sys.base_prefix``), whatever the venv
    ``platlibdir``  ``lib`` or ``lib64``: where below the prefix it looks for itself
    ``stdlib``      real path of the directory that holds ``os.py``
    ``dynload``     real paths of the directories with the standard extension modules
    ``extensions``  (module, path) of each of these
    ``builtins``    names of the modules that are part of the binary
    ``loader``      PT_INTERP as written and its real path, None if linked statically
    ``libraries``   (name as asked for, real path) of all that it and those extensions need
                    that the default whitelist allows, or that ``link`` was given
    ``missing``     (name, path of who asks) of what this host does not have; an
                    extension that needs one does not import
    ``site_dirs``   real paths of where its environment's distributions lie, in order
    """

    command: str
    executable: str
    machine: str
    version: tuple[int, int, int]
    cache_tag: str
    prefix: str
    platlibdir: str
    stdlib: str
    dynload: tuple[str, ...]
    extensions: tuple[tuple[str, str], ...]
    builtins: tuple[str, ...]
    loader: tuple[str, str] | None
    libraries: tuple[tuple[str, str], ...]
    missing: tuple[tuple[str, str], ...]
    site_dirs: tuple[str, ...]


class _Facts(Record):
    """What an interpreter says about itself, not checked yet."""

    implementation: str
    version: tuple[int, int, int]
    executable: str
    cache_tag: str
    prefix: str
    exec_prefix: str
    platlibdir: str
    os_file: str
    builtins: tuple[str, ...]
    site_dirs: tuple[str, ...]


_memo: dict[tuple[str, int, int], Interpreter] = {}
_linked: dict[tuple[str, tuple[str, ...]], Closure] = {}


def describe_interpreter(executable: str | None = None) -> Interpreter:
    """Describe the CPython that guests shall run.

    ``executable`` is the path of an interpreter or of a virtual environment; a name
    without a slash that is no file here is looked up on ``PATH``.  None, or the path of
    the running interpreter, means the running one, in its environment.  The outcome is
    kept for the life of the process as long as the file stays the same.

    Raises ``PolicyError`` with the key ``python`` if there is no such file, if it cannot
    be executed or read, is not CPython, is older than 3.11 or is built for another
    machine; the text says which, and what to give instead.
    """
    if executable is None or executable == sys.executable:
        # The program's own idea of its interpreter; None or "" where Python is embedded.
        own: str | None = getattr(sys, "_base_executable", None) or sys.executable
        if not own:
            raise _error("this program embeds Python and names no interpreter; give its path")
        command = sys.executable or own
        status = _stat(own)
        key = (f"\0{own}", status.st_mtime_ns, status.st_ino)
        if key not in _memo:
            _memo[key] = _describe(command, _own_facts(own))
        return _memo[key]
    command = _find(executable)
    status = _stat(command)
    key = (command, status.st_mtime_ns, status.st_ino)
    if key not in _memo:
        _check_binary(command, status.st_mode)
        _memo[key] = _describe(command, _ask(command))
    return _memo[key]


def deciding(executable: str | None) -> tuple[str, ...]:
    """Paths that decide what is started when this interpreter is asked about itself.

    The links on the way, the binary, and where it looks for its ``pyvenv.cfg``, there or not.
    None, or the path of the running interpreter, is not asked.
    """
    if executable is None or executable == sys.executable:
        return ()
    found: dict[str, None] = {}
    for path in hops(_find(executable)):
        directory = path.rpartition("/")[0]
        above = directory.rpartition("/")[0]
        found.update(dict.fromkeys((path, f"{directory}/pyvenv.cfg", f"{above}/pyvenv.cfg")))
    return tuple(found)


def link(interpreter: Interpreter, modules: frozenset[str]) -> Interpreter:
    """The interpreter with the libraries of just these of its extension modules."""
    wanted = tuple(path for module, path in interpreter.extensions if module in modules)
    if wanted == _usual(interpreter.extensions):
        return interpreter
    key = (interpreter.executable, wanted)
    if key not in _linked:
        loader = None if interpreter.loader is None else interpreter.loader[0]
        _linked[key] = _closure(interpreter.executable, interpreter.machine, loader, wanted)
    closure = _linked[key]
    return interpreter.replace(libraries=closure.libraries, missing=closure.missing)


def _error(message: str) -> PolicyError:
    return PolicyError("python", message)


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        reason = getattr(error, "strerror", None) or str(error)
        raise _error(f"{path!r}: {reason}; give the path of a CPython") from None


def _find(executable: str) -> str:
    """The absolute path of the binary to start."""
    if not executable:
        raise _error("the path is empty; give the path of a CPython")
    path = os.path.abspath(executable)
    if "/" not in executable and not os.path.exists(path):
        for directory in os.environ.get("PATH", "").split(":"):
            candidate = f"{directory}/{executable}"
            if directory.startswith("/") and os.path.isfile(candidate):
                return candidate
    if os.path.isdir(path):
        for name in ("python", "python3"):
            if os.path.isfile(f"{path}/bin/{name}"):
                return f"{path}/bin/{name}"
        raise _error(
            f"{path!r} is a directory without bin/python; give an environment or a CPython"
        )
    return path


def _check_binary(command: str, mode: int) -> None:
    """Refuse what cannot be a CPython for this machine, before anything is started."""
    if mode & 0o170000 != 0o100000:  # S_IFMT, S_IFREG
        raise _error(f"{command!r} is not a regular file; give the path of a CPython")
    if not os.access(command, os.X_OK):
        raise _error(f"{command!r} is not executable for this user")
    try:
        elf = read_elf(command)
    except OSError as error:
        raise _error(f"{command!r} cannot be read: {error.strerror}") from None
    except ElfError as error:
        if _starts_with_shebang(command):
            raise _error(
                f"{command!r} is a script; give the binary that it starts, which is what "
                "`import sys; print(sys.executable)` prints inside"
            ) from None
        raise _error(f"{command!r} is no program for this machine: {error}") from None
    machine = os.uname().machine
    if elf.machine != machine:
        raise _error(f"{command!r} is built for {elf.machine}, and this machine is {machine}")


def _starts_with_shebang(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


def _own_facts(executable: str) -> _Facts:
    """What the running interpreter knows about itself."""
    # Loaded already except under ``python -S``; importing it runs nothing.
    import site

    in_environment = sys.prefix != sys.base_prefix
    site_dirs = site.getsitepackages([sys.prefix]) if in_environment else []
    if site.ENABLE_USER_SITE and site.USER_SITE:
        site_dirs.append(site.USER_SITE)
    return _Facts(
        sys.implementation.name,
        sys.version_info[:3],
        executable,
        sys.implementation.cache_tag or "",
        sys.base_prefix,
        sys.base_exec_prefix,
        sys.platlibdir,
        os.__file__,
        tuple(sys.builtin_module_names),
        (*site_dirs, *site.getsitepackages()),
    )


# What: runs in an interpreter that may be old, foreign or no Python at all.  Because: its
# own ``site`` knows its layout, patched ones included, but starting it with ``site``
# would run the environment's .pth files.  Then: with -S, an environment's pyvenv.cfg is
# read here as ``site`` would read it.
_QUESTION = """
import json, os, sys
facts = {"implementation": sys.implementation.name, "version": list(sys.version_info[:3])}
if sys.version_info >= (3, 11) and facts["implementation"] == "cpython":
    import site
    base = [sys.base_prefix, sys.base_exec_prefix]
    dirs, shared = [], True
    place = os.path.dirname(os.path.abspath(sys.executable))
    for root in (place, os.path.dirname(place)):
        try:
            with open(os.path.join(root, "pyvenv.cfg"), encoding="utf-8") as file:
                pairs = [line.partition("=") for line in file]
        except OSError:
            continue
        config = {key.strip().lower(): value.strip().lower() for key, _, value in pairs}
        shared = config.get("include-system-site-packages") == "true"
        sys.prefix = sys.exec_prefix = root
        dirs += site.getsitepackages([root])
        break
    if shared:
        dirs.append(site.getusersitepackages())
        dirs += site.getsitepackages(base)
    facts.update(
        executable=sys._base_executable, cache_tag=sys.implementation.cache_tag,
        prefix=base[0], exec_prefix=base[1], platlibdir=sys.platlibdir,
        os_file=os.__file__, builtins=list(sys.builtin_module_names), site_dirs=dirs,
    )
print(json.dumps(facts))
"""


def _ask(command: str) -> _Facts:
    """What the interpreter at ``command`` says about itself."""
    import json

    output, complaint = _run([command, "-I", "-S", "-c", _QUESTION])
    try:
        facts = json.loads(output)
        implementation, version = str(facts["implementation"]), tuple(map(int, facts["version"]))
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        said = complaint.decode("utf-8", "replace").strip().partition("\n")[0][:120]
        raise _error(
            f"{command!r} does not answer as a CPython does" + (f": {said}" if said else "")
        ) from None
    if implementation != "cpython":
        raise _error(f"{command!r} is {implementation}; belljar runs CPython only")
    if version < OLDEST or len(version) != 3:
        raise _error(
            f"{command!r} is Python {'.'.join(map(str, version))}; "
            f"belljar needs {OLDEST[0]}.{OLDEST[1]} or newer"
        )
    try:
        return _Facts(
            implementation=implementation,
            version=version,
            executable=_path(facts["executable"]),
            cache_tag=str(facts["cache_tag"]),
            prefix=_path(facts["prefix"]),
            exec_prefix=_path(facts["exec_prefix"]),
            platlibdir=_file_name(facts["platlibdir"]),
            os_file=_path(facts["os_file"]),
            builtins=tuple(map(str, facts["builtins"])),
            site_dirs=tuple(map(_path, facts["site_dirs"])),
        )
    except (KeyError, TypeError, ValueError):
        raise _error(f"{command!r} does not answer as a CPython does") from None


def _path(said: object) -> str:
    """Text that the kernel takes as a path; ``ValueError`` for other text."""
    text = str(said)
    if b"\0" in os.fsencode(text):
        raise ValueError(text)
    return text


def _file_name(said: object) -> str:
    """Text that names an entry of a directory; ``ValueError`` for other text."""
    text = _path(said)
    if "/" in text or text in ("", ".", ".."):
        raise ValueError(text)
    return text


def _run(argv: list[str]) -> tuple[bytes, bytes]:
    """Standard output and error of a program that is given a while and no way to flood us."""
    import contextlib
    import select
    import signal
    import subprocess
    import time

    # The home directory is where ``pip install --user`` puts things; nothing else of this
    # environment may change the answer.
    environment = {"HOME": os.environ["HOME"]} if "HOME" in os.environ else {}
    try:
        process = subprocess.Popen(
            argv,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise _error(f"{argv[0]!r} cannot be started: {error.strerror}") from None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        received = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
        output, complaint = received
        open_ends = set(received)
        poll = select.poll()
        for descriptor in received:
            poll.register(descriptor, select.POLLIN)
        deadline = time.monotonic() + _ASK_TIMEOUT_S
        try:
            while open_ends:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise _error(f"{argv[0]!r} did not answer within {_ASK_TIMEOUT_S:g} s")
                for descriptor, _ in poll.poll(left * 1000):
                    data = os.read(descriptor, _ASK_MAX_BYTES)
                    received[descriptor] += data
                    if not data:
                        poll.unregister(descriptor)
                        open_ends.discard(descriptor)
                    elif len(received[descriptor]) > _ASK_MAX_BYTES:
                        raise _error(f"{argv[0]!r} does not answer as a CPython does")
        finally:
            # It has its own session, and is not reaped yet: whatever it started ends with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return received[output], received[complaint]


def _describe(command: str, facts: _Facts) -> Interpreter:
    """Look up on this host what an interpreter said about itself."""
    if facts.implementation != "cpython":
        raise _error(f"this is {facts.implementation}; belljar runs CPython only")
    executable = os.path.realpath(facts.executable)
    stdlib = os.path.realpath(os.path.dirname(facts.os_file))
    if not os.path.isfile(f"{stdlib}/os.py"):
        raise _error(f"{command!r} has no standard library at {stdlib!r}")
    dynload = _existing(
        (
            f"{stdlib}/lib-dynload",
            f"{facts.exec_prefix}/{facts.platlibdir}/{os.path.basename(stdlib)}/lib-dynload",
        )
    )
    try:
        elf = read_elf(executable)
        extensions = _extensions(dynload)
        closure = _closure(executable, elf.machine, elf.interpreter, _usual(extensions))
    except (ElfError, OSError) as error:
        raise _error(f"{executable!r} cannot be read: {error}") from None
    loader = elf.interpreter
    return Interpreter(
        command=command,
        executable=executable,
        machine=elf.machine,
        version=facts.version,
        cache_tag=facts.cache_tag,
        prefix=facts.prefix,
        platlibdir=facts.platlibdir,
        stdlib=stdlib,
        dynload=dynload,
        extensions=extensions,
        builtins=facts.builtins,
        loader=None if loader is None else (loader, os.path.realpath(loader)),
        libraries=closure.libraries,
        missing=closure.missing,
        site_dirs=_existing(facts.site_dirs),
    )


def _usual(extensions: tuple[tuple[str, str], ...]) -> tuple[str, ...]:
    """The files of those that the default whitelist allows."""
    return tuple(path for module, path in extensions if standing(module))


def _closure(
    executable: str, machine: str, loader: str | None, modules: tuple[str, ...]
) -> Closure:
    """What the interpreter and these of its extension modules need."""
    rules = search_rules(machine, loader)
    extra = () if rules.musl else RUNTIME_LIBRARIES
    return resolve(executable, modules, rules, extra=extra)


def _existing(paths: Iterable[str]) -> tuple[str, ...]:
    """The real paths of those that are directories, each once, in order."""
    return tuple(dict.fromkeys(os.path.realpath(path) for path in paths if os.path.isdir(path)))


def _extensions(directories: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """(module, path) of the extension modules in ``directories``."""
    found: list[tuple[str, str]] = []
    for directory in directories:
        for name in sorted(os.listdir(directory)):
            module = name.partition(".")[0]
            if name.endswith(".so"):
                found.append((module, f"{directory}/{name}"))
    return tuple(found)

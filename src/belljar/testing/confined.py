"""Irreversible tests, each in a fresh process.

What: ``run_confined`` executes a function's body in a new interpreter and reports what it
asserted.  Because: a process that has given up its capabilities, its root or its system calls
can never have them back, so such a test in the test runner would be the last one.  Then: what
fails in there fails here, with the traceback from there.

Example::

    def test_nobody_can_open_files(tmp_path):
        def body(path):
            from belljar.kernel import rlimits
            rlimits.set_rlimit("nofile", 0)
            try:
                open(path)
            except OSError as error:
                return error.errno
        assert run_confined(body, str(tmp_path)) == errno.EMFILE
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

__all__ = ["ConfinedFailure", "run_confined"]

# The body's answer goes through a descriptor of its own, because what a body prints is its own
# business; it is opened before the body runs, because afterwards nothing may be to be opened.
_BOOT = """
import ast, ctypes, importlib, json, linecache, os, sys, traceback
answer = int(sys.argv[1])
sys.path[:0] = json.loads(sys.argv[2])
source, name, args, user = json.loads(sys.stdin.read())
space = {"__name__": "__confined__"}
exec(compile(source, f"<{name}>", "exec"), space)
linecache.cache[f"<{name}>"] = (len(source), None, source.splitlines(True), f"<{name}>")
if user:
    # The files of this Python may be another user's own, so what the body imports comes first.
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for one in node.names:
                importlib.import_module(one.name)
        elif isinstance(node, ast.ImportFrom):
            home = importlib.import_module(node.module)
            for one in node.names:
                if not hasattr(home, one.name):
                    importlib.import_module(f"{node.module}.{one.name}")
    os.setgroups([])
    os.setresgid(*[user[1]] * 3)
    os.setresuid(*[user[0]] * 3)
    os.chdir("/")
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE, as for any process of that user
try:
    report = ["returned", space[name](*args)]
except BaseException as error:
    report = ["raised", type(error).__name__, str(error), traceback.format_exc()]
os.write(answer, json.dumps(report).encode())
os._exit(0)
"""

_MOST_BYTES = 1 << 16  # one pipe's capacity: the body writes its answer once and is gone


class ConfinedFailure(AssertionError):
    """A body that raised.  ``kind`` is the exception's class name, ``trace`` its traceback."""

    def __init__(self, kind: str, message: str, trace: str) -> None:
        super().__init__(f"{kind}: {message}\n{textwrap.indent(trace, '  inside | ')}")
        self.kind = kind
        self.trace = trace


def run_confined(
    body: Callable[..., Any] | str,
    *args: Any,
    user: tuple[int, int] | None = None,
    timeout_s: float = 30.0,
    signal: int | None = None,
) -> Any:
    """Execute a function in a fresh interpreter and return what it returned.

    Args:
        body: a function that uses nothing from around it (its *source* is sent, so it imports
            what it needs), or the source of exactly one such function.
        args: its arguments, as JSON can carry them.
        user: (uid, gid) to become first, once what the body imports is loaded; needs root.
        timeout_s: after this many seconds the process is killed and the test fails.
        signal: the number of the signal that is expected to end it; then ``None`` comes back.

    Returns:
        The body's return value, as JSON carries it (a tuple comes back as a list).

    Raises:
        ConfinedFailure: the body raised, or ended in another way than expected.
        subprocess.TimeoutExpired: it did not end.
    """
    source = textwrap.dedent(body if isinstance(body, str) else inspect.getsource(body))
    source = source[source.index("def ") :]  # without decorators
    name = source[4 : source.index("(")].strip()
    here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    reader, writer = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", _BOOT, str(writer), json.dumps([here])],
            input=json.dumps([source, name, args, user]),
            capture_output=True,
            pass_fds=[writer],
            text=True,
            timeout=timeout_s,
            check=False,
        )
        os.close(writer)
        writer = -1
        answer = os.read(reader, _MOST_BYTES)
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)
    if signal is not None:
        if done.returncode == -signal:
            return None
        raise ConfinedFailure("end", f"expected signal {signal}, got {done.returncode}", "")
    if not answer:
        how = f"it ended with {done.returncode} and no answer"
        raise ConfinedFailure("end", how, done.stdout + done.stderr)
    report = json.loads(answer)
    if report[0] == "raised":
        raise ConfinedFailure(*report[1:])
    return report[1]

"""Programs that do harm, and things that happen to honest ones; each with its right status."""

from __future__ import annotations

import random
import signal

from belljar import Result

from .cases import (
    PATIENT,
    Case,
    Check,
    Place,
    both,
    crashed,
    exited,
    kind,
    limit,
    raised,
    status,
    value,
)

MIB = 2**20


@kind(0.7, hostile=True)
def endless_loop(rng: random.Random, _place: Place, _index: int) -> Case:
    code = rng.choice(
        [
            *("while True: pass", "sum(range(10**12))", "import time; time.sleep(1e6)"),
            *("import re; re.match('(a*)*b', 'a' * 60)", "pow(3, 10**99999, 10**9999 + 7)"),
            "import threading\nfor _ in range(8): threading.Thread(target=lambda: pow(3, 10**8)).start()",
            "import signal\nsignal.pthread_sigmask(0, range(1, 65))\nwhile True: pass",
            "while True:\n try:\n  while True: pass\n except BaseException: pass",
        ]
    )
    return Case(code, limit("wall"), PATIENT.limit(wall_s=0.05))


@kind(0.5, hostile=True)
def endless_work(_rng: random.Random, _place: Place, _index: int) -> Case:
    return Case("while True: pass", limit("cpu"), PATIENT.limit(cpu_s=0.05))


@kind(2, hostile=True)
def memory(rng: random.Random, _place: Place, _index: int) -> Case:
    code = rng.choice(
        [
            *("x = bytearray(10**10)", "x = []\nwhile True: x.append(bytearray(10**6))"),
            *("x = 'a' * 2**30", "x = {}\nwhile True: x[len(x)] = [0] * 10_000"),
            "import mmap\nx = []\nwhile True: x.append(mmap.mmap(-1, 2**20)); x[-1][:] = bytes(2**20)",
        ]
    )
    check = limit("memory") if "mmap" not in code else status("limit", "raised")
    return Case(code, check, PATIENT.limit(memory_bytes=32 * MIB))


@kind(1, hostile=True)
def memory_and_back(_rng: random.Random, _place: Place, _index: int) -> Case:
    code = "try:\n x = bytearray(10**10)\nexcept MemoryError:\n x = 'recovered'\nx"
    return Case(code, value("recovered"))


@kind(2, hostile=True)
def processes(rng: random.Random, _place: Place, _index: int) -> Case:
    code = rng.choice(
        [
            "import os\nn = 0\nfor _ in range(50):\n try: os.fork(); n += 1\n except OSError: pass\nn",
            "import subprocess\ntry: subprocess.run(['true']); n = 1\nexcept OSError: n = 0\nn",
            "import os\ntry: os.execv('/bin/sh', ['sh']); n = 1\nexcept OSError: n = 0\nn",
            "import os\ntry: os.posix_spawn('/bin/sh', ['sh'], {}); n = 1\nexcept OSError: n = 0\nn",
        ]
    )
    return Case(code, value(0))


@kind(1, hostile=True)
def bomb_with_a_grant(_rng: random.Random, _place: Place, _index: int) -> Case:
    code = "import os\nwhile True:\n try:\n  if os.fork() == 0: os.setsid()\n except OSError: pass"
    policy = PATIENT.allow(processes=4).limit(wall_s=0.3)
    return Case(code, limit("wall"), policy)


@kind(1, hostile=True)
def memory_of_several(rng: random.Random, _place: Place, _index: int) -> Case:
    orphan = rng.choice(["", "\n  if os.fork(): os._exit(0)"])
    code = (
        f"import os, time\nfor _ in range(4):\n if os.fork() == 0:{orphan}\n"
        "  x = b'x' * (24 << 20)\n  time.sleep(600)\ntime.sleep(600)"
    )
    policy = PATIENT.allow(processes=8).limit(memory_bytes=48 * MIB)
    return Case(code, limit("memory"), policy)


def _bounded(most: int) -> Check:
    def check(result: Result) -> str | None:
        held = len(result.stdout_bytes) + len(result.stderr_bytes)
        return None if held <= most else f"{held} bytes of output are held, {most} allowed"

    return check


@kind(2, hostile=True)
def output_flood(rng: random.Random, _place: Place, _index: int) -> Case:
    most = rng.choice([0, 1000, MIB])
    code = rng.choice(
        [
            "import os\nwhile True: os.write(1, bytes(65536))",
            "while True: print('y' * 1000)",
            "import os\nwhile True: os.write(2, b'x'); os.write(1, b'xyz' * 999)",
        ]
    )
    return Case(code, both(limit("output"), _bounded(most)), PATIENT.limit(output_bytes=most))


_SIGNALS = signal.valid_signals() - {signal.SIGCHLD, signal.SIGCONT}
_STOPS = {signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
_HARMLESS = {signal.SIGURG, signal.SIGWINCH}
_DEADLY = sorted(
    n
    for n in map(int, _SIGNALS)
    # SIGPIPE and SIGXFSZ are ignored by Python itself; SIGINT is an exception there.
    if n not in _STOPS | _HARMLESS | {signal.SIGPIPE, signal.SIGXFSZ, signal.SIGINT}
    # SIGXCPU is how the kernel reports a limit.
    if n != signal.SIGXCPU and n < 32
)


@kind(3, hostile=True)
def signal_to_itself(rng: random.Random, _place: Place, _index: int) -> Case:
    number = rng.choice(_DEADLY)
    return Case(f"import os; os.kill(os.getpid(), {number})", crashed(number))


@kind(2, hostile=True)
def native_crash(rng: random.Random, _place: Place, _index: int) -> Case:
    code, number = rng.choice(
        [
            ("import os; os.abort()", signal.SIGABRT),
            ("import faulthandler; faulthandler._sigsegv()", signal.SIGSEGV),
            ("import faulthandler; faulthandler._sigabrt()", signal.SIGABRT),
            ("import faulthandler; faulthandler._sigfpe()", signal.SIGFPE),
            (
                "def f(): pass\nf.__code__ = f.__code__.replace(co_code=b'd\\xff' * 2)\nf()",
                None,
            ),
        ]
    )
    check = status("crashed", "raised", "ok") if number is None else crashed(number)
    return Case(code, check)


@kind(2, hostile=True)
def unseen_exit(rng: random.Random, _place: Place, _index: int) -> Case:
    code = rng.randrange(256)
    return Case(f"import os; os._exit({code})", exited(code))


_HOSTILE_EXCEPTIONS = {
    "class E(Exception):\n def __str__(self): raise SystemExit(5)\nraise E": "E",
    "class E(Exception):\n def __str__(self): return 'x' * 10**7\nraise E": "E",
    "class E(BaseException): pass\nE.__module__ = E.__qualname__ = 'y' * 10**5\nraise E": None,
    "e = ValueError('deep')\nfor _ in range(3000):\n n = ValueError('x'); n.__cause__ = e; e = n\nraise e": (
        "ValueError"
    ),
    "e = ValueError('x')\nfor _ in range(3000): e = ExceptionGroup('g', [e])\nraise e": (
        "ExceptionGroup"
    ),
    "def f(): f()\nf()": "RecursionError",
    "class M(type):\n def __getattribute__(s, n): raise KeyError\nclass E(Exception, metaclass=M): pass\nraise E": (
        None
    ),
    "raise ValueError('\\x1b]0;title\\x07\\x1b[2J')": "ValueError",
    "e = OSError('\\ud800')\ne.add_note('n' * 10**6)\nraise e": "OSError",
    "raise KeyboardInterrupt": "KeyboardInterrupt",
    "raise GeneratorExit": "GeneratorExit",
    "raise MemoryError('not one')": None,
}


def _little(result: Result) -> str | None:
    error = result.error
    size = 0 if error is None else len(error.type) + len(error.message) + len(error.traceback)
    return None if size < MIB else f"{size} characters of error are held"


@kind(3, hostile=True)
def hostile_exception(rng: random.Random, _place: Place, _index: int) -> Case:
    code = rng.choice(list(_HOSTILE_EXCEPTIONS))
    name = _HOSTILE_EXCEPTIONS[code]
    check = status("raised", "limit", "exited") if name is None else raised(name)
    return Case(code, both(check, _little))


@kind(3, hostile=True)
def forged_frames(rng: random.Random, _place: Place, _index: int) -> Case:
    lie = rng.choice(
        [
            rng.randbytes(rng.randint(1, 200)),
            b"\xff" * 64,
            (2**31 - 1).to_bytes(4, "big") + b"\x83" + bytes(100),
            (7).to_bytes(4, "big") + b"\x81" + b"\x91\x80",
            (3).to_bytes(4, "big") + b"\x83\x97\x01\xa2ok",
            (100_000).to_bytes(4, "big") + b"\x83" + b"\x91" * 100_000,
        ]
    )
    code = f"import os\nlie = {lie!r}\nfor fd in range(3, 64):\n try: os.write(fd, lie)\n except OSError: pass"
    # A lie may happen to be half of a frame that the true last word then completes wrongly; a
    # random one may even be the beginning of a legal one, but never a result.
    return Case(code, crashed(None))


@kind(1, hostile=True)
def half_a_frame(_rng: random.Random, _place: Place, _index: int) -> Case:
    return Case("import os; os.write(3, b'\\0\\0\\1\\0'); os._exit(0)", crashed(None))


@kind(1, hostile=True)
def denials_flood(_rng: random.Random, _place: Place, _index: int) -> Case:
    def check(result: Result) -> str | None:
        if not 1 <= len(result.denials) <= 100:
            return f"{len(result.denials)} denials"
        return None

    code = "n = 0\nfor i in range(3000):\n try: open(f'/etc/secret{i}')\n except OSError: n += 1\nn"
    return Case(code, both(value(3000), check))


@kind(1, hostile=True)
def threads_flood(_rng: random.Random, _place: Place, _index: int) -> Case:
    code = (
        "import threading, time\nwait = threading.Event()\nn = 0\ntry:\n while n < 1000:\n"
        "  threading.Thread(target=wait.wait, daemon=True).start(); n += 1\n"
        "except RuntimeError: pass\nwait.set()\nn"
    )
    return Case(code, value(16))


@kind(1, hostile=True)
def file_flood(rng: random.Random, _place: Place, _index: int) -> Case:
    code = rng.choice(
        [
            "n = 0\nwhile True:\n open(f'/tmp/{n}', 'w').close(); n += 1",
            "n = 0\nwhile True:\n open(f'/work/{n}', 'w').write('x' * 9999); n += 1",
            "import os\nn = 0\nwhile True:\n os.mkdir(f'{n}'); os.chdir(f'{n}'); n += 1",
            "import os\nopen('a', 'w').close()\nn = 0\nwhile True:\n os.link('a', f'b{n}'); n += 1",
        ]
    )
    policy = PATIENT.limit(work_bytes=MIB, work_files=100, file_bytes=MIB)
    return Case(code, limit("work", "work_files"), policy)


@kind(1, hostile=True)
def file_too_large(_rng: random.Random, _place: Place, _index: int) -> Case:
    code = "f = open('f', 'wb', buffering=0)\nwhile True: f.write(bytes(10**5))"
    return Case(code, limit("file"), PATIENT.limit(file_bytes=MIB))


@kind(1, hostile=True)
def descriptors_flood(_rng: random.Random, _place: Place, _index: int) -> Case:
    code = "import os\nn = []\nwhile True: n.append(os.dup(1))"
    return Case(code, limit("open_files"))


@kind(1, hostile=True)
def torn_apart(rng: random.Random, _place: Place, _index: int) -> Case:
    code = rng.choice(
        [
            "import os; os.closerange(0, 100)",
            "import sys; sys.modules.clear()",
            "import gc\nfor o in gc.get_objects():\n if isinstance(o, dict): o.clear()",
            "import builtins; vars(builtins).clear()",
            "import sys; sys.setrecursionlimit(10)\ndef f(): f()\nf()",
            "import os; os.dup2(1, 3)",
            "import atexit; atexit.register(lambda: 1 / 0)",
            "import sys; sys.stdout.close(); sys.stderr.close()",
        ]
    )
    return Case(code, status("ok", "raised", "exited", "crashed"))


@kind(1, hostile=True)
def hostile_value(rng: random.Random, _place: Place, _index: int) -> Case:
    def check(result: Result) -> str | None:
        if result.status == "ok" and result.value is None and result.value_error is None:
            return "neither a value nor a reason"
        return None

    code = rng.choice(
        [
            "class C:\n def __reduce__(self): raise SystemExit(4)\nC()",
            "class S(str):\n def __str__(self): return self\n __hash__ = __eq__ = None\nS('x')",
            "x = []\nfor _ in range(10**4): x = [x]\nx",
            "x = []\nx.append(x)\nx",
            "[0] * 10**7",
            "class D(dict):\n def items(self): raise KeyboardInterrupt\nD(a=1)",
            "lambda: 0",
        ]
    )
    return Case(code, both(status("ok", "raised", "limit"), check))


# ---------------------------------------------------------------------- what happens to it

_WAIT = "import os, time\nos.write(1, b'x')\ntime.sleep(1000)"


@kind(0.5, hostile=True)
def guest_killed_from_outside(_rng: random.Random, _place: Place, _index: int) -> Case:
    return Case(_WAIT, crashed(signal.SIGKILL), deed="kill guests")


@kind(0.2, hostile=True)
def zygote_killed_from_outside(_rng: random.Random, place: Place, _index: int) -> Case:
    """The run must end in one error that says that trying again helps; and then it does."""
    return Case(
        _WAIT,
        lambda result: f"a result, {result.status}, and no error",
        PATIENT.allow(write={str(place.out): "/out"}),
        deed="kill zygotes",
    )


@kind(1, hostile=True)
def callback_raises(_rng: random.Random, _place: Place, _index: int) -> Case:
    """What a thread of the host does when its own code fails in the middle of a run."""
    return Case(_WAIT, lambda result: "no exception", deed="raise")


@kind(0.1, hostile=True)
def host_forks(_rng: random.Random, _place: Place, _index: int) -> Case:
    """A child of the host runs something itself, in the middle of a run of the parent's."""
    code = "import os\nos.write(1, b'x')\nx = 1\nx"
    return Case(code, value(1, b"x"), deed="fork")

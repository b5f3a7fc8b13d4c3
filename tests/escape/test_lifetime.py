"""K10, M2: if the host dies, all die; if the zygote dies, the host is told and goes on.

What: kills at every moment: of the host in the middle of a launch, of a run, of an exit; of the
zygote before, between and during runs; of a guest from outside.  Because: a sandbox that
outlives its keeper is a process that nobody limits.  Then: no process is left, the error is
typed and says whether to try again, and the next run works.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time

import pytest

import belljar
from belljar import Policy

from .hosts import run_host, start_host
from .native import attack
from .watch import Process, alive, descendants, eventually

FOREVER = """
import belljar
print("started", flush=True)
belljar.run("print('inside', flush=True)\\nimport time\\ntime.sleep(3600)",
            belljar.Policy().allow(wall_s=3600), on_output=lambda s, d: print("running", flush=True))
"""

THREADED = """
import belljar, threading, time
def work():
    belljar.run("print('inside', flush=True)\\nwhile True: pass",
                belljar.Policy().allow(wall_s=3600, cpu_s=3600),
                on_output=lambda s, d: print("running", flush=True))
threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads: thread.start()
time.sleep(3600)
"""


def gone(pids: list[int]) -> bool:
    return eventually(lambda: not any(alive(pid) for pid in pids))


@pytest.mark.parametrize("code", [FOREVER, THREADED], ids=["main thread", "threads"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_K10_a_host_killed_in_the_middle_of_a_run(code: str, number: int) -> None:
    with start_host(code) as host:
        assert host.stdout is not None
        for line in host.stdout:
            if line == "running\n":
                break
        family = [p.pid for p in descendants(host.pid)]
        assert len(family) >= 2
        host.send_signal(number)
        if number == signal.SIGINT and code is THREADED:
            host.send_signal(signal.SIGKILL)  # its threads do not end, as Python has it
        host.wait(60)
        host.stdout.close()
    assert gone(family)


def test_K10_a_host_killed_in_the_middle_of_a_launch() -> None:
    """At random moments of the first 150 ms, from the interpreter's start to the first run."""
    chance = random.Random(7)
    for _ in range(12):
        host = start_host(FOREVER)
        assert host.stdout is not None
        host.stdout.readline()
        time.sleep(chance.uniform(0, 0.15))
        family = [p.pid for p in descendants(host.pid)]
        host.kill()
        host.communicate()
        # What the launcher made between our look and the kill ends by the same signals.
        assert gone(family)
    assert eventually(lambda: not marked())


def marked() -> list[Process]:
    """Zygotes and launchers whose host is no more."""
    return [
        p
        for p in descendants(1)
        if p.name == "belljar-zygote" and p.parent == 1 and p.state not in "ZX"
    ]


def test_K10_a_host_that_ends_leaves_nobody() -> None:
    code = """
import belljar, os
assert belljar.run("1").value == 1
children = open(f"/proc/self/task/{os.getpid()}/children").read()
print([int(pid) for pid in children.split()], flush=True)
END
"""
    for end in ("", "os._exit(0)", "os.kill(os.getpid(), 9)", "belljar.close()"):
        host = start_host(code.replace("END", end))
        out, err = host.communicate(timeout=60)
        family = eval(out)
        assert family, err
        assert gone(family)


def test_K10_an_executed_host_leaves_nobody() -> None:
    """exec replaces the program; its zygote's sockets close with it."""
    code = """
import belljar, os, sys
assert belljar.run("1").value == 1
family = open(f"/proc/self/task/{os.getpid()}/children").read()
os.execv(sys.executable, [sys.executable, "-c", f"print({family.split()}); import time; time.sleep(2)"])
"""
    host = start_host(code)
    assert host.stdout is not None
    family = [int(pid) for pid in eval(host.stdout.readline())]
    assert family
    assert gone(family)
    host.kill()
    host.communicate()


# -------------------------------------------------------------------------- zygote


def own_zygotes() -> list[int]:
    return [p.pid for p in descendants() if p.name == "belljar-zygote" and p.parent == os.getpid()]


def test_K10_a_zygote_killed_between_runs_is_replaced() -> None:
    for _ in range(3):
        assert belljar.run("1 + 1").value == 2
        pids = own_zygotes()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        assert gone(pids)
        assert belljar.run("2 + 2").value == 4


def test_K10_a_zygote_killed_during_a_run_is_told_and_replaced() -> None:
    belljar.run("1")
    killed: list[int] = []

    def kill(stream: str, data: bytes) -> None:
        for pid in own_zygotes():
            os.kill(pid, signal.SIGKILL)
            killed.append(pid)

    with pytest.raises(belljar.WorkerDied) as caught:
        attack("print('here', flush=True)\nimport time; time.sleep(60)", on_output=kill)
    assert killed
    assert caught.value.retryable
    assert isinstance(caught.value, belljar.SandboxFailure)
    assert belljar.run("1 + 1").value == 2
    assert gone([p.pid for p in descendants() if p.name == "python3"])


def test_K10_a_zygote_killed_under_many_runs() -> None:
    """Four threads run while the zygote is killed again and again: typed errors, no hang."""
    belljar.run("1")
    outcomes: list[object] = []
    stop = time.monotonic() + 1.5

    def work() -> None:
        while time.monotonic() < stop:
            try:
                outcomes.append(belljar.run("import time; time.sleep(0.02); 7").value)
            except belljar.SandboxFailure as error:
                outcomes.append((type(error).__name__, error.retryable))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    while time.monotonic() < stop:
        for pid in own_zygotes():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.15)
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert 7 in outcomes
    others = {got for got in outcomes if got != 7}
    assert all(isinstance(got, tuple) and got[1] is True for got in others), others
    assert belljar.run("1 + 1").value == 2


def test_K10_a_stopped_zygote_does_not_hold_up_a_close() -> None:
    belljar.run("1")
    pids = own_zygotes()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    belljar.close()
    assert gone(pids)
    assert belljar.run("1 + 1").value == 2


# --------------------------------------------------------------------------- guest


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_K10_a_guest_killed_from_outside_has_crashed(number: int) -> None:
    belljar.run("1")

    def kill(stream: str, data: bytes) -> None:
        for process in descendants():
            if process.name == "python3":
                os.kill(process.pid, number)

    result = attack("print('here', flush=True)\nimport time; time.sleep(60)", on_output=kill)
    assert (result.status, result.signal) == ("crashed", number)
    assert result.stdout == "here\n"
    assert belljar.run("1 + 1").value == 2


def test_M2_close_ends_everything_and_the_next_run_begins_again() -> None:
    belljar.run("1")
    pids = own_zygotes()
    assert pids
    belljar.close()
    assert gone(pids)
    belljar.close()
    assert belljar.run("1 + 1").value == 2


def test_M2_close_during_a_run_of_another_thread() -> None:
    belljar.run("1")
    running = threading.Event()
    outcomes: list[object] = []

    def work() -> None:
        try:
            code = "print('here', flush=True)\nimport time; time.sleep(30)"
            policy = Policy().allow(wall_s=30)
            outcomes.append(belljar.run(code, policy, on_output=lambda *_: running.set()))
        except belljar.SandboxFailure as error:
            outcomes.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert running.wait(60)
    belljar.close()
    thread.join(60)
    assert not thread.is_alive()
    assert isinstance(outcomes[0], belljar.WorkerDied)


def test_K10_an_exception_in_the_host_ends_the_guest() -> None:
    """From a callback, and by Ctrl-C: the guest is gone before the exception arrives."""
    belljar.run("1")

    def fail(stream: str, data: bytes) -> None:
        raise RuntimeError("of the host")

    with pytest.raises(RuntimeError, match="of the host"):
        attack("print('here', flush=True)\nimport time; time.sleep(60)", on_output=fail)
    assert gone([p.pid for p in descendants() if p.name == "python3"])

    def interrupt(stream: str, data: bytes) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        attack("print('here', flush=True)\nimport time; time.sleep(60)", on_output=interrupt)
    assert gone([p.pid for p in descendants() if p.name == "python3"])
    assert belljar.run("1 + 1").value == 2


def test_K10_ctrl_c_while_the_host_waits() -> None:
    code = """
import belljar, os, signal, threading, time
belljar.run("1")
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    belljar.run("import time; time.sleep(30)", belljar.Policy().allow(wall_s=30))
except KeyboardInterrupt:
    print("interrupted")
print(belljar.run("1 + 1").value)
"""
    assert run_host(code).stdout == "interrupted\n2\n"


def test_K10_a_terminal_signal_does_not_reach_zygote_or_guest() -> None:
    """They are in a session of their own: Ctrl-C is the host's to handle."""
    belljar.run("1")
    for pid in own_zygotes():
        assert os.getsid(pid) != os.getsid(0)
        assert os.getpgid(pid) != os.getpgid(0)


def test_K10_a_host_whose_starting_thread_ends() -> None:
    """A zygote belongs to the process, not to the thread that happened to start it."""
    belljar.close()
    values: list[object] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: values.append(belljar.run("1 + 1").value))
        thread.start()
        thread.join()
    pids = own_zygotes()
    assert values == [2, 2, 2]
    assert len(pids) == 1
    time.sleep(0.1)
    assert alive(pids[0])


def test_M2_popen_like_hosts_are_not_confused() -> None:
    """A host that has children of its own reaps its own and not ours, and the reverse."""
    child = subprocess.Popen(["sleep", "0.05"])
    assert belljar.run("1 + 1").value == 2
    assert child.wait(60) == 0
    belljar.close()
    assert belljar.run("1 + 1").value == 2

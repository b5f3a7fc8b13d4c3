"""The host program that ``faults`` supervises: ``python -m belljar.testing.faulted ARGUMENTS``.

Who I am: a program that imports belljar and makes one run for each line on standard input.
What I trust: the test that started me.  What I hold: a filter that asks it about every system
call.  How I die: when standard input ends, or with the test, which alone lets my calls pass.
"""

from __future__ import annotations

import gc
import json
import os
import struct
import sys
import time
from _socket import socket
from typing import TYPE_CHECKING, Any

import belljar
from belljar.api import machine
from belljar.api.run import make_feed, make_order, run_own
from belljar.bpf import ALLOW, NOTIFY, Arg, Filter, If, compile_filter
from belljar.kernel import fdpass, process
from belljar.kernel.libc import MACHINE, address_of, buffer, syscall

if TYPE_CHECKING:
    from collections.abc import Callable

CODE = "1 + 1"
_SET_MODE_FILTER = 1
_NEW_LISTENER = 1 << 3
_KILLABLE = 1 << 5  # or else an interrupted question would be asked, and counted, twice
_MOMENT_S = 5.0


def be_supervised(unasked: list[str], link: socket) -> None:
    """Ask about every call but these, for ever; the one to answer gets the listener."""
    rules: dict[str, Any] = dict.fromkeys(unasked, ALLOW)
    # The listener must get out before anybody listens.
    rules["sendmsg"] = If(Arg(0, width=32) == link.fileno(), ALLOW).else_(NOTIFY)
    program = compile_filter(Filter(MACHINE, rules, default=NOTIFY, unknown=NOTIFY))
    code = buffer(program)
    header = struct.pack("HxxxxxxQ", len(program) // 8, address_of(code))
    process.set_no_new_privs()
    listener = syscall("seccomp", _SET_MODE_FILTER, _NEW_LISTENER | _KILLABLE, header)
    fdpass.send(link, b"listener", [listener])
    os.close(listener)
    link.close()


def run() -> belljar.Result:
    return belljar.run(CODE)


def run_as_the_command() -> belljar.Result:
    policy = belljar.Policy()
    with machine.Own(policy) as own:
        order = make_order(CODE, policy, None, (), None, "code")
        return run_own(own, policy, order, make_feed(None, policy), None)


def described(act: Callable[[], belljar.Result]) -> dict[str, Any]:
    """What a call comes to, as plain data; whatever it raises is what the test asks about."""
    try:
        result = act()
    except BaseException as error:
        return {
            "kind": type(error).__name__,
            "typed": isinstance(error, belljar.BelljarError),
            "stage": getattr(error, "stage", ""),
            "retryable": getattr(error, "retryable", None),
            "text": str(error),
        }
    text = repr(result)[:500]
    told = {"status": result.status, "value": result.value, "text": text}
    return {"kind": "result", "typed": True, **told}


def next_run() -> dict[str, Any]:
    """The run after a fault.  A zygote that ends after its last answer is told once, here."""
    said = described(run)
    if said["kind"] == "WorkerDied" and said["retryable"]:
        said = described(run)
    return said


def zygotes() -> list[int]:
    found = [zygote._child for zygote in machine._known.zygotes.values()]  # pyright: ignore[reportPrivateUsage]
    return [child._pid for child in found if child is not None]  # pyright: ignore[reportPrivateUsage]


def children_of(pid: int) -> list[str]:
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return file.read().split()


def descriptors_of(pid: int) -> list[str]:
    """What they name, but for the numbers."""
    fds = f"/proc/{pid}/fd"
    found: list[str] = []
    for fd in os.listdir(fds):
        try:
            found.append(os.readlink(f"{fds}/{fd}").split(":[")[0])
        except FileNotFoundError:
            continue  # the directory that was listed
    return found


def state() -> dict[str, list[str]]:
    """Everything that could be left, in this process and in its zygotes."""
    gc.collect()
    ours = zygotes()
    with open("/proc/self/mountinfo") as file:
        mounts = file.read().splitlines()
    return {
        "descriptor": descriptors_of(os.getpid()),
        "child": ["of the host" for _ in children_of(os.getpid())],
        "mount": mounts,
        "child of the zygote": ["a process" for pid in ours for _ in children_of(pid)],
        "descriptor of the zygote": [name for pid in ours for name in descriptors_of(pid)],
    }


def leaked(before: dict[str, list[str]]) -> list[str]:
    """What is there now and was not, after a moment for those that are just ending."""
    until = time.monotonic() + _MOMENT_S
    while True:
        after = state()
        found = {
            f"{kind}: {entry}"
            for kind, entries in before.items()
            for entry in after[kind]
            if after[kind].count(entry) > entries.count(entry)
        }
        if not found or time.monotonic() > until:
            return sorted(found)
        time.sleep(0.01)


def main() -> None:
    unasked, mark, link_fd = json.loads(sys.argv[1])
    be_supervised(unasked, socket(fileno=link_fd))

    def tell(stage: int, zygote: int = 0) -> None:
        process.prctl(mark, stage, zygote)

    run()  # what is imported, read and kept once
    warm = state()
    belljar.close()
    run_as_the_command()
    bare = state()
    print(json.dumps("ready"), flush=True)
    for line in sys.stdin:
        mode = json.loads(line)
        if mode == "warm":
            run()
            tell(1, *zygotes())
        else:
            belljar.close()
            tell(1)
        said = described(run_as_the_command if mode == "own" else run)
        tell(0)
        said["again"] = next_run()
        if mode != "warm":
            belljar.close()
        said["leaked"] = leaked(warm if mode == "warm" else bare)
        if said["leaked"]:
            warm, bare = (state(), bare) if mode == "warm" else (warm, state())  # told once
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()

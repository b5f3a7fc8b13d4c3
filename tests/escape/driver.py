"""Runs one attack in a sandbox and says how it ended, as the cases' runner expects.

    python driver.py [--layer-off] [--open] [--wall SECONDS] [--before FILE] FILE {script|main}

What: one run under the empty policy, after another one where ``--before`` names it.  Because:
the runner judges a command from outside.  Then: for ``main`` the value of ``main()`` is brought
to the host and used there in the ways a careless program would use it, and all of that must
be harmless.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from pathlib import Path

import belljar
from belljar.api import machine

WORDS = {"wall": "timeout", "memory": "memory", "cpu": "cpu", "output": "output"}


def status_of(result: belljar.Result) -> str:
    if result.status == "limit" and result.limit is not None:
        return WORDS.get(result.limit.name, "limit")
    if result.status == "exited":
        return "ok" if result.exit_code == 0 else "exception"
    return {"ok": "ok", "raised": "exception", "crashed": "crash"}[result.status]


def use(value: object) -> None:
    """What a careless host does with a value; an int may be too long to print, no more."""
    for act in (repr, bool, lambda v: v == v, copy.deepcopy, json.dumps):
        try:
            act(value)
        except (TypeError, ValueError) as error:
            print(f"{act.__name__}: {type(error).__name__}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--layer-off", action="store_true")
    parser.add_argument("--open", action="store_true", help="with every C module that there is")
    parser.add_argument("--wall", type=float, default=5.0)
    parser.add_argument("--before", default="-")
    parser.add_argument("path", type=Path)
    parser.add_argument("entry", choices=["script", "main"])
    options = parser.parse_args()
    machine.explain_refusals = not options.layer_off
    # One busy thread would reach both limits together; the cases expect the wall clock's.
    policy = belljar.Policy().limit(wall_s=options.wall).allow(cpu_s=options.wall + 1)
    if options.open:
        policy = policy.allow(modules=["*"])
    if options.before != "-":
        belljar.run(Path(options.before).read_bytes(), policy, name="before.py")
    code = options.path.read_bytes()
    if options.entry == "main":
        code += b"\nmain()\n"
    result = belljar.run(code, policy, name="case.py")
    sys.stdout.buffer.write(result.stdout_bytes)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(result.stderr_bytes)
    use(result.value)
    if result.error is not None:
        print(result.error.traceback[-2000:].encode("ascii", "backslashreplace").decode())
    print("SBX-RESULT " + json.dumps({"status": status_of(result)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

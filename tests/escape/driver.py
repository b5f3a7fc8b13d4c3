"""Runs one attack in a sandbox and says how it ended, as the cases' runner expects.

    python driver.py [--layer-off] [--before FILE] FILE {script|main}

For ``main`` the value of ``main()`` is brought to the host and used there in the ways a
careless program would use it; all of that must be harmless.
"""

from __future__ import annotations

import copy
import json
import sys

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
    arguments = sys.argv[1:]
    if arguments[0] == "--layer-off":
        del arguments[0]
        machine.explain_refusals = False
    if arguments[0] == "--before":
        before = arguments[1]
        del arguments[:2]
        if before != "-":
            with open(before, "rb") as file:
                belljar.run(file.read(), name="before.py")
    path, entry = arguments
    with open(path, "rb") as file:
        code = file.read()
    if entry == "main":
        code += b"\nmain()\n"
    result = belljar.run(code, name="case.py")
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

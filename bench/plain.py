"""A plain interpreter over two pipes: what a live call is compared with.

What: CPython without walls and without belljar, which reads a line of JSON, executes the code
in a namespace that stays, and answers with a line of JSON that has the value of the last
expression or the traceback.  Because: this is what people write for themselves, and it is the
least that does what a live call does.  Then: the ratio is the price of the walls, of facts
from the kernel, and of values beyond JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

CHILD = r"""
import ast, json, os, sys, traceback
names = {"__name__": "__main__"}
out, sys.stdout = sys.stdout, sys.stderr
for line in sys.stdin:
    order = json.loads(line)
    answer = {}
    try:
        names.update(order["inputs"])
        tree = ast.parse(order["code"], order["name"])
        last = None
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.Expression(tree.body.pop().value)
        if tree.body:
            exec(compile(tree, order["name"], "exec"), names)
        if last is not None:
            answer["value"] = eval(compile(last, order["name"], "eval"), names)
    except BaseException:
        answer["error"] = traceback.format_exc()
    sys.stderr.flush()
    out.write(json.dumps(answer) + "\n")
    out.flush()
"""


class Plain:
    """The host's side of it."""

    def __init__(self) -> None:
        self._child = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, code: str, **inputs: object) -> Any:
        """The value of the last expression; raises for an exception inside."""
        asking, answering = self._child.stdin, self._child.stdout
        assert asking is not None
        assert answering is not None
        asking.write(json.dumps({"code": code, "name": "<run>", "inputs": inputs}) + "\n")
        asking.flush()
        answer = json.loads(answering.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer.get("value")

    def close(self) -> None:
        """End it."""
        self._child.communicate()

"""The hot path stays light: start-up time is a headline figure (X1)."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {
    "abc",
    "argparse",
    "ast",
    "base64",
    "binascii",
    "collections",
    "contextlib",
    "copy",
    "ctypes",
    "dataclasses",
    "datetime",
    "decimal",
    "difflib",
    "enum",
    "fractions",
    "functools",
    "inspect",
    "json",
    "keyword",
    "pathlib",
    "re",
    "selectors",
    "signal",
    "socket",
    "subprocess",
    "threading",
    "tomllib",
    "typing",
    "uuid",
}

CODE = """
import sys
before = set(sys.modules)
from belljar.policy import Policy
policy = Policy().allow(
    read=["/srv"], write={"/tmp/out": "/out"}, env={"A": "1"}, argv=["x"], packages=["numpy"],
    streams=["stdout"], system_info=True, wall_s=60,
).limit(cpu_s=1)
assert policy & Policy() <= policy and hash(policy) and dict(policy.names) == {}
print(*sorted(set(sys.modules) - before))
"""


def test_a_plain_policy_imports_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    new = set(done.stdout.split())
    assert "belljar.policy.policy" in new
    assert not new & HEAVY
    assert not new & {
        f"belljar.policy.{name}" for name in ("abilities", "files", "units", "values")
    }

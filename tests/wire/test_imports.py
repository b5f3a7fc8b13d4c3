"""The wire is sans-I/O and cheap to import: it is on the start-up path of host and guest."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
before = set(sys.modules)
import belljar.wire.connection, belljar.wire.control
from belljar.wire.values import decode, encode
from belljar.wire.limits import Budget
decode(encode({"a": [1, 2.5, "x", b"y", None, True, (1,), {2}], 3: 2**70, "s": "\\ud800"}))
print(*sorted(set(sys.modules) - before))
"""
ALLOWED = {"__future__", "struct", "_struct", "itertools", "_operator", "_codecs"}


def test_nothing_but_small_modules_is_imported():
    import belljar

    source = belljar.__file__.rsplit("/", 2)[0]
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", CODE, source], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    foreign = {name for name in loaded if not name.startswith("belljar")}
    assert foreign <= ALLOWED
    assert {name for name in loaded if name.startswith("belljar.")} <= {
        "belljar._record",
        *(name for name in loaded if name.startswith("belljar.wire")),
    }

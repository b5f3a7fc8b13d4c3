"""K1: belljar's own walls are no machine for belljar: refused, with the reason, at once.

What: a guest that was granted a copy of belljar's source loads it as a host would, probes and
runs.  Because: code that is run inside may want to run code, and a half answer there, a hang
or a wrong claim would be ours.  Then: nothing is claimed but what the kernel lets it have,
which is nothing, and ``run`` raises ``UnsupportedError``.  Launching from inside through the
host is another feature.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import belljar
from belljar import Policy

CODE = """
import sys
for name in [name for name in sys.modules if name.partition(".")[0] == "belljar"]:
    del sys.modules[name]
sys.path.insert(0, PLACE)
import belljar
from belljar.kernel.probe import explore, probe_quick, probe_support

def tried(act):
    try:
        return str(act())
    except belljar.UnsupportedError as error:
        return ["UnsupportedError", list(error.missing), list(error.remedy)]
    except BaseException as error:
        return repr(error)

support = probe_support()
{
    "file": belljar.__file__,
    "support": [support.landlock_abi, support.seccomp, sorted(support.namespaces), support.mounts,
                support.mounts_as_root, dict(support.why)],
    "explore": explore(),
    "empty": tried(lambda: belljar.run("1")),
    "system_info": tried(lambda: belljar.run("1", belljar.Policy().allow(system_info=True))),
    "packages": tried(lambda: belljar.run("1", belljar.Policy().allow(packages=["numpy"]))),
    "afterwards": belljar.Policy() <= belljar.Policy(),
}
"""


@pytest.mark.parametrize(
    "threads",
    [
        "",
        "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
    ],
    ids=["one thread", "two threads"],
)
@pytest.mark.parametrize("grant", [{}, {"modules": ["*"]}, {"system_info": True}], ids=str)
def test_K1_belljar_inside_belljar_is_refused(
    walls: None, open_dir: Path, grant: dict[str, Any], threads: str
) -> None:
    source = Path(belljar.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, open_dir / "belljar", ignore=ignore)
    policy = Policy().allow(read=[str(open_dir)], **grant)
    result = belljar.run(threads + CODE, policy, inputs={"PLACE": str(open_dir)})
    assert result.status == "ok", (result.status, result.error, result.stderr)
    found = result.value
    assert found["file"] == f"{open_dir}/belljar/__init__.py"
    *claims, why = found["support"]
    assert claims == [0, False, [], False, False]
    assert "no process can be made here" in why["user"]
    assert found["explore"]["namespaces"] == []
    for name in ("empty", "system_info", "packages"):
        kind, missing, remedy = found[name]
        assert kind == "UnsupportedError"
        assert {"filter", "files", "network"} <= {line.partition(":")[0] for line in missing}
        assert any("sandbox around" in line for line in remedy)
    assert found["afterwards"] is True

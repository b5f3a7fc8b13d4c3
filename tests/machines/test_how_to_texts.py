"""What the how-to pages tell people to copy is well-formed and means what the page says.

What: the seccomp object, the pod, the AppArmor profile and the units, taken out of the pages.
Because: nobody here runs Docker, a cluster, Ubuntu or systemd, but a typing error needs none
of them to be found.  Then: each text is parsed, and by its own tool where that is installed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from belljar.bpf.syscalls import arch

from .docs import seccomp_object, texts

# Every setting that the units on the page use, and what it is there for.
SETTINGS = {
    "User": "an ordinary user",
    "ExecStart": "the host program",
    "Delegate": "a cgroup of its own",
    "NoNewPrivileges": "no set-uid programs",
    "CapabilityBoundingSet": "no capabilities",
    "ProtectSystem": "the system read-only",
    "ProtectHome": "no home directories",
    "PrivateTmp": "a /tmp of its own",
    "PrivateDevices": "no devices",
    "MemoryDenyWriteExecute": "no code from data",
    "LockPersonality": "no other execution domain",
    "MemoryMax": "memory of host and guests",
    "TasksMax": "processes and threads of host and guests",
}


def test_the_seccomp_object_names_known_calls_once() -> None:
    found = seccomp_object()
    assert set(found) == {"names", "action"}
    assert found["action"] == "SCMP_ACT_ALLOW"
    assert len(found["names"]) == len(set(found["names"]))
    for machine in ("x86_64", "aarch64"):
        assert set(found["names"]) <= set(arch(machine).table)


def test_the_pod_parses_and_asks_for_what_the_page_explains() -> None:
    yaml = pytest.importorskip("yaml", reason="no yaml: pip install pyyaml")
    (text,) = texts("kubernetes.md", "text")
    pod = yaml.safe_load(text)
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    (container,) = pod["spec"]["containers"]
    context = container["securityContext"]
    assert context["runAsUser"] == context["runAsGroup"] == 1000
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {
        "type": "Localhost",
        "localhostProfile": "profiles/belljar.json",
    }
    assert context["appArmorProfile"] == {"type": "Unconfined"}
    assert set(container["resources"]["limits"]) == {"memory"}


def test_the_pod_is_indented_by_steps() -> None:
    """What can be said of it without a parser: two spaces a level, a key or an item a line."""
    (text,) = texts("kubernetes.md", "text")
    depth = 0
    for line in text.splitlines():
        found = re.fullmatch(r"( *)(?:- )?[A-Za-z]+:(?: \S.*)?", line)
        assert found, line
        assert len(found[1]) % 2 == 0
        assert len(found[1]) <= depth + 4, line
        depth = len(found[1])


def _profile() -> str:
    (text,) = (text for text in texts("ubuntu.md", "text") if "profile " in text)
    return text


def test_the_apparmor_profile_is_well_formed() -> None:
    abi, include, profile = re.fullmatch(
        r"abi (<[\w/.]+>),\ninclude (<[\w/]+>)\n\nprofile (.*)\n}\n", _profile(), re.DOTALL
    ).groups()  # type: ignore[union-attr]
    assert (abi, include) == ("<abi/4.0>", "<tunables/global>")
    head, *rules = profile.splitlines()
    assert re.fullmatch(r"belljar /\S+/python3\.\d+ flags=\(unconfined\) {", head)
    assert [rule.strip() for rule in rules] == ["userns,", "include if exists <local/belljar>"]


def test_the_apparmor_profile_is_accepted_by_its_parser(tmp_path: Path) -> None:
    if shutil.which("apparmor_parser") is None:
        pytest.skip("no apparmor_parser: apt-get install apparmor")
    if not Path("/etc/apparmor.d/abi/4.0").exists():
        pytest.skip("this apparmor has no abi/4.0: it needs 4.0 or newer")
    file = tmp_path / "belljar"
    file.write_text(_profile())
    done = subprocess.run(
        ["apparmor_parser", "--skip-kernel-load", "--skip-cache", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_setting_of_the_units_is_known() -> None:
    named = re.findall(r"^(\w+)=", "".join(texts("systemd.md", "ini")), re.MULTILINE)
    assert set(named) == set(SETTINGS)


def test_the_units_pass_systemds_own_check(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze: apt-get install systemd")
    for number, text in enumerate(texts("systemd.md", "ini")):
        unit = tmp_path / f"belljar-{number}.service"
        lines = text.replace("/opt/app/bin/serve", "/bin/true").replace("User=app", "User=root")
        unit.write_text(lines if "ExecStart=" in lines else f"{lines}ExecStart=/bin/true\n")
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", str(unit)],
            capture_output=True,
            text=True,
            check=False,
        )
        complaints = [line for line in done.stderr.splitlines() if unit.name in line]
        assert complaints == []

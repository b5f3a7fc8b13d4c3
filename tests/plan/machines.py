"""Machines, policies and an interpreter that do not exist, and a plan as text.

What: one ``Support`` for each kind of machine that people have.  Because: ``make_plan`` looks
at nothing else, so what happens on a kernel of 2020 in a container can be read here, line by
line.  Then: ``show`` writes a plan as a reviewer wants to see it.
"""

from __future__ import annotations

from belljar.plan import landlock as ll
from belljar.plan.code import Code
from belljar.plan.make import make_plan
from belljar.plan.root import Place
from belljar.plan.steps import Plan
from belljar.plan.support import NAMESPACE_KINDS, Support
from belljar.plan.whitelist import decide
from belljar.policy import Policy
from belljar.python.distributions import PackageSet
from belljar.python.interpreter import Interpreter
from belljar.python.programs import Programs

ALL = frozenset(NAMESPACE_KINDS)
FULL = Support(
    machine="x86_64",
    kernel=(6, 18),
    uid=1000,
    gid=1000,
    landlock_abi=7,
    seccomp=True,
    namespaces=ALL,
    mounts=True,
    proc=True,
    cgroup="/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service",
    controllers=frozenset(["cpu", "memory", "pids"]),
)
NOTHING = FULL.replace(namespaces=frozenset(), mounts=False, proc=False, cgroup="")
REFUSED = "unshare user: EPERM, Operation not permitted"
DOCKER = NOTHING.replace(
    kernel=(6, 8),
    landlock_abi=4,
    container="Docker",
    why=(
        (
            "user",
            f"{REFUSED}; this is a Docker container: its seccomp profile must allow unshare, "
            "clone with namespaces, mount and pivot_root",
        ),
    ),
)

MACHINES: dict[str, Support] = {
    "full": FULL,
    "full_root": FULL.replace(uid=0, gid=0),
    "full_root_without_admin": FULL.replace(uid=0, gid=0, mounts_as_root=False),
    "full_aarch64": FULL.replace(machine="aarch64"),
    "full_without_cgroup_namespace": FULL.replace(namespaces=ALL - {"cgroup"}),
    "full_without_time_namespace": FULL.replace(namespaces=ALL - {"time"}),
    "masked_proc": FULL.replace(proc=False, container="Podman"),
    "docker_root": DOCKER.replace(uid=0, gid=0),
    "docker_user": DOCKER,
    "ubuntu_24_04": NOTHING.replace(
        kernel=(6, 8),
        landlock_abi=4,
        why=(
            (
                "user",
                "uid_map: EPERM, Operation not permitted; AppArmor restricts user namespaces: "
                "install a profile for this Python with 'userns,' or set "
                "kernel.apparmor_restrict_unprivileged_userns=0",
            ),
        ),
    ),
    "no_landlock": FULL.replace(landlock_abi=0),
    "no_seccomp": FULL.replace(seccomp=False),
    "no_net_namespace": FULL.replace(
        namespaces=ALL - {"net"},
        why=(("net", "unshare user+net: EINVAL, Invalid argument"),),
    ),
    "no_mount_calls": FULL.replace(
        mounts=False, proc=False, why=(("mounts", "open_tree: ENOSYS, Function not implemented"),)
    ),
    "nothing": NOTHING.replace(landlock_abi=0, seccomp=False),
    "linux_5_10": FULL.replace(kernel=(5, 10), landlock_abi=0, mounts=False),
    "linux_5_12": FULL.replace(kernel=(5, 12), landlock_abi=0),
    "linux_5_13": FULL.replace(kernel=(5, 13), landlock_abi=1),
}
for _abi in range(1, 8):
    MACHINES[f"landlock_{_abi}"] = FULL.replace(landlock_abi=_abi)
    MACHINES[f"landlock_{_abi}_alone"] = NOTHING.replace(landlock_abi=_abi)

PYTHON = Interpreter(
    command="/venv/bin/python",
    executable="/usr/bin/python3.12",
    machine="x86_64",
    version=(3, 12, 4),
    cache_tag="cpython-312",
    prefix="/usr",
    platlibdir="lib",
    stdlib="/usr/lib/python3.12",
    dynload=("/usr/lib/python3.12/lib-dynload",),
    extensions=(
        ("_ctypes", "/usr/lib/python3.12/lib-dynload/_ctypes.so"),
        ("_curses", "/usr/lib/python3.12/lib-dynload/_curses.so"),
        ("_json", "/usr/lib/python3.12/lib-dynload/_json.so"),
    ),
    builtins=("builtins", "spwd", "sys", "zlib"),
    loader=("/lib64/ld-linux-x86-64.so.2", "/usr/lib/ld-linux-x86-64.so.2"),
    libraries=(("libc.so.6", "/usr/lib/libc.so.6"), ("libz.so.1", "/usr/lib/libz.so.1.3")),
    missing=(),
    site_dirs=("/venv/lib/python3.12/site-packages",),
)
STDLIB_NAMES = ("config-3.12", "idlelib", "json", "lib-dynload", "os.py", "site-packages")
BELLJAR = "/venv/lib/python3.12/site-packages/belljar"
PROGRAMS = Programs(
    files=(("git", "/usr/bin/git"),),
    loaders=(("/lib64/ld-linux-x86-64.so.2", "/usr/lib/ld-linux-x86-64.so.2"),),
    libraries=(("libc.so.6", "/usr/lib/libc.so.6"), ("libpcre.so.3", "/usr/lib/libpcre.so.3")),
)
PACKAGES = PackageSet(
    distributions=(("demo", "1.0"),),
    entries=(
        ("demo", "/venv/lib/python3.12/site-packages/demo"),
        ("demo.py", "/venv/lib/python3.12/site-packages/demo.py"),
    ),
    libraries=(("libdemo.so.1", "/usr/lib/libdemo.so.1"), ("libc.so.6", "/usr/lib/libc.so.6")),
    modules=(("demo._fast", "demo/_fast.so"),),
)

KNOWS = Policy().allow(system_info=True)
POLICIES: dict[str, Policy] = {
    "Policy()": Policy(),
    "system_info": KNOWS,
    "system_info, read": KNOWS.allow(read=["/srv/data", "/srv/notes.txt"]),
    "system_info, read and write": KNOWS.allow(
        read=["/srv/data", "/tmp/in"], write=["/srv/data/out.txt", "/tmp/out"]
    ),
    "read and write elsewhere": Policy().allow(
        read={"/srv/data": "/work/data", "/srv/notes.txt": "/tmp/notes.txt"},
        write={"/srv/out": "/out", "/srv/data/log": "/work/data/log"},
    ),
    "packages": Policy().allow(packages=["demo"]),
    "packages without their C": Policy().allow(packages=["demo"]).block(modules=["demo.*"]),
    "system_info, own whitelist": KNOWS.block(modules=["*"]).allow(modules=["_json", "_curses"]),
    "system_info, jit": KNOWS.allow(jit=True),
    "stand-in": Policy().allow(stand_ins={"_curses": "/srv/_curses.py"}),
    "system_info, packages": KNOWS.allow(packages=["demo"]),
    "threads and sizes": Policy().limit(
        threads=0, cpu_s=1.5, memory_bytes=2**25, work_bytes=2**16, file_bytes=0
    ),
    "processes": Policy().allow(processes=4),
    "programs beside a grant": Policy().allow(processes=1, run=["git"], read=["/srv/data"]),
}


def places_of(policy: Policy) -> tuple[Place, ...]:
    """The grants as if each existed: a name with a dot is a file, any other a directory."""
    made = [
        Place(grant.host, grant.inside, "." not in grant.host, grant in policy.write)
        for grant in (*policy.read, *policy.write)
    ]
    return tuple(sorted(made, key=lambda place: place.inside))


def plan_for(policy: Policy, support: Support) -> Plan:
    packages = PACKAGES if policy.packages else PackageSet()
    python = PYTHON.replace(machine=support.machine)
    code = Code(
        interpreter=python,
        packages=packages,
        whitelist=decide(policy.modules, python, packages),
        belljar=BELLJAR,
        stdlib_names=STDLIB_NAMES,
        covers=(("_sysconfigdata.py", b"build_time_vars = {}"), ("old.pyc", None)),
        stand_ins=tuple(policy.stand_ins.items()),
        programs=PROGRAMS if policy.run else None,
        layer=(("child.py", b"def start(**settings): ..."),) if policy.limits.processes else (),
    )
    return make_plan(policy, support, code, places_of(policy))


_RIGHTS = {
    ll.EXECUTE: "execute",
    ll.WRITE_FILE: "write",
    ll.READ_FILE: "read",
    ll.READ_DIR: "list",
    ll.REMOVE_DIR: "rmdir",
    ll.REMOVE_FILE: "unlink",
    ll.MAKE_CHAR: "mkchar",
    ll.MAKE_DIR: "mkdir",
    ll.MAKE_REG: "mkfile",
    ll.MAKE_SOCK: "mksock",
    ll.MAKE_FIFO: "mkfifo",
    ll.MAKE_BLOCK: "mkblock",
    ll.MAKE_SYM: "symlink",
    ll.REFER: "refer",
    ll.TRUNCATE: "truncate",
    ll.IOCTL_DEV: "ioctl",
}
_MOUNT = {1: "ro", 2: "nosuid", 4: "nodev", 8: "noexec"}


def names(mask: int, table: dict[int, str]) -> str:
    known = [name for bit, name in table.items() if mask & bit]
    unknown = mask & ~sum(table)
    return ",".join([*known, *([hex(unknown)] if unknown else [])]) or "nothing"


def show(plan: Plan, *, with_root: bool) -> str:
    """A plan as lines.  ``with_root`` spells out the entries of the canonical tree."""
    lines = [f"isolated {plan.isolated}, starts in {plan.work}"]
    lines += [f"import from {place}" for place in plan.search_path]
    lines += [f"import {module} from {file}" for module, file in plan.stand_ins]
    lines += [f"refuse import of {', '.join(plan.refused)}"] if plan.refused else []
    lines += [f"note: {note}" for note in plan.notes]
    tightened = [
        f"{name} {plan.policy.limits[name]:g} -> {plan.limits[name]:g}"
        for name in plan.limits._fields
        if plan.limits[name] != plan.policy.limits[name]
    ]
    lines += [f"limit: {change}" for change in tightened]
    features = plan.filter
    lines.append(
        f"filter: {features.arch}"
        + "".join(
            f", {name}={getattr(features, name)}"
            for name in features._fields
            if name != "arch" and getattr(features, name) != features._defaults.get(name)
        )
    )
    if plan.group is not None:
        mib = plan.group.memory_bytes / 2**20
        lines.append(f"group: memory.max {mib:g} MiB, pids.max {plan.group.tasks}")
    lines.append("launch:")
    for step in plan.launch:
        if step.verb == "open_sources":
            lines.append(f"  {step.verb} of {len(step.args[0])} entries {step.args[1:]}")
            if with_root:
                lines += [f"    {_entry(entry)}" for entry in step.args[0]]
        else:
            lines.append(f"  {step.verb}{_args(step.args)}")
    lines.append("guest:")
    for step in plan.guest:
        if step.verb == "landlock":
            abi, files, net, scoped, rules = step.args
            lines.append(f"  landlock ABI {abi}, net {net}, scoped {scoped}")
            lines.append(f"    handles {names(files, _RIGHTS)}")
            lines += [f"    {path}: {names(rights, _RIGHTS)}" for path, rights in rules]
        else:
            lines.append(f"  {step.verb}{_args(step.args)}")
    lines.append("guarantees:")
    for held in plan.guarantees:
        by = " + ".join(held.mechanisms) or "given up"
        missing = f"   [lacking: {', '.join(held.lacking)}]" if held.lacking else ""
        lines.append(f"  {held.name}: {by}{missing}")
    return "\n".join(lines)


def _args(args: tuple[object, ...]) -> str:
    return "" if not args else " " + " ".join(repr(arg) for arg in args)


def _entry(entry: list[object]) -> str:
    kind, target, *rest = entry
    if kind in ("bind", "bind?", "place"):
        source, attributes, owner = rest
        mapped = ", owner mapped" if owner else ""
        return f"{kind} {target} from {source} {names(attributes, _MOUNT)}{mapped}"
    return " ".join([str(kind), str(target), *(repr(one) for one in rest)])

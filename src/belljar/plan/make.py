"""The one decision: policy x support -> plan, or ``UnsupportedError``.

Pure.  Where namespaces can be had, guests live in a canonical root and Landlock is the
second wall; where they cannot, Landlock is the only wall around files, and what it cannot
do (hide names and metadata, bound a place to write in) must be granted or is not there.
"""

from __future__ import annotations

from ..bpf.features import FilterFeatures
from ..errors import UnsupportedError
from . import landlock as ll
from .groups import make_group
from .guarantees import judge
from .root import (
    DEBIAN_SITE,
    DYNLOAD,
    HOST_NAME,
    LAYER,
    LIBRARIES,
    PACKAGE,
    PROC_SELF,
    RUNTIME,
    SHARED_MEMORY,
    STAND_INS,
    SYSTEM_INFO_FILES,
    TIME_ZONES,
    Place,
    dynload_inside,
    hidden,
    links,
    loaders,
    make_entries,
    mount_points,
    python_name,
    runtime_inside,
    site_inside,
    stand_ins_inside,
    stdlib_inside,
)
from .steps import Plan, Step
from .support import MINIMUM_COUNT_KERNEL, UNPRIVILEGED_ID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..policy import Limits, Policy
    from ..python.interpreter import Interpreter
    from .code import Code
    from .steps import Argument
    from .support import Support

GUEST_ID = 1000  # what the guest sees as its user and group
# Since when the machine runs, as the guest sees it when its zygote starts: long enough for code
# that takes a clock near zero for one that was never set.
CLOCKS_START_S = 100_000
ZYGOTE_FILES = 4096  # descriptors of the zygote: three for each guest, and some
PID_MARK = 0x7FE1_AB1E  # stands in a filter for the guest's own pid, known only after the fork
# One arena, because glibc reserves up to 128 MiB of address space for each thread's own, and
# RLIMIT_AS counts what is reserved: seven threads would use up the default memory_bytes.
_ENVIRONMENT = {"LD_LIBRARY_PATH": LIBRARIES, "MALLOC_ARENA_MAX": "1"}
_COUNTS = ".".join(map(str, MINIMUM_COUNT_KERNEL))
CPU_SLACK_S = 1  # RLIMIT_CPU counts whole seconds; the host's clock is the finer wall


def make_plan(
    policy: Policy,
    support: Support,
    code: Code,
    places: tuple[Place, ...],
) -> Plan:
    """Decide how this machine runs guests under this policy.

    ``places`` are the policy's path grants resolved on this host.  Raises
    ``UnsupportedError`` naming each guarantee that nothing here holds.
    """
    guarantees, missing, remedy = judge(policy, support, bool(code.whitelist.hidden))
    interpreter, packages = code.interpreter, code.packages
    if missing:
        raise UnsupportedError(missing, remedy)
    limits, notes = _limits_in_force(policy.limits, support, places)
    features = FilterFeatures(
        arch=support.machine,
        processes=limits.processes > 0,
        unix_sockets=own_sockets(limits, places),
        threads=limits.threads > 0,
        jit=policy.jit,
        own_root=support.isolated,
        own_pid=None if support.isolated else PID_MARK,
        sandboxed_signals=support.isolated,
        system_info=policy.system_info,
        uname=policy.system_info,
    )
    search: tuple[str, ...]
    site: tuple[str, ...]
    if support.isolated:
        launch = _launch_isolated(
            policy,
            support,
            make_entries(
                policy,
                code,
                places,
                proc=support.proc,
                owner=support.uid == 0 and support.mounts_as_root,
                landlock=support.landlock_abi > 0,
            ),
        )
        launch += (_execute_inside(interpreter, code),)
        search = (stdlib_inside(interpreter), dynload_inside(interpreter))
        site = (site_inside(interpreter),) if packages.entries else ()
        work = "/work"
        stand_ins = stand_ins_inside(code)
    else:
        launch = (Step("new_session"), _execute_in_place(interpreter, code.belljar))
        search = (interpreter.stdlib, *interpreter.dynload)
        site = interpreter.site_dirs if packages.entries else ()
        work = "/"
        stand_ins = dict(code.stand_ins)
    return Plan(
        policy=policy,
        limits=limits,
        isolated=support.isolated,
        launch=launch,
        guest=_confine(limits, support, code, places),
        filter=features,
        work=work,
        search_path=(*search, *site),
        stand_ins=tuple(stand_ins.items()),
        refused=code.whitelist.refused,
        guarantees=guarantees,
        notes=notes,
        group=make_group(limits, support),
    )


def own_sockets(limits: Limits, places: tuple[Place, ...]) -> bool:
    """Whether Unix sockets with a name may be made and connected.

    ``multiprocessing`` needs them for managers and its fork server.  A read grant may hold
    sockets of the host's, and nothing refuses to connect to one: then there are none.
    """
    return limits.processes > 0 and not places


def _limits_in_force(
    limits: Limits, support: Support, places: tuple[Place, ...]
) -> tuple[Limits, tuple[str, ...]]:
    """The policy's limits, tightened to nothing where this machine cannot count."""
    notes: list[str] = []
    changes: dict[str, int] = {}
    if not support.counts_threads and limits.threads:
        changes["threads"] = 0
        lacking = "without user namespaces" if not support.isolated else f"before Linux {_COUNTS}"
        notes.append(f"threads: none here; {lacking} nothing counts them per guest")
    if not support.isolated:
        notes.append("/work and /tmp: not here; without mount namespaces nothing bounds them")
        if places:
            notes.append(
                "native code: a library in a granted place can be loaded; without mount "
                "namespaces nothing makes it noexec"
            )
    return limits.replace(**changes), tuple(notes)


def _launch_isolated(
    policy: Policy, support: Support, entries: list[list[Argument]]
) -> tuple[Step, ...]:
    """From a fresh process of the host's to the first process of the new namespaces."""
    kinds = ["user", "mount", "pid", "net", "ipc"]
    if not policy.system_info:
        kinds.append("uts")
    if "cgroup" in support.namespaces:
        kinds.append("cgroup")
    clocks: tuple[Step, ...] = ()
    if "time" in support.namespaces and not policy.system_info:
        kinds.append("time")
        clocks = (Step("hide_uptime", (CLOCKS_START_S,)),)
    sources = Step("open_sources", (entries,))
    # A host that is root becomes a user like any other, because a guest must not be the
    # kernel's user 0: limits do not bind it and it owns the host.
    owner = UNPRIVILEGED_ID
    first: tuple[Step, ...]
    if support.uid == 0 and not support.mounts_as_root:
        first = (
            Step("become", (owner, owner)),
            Step("unshare", (kinds,)),
            Step("map_identity", (0, 0, owner, owner)),
            Step("make_private"),
            sources,
        )
    elif support.uid == 0:
        # It opens first what only root may open.
        first = (
            Step("unshare", (["mount"],)),
            Step("make_private"),
            sources,
            Step("become", (owner, owner)),
            Step("unshare", (kinds,)),
            Step("map_identity", (0, 0, owner, owner)),
        )
    else:
        first = (
            Step("unshare", (kinds,)),
            Step("map_identity", (0, 0, support.uid, support.gid)),
            Step("make_private"),
            sources,
        )
    return (
        Step("new_session"),
        *first,
        *clocks,
        Step("first_process"),
        *(() if policy.system_info else (Step("set_host_name", (HOST_NAME,)),)),
        Step("build_root", (support.proc,)),
        Step("enter_root"),
        Step("place_grants"),
        Step("seal_root"),
    )


def _execute_inside(interpreter: Interpreter, code: Code) -> Step:
    path = f"/usr/bin/{python_name(interpreter)}"
    modules = [dynload_inside(interpreter), *([RUNTIME] if code.whitelist.runtime else [])]
    return Step("execute", (path, [PACKAGE, *modules], ZYGOTE_FILES, _ENVIRONMENT))


def _execute_in_place(interpreter: Interpreter, belljar: str) -> Step:
    parent = belljar.rpartition("/")[0]
    return Step("execute", (interpreter.executable, [parent], ZYGOTE_FILES, {}))


def _confine(
    limits: Limits, support: Support, code: Code, places: tuple[Place, ...]
) -> tuple[Step, ...]:
    """What each guest does to itself, in order; nothing can be taken back."""
    steps = [Step("die_with_zygote")]
    if support.cgroup:
        steps.append(Step("join_group"))
    if limits.processes:
        # A process group of its own: signals to the group then reach nobody else.
        steps.append(Step("lead_session"))
    if support.isolated:
        parts = list(PROC_SELF) if support.proc else []
        steps.append(
            Step(
                "mount_own",
                (
                    limits.work_bytes,
                    limits.work_files,
                    parts,
                    links(places),
                    [f"{PACKAGE}/belljar", *runtime_inside(code)],
                    SHARED_MEMORY if limits.processes else "",
                ),
            )
        )
        steps.append(Step("own_user_namespace", (GUEST_ID, GUEST_ID)))
    steps.append(Step("limit_address_space", (limits.memory_bytes,)))
    steps.extend(
        Step("limit", (name, value))
        for name, value in (
            # A core file would be the guest's memory on the host's disk.  Not 0, which does not
            # keep the kernel from starting the program that core_pattern names; 1 does.
            ("core", 1),
            ("cpu", int(limits.cpu_s + limits.grace_s) + CPU_SLACK_S),
            ("fsize", limits.file_bytes),
            ("memlock", 0),  # locked pages are memory that no pressure takes back
            ("msgqueue", 0),  # kernel memory that no other limit counts
            ("nice", 0),
            ("nofile", limits.open_files),
            ("rtprio", 0),
            ("sigpending", 64),  # queued signals are kernel memory; a timer or two need some
        )
    )
    if support.counts_threads:
        steps.append(Step("limit", ("nproc", limits.threads + 1 + limits.processes)))
    steps.append(Step("drop_capabilities"))
    steps.append(Step("no_new_privs"))
    if support.landlock_abi:
        if support.isolated:
            rules = _rules_inside(code, places)
            if limits.processes:
                rules += _rules_for_processes(code, own_sockets(limits, places))
        else:
            rules = _rules_in_place(code, places)
        abi = support.landlock_abi
        handled = ll.handled_fs(abi)
        # A rule must not name a right that is not handled: the kernel answers EINVAL.
        known: list[Argument] = [[path, rights & handled] for path, rights in rules]
        steps.append(Step("landlock", (abi, handled, ll.handled_net(abi), ll.scoped(abi), known)))
    steps.append(Step("seccomp"))
    return tuple(steps)


def for_many_runs(plan: Plan) -> Plan:
    """The plan of a guest that executes run after run, stopped in between.

    RLIMIT_CPU counts the whole life of a process, so the host alone holds ``cpu_s`` of each run.
    Whoever is stopped uses no processor time, and nothing but the host may let it go on.
    """
    kept = tuple(s for s in plan.guest if (s.verb, s.args[:1]) != ("limit", ("cpu",)))
    return plan.replace(guest=kept, filter=plan.filter.replace(continues=False))


def _rules_inside(code: Code, places: tuple[Place, ...]) -> list[tuple[str, int]]:
    trees = [stdlib_inside(code.interpreter), site_inside(code.interpreter)]
    if dynload_inside(code.interpreter) == DYNLOAD:
        trees.append(DYNLOAD)
    if code.stand_ins:
        trees.append(STAND_INS)
    rules = [
        *((tree, ll.READ) for tree in trees),
        (LIBRARIES, ll.READ_FILE),
        (TIME_ZONES, ll.READ),
        ("/etc", ll.READ_FILE),
        ("/proc", ll.READ),
        ("/dev", ll.READ),
        ("/dev/null", ll.READ_FILE | ll.WRITE_FILE),
        ("/dev/full", ll.READ_FILE | ll.WRITE_FILE),
        ("/work", ll.WRITE | ll.MAKE_FIFO),
        ("/tmp", ll.WRITE | ll.MAKE_FIFO),
    ]
    rules.extend(
        (point, ll.WRITE if place.writable else ll.READ)
        for place, point in zip(places, mount_points(places), strict=True)
    )
    return rules


def _rules_for_processes(code: Code, sockets: bool) -> list[tuple[str, int]]:
    """What may be executed, and what several processes share."""
    python = f"/usr/bin/{python_name(code.interpreter)}"
    granted = () if code.programs is None else code.programs.files
    programs = [f"/usr/bin/{name}" for name, _ in granted]
    rules = [(path, ll.EXECUTE | ll.READ_FILE) for path in (python, *programs, *loaders(code))]
    rules.append(("/usr/bin", ll.READ_DIR))
    rules += [
        (LAYER.rpartition("/")[0], ll.READ),
        (DEBIAN_SITE, ll.READ),
        (SHARED_MEMORY, ll.WRITE),
    ]
    if sockets:
        rules += [(place, ll.MAKE_SOCK) for place in ("/work", "/tmp")]
    return rules


def _rules_in_place(code: Code, places: tuple[Place, ...]) -> list[tuple[str, int]]:
    """The host's own tree, of which only named parts can be read."""
    interpreter, packages = code.interpreter, code.packages
    stdlib = interpreter.stdlib
    # Landlock cannot take a part out of a tree, so the rest of it is named: of the standard
    # library what is not hidden, of its extension modules those that are allowed.
    apart = {place.removeprefix(stdlib + "/") for place in interpreter.dynload}
    rules = [(code.belljar, ll.READ), (stdlib, ll.READ_DIR)]
    rules.extend(
        (f"{stdlib}/{name}", ll.READ)
        for name in code.stdlib_names
        if not hidden(name) and name not in apart
    )
    rules.extend((place, ll.READ_DIR) for place in interpreter.dynload)
    rules.extend((path, ll.READ_FILE) for _, path in code.whitelist.shown)
    rules.extend((path, ll.READ_FILE) for _, path in code.stand_ins)
    libraries = {source for _, source in (*interpreter.libraries, *packages.libraries)}
    rules.extend((source, ll.READ_FILE) for source in sorted(libraries))
    # Files and directories alike; allow_beneath leaves out what does not apply to a file.
    rules.extend((source, ll.READ) for _, source in packages.entries)
    if packages.entries:
        # The import system finds nothing in a directory that it cannot list.
        rules.extend((site, ll.READ_DIR) for site in interpreter.site_dirs)
    rules.append(("/etc/ld.so.cache", ll.READ_FILE))
    rules.append((TIME_ZONES, ll.READ))
    for name in ("null", "full"):
        rules.append((f"/dev/{name}", ll.READ_FILE | ll.WRITE_FILE))
    for name in ("zero", "random", "urandom"):
        rules.append((f"/dev/{name}", ll.READ_FILE))
    rules.extend((path, ll.READ_FILE) for path in SYSTEM_INFO_FILES.values())  # granted, or no plan
    rules.extend((place.host, ll.WRITE if place.writable else ll.READ) for place in places)
    return rules

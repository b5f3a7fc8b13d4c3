"""This machine, this process: support, plans and the zygotes they lead to.

What: everything between a policy and a running zygote, kept for the life of the process.
Because: probing, planning and starting a zygote cost milliseconds each, and a program
that runs code usually runs more of it under the same policy.  Then: a fork of the host
forgets all of it, since the zygotes are its parent's.
"""

from __future__ import annotations

import _thread
import os
import sys
import time

from ..drivers.zygotes import Zygote
from ..errors import PolicyError, SetupFailed
from ..kernel.probe import probe_quick, probe_support
from ..plan.code import Code
from ..plan.make import for_many_runs, make_plan
from ..plan.root import SHARED_MEMORY, Place, loaders
from ..plan.support import assume_isolated
from ..plan.whitelist import STARTS_WITH, decide
from ..policy import Policy
from ..policy.limits import LIMITS
from ..policy.paths import REFUSED_HOST_TREES, RESERVED_ROOTS, RESERVED_TREES, check_host
from ..policy.rules import ALLOW, BLOCK, EVERY, Rules
from ..python.covers import covers
from ..python.distributions import PackageSet
from ..python.interpreter import deciding, describe_interpreter, link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any, NoReturn

    from ..bpf.features import FilterFeatures
    from ..drivers.groups import Groups
    from ..kernel.cgroups import Group
    from ..plan.steps import Plan
    from ..plan.support import Support

# File systems that are views of the kernel, wherever they are mounted.
_KERNEL_TREES = frozenset(
    [
        "bpf",
        "cgroup",
        "cgroup2",
        "configfs",
        "debugfs",
        "devpts",
        "devtmpfs",
        "efivarfs",
        "fusectl",
        "mqueue",
        "nsfs",
        "proc",
        "pstore",
        "rpc_pipefs",
        "securityfs",
        "selinuxfs",
        "sysfs",
        "tracefs",
    ]
)
LAYER_MODULES = ("bytecode", "child", "imports", "refusals", "shape", "standins")
MOST_ZYGOTES = 4  # idle interpreters kept; each is some 10 MB, and policies are few
# Plans kept: 200 KB each, mostly mounts, and 3 ms to make.  A server that writes the customer
# into the policy has one for each.
MOST_PREPARED = 32
# What every guest may read, so that reading it is no attempt at anything.
_OPEN_PLACES = (
    "/usr/lib",
    "/usr/share/zoneinfo",
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/dev",
    "/proc/self",
)
# Only tests change this: with False nothing but the kernel answers inside.
explain_refusals = True
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class Prepared:
    """A plan with what the driver sends: steps and agent settings as plain data."""

    def __init__(
        self, plan: Plan, places: tuple[Place, ...], preload: tuple[str, ...] = ()
    ) -> None:
        self.plan = plan
        self.preload = preload
        self._many: tuple[Plan, list[Any], dict[str, Any]] | None = None
        # Guests of two policies may share a zygote where their roots are alike, and the
        # granted places are still those that it mounted.
        self.places = places
        self.identity = identity(places)
        made_of = (plan.launch, plan.search_path, plan.stand_ins, self.identity, plan.filter.jit)
        # What a preload may bring along is a matter of the policy; without one nothing comes.
        self.zygote_key = repr((made_of, preload, plan.refused if preload else ()))
        self.steps = [step.as_list() for step in plan.guest]
        read = [p.inside if plan.isolated else p.host for p in places]
        write = [p.inside if plan.isolated else p.host for p in places if p.writable]
        own = ["/work", "/tmp"] if plan.isolated else []
        if plan.limits.processes:
            own.append(SHARED_MEMORY)
            read.append("/usr/bin")
        self.agent_settings: dict[str, Any] = {
            "value_bytes": plan.limits.value_bytes,
            "artifact_bytes": plan.limits.artifact_bytes,
            "time": [plan.limits.wall_s, plan.limits.cpu_s, plan.limits.grace_s],
            "limits": {name: plan.limits[name] for name in LIMITS},
            "abilities": dict(plan.policy.abilities),
            "env": dict(plan.policy.env),
            "refused": list(plan.refused),
            # Pure Python is refused by name, and only so.
            "module_rules": list(plan.policy.modules.pairs),
            "builtins": dict(plan.policy.builtins.pairs),
            "blocked_functions": sorted(plan.policy.blocked_functions),
            "explain": explain_refusals,
            "readable": [*(_OPEN_PLACES if plan.isolated else ()), *plan.search_path, *read],
            "writable": [*own, "/dev/null", *write],
            "processes": plan.limits.processes,
            "unix_sockets": plan.filter.unix_sockets,
            "keep": False,
            "taken": [*RESERVED_TREES, *RESERVED_ROOTS],
            "never": list(REFUSED_HOST_TREES),
        }

    def for_many_runs(self) -> tuple[Plan, list[Any], dict[str, Any]]:
        """Plan, steps and agent settings of a guest that stays; made once."""
        if self._many is None:
            plan = for_many_runs(self.plan)
            steps = [step.as_list() for step in plan.guest]
            self._many = (plan, steps, {**self.agent_settings, "keep": True})
        return self._many


def identity(places: tuple[Place, ...]) -> tuple[tuple[int, int], ...]:
    """Which files the granted paths are just now: a directory made anew is another one."""
    try:
        return tuple((s.st_dev, s.st_ino) for s in (os.stat(place.host) for place in places))
    except OSError:
        return ()  # one is gone; resolving the grants again says which


class _Known:
    """What this process has found out; thrown away in a fork."""

    def __init__(self) -> None:
        self.support: Support | None = None
        self.probed = False  # else ``support`` is what a launch assumes
        self.prepared: dict[tuple[Policy, tuple[str, ...]], Prepared] = {}
        self.programs: dict[FilterFeatures, bytes] = {}
        self.zygotes: dict[str, Zygote] = {}
        self.groups: Groups | None = None
        self.ends_at_exit = False
        self.lock = (
            _thread.allocate_lock()
        )  # around the dicts and the groups, and while a zygote starts
        self.counting = _thread.allocate_lock()  # around the users of the zygotes


_known = _Known()


def support() -> Support:
    """What this machine can enforce: probed whole, and then tried."""
    if _known.support is None or not _known.probed:
        found = probe_support()
        _known.support = _tried(found) if found.isolated else found
        _known.probed = True
    return _known.support


def _tried(found: Support) -> Support:
    """The finding of a trial: a probe asks for one thing at a time, a launch for all.

    Where a zygote cannot be had although every part of it can, the machine counts as one
    without namespaces, for the reason that the launch gave.
    """
    try:
        zygote = Zygote(_prepare(Policy(), found).plan)
        zygote.ensure_ready()
        zygote.close()
    except SetupFailed as error:
        if error.retryable:
            raise
        return found.replace(namespaces=frozenset(), why=(*found.why, ("user", str(error))))
    return found


def prepare(policy: Policy, preload: tuple[str, ...] = ()) -> Prepared:
    """The plan for a policy on this machine.  Raises ``UnsupportedError``, ``PolicyError``."""
    known = _known
    with known.lock:
        found = known.prepared.pop((policy, preload), None)
        if found is not None:
            known.prepared[policy, preload] = found  # newest last
    if found is None or found.identity != identity(found.places):
        if _known.support is None:
            # The launch itself finds out whether namespaces can be had, and fails closed.
            _known.support = assume_isolated(probe_quick())
        if not _known.support.seccomp:
            _refuse(policy)
        found = _prepare(policy, _known.support, preload)
        with known.lock:
            known.prepared[policy, preload] = found
            while len(known.prepared) > MOST_PREPARED:
                del known.prepared[next(iter(known.prepared))]
    return found


def _refuse(policy: Policy) -> NoReturn:
    """Without filters there is nothing to plan, and perhaps not even an interpreter to read.

    So it is where belljar runs inside a guest of its own.
    """
    from ..errors import UnsupportedError
    from ..plan.guarantees import judge

    _, missing, remedy = judge(policy, support())
    raise UnsupportedError(missing, remedy)


def plan_for(policy: Policy, support: Support) -> Plan:
    """The plan that a given machine would carry out."""
    return _prepare(policy, support).plan


def _prepare(policy: Policy, support: Support, preload: tuple[str, ...] = ()) -> Prepared:
    places = _resolve_places(policy)
    _refuse_writable(places, deciding(policy.python))  # before it is asked, which executes it
    code = _find_code(policy)
    _refuse_writable_code(places, code)
    plan = make_plan(policy, support, code, places)
    _refuse_refused_preloads(preload, plan)
    return Prepared(plan, places, preload)


def _refuse_refused_preloads(preload: tuple[str, ...], plan: Plan) -> None:
    """A preload that no guest may import is a contradiction, not a missing module."""
    policy = plan.policy
    rules = Rules(ALLOW, dict(pair for pair in policy.modules.pairs if pair[0] != EVERY))
    for index, name in enumerate(preload):
        if name not in policy.stand_ins and (name in plan.refused or rules.at(name) == BLOCK):
            grant = f'allow(modules=["{name}"])'
            raise PolicyError(f"preload[{index}]", f"the policy does not allow {name}; {grant}")


def _refuse_writable_code(places: tuple[Place, ...], code: Code) -> None:
    """No guest may write where the code lies that it, or the next one, is lent.

    What it put there would be mapped as code by the other name, or run in the zygote by a
    preload, whatever the mount of the grant says.
    """
    interpreter, packages = code.interpreter, code.packages
    lent = [interpreter.executable, interpreter.stdlib, *interpreter.dynload, code.belljar]
    lent += [source for _, source in (*interpreter.libraries, *packages.libraries)]
    lent += [source for _, source in (*packages.entries, *code.stand_ins)]
    lent += loaders(code).values()
    if code.programs is not None:
        lent += [path for _, path in (*code.programs.files, *code.programs.libraries)]
        lent += code.programs.hops
    _refuse_writable(places, lent)


def _refuse_writable(places: tuple[Place, ...], lent: Sequence[str]) -> None:
    for place in places:
        for source in lent if place.writable else ():
            if f"{source}/".startswith(f"{place.host}/") or place.host.startswith(f"{source}/"):
                raise PolicyError(
                    "grants.write",
                    f"{place.host} and {source}, which guests run as code, are in one tree; "
                    "grant a directory apart from it",
                )


def _find_code(policy: Policy) -> Code:
    """The interpreter and packages that a policy asks for, and which parts of them it lends."""
    interpreter = describe_interpreter(policy.python)
    packages = PackageSet()
    if policy.packages:
        from ..python.distributions import resolve_packages

        packages = resolve_packages(policy.packages, interpreter, policy.blocked_packages)
    whitelist = decide(policy.modules, interpreter, packages)
    if policy.modules:
        from ..plan.whitelist import blocked_in_vain, explain_unknown, unknown_modules

        for name in blocked_in_vain(policy.modules):
            raise PolicyError("blocks.modules", f"{name}: the interpreter itself stands on it")
        for name in unknown_modules(policy.modules, interpreter, packages):
            raise PolicyError("grants.modules", explain_unknown(name))
        allowed = {name for name, _ in (*whitelist.shown, *whitelist.runtime)}
        interpreter = link(interpreter, frozenset(allowed))
    names = tuple(sorted(os.listdir(interpreter.stdlib)))
    programs = None
    if policy.run:
        from ..python.programs import find_programs

        if not policy.limits.processes:
            raise PolicyError(
                "grants.run", "programs run in processes of their own; allow(processes=1) as well"
            )
        programs = find_programs(policy.run, interpreter, policy.jit)
    return Code(
        interpreter=interpreter,
        packages=packages,
        whitelist=whitelist,
        belljar=_PACKAGE,
        stdlib_names=names,
        covers=covers(interpreter, names),
        stand_ins=_find_stand_ins(policy),
        programs=programs,
        layer=_layer() if policy.limits.processes else (),
    )


def _layer() -> tuple[tuple[str, bytes], ...]:
    """The modules of the guest's Python layer that an interpreter of its own begins with."""
    found = [("__init__.py", b"")]
    for name in LAYER_MODULES:
        with open(f"{_PACKAGE}/guest/{name}.py", "rb") as file:
            found.append((f"{name}.py", file.read()))
    return tuple(found)


def _find_stand_ins(policy: Policy) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for module, path in policy.stand_ins.items():
        key = f"grants.stand_ins.{module}"
        if module in STARTS_WITH:
            raise PolicyError(key, "the interpreter itself stands on it, so nothing can stand in")
        if module.partition(".")[0] in ("belljar", "__main__"):
            raise PolicyError(key, "this name is taken inside")
        try:
            real = os.path.realpath(path, strict=True)
        except OSError as error:
            raise PolicyError(key, f"{path}: {error.strerror}") from None
        check_host(real, key)
        if real != os.path.normpath(path):
            # As with granted paths: whoever can put a link there would choose what is shown.
            raise PolicyError(
                key, f"{path} leads through a symbolic link to {real}; if that is meant, name it"
            )
        if not os.path.isfile(real):
            raise PolicyError(key, f"{path} is not a file")
        found.append((module, real))
    return tuple(found)


def _resolve_places(policy: Policy) -> tuple[Place, ...]:
    places: list[Place] = []
    for kind, grants in (("read", policy.read), ("write", policy.write)):
        for index, grant in enumerate(grants):
            key = f"grants.{kind}[{index}]"
            try:
                real = os.path.realpath(grant.host, strict=True)
            except OSError as error:
                raise PolicyError(key, f"{grant.host}: {error.strerror}") from None
            check_host(real, key)
            if real != grant.host:
                # A guest that may write there could have put the link, and would choose by it
                # what the next guest is granted.
                raise PolicyError(
                    key,
                    f"{grant.host} leads through a symbolic link to {real}; if that is meant, "
                    f"grant it: {kind}={{{real!r}: {grant.inside!r}}}",
                )
            places.append(Place(real, grant.inside, os.path.isdir(real), kind == "write"))
    _refuse_kernel_trees(places)
    # Outer places first, so that an inner one is mounted on top.
    return tuple(sorted(places, key=lambda place: place.inside))


def _unescape(field: bytes) -> str:
    """A path of mountinfo: space, tab, newline and backslash stand there as three octal digits."""
    first, *rest = field.split(b"\\")
    made = first
    for part in rest:
        made += bytes([int(part[:3], 8)]) + part[3:]
    return os.fsdecode(made)


def _refuse_kernel_trees(places: list[Place]) -> None:
    """No grant may bring a file system along that shows the kernel or other processes."""
    if not places:
        return
    mounted: list[tuple[str, str]] = []  # (mount point, type), in the order of mounting
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            left, _, right = line.partition(b" - ")
            mounted.append(
                (_unescape(left.split()[4]), right.split()[0].decode("ascii", "replace"))
            )
    for place in places:
        around = ("/", "")  # the mount that the place itself lies in: the innermost, last one
        for point, tree in mounted:
            prefix = point.rstrip("/") + "/"
            if (place.host + "/").startswith(prefix) and len(point) >= len(around[0]):
                around = (point, tree)
            if tree in _KERNEL_TREES and point.startswith(place.host + "/"):
                raise _kernel_tree(place, point, tree)
        if around[1] in _KERNEL_TREES:
            raise _kernel_tree(place, *around)


def _kernel_tree(place: Place, point: str, tree: str) -> PolicyError:
    return PolicyError(
        f"grants.{'write' if place.writable else 'read'}",
        f"{place.host} would show {point}, a {tree} file system: a view of the kernel or of "
        "other processes",
    )


def filter_program(features: FilterFeatures) -> bytes:
    """The compiled filter, once per process."""
    from ..bpf.compiler import compile_filter
    from ..bpf.guest import guest_filter

    program = _known.programs.get(features)
    if program is None:
        program = compile_filter(guest_filter(features))
        _known.programs[features] = program
    return program


class Own:
    """A zygote for one run of the command: started at once, ended with the block.

    ``fork`` is safe there, because the process is the command's own: one thread, no secrets.
    The zygote starts while the caller goes on importing what it needs to talk to it.
    """

    def __init__(self, policy: Policy) -> None:
        self.began = time.monotonic()
        self.prepared = prepare(policy)
        self.zygote = Zygote(self.prepared.plan, fork=True)

    def __enter__(self) -> Own:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.zygote.close()
        _close_groups()


def shared(prepared: Prepared) -> Zygote:
    """The process's own zygote for a plan, started if there is none alive.

    It is the caller's until ``release``: room is made by ending idle ones only, because the
    end of a zygote is the end of every guest in it.
    """
    key = prepared.zygote_key
    with _known.lock:
        if not _known.ends_at_exit:
            import atexit

            atexit.register(close)
            _known.ends_at_exit = True
        zygote = _known.zygotes.get(key)
        if zygote is not None and not zygote.alive:
            del _known.zygotes[key]
            zygote.close()
            zygote = None
        if zygote is None:
            _make_room()
            zygote = Zygote(prepared.plan, prepared.preload)
            zygote.ensure_ready()
        _known.zygotes.pop(key, None)
        _known.zygotes[key] = zygote  # newest last
        with _known.counting:
            zygote.users += 1
        return zygote


def shared_at_once(policy: Policy, preload: tuple[str, ...]) -> tuple[Prepared, Zygote] | None:
    """``prepare`` and ``shared`` for a caller that must not wait; None where it would have to.

    Planning, and the start of a zygote, take milliseconds; this takes microseconds.
    """
    known = _known
    if not known.lock.acquire(blocking=False):
        return None  # a zygote is being started
    try:
        prepared = known.prepared.get((policy, preload))
        if prepared is None or prepared.identity != identity(prepared.places):
            return None
        plan = prepared.plan
        if plan.filter not in known.programs or (plan.group is not None and known.groups is None):
            return None
        zygote = known.zygotes.get(prepared.zygote_key)
        if zygote is None or not zygote.alive:
            return None
        known.prepared[policy, preload] = known.prepared.pop((policy, preload))  # newest last
        known.zygotes[prepared.zygote_key] = known.zygotes.pop(prepared.zygote_key)
        with known.counting:
            zygote.users += 1
        return prepared, zygote
    finally:
        known.lock.release()


def warm(prepared: Prepared, zygote: Zygote) -> None:
    """Have at hand what the first guest of a plan would have to wait for."""
    filter_program(prepared.plan.filter)
    group = make_group(prepared.plan, zygote)
    if group is not None:
        group.remove()


def make_group(plan: Plan, zygote: Zygote, *, fork: bool = False) -> Group | None:
    """The cgroup of one guest, where the plan gives it one.

    ``fork``: this process has one thread and no secrets.
    """
    if plan.group is None:
        return None
    groups = _known.groups
    if groups is None:
        from ..drivers.groups import Groups

        with _known.lock:
            groups = _known.groups
            if groups is None:
                groups = _known.groups = Groups(plan.group.base, fork=fork)
    return groups.make(plan.group, zygote.private_bytes())


def release(zygote: Zygote) -> None:
    """Say that a run on a zygote from ``shared`` is over."""
    with _known.counting:
        zygote.users -= 1


def _make_room() -> None:
    """End the zygotes that were idle longest, until there is room for one more."""
    excess = len(_known.zygotes) - MOST_ZYGOTES + 1
    idle = [key for key, zygote in _known.zygotes.items() if not zygote.users]
    for key in idle[: max(excess, 0)]:
        _known.zygotes.pop(key).close()


def reconsider() -> bool:
    """After a failed launch: find out what this machine can really do.

    Says whether that is something else than what was assumed, so that a new plan is due.
    """
    if _known.probed:
        return False
    with _known.counting:
        busy = any(zygote.users for zygote in _known.zygotes.values())
    if not busy:  # else it would end the guests of other threads
        _close_groups()
    assumed, found = _known.support, support()
    _known.prepared.clear()
    # What is only told to people decides nothing.
    told: dict[str, Any] = {"why": (), "container": ""}
    return assumed is None or found.replace(**told) != assumed.replace(**told)


def close() -> None:
    """End every zygote of this process.  The next run starts a new one."""
    while _known.zygotes:
        _known.zygotes.popitem()[1].close()
    _close_groups()


def _close_groups() -> None:
    groups, _known.groups = _known.groups, None
    if groups is not None:
        groups.close()


def _forget() -> None:
    global _known
    zygotes, groups = _known.zygotes, _known.groups
    _known = _Known()
    if groups is not None:
        groups.forget()
    for zygote in zygotes.values():
        zygote.forget()


if sys.platform == "linux":
    os.register_at_fork(after_in_child=_forget)

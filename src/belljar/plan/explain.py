"""A plan, and a machine, in words.

What: ``Support``, ``Policy`` and ``Plan`` as sections of rows, as plain text, and as data
for JSON.  Because: a wall is trusted by those who can read how it is built here, and by
which mechanism.  Then: nothing is left out that the launcher or the guest does; the command
only prints.
"""

from __future__ import annotations

from .._record import Record
from ..policy.checks import is_bunch, is_dict
from ..policy.limits import LIMITS
from ..policy.rules import ALLOW, BLOCK, USUAL
from ..policy.units import format_bytes, format_limit
from ..policy.whitelist import reason, standing
from . import landlock as ll
from .root import NOEXEC, RDONLY
from .support import NAMESPACE_KINDS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ..policy import Policy
    from ..policy.paths import PathGrant
    from .groups import GroupLimits
    from .steps import Argument, Held, Plan, Step
    from .support import Support


class Section(Record):
    """A titled table.  Each row has a cell for each column; ``columns`` may be empty names."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


# What each verb of the launcher and of a guest's confinement is for.
PURPOSES: dict[str, str] = {
    "new_session": "leave the terminal, its job and its directory",
    "unshare": "make namespaces of its own",
    "make_private": "keep its mounts to itself",
    "open_sources": "take hold of what will be seen, while it is still in reach",
    "become": "give up root for an ordinary user, for ever",
    "map_identity": "say who is who in the user namespace",
    "hide_uptime": "let its clocks not tell when this machine started",
    "first_process": "become the first process of the PID namespace",
    "set_host_name": "hide the host's name",
    "build_root": "make the tree that guests see, in an empty tmpfs",
    "enter_root": "enter it and let go of the host's tree",
    "place_grants": "mount the granted paths, following no link",
    "seal_root": "make the tree itself read-only",
    "execute": "become the zygote: Python, isolated, without environment",
    "die_with_zygote": "be killed when the zygote ends",
    "lead_session": "have a process group of its own",
    "join_group": "be counted in a cgroup of its own",
    "mount_own": "own /work and /tmp, in memory",
    "own_user_namespace": "leave the namespace that owns the mounts",
    "limit_address_space": "bound memory",
    "limit": "bound a resource",
    "drop_capabilities": "give up every privilege",
    "no_new_privs": "never gain one again",
    "landlock": "refuse files, network and signals that are not listed",
    "seccomp": "refuse system calls that are not listed",
}


# ---------------------------------------------------------------------- a machine


def explain_machine(support: Support) -> Section:
    """What was found by asking this machine."""
    kinds = [kind for kind in NAMESPACE_KINDS if kind in support.namespaces]
    who = "root" if support.uid == 0 else "an ordinary user"
    rows = [
        ("kernel", f"Linux {support.kernel[0]}.{support.kernel[1]}, {support.machine}"),
        ("user", f"{who} (uid {support.uid}, gid {support.gid})"),
        ("Landlock", f"ABI {support.landlock_abi}" if support.landlock_abi else "none"),
        ("seccomp filters", _yes(support.seccomp)),
        ("namespaces", ", ".join(kinds) or "none"),
        ("new mounts", _yes(support.mounts)),
        ("new proc", _yes(support.proc)),
        ("root of its own", _yes(support.isolated)),
        ("threads counted", _yes(support.counts_threads)),
        ("delegated cgroup", _cgroup(support)),
        ("container", support.container or "no sign of one"),
    ]
    rows.extend((f"why no {name}", reason) for name, reason in support.why)
    return Section("machine", ("", ""), tuple(rows))


def _cgroup(support: Support) -> str:
    if not support.cgroup:
        return "none"
    return f"{support.cgroup} ({', '.join(sorted(support.controllers)) or 'memory'})"


def explain_guarantees(held: Iterable[Held]) -> Section:
    """Each guarantee, what holds it here, and which walls are missing."""
    rows: list[tuple[str, ...]] = []
    for one in held:
        by = " + ".join(one.mechanisms) or ("given up by the policy" if one.lost else "nothing")
        rows.append((one.name, one.promise, by, ", ".join(one.lacking) or "-"))
    columns = ("guarantee", "promise", "held here by", "missing here")
    return Section("guarantees", columns, tuple(rows))


def explain_missing(missing: Sequence[str], remedy: Sequence[str]) -> Section:
    """What nothing holds, and how to get it."""
    rows = [("missing", line) for line in missing] + [("remedy", line) for line in remedy]
    return Section("what is missing, and how to get it", ("", ""), tuple(rows))


# ---------------------------------------------------------------------- a plan


def explain_plan(plan: Plan) -> tuple[Section, ...]:
    """Everything that a plan does, in the order in which one would ask."""
    sections = [
        explain_guarantees(plan.guarantees),
        explain_grants(plan.policy),
        explain_limits(plan),
    ]
    if plan.refused:
        refused = tuple((name, _why_refused(name, plan)) for name in plan.refused)
        title = "C modules that cannot be loaded"
        sections.append(Section(title, ("module", "because"), refused))
    if plan.notes:
        rows = tuple(tuple(note.split(": ", 1)) for note in plan.notes)
        sections.append(Section("notes", ("", ""), rows))
    sections.append(explain_tree(plan))
    sections.append(_steps("launch: from the host to the zygote", plan.launch, plan))
    sections.append(_steps("guest: from the fork to the code", plan.guest, plan))
    rules = _landlock_rules(plan)
    if rules:
        sections.append(Section("Landlock rules", ("beneath", "allowed"), rules))
    return tuple(section for section in sections if section.rows)


def _why_refused(name: str, plan: Plan) -> str:
    if plan.policy.modules.at(name) == BLOCK:
        return "the policy blocks it"
    return "not in the default list" if standing(name) is None else reason(name)


def explain_grants(policy: Policy) -> Section:
    """What the policy gives, a row for each."""
    rows: list[tuple[str, str]] = [("read", _place(place)) for place in policy.read]
    rows.extend(("write", _place(place)) for place in policy.write)
    rows.extend(("stream", name) for name in sorted(policy.streams))
    rows.extend(("env", f"{name}={value}") for name, value in policy.env.items())
    if policy.argv:
        rows.append(("argv", " ".join(policy.argv)))
    rows.extend(("name", name) for name in policy.names)
    rows.extend(("package", name) for name in sorted(policy.packages))
    if policy.system_info:
        rows.append(("system_info", "host name, processor, memory and uptime may be seen"))
    if policy.abilities:
        from ..policy.abilities import describe

        rows.extend(
            ("ability", f"{name}: {describe(ability)}; yours, held by your host functions, no wall")
            for name, ability in policy.abilities.items()
        )
    if policy.run:
        rows.append(("run", ", ".join(sorted(policy.run))))
    if policy.python is not None:
        rows.append(("python", policy.python))
    rows.extend(("stand-in", f"{path} for {module}") for module, path in policy.stand_ins.items())
    if policy.jit:
        rows.append(
            ("jit", "native code may be made from data: NO wall against unlisted code is left")
        )
    for name, rules in (("module", policy.modules), ("built-in", policy.builtins)):
        for pattern, said in rules.in_order():
            rows.append((name, f"{pattern}: {_SAID[said]}"))
    rows.extend(("blocked package", name) for name in sorted(policy.blocked_packages))
    rows.extend(("blocked function", name) for name in sorted(policy.blocked_functions))
    return Section("grants", ("", ""), tuple(rows) or (("none", "it computes and prints"),))


_SAID = {ALLOW: "allowed", USUAL: "as the default list says", BLOCK: "blocked"}


def explain_limits(plan: Plan) -> Section:
    """The limits in force, and what the policy said where that is more."""
    rows: list[tuple[str, ...]] = []
    for name, spec in LIMITS.items():
        value, wanted = plan.limits[name], plan.policy.limits[name]
        text = format_limit(name, value)
        if value != wanted:
            text += f" (policy: {format_limit(name, wanted)})"
        rows.append((name, text, spec.bounds))
    if plan.group is not None:
        what = "everything that its processes make the kernel hold, page cache and sockets included"
        rows.append(("cgroup memory.max", format_bytes(plan.group.memory_bytes), what))
        rows.append(
            ("cgroup pids.max", str(plan.group.tasks), "its processes and threads together")
        )
    return Section("limits in force", ("limit", "value", "bounds"), tuple(rows))


def explain_tree(plan: Plan) -> Section:
    """The files that a guest finds, where they come from; or where it looks for modules."""
    for step in plan.launch:
        if step.verb == "open_sources":
            entries: Any = step.args[0]
            rows = tuple(_entry(entry) for entry in entries)
            return Section("files a guest sees", ("inside", "from", "how"), rows)
    rows = tuple((path, "the host's own tree", "import path") for path in plan.search_path)
    return Section("files a guest sees: the host's tree, as far as Landlock lets it", _TREE, rows)


_TREE = ("path", "from", "how")


def _entry(entry: Sequence[Any]) -> tuple[str, str, str]:
    kind, target, *rest = entry
    if kind in ("bind", "bind?", "place"):
        how = "read-only" if rest[1] & RDONLY else "writable"
        if not rest[1] & NOEXEC:
            how += ", executable"
        if kind == "bind?":
            how += ", if there is one"
        return (target, rest[0], how)
    if kind == "file":
        return (target, "made up", f"{len(rest[0])} bytes")
    if kind == "link":
        return (target, rest[0], "symbolic link")
    if kind == "cover":
        return (target, "made up", f"{len(rest[0])} bytes, in place of what is there")
    if kind == "only":
        return (target, "made up", f"directory of {len(rest[0])} modules, hides what is there")
    if kind == "hide":
        return (target, "made up", "a file that cannot be read, hides what is there")
    return (target, "made up", "empty, hides what is there" if kind == "empty" else "directory")


def _steps(title: str, steps: Sequence[Step], plan: Plan) -> Section:
    rows = [
        (str(number), step.verb, PURPOSES.get(step.verb, ""), explain_step(step, plan))
        for number, step in enumerate(steps, 1)
    ]
    return Section(title, ("", "step", "purpose", "with"), tuple(rows))


def explain_step(step: Step, plan: Plan) -> str:
    """The arguments of a step, long lists as their number."""
    args: Any = step.args
    verb = step.verb
    if verb == "seccomp":
        features = plan.filter
        flags = [name for name in features._fields if getattr(features, name) is True]  # pyright: ignore[reportPrivateUsage]
        return ", ".join((features.arch, *flags))
    if verb == "open_sources":
        return f"{len(args[0])} entries, listed above"
    if verb == "map_identity":
        return f"user {args[0]} and group {args[1]} inside are {args[2]} and {args[3]} outside"
    if verb in ("become", "own_user_namespace"):
        return f"user {args[0]}, group {args[1]}"
    if verb == "limit_address_space":
        return f"RLIMIT_AS {format_bytes(args[0])} beyond the interpreter's own"
    if verb == "limit":
        return f"RLIMIT_{args[0].upper()} {args[1]}"
    if verb == "mount_own":
        return f"{format_bytes(args[0])}, {args[1]} files"
    if verb == "landlock":
        return f"ABI {args[0]}, {len(args[4])} rules, listed below"
    if verb == "execute":
        return str(args[0])
    return ", ".join(_word(argument) for argument in args)


def _word(argument: Argument) -> str:
    if isinstance(argument, bytes):
        return argument.decode("utf-8", "backslashreplace")
    if isinstance(argument, (list, tuple)):
        return ", ".join(_word(part) for part in argument)
    return str(argument)


def _landlock_rules(plan: Plan) -> tuple[tuple[str, str], ...]:
    for step in plan.guest:
        if step.verb == "landlock":
            rules: Any = step.args[4]
            return tuple((path, explain_rights(rights)) for path, rights in rules)
    return ()


_RIGHTS = {
    ll.EXECUTE: "execute",
    ll.WRITE_FILE: "write files",
    ll.READ_FILE: "read files",
    ll.READ_DIR: "list directories",
    ll.REMOVE_DIR: "remove directories",
    ll.REMOVE_FILE: "remove files",
    ll.MAKE_CHAR: "make character devices",
    ll.MAKE_DIR: "make directories",
    ll.MAKE_REG: "make files",
    ll.MAKE_SOCK: "make sockets",
    ll.MAKE_FIFO: "make pipes",
    ll.MAKE_BLOCK: "make block devices",
    ll.MAKE_SYM: "make symbolic links",
    ll.REFER: "move between directories",
    ll.TRUNCATE: "truncate",
    ll.IOCTL_DEV: "control devices",
}
_USUAL = {
    ll.READ: "read",
    ll.WRITE: "read, write, make and remove all but devices and sockets",
}


def explain_rights(rights: int) -> str:
    """Landlock's file rights in words."""
    if rights in _USUAL:
        return _USUAL[rights]
    return ", ".join(name for bit, name in _RIGHTS.items() if rights & bit) or "nothing"


def _place(place: PathGrant) -> str:
    return place.host if place.host == place.inside else f"{place.host}, shown as {place.inside}"


def _yes(truth: bool) -> str:
    return "yes" if truth else "no"


# ---------------------------------------------------------------------- as text and as data


def to_text(sections: Iterable[Section]) -> str:
    """Aligned plain text: two spaces between columns, a blank line between sections."""
    parts: list[str] = []
    for section in sections:
        table = [section.columns] if any(section.columns) else []
        table.extend(section.rows)
        widths = [
            max((len(row[n]) for row in table if n < len(row) - 1), default=0)
            for n in range(len(section.columns))
        ]
        lines = [section.title]
        for row in table:
            cells = [f"{cell:{widths[n]}}" for n, cell in enumerate(row[:-1])]
            lines.append(("  " + "  ".join((*cells, row[-1]))).rstrip())
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def machine_data(support: Support) -> dict[str, Any]:
    """The findings of the probes, for JSON."""
    data = {name: getattr(support, name) for name in support._fields}  # pyright: ignore[reportPrivateUsage]
    data["kernel"] = list(support.kernel)
    data["namespaces"] = [kind for kind in NAMESPACE_KINDS if kind in support.namespaces]
    data["controllers"] = sorted(support.controllers)
    data["why"] = dict(support.why)
    data["isolated"] = support.isolated
    data["counts_threads"] = support.counts_threads
    return data


def guarantees_data(held: Iterable[Held]) -> list[dict[str, Any]]:
    """The guarantees, for JSON."""
    return [_plain({name: getattr(one, name) for name in one._fields}) for one in held]  # pyright: ignore[reportPrivateUsage]


def plan_data(plan: Plan) -> dict[str, Any]:
    """A plan, for JSON.  Bytes are text in it."""
    from ..policy.files import to_data

    return {
        "policy": to_data(plan.policy),
        "limits": {name: plan.limits[name] for name in LIMITS},
        "isolated": plan.isolated,
        "work": plan.work,
        "search_path": list(plan.search_path),
        "guarantees": guarantees_data(plan.guarantees),
        "notes": list(plan.notes),
        "refused_modules": list(plan.refused),
        "launch": [_plain(step.as_list()) for step in plan.launch],
        "guest": [_plain(step.as_list()) for step in plan.guest],
        "group": None if plan.group is None else _group_data(plan.group),
    }


def _group_data(group: GroupLimits) -> dict[str, Any]:
    return {name: getattr(group, name) for name in group._fields}  # pyright: ignore[reportPrivateUsage]


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if is_bunch(value):
        return [_plain(item) for item in value]
    if is_dict(value):
        return {str(name): _plain(item) for name, item in value.items()}
    return value

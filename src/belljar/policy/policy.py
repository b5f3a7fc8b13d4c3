"""``Policy``: what a guest may do.

What: one frozen value with three verbs, ``allow``, ``block`` and ``limit``, and one operator,
``&``.  Because: the creator settles it before the first instruction, so it must be a value that can be
compared, intersected and printed, and never a set of switches on a running thing.  Then:
``Policy()`` grants nothing, ``allow`` never narrows, ``block`` and ``limit`` never widen,
``a & b`` is never wider than either side; a request that could not keep this is a ``PolicyError``, not a surprise.
"""

from __future__ import annotations

from ..errors import PolicyError
from . import checks, grants, paths
from .grants import FrozenDict
from .limits import DEFAULTS, LIMITS, Limits, check_limit
from .rules import ALLOW, BLOCK, MAX_RULES, Rules, check_patterns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Never

    from .abilities import Ability, AbilityWanted
    from .grants import Texts
    from .paths import PathGrant, PathsWanted
    from .values import Frozen

_UNSET: Any = ...  # "not said", told apart from None, which is a mistake worth naming
NO_RULES = Rules()
EVERY_BUILTIN = Rules(ALLOW)


class Policy:
    """What a guest may do: grants, each given by name, and limits, each with a default.

    ``Policy()`` computes and prints; it grants nothing.  Read the parts as attributes; a policy
    never changes, so the verbs return a new one.

    Example::

        Policy().allow(read=["/srv/data"], env={"LANG": "C.UTF-8"}).limit(wall_s=2)

    Attributes:
        read: places that may be read, as ``PathGrant(host, inside)``, sorted by inside path.
        write: places that may be read and written, files and directories created included.
        streams: which of stdin, stdout, stderr are connected to the host's true ones.
        env: environment variables.
        argv: ``sys.argv[1:]``.
        packages: distributions that may be imported, names normalised (PEP 503), each extra
            as an entry of its own: ``pandas`` and ``pandas[excel]``.
        modules: what is said of C modules beyond the default list, as ``Rules``.
        stand_ins: module -> host path of the Python file that takes its place.
        run: programs that may be started, as absolute host paths or bare names.
        python: path of the interpreter or virtual environment that guests run; None for the
            host's own.
        jit: whether native code may be made from data.
        blocked_packages: distributions left out although others require them.
        blocked_functions: ``module:name`` of what is replaced by a refusal.  Shape, not wall.
        builtins: which built-in names the code has, as ``Rules``.  Shape, not wall.
        system_info: whether host name, processor, memory, uptime and the like may be seen.
        abilities: of the application's own, name -> True, number, frozenset or text.
        limits: the bounds.
    """

    __slots__ = (
        "__weakref__",
        "_names",
        "abilities",
        "argv",
        "blocked_functions",
        "blocked_packages",
        "builtins",
        "env",
        "jit",
        "limits",
        "modules",
        "packages",
        "python",
        "read",
        "run",
        "stand_ins",
        "streams",
        "system_info",
        "write",
    )

    read: tuple[PathGrant, ...]
    write: tuple[PathGrant, ...]
    streams: frozenset[str]
    env: Mapping[str, str]
    argv: tuple[str, ...]
    packages: frozenset[str]
    modules: Rules
    stand_ins: Mapping[str, str]
    run: frozenset[str]
    python: str | None
    jit: bool
    blocked_packages: frozenset[str]
    blocked_functions: frozenset[str]
    builtins: Rules
    system_info: bool
    abilities: Mapping[str, Ability]
    limits: Limits
    _names: tuple[tuple[str, Frozen], ...]  # sorted by name

    def __init__(self, **unknown: Never) -> None:
        for name in unknown:
            verb = "limit" if name in LIMITS else "allow"
            raise PolicyError(name, f"Policy() takes no arguments; write Policy().{verb}({name}=…)")
        put = object.__setattr__
        put(self, "read", ())
        put(self, "write", ())
        put(self, "streams", frozenset())
        put(self, "env", FrozenDict({}))
        put(self, "argv", ())
        put(self, "packages", frozenset())
        put(self, "modules", NO_RULES)
        put(self, "stand_ins", FrozenDict({}))
        put(self, "run", frozenset())
        put(self, "python", None)
        put(self, "jit", False)
        put(self, "blocked_packages", frozenset())
        put(self, "blocked_functions", frozenset())
        put(self, "builtins", EVERY_BUILTIN)
        put(self, "system_info", False)
        put(self, "abilities", FrozenDict({}))
        put(self, "limits", DEFAULTS)
        put(self, "_names", ())

    def __init_subclass__(cls) -> None:
        raise TypeError("Policy is final: a subclass could answer <= as it likes")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"a policy is frozen: cannot set {name!r}; use allow(), block() or limit()"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a policy is frozen: cannot delete {name!r}")

    def _with(self, **changes: object) -> Policy:
        made = Policy()
        for slot in self.__slots__:
            if slot != "__weakref__":
                object.__setattr__(made, slot, changes.get(slot, getattr(self, slot)))
        return made

    @property
    def names(self) -> Mapping[str, object]:
        """Names put into the guest's namespace.  Each access makes fresh copies."""
        if not self._names:
            return FrozenDict({})  # type: ignore[no-any-return]
        from .values import thaw

        return FrozenDict({name: thaw(frozen) for name, frozen in self._names})  # type: ignore[no-any-return]

    # ------------------------------------------------------------------ the verbs

    def allow(
        self,
        *,
        read: PathsWanted = _UNSET,
        write: PathsWanted = _UNSET,
        streams: Texts = _UNSET,
        env: Mapping[str, str] = _UNSET,
        argv: list[str] | tuple[str, ...] = _UNSET,
        names: Mapping[str, object] = _UNSET,
        packages: Texts = _UNSET,
        modules: Texts = _UNSET,
        stand_ins: Mapping[str, str] = _UNSET,
        run: Texts = _UNSET,
        python: str = _UNSET,
        jit: bool = _UNSET,
        functions: Texts = _UNSET,
        builtins: Texts = _UNSET,
        system_info: bool = _UNSET,
        abilities: Mapping[str, AbilityWanted] = _UNSET,
        wall_s: float = _UNSET,
        cpu_s: float = _UNSET,
        grace_s: float = _UNSET,
        pause_s: float = _UNSET,
        cpu_cores: float = _UNSET,
        memory_bytes: int = _UNSET,
        output_bytes: int = _UNSET,
        output_bytes_per_s: int = _UNSET,
        processes: int = _UNSET,
        threads: int = _UNSET,
        open_files: int = _UNSET,
        work_bytes: int = _UNSET,
        work_files: int = _UNSET,
        file_bytes: int = _UNSET,
        value_bytes: int = _UNSET,
        artifact_bytes: int = _UNSET,
        **unknown: Never,
    ) -> Policy:
        """This policy and more.  Never narrows: ``p <= p.allow(...)``.

        Args:
            read: list of host paths, shown at the same path inside, or dict host -> inside.
            write: the same, with reading.
            streams: any of "stdin", "stdout", "stderr", to connect the host's true stream.
            env: variables to set.
            argv: ``sys.argv[1:]``.
            names: name -> plain data, put into the namespace.
            packages: names of distributions, with extras if wanted: ``"pandas[excel]"``; what
                they require comes with them.
            modules: C modules beyond the default list (docs/reference/modules.md), each a
                name, ``"name.*"`` or ``"*"``.
            stand_ins: module -> absolute host path of a Python file that is loaded instead.
            run: programs that it may start, within ``processes``: absolute paths, or bare names
                to be found in /usr/local/bin, /usr/bin or /bin.  Inside each is
                ``/usr/bin/NAME``; its libraries come with it, its data files do not.
            python: absolute path of a CPython, 3.11 or newer, or of a virtual environment.
            jit: True to let native code be made from data, as Numba does.  This takes a wall
                away: what stands is what holds against arbitrary native code.
            functions: ``"module:name"`` that were blocked.
            builtins: built-in names that were blocked, or ``"*"``.
            system_info: True to let the guest see what this machine is.
            abilities: name -> True (a flag), a number (a cap), texts (a membership) or a text
                (a value).  They mean what your host functions make of them: no wall.
            wall_s, cpu_s, memory_bytes, ...: a higher limit.  A lower one changes nothing,
                because this verb never narrows; ``limit`` lowers.  ``processes=4`` lets it
                fork, and start its own interpreter anew (``sys.executable``).

        Returns:
            A new policy.

        Raises:
            PolicyError: names the key and what to write instead.  Also when two values are
                wanted where one fits (a variable, ``argv``, an inside path).
        """
        if unknown:
            raise checks.unknown("", next(iter(unknown)), (*grants.GRANTS, *LIMITS))
        changes: dict[str, object] = {}
        if read is not _UNSET or write is not _UNSET:
            changes["read"], changes["write"] = self._join_paths(read, write)
        if streams is not _UNSET:
            changes["streams"] = self.streams | grants.check_streams(streams)
        if env is not _UNSET:
            joined = grants.join(
                "env", dict(self.env), grants.check_env(env), grants.MAX_ENV, "variables"
            )
            size = sum(len(name.encode()) + len(text.encode()) for name, text in joined.items())
            checks.check_count(size, grants.MAX_TEXT_BYTES, "grants.env", "bytes")
            changes["env"] = FrozenDict(dict(sorted(joined.items())))
        if argv is not _UNSET:
            changes["argv"] = self._join_argv(argv)
        if names is not _UNSET:
            frozen = grants.check_names({**self.names}, names)
            put = grants.join("names", dict(self._names), frozen, grants.MAX_NAMES, "names")
            changes["_names"] = tuple(sorted(put.items()))
        if packages is not _UNSET:
            named = grants.check_packages("grants", packages)
            every = self.packages | named
            checks.check_count(len(every), grants.MAX_PACKAGES, "grants.packages", "packages")
            changes["packages"] = every
            changes["blocked_packages"] = self.blocked_packages - named
        if modules is not _UNSET:
            patterns = check_patterns("grants.modules", modules, "modules")
            changes["modules"] = _said(self.modules, patterns, ALLOW, "grants.modules")
        if stand_ins is not _UNSET:
            placed = grants.check_stand_ins(stand_ins)
            joined = grants.join(
                "stand_ins", dict(self.stand_ins), placed, grants.MAX_STAND_INS, "stand-ins"
            )
            changes["stand_ins"] = FrozenDict(dict(sorted(joined.items())))
        if run is not _UNSET:
            programs = self.run | grants.check_programs(run)
            checks.check_count(len(programs), grants.MAX_PROGRAMS, "grants.run", "programs")
            changes["run"] = programs
        if python is not _UNSET:
            changes["python"] = grants.join_python(self.python, python)
        if functions is not _UNSET:
            changes["blocked_functions"] = self.blocked_functions - grants.check_functions(
                "grants.functions", functions
            )
        if builtins is not _UNSET:
            patterns = check_patterns("grants.builtins", builtins, "names", dotted=False)
            changes["builtins"] = _said(self.builtins, patterns, ALLOW, "grants.builtins")
        for name, flag in (("jit", jit), ("system_info", system_info)):
            if flag is not _UNSET:
                changes[name] = grants.check_flag(name, flag) or getattr(self, name)
        if abilities is not _UNSET:
            from .abilities import check, join

            changes["abilities"] = FrozenDict(join(self.abilities, check(abilities)))
        higher = _given_limits(
            wall_s=wall_s,
            cpu_s=cpu_s,
            grace_s=grace_s,
            pause_s=pause_s,
            cpu_cores=cpu_cores,
            memory_bytes=memory_bytes,
            output_bytes=output_bytes,
            output_bytes_per_s=output_bytes_per_s,
            processes=processes,
            threads=threads,
            open_files=open_files,
            work_bytes=work_bytes,
            work_files=work_files,
            file_bytes=file_bytes,
            value_bytes=value_bytes,
            artifact_bytes=artifact_bytes,
        )
        if higher:
            changes["limits"] = self.limits | self.limits.replace(**higher)
        return self._with(**changes)

    def block(
        self,
        *,
        modules: Texts = _UNSET,
        packages: Texts = _UNSET,
        functions: Texts = _UNSET,
        builtins: Texts = _UNSET,
        **unknown: Never,
    ) -> Policy:
        """This policy with less code to load.  Never widens: ``p.block(...) <= p``.

        Args:
            modules: C modules, each a name, ``"name.*"`` or ``"*"`` for every one.  The most
                specific pattern decides, so ``block(modules=["*"])`` with
                ``allow(modules=["math"])`` leaves ``math``.  A pure-Python module that is
                named is refused by the import system only: its text needs no file.
            packages: distributions, whoever requires them.
            functions: ``"module:name"`` or ``"module:Class.name"``, replaced by a function
                that raises ``PermissionError``.  Shape, not wall.
            builtins: built-in names that the code does not have, or ``"*"``.  Shape, not wall.

        Returns:
            A new policy.

        Raises:
            PolicyError: names the key and what to write instead.
        """
        for name in unknown:
            note = f"{name} is granted; use a & b to take grants away"
            raise checks.unknown(
                "blocks", name, grants.BLOCKS, note if name in grants.GRANTS else ""
            )
        changes: dict[str, object] = {}
        if modules is not _UNSET:
            patterns = check_patterns("blocks.modules", modules, "modules")
            changes["modules"] = _said(self.modules, patterns, BLOCK, "blocks.modules")
        if packages is not _UNSET:
            names = grants.check_packages("blocks", packages)
            every = self.blocked_packages | names
            checks.check_count(len(every), grants.MAX_PACKAGES, "blocks.packages", "packages")
            changes["blocked_packages"] = every
            changes["packages"] = grants.without(self.packages, every)
        if functions is not _UNSET:
            all_functions = self.blocked_functions | grants.check_functions(
                "blocks.functions", functions
            )
            most = grants.MAX_FUNCTIONS
            checks.check_count(len(all_functions), most, "blocks.functions", "functions")
            changes["blocked_functions"] = all_functions
        if builtins is not _UNSET:
            patterns = check_patterns("blocks.builtins", builtins, "names", dotted=False)
            changes["builtins"] = _said(self.builtins, patterns, BLOCK, "blocks.builtins")
        return self._with(**changes)

    def limit(
        self,
        *,
        wall_s: float = _UNSET,
        cpu_s: float = _UNSET,
        grace_s: float = _UNSET,
        pause_s: float = _UNSET,
        cpu_cores: float = _UNSET,
        memory_bytes: int = _UNSET,
        output_bytes: int = _UNSET,
        output_bytes_per_s: int = _UNSET,
        processes: int = _UNSET,
        threads: int = _UNSET,
        open_files: int = _UNSET,
        work_bytes: int = _UNSET,
        work_files: int = _UNSET,
        file_bytes: int = _UNSET,
        value_bytes: int = _UNSET,
        artifact_bytes: int = _UNSET,
        **unknown: Never,
    ) -> Policy:
        """This policy with lower limits.  Never widens: ``p.limit(...) <= p``.

        Args:
            wall_s, cpu_s, memory_bytes, ...: the new bound; units and ranges are in ``LIMITS``.

        Returns:
            A new policy.

        Raises:
            PolicyError: a value above the present limit (write ``allow(wall_s=60)`` to raise
                it), out of range or of the wrong type, or a key that is not a limit.
        """
        for name in unknown:
            note = ""
            if name in grants.GRANTS:
                note = (
                    f"{name} is a grant, and limit() lowers limits; use a & b to take grants away"
                )
            raise checks.unknown("limits", name, LIMITS, note)
        lower = _given_limits(
            wall_s=wall_s,
            cpu_s=cpu_s,
            grace_s=grace_s,
            pause_s=pause_s,
            cpu_cores=cpu_cores,
            memory_bytes=memory_bytes,
            output_bytes=output_bytes,
            output_bytes_per_s=output_bytes_per_s,
            processes=processes,
            threads=threads,
            open_files=open_files,
            work_bytes=work_bytes,
            work_files=work_files,
            file_bytes=file_bytes,
            value_bytes=value_bytes,
            artifact_bytes=artifact_bytes,
        )
        for name, value in lower.items():
            if value > self.limits[name]:
                raise PolicyError(
                    f"limits.{name}",
                    f"{digits(value)} is above the present limit of "
                    f"{digits(self.limits[name])}, and limit() never widens; "
                    f"use allow({name}={digits(value)}) to raise it",
                )
        return self._with(limits=self.limits.replace(**lower)) if lower else self

    def _join_paths(self, read: object, write: object) -> tuple[object, object]:
        new_read = [] if read is _UNSET else paths.collect("read", read)
        new_write = [] if write is _UNSET else paths.collect("write", write)
        placed = [*self.read, *self.write]
        for key, grant in (*new_read, *new_write):
            paths.check_conflicts(key, grant, placed)
            placed.append(grant)
        reduced = paths.reduce_grants(
            (*self.read, *(grant for _, grant in new_read)),
            (*self.write, *(grant for _, grant in new_write)),
        )
        checks.check_count(len(reduced[0]) + len(reduced[1]), paths.MAX_PATHS, "grants", "paths")
        return reduced

    def _join_argv(self, argv: object) -> tuple[str, ...]:
        wanted = grants.check_argv(argv)
        if self.argv and wanted and wanted != self.argv:
            raise PolicyError(
                "grants.argv", "already granted with other arguments; a policy holds one argv"
            )
        return wanted or self.argv

    # ------------------------------------------------------------------ the order

    def __and__(self, other: object) -> Policy:
        """The intersection: what both allow, under the smaller of each limit."""
        if not isinstance(other, Policy):
            return NotImplemented
        read, write = paths.reduce_grants(
            paths.intersect((*self.read, *self.write), (*other.read, *other.write)),
            paths.intersect(self.write, other.write),
        )
        blocked = self.blocked_packages | other.blocked_packages
        return self._with(
            read=read,
            write=write,
            streams=self.streams & other.streams,
            env=FrozenDict({k: v for k, v in self.env.items() if other.env.get(k) == v}),
            argv=self.argv if self.argv == other.argv else (),
            _names=tuple(pair for pair in self._names if pair in other._names),
            packages=grants.without(self.packages & other.packages, blocked),
            modules=self.modules & other.modules,
            stand_ins=FrozenDict(
                {k: v for k, v in self.stand_ins.items() if other.stand_ins.get(k) == v}
            ),
            run=self.run & other.run,
            python=self.python if self.python == other.python else None,
            jit=self.jit and other.jit,
            blocked_packages=blocked,
            blocked_functions=self.blocked_functions | other.blocked_functions,
            builtins=self.builtins & other.builtins,
            system_info=self.system_info and other.system_info,
            abilities=self._meet_abilities(other),
            limits=self.limits & other.limits,
        )

    def _meet_abilities(self, other: Policy) -> Mapping[str, Ability]:
        if not self.abilities or not other.abilities:
            return FrozenDict({})  # type: ignore[no-any-return]
        from .abilities import meet

        return FrozenDict(meet(self.abilities, other.abilities))  # type: ignore[no-any-return]

    def _abilities_within(self, other: Policy) -> bool:
        if not self.abilities:
            return True
        from .abilities import within

        return within(self.abilities, other.abilities)

    def __le__(self, other: object) -> bool:
        """Is this policy at least as strict as ``other``?"""
        if not isinstance(other, Policy):
            return NotImplemented
        return (
            self.limits <= other.limits
            and self.system_info <= other.system_info
            and self.streams <= other.streams
            and self.packages <= other.packages
            and self.jit <= other.jit
            and self.run <= other.run
            and self.python in (None, other.python)
            and self.modules <= other.modules
            and self.builtins <= other.builtins
            and self.blocked_packages >= other.blocked_packages
            and self.blocked_functions >= other.blocked_functions
            and self.stand_ins.items() <= other.stand_ins.items()
            and self.env.items() <= other.env.items()
            and (not self.argv or self.argv == other.argv)
            and set(self._names) <= set(other._names)
            and self._abilities_within(other)
            and all(paths.covered(grant, other.write) for grant in self.write)
            and all(paths.covered(grant, (*other.read, *other.write)) for grant in self.read)
        )

    def __lt__(self, other: object) -> bool:
        """Is this policy stricter than ``other``?"""
        if not isinstance(other, Policy):
            return NotImplemented
        return self <= other and self != other

    def __ge__(self, other: object) -> bool:
        """Is ``other`` at least as strict as this policy?"""
        return NotImplemented if not isinstance(other, Policy) else other <= self

    def __gt__(self, other: object) -> bool:
        """Is ``other`` stricter than this policy?"""
        return NotImplemented if not isinstance(other, Policy) else other < self

    def _content(self) -> tuple[object, ...]:
        return (
            self.read,
            self.write,
            self.streams,
            tuple(self.env.items()),
            self.argv,
            self._names,
            self.packages,
            self.modules,
            tuple(self.stand_ins.items()),
            self.run,
            self.python,
            self.jit,
            self.blocked_packages,
            self.blocked_functions,
            self.builtins,
            self.system_info,
            # With its type, because a flag is not a cap of 1 although True == 1.
            tuple((name, type(value), value) for name, value in self.abilities.items())
            if self.abilities
            else (),
            self.limits,
        )

    def __eq__(self, other: object) -> bool:
        """Do both mean the same?"""
        if not isinstance(other, Policy):
            return NotImplemented
        return self is other or self._content() == other._content()

    def __hash__(self) -> int:
        return hash(self._content())

    # ------------------------------------------------------------------ as a value

    def __copy__(self) -> Policy:
        return self

    def __deepcopy__(self, _memo: object) -> Policy:
        return self

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the text of a policy file, so that reading it back checks everything."""
        from .files import dumps_json, loads_json

        return loads_json, (dumps_json(self),)

    def __repr__(self) -> str:
        """The calls that make this policy."""
        from .show import show_policy

        return show_policy(self)


def exactly(policy: Policy, limits: Limits, *rules: Rules) -> Policy:
    """``policy`` under just these ``limits``, higher or lower.

    ``rules`` are those on modules and on built-ins, where both are stated too.  For
    statements that are the creator's own and whole: policy files and baselines.
    """
    changes: dict[str, object] = {"limits": limits}
    if rules:
        changes["modules"], changes["builtins"] = rules
    return policy._with(**changes)  # pyright: ignore[reportPrivateUsage]


def _given_limits(**values: object) -> dict[str, Any]:
    return {n: check_limit(n, value) for n, value in values.items() if value is not _UNSET}


def _said(rules: Rules, patterns: list[str], said: int, key: str) -> Rules:
    made = rules.set(patterns, said)
    checks.check_count(len(made.pairs), MAX_RULES, key, "rules")
    return made


def digits(value: float) -> str:
    """A limit as one would write it: 60, not 60.0."""
    return repr(int(value) if value == int(value) else value)

"""``Policy``: what a guest may do.

What: one frozen value with two verbs, ``allow`` and ``limit``, and one operator, ``&``.
Because: the creator settles it before the first instruction, so it must be a value that can be
compared, intersected and printed, and never a set of switches on a running thing.  Then:
``Policy()`` grants nothing, ``allow`` never narrows, ``limit`` never widens, ``a & b`` is never
wider than either side; a request that could not keep this is a ``PolicyError``, not a surprise.
"""

from __future__ import annotations

from ..errors import PolicyError
from . import checks, grants, paths
from .grants import FrozenDict
from .limits import DEFAULTS, LIMITS, Limits, check_limit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Never

    from .grants import Texts
    from .paths import PathGrant, PathsWanted
    from .values import Frozen

_UNSET: Any = ...  # "not said", told apart from None, which is a mistake worth naming


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
        packages: distributions that may be imported, names normalised (PEP 503).
        system_info: whether host name, processor, memory, uptime and the like may be seen.
        limits: the bounds.
    """

    __slots__ = (
        "__weakref__",
        "_names",
        "argv",
        "env",
        "limits",
        "packages",
        "read",
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
    system_info: bool
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
        put(self, "system_info", False)
        put(self, "limits", DEFAULTS)
        put(self, "_names", ())

    def __init_subclass__(cls) -> None:
        raise TypeError("Policy is final: a subclass could answer <= as it likes")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a policy is frozen: cannot set {name!r}; use allow() or limit()")

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
        system_info: bool = _UNSET,
        wall_s: float = _UNSET,
        cpu_s: float = _UNSET,
        memory_bytes: int = _UNSET,
        output_bytes: int = _UNSET,
        processes: int = _UNSET,
        threads: int = _UNSET,
        open_files: int = _UNSET,
        work_bytes: int = _UNSET,
        work_files: int = _UNSET,
        file_bytes: int = _UNSET,
        value_bytes: int = _UNSET,
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
            packages: names of distributions.
            system_info: True to let the guest see what this machine is.
            wall_s, cpu_s, memory_bytes, ...: a higher limit.  A lower one changes nothing,
                because this verb never narrows; ``limit`` lowers.

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
            wanted = grants.check_names({**self.names}, names)
            named = grants.join("names", dict(self._names), wanted, grants.MAX_NAMES, "names")
            changes["_names"] = tuple(sorted(named.items()))
        if packages is not _UNSET:
            every = self.packages | grants.check_packages(packages)
            checks.check_count(len(every), grants.MAX_PACKAGES, "grants.packages", "packages")
            changes["packages"] = every
        if system_info is not _UNSET:
            changes["system_info"] = (
                grants.check_flag("system_info", system_info) or self.system_info
            )
        higher = _given_limits(
            wall_s=wall_s,
            cpu_s=cpu_s,
            memory_bytes=memory_bytes,
            output_bytes=output_bytes,
            processes=processes,
            threads=threads,
            open_files=open_files,
            work_bytes=work_bytes,
            work_files=work_files,
            file_bytes=file_bytes,
            value_bytes=value_bytes,
        )
        if higher:
            changes["limits"] = self.limits | self.limits.replace(**higher)
        return self._with(**changes)

    def limit(
        self,
        *,
        wall_s: float = _UNSET,
        cpu_s: float = _UNSET,
        memory_bytes: int = _UNSET,
        output_bytes: int = _UNSET,
        processes: int = _UNSET,
        threads: int = _UNSET,
        open_files: int = _UNSET,
        work_bytes: int = _UNSET,
        work_files: int = _UNSET,
        file_bytes: int = _UNSET,
        value_bytes: int = _UNSET,
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
            memory_bytes=memory_bytes,
            output_bytes=output_bytes,
            processes=processes,
            threads=threads,
            open_files=open_files,
            work_bytes=work_bytes,
            work_files=work_files,
            file_bytes=file_bytes,
            value_bytes=value_bytes,
        )
        for name, value in lower.items():
            if value > self.limits[name]:
                raise PolicyError(
                    f"limits.{name}",
                    f"{_digits(value)} is above the present limit of "
                    f"{_digits(self.limits[name])}, and limit() never widens; "
                    f"use allow({name}={_digits(value)}) to raise it",
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
        return self._with(
            read=read,
            write=write,
            streams=self.streams & other.streams,
            env=FrozenDict({k: v for k, v in self.env.items() if other.env.get(k) == v}),
            argv=self.argv if self.argv == other.argv else (),
            _names=tuple(pair for pair in self._names if pair in other._names),
            packages=self.packages & other.packages,
            system_info=self.system_info and other.system_info,
            limits=self.limits & other.limits,
        )

    def __le__(self, other: object) -> bool:
        """Is this policy at least as strict as ``other``?"""
        if not isinstance(other, Policy):
            return NotImplemented
        return (
            self.limits <= other.limits
            and self.system_info <= other.system_info
            and self.streams <= other.streams
            and self.packages <= other.packages
            and self.env.items() <= other.env.items()
            and (not self.argv or self.argv == other.argv)
            and set(self._names) <= set(other._names)
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
            self.system_info,
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
        parts: list[str] = []
        for verb, places in (("read", self.read), ("write", self.write)):
            if places:
                parts.append(f"{verb}={_show_paths(places)}")
        if self.streams:
            parts.append(f"streams={[name for name in grants.STREAMS if name in self.streams]!r}")
        if self.env:
            parts.append(f"env={dict(self.env)!r}")
        if self.argv:
            parts.append(f"argv={list(self.argv)!r}")
        if self._names:
            parts.append(f"names={dict(self.names)!r}")
        if self.packages:
            parts.append(f"packages={sorted(self.packages)!r}")
        if self.system_info:
            parts.append("system_info=True")
        lower: list[str] = []
        for name in LIMITS:
            value, default = self.limits[name], DEFAULTS[name]
            if value != default:
                (parts if value > default else lower).append(f"{name}={_digits(value)}")
        text = "Policy()"
        if parts:
            text += f".allow({', '.join(parts)})"
        if lower:
            text += f".limit({', '.join(lower)})"
        return text


def exactly(policy: Policy, limits: Limits) -> Policy:
    """``policy`` under just these ``limits``, higher or lower.

    For statements that are the creator's own and whole: policy files and baselines.
    """
    return policy._with(limits=limits)  # pyright: ignore[reportPrivateUsage]


def _given_limits(**values: object) -> dict[str, Any]:
    return {n: check_limit(n, value) for n, value in values.items() if value is not _UNSET}


def _digits(value: float) -> str:
    """A limit as one would write it: 60, not 60.0."""
    return repr(int(value) if value == int(value) else value)


def _show_paths(places: tuple[PathGrant, ...]) -> str:
    """A list if all are shown where they are, a dict if each is shown once, else grants."""
    if all(place.host == place.inside for place in places):
        return repr([place.host for place in places])
    table = {place.host: place.inside for place in places}
    return repr(table if len(table) == len(places) else list(places))

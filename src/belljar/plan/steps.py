"""The plan as a value: steps to carry out and guarantees that they hold."""

from __future__ import annotations

from .._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import TypeAlias

    from ..bpf.features import FilterFeatures
    from ..policy import Limits, Policy
    from .groups import GroupLimits

    # What the control channel carries; Sequence and Mapping, because a list of str is one too.
    Argument: TypeAlias = (
        bool | int | str | bytes | Sequence["Argument"] | Mapping[str, "Argument"] | None
    )


class Step(Record):
    """One irreversible act: a verb that ``launcher`` or ``confine`` knows, and arguments."""

    verb: str
    args: tuple[Argument, ...] = ()

    def as_list(self) -> list[Argument]:
        """The step as plain data, for the control channel."""
        return [self.verb, *self.args]


class Held(Record):
    """A guarantee and the mechanisms that hold it on this machine.

    ``rows`` are feature ids; ``lacking`` are mechanisms that would add a wall and are
    missing here; ``lost`` is true where nothing holds the guarantee and the policy grants
    what it would have protected.
    """

    name: str
    promise: str
    rows: tuple[str, ...]
    mechanisms: tuple[str, ...]
    lacking: tuple[str, ...] = ()
    lost: bool = False


class Plan(Record):
    """Everything that is done to run one guest under a policy on a machine.

    ``limits`` are those in force: the policy's, or tighter where this machine cannot
    count (``notes`` says so).  ``launch`` turns a fresh process into the zygote, ``guest``
    confines a fork of it; ``filter`` is the seccomp filter of the guest, not yet compiled.
    ``work`` is the guest's working directory, ``search_path`` its ``sys.path``; ``stand_ins``
    are (module, file) that take the place of modules, ``refused`` the C modules whose import
    is refused by name.  ``group`` is the cgroup that each guest gets, where it can have one.
    """

    policy: Policy
    limits: Limits
    isolated: bool
    launch: tuple[Step, ...]
    guest: tuple[Step, ...]
    filter: FilterFeatures
    work: str
    search_path: tuple[str, ...]
    guarantees: tuple[Held, ...]
    notes: tuple[str, ...] = ()
    stand_ins: tuple[tuple[str, str], ...] = ()
    refused: tuple[str, ...] = ()
    group: GroupLimits | None = None

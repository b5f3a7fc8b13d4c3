"""What a case is, and how one is drawn from a seed and an index.

What: ``draw(seed, index, place)`` makes one program, its policy and what must come out.
Because: a failure in run 73,412 must be had again alone.  Then: nothing here depends on
anything but the seed, the index and the folder whose files are granted; what must come out
is known from how the program was made, or computed here by other means, never by running it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from belljar import Policy, Result

# A run that is right is never in a hurry: these machines are shared.
PATIENT = Policy().allow(wall_s=60, cpu_s=60)

Check = Callable[[Result], str | None]  # None, or what is wrong


@dataclass(frozen=True)
class Place:
    """Files of the host that policies grant: made once, the same for each run."""

    folder: Path

    @property
    def shared(self) -> Path:
        """Granted for reading: files ``0`` to ``9``, each with the text ``content <number>``."""
        return self.folder / "shared"

    @property
    def out(self) -> Path:
        """Granted for writing; a case takes away what it wrote."""
        return self.folder / "out"

    @property
    def stand_in(self) -> Path:
        """A Python file that stands in for a C module."""
        return self.folder / "stand_in.py"

    def make(self) -> None:
        for folder in (self.folder, self.shared, self.out):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        for number in range(10):
            (self.shared / str(number)).write_text(f"content {number}", encoding="utf-8")
        self.stand_in.write_text("ANSWER = 42\n", encoding="utf-8")


@dataclass(frozen=True)
class Case:
    """One run: the arguments of ``belljar.run``, what is done to it meanwhile, what must come."""

    code: str
    check: Check
    policy: Policy = PATIENT
    preload: Sequence[str] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict[str, Any])
    argv: Sequence[str] = ()
    stdin: bytes | None = None
    files: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    # Done when the guest prints its first bytes: "kill guest", "kill zygote", "raise", "fork".
    deed: str = ""
    after: Callable[[], str | None] = lambda: None  # looks at the host's files, and tidies up


Maker = Callable[[random.Random, Place, int], Case]


@dataclass(frozen=True)
class Kind:
    """A family of cases: its name, whether it is hostile, how often it is drawn."""

    name: str
    hostile: bool
    weight: float
    make: Maker


KINDS: dict[str, Kind] = {}


def kind(weight: float, *, hostile: bool = False) -> Callable[[Maker], Maker]:
    """Enter a maker of cases into the table, under its name."""

    def enter(make: Maker) -> Maker:
        name = make.__name__.replace("_", " ").strip()
        KINDS[name] = Kind(name, hostile, weight, make)
        return make

    return enter


def draw(seed: int, index: int, place: Place) -> tuple[Kind, Case]:
    """The case with this index; the same for the same seed."""
    rng = random.Random(f"{seed}:{index}")
    kinds = list(KINDS.values())
    chosen = rng.choices(kinds, [k.weight for k in kinds])[0]
    return chosen, chosen.make(rng, place, index)


# ---------------------------------------------------------------------- what must come out


def value(expected: object, stdout: bytes = b"", stderr: bytes = b"") -> Check:
    """A good end with this value, of this type, and these bytes on the streams."""

    def check(result: Result) -> str | None:
        if result.status != "ok":
            return f"status {result.status}"
        if type(result.value) is not type(expected) or result.value != expected:
            return f"value {result.value!r:.200}, not {expected!r:.200} ({result.value_error})"
        if result.stdout_bytes != stdout:
            return f"stdout {result.stdout_bytes!r:.200}, not {stdout!r:.200}"
        if result.stderr_bytes != stderr:
            return f"stderr {result.stderr_bytes!r:.200}, not {stderr!r:.200}"
        return None

    return check


def raised(type_name: str, message: str | None = None) -> Check:
    """An exception of this type, with this message."""

    def check(result: Result) -> str | None:
        if result.status != "raised" or result.error is None:
            return f"status {result.status}"
        if result.error.type != type_name:
            return f"error {result.error.type}, not {type_name}"
        if message is not None and result.error.message != message:
            return f"message {result.error.message!r:.200}"
        return None

    return check


def exited(code: int) -> Check:
    """An exit with this code."""

    def check(result: Result) -> str | None:
        if (result.status, result.exit_code) == ("exited", code):
            return None
        return f"status {result.status}, exit code {result.exit_code}"

    return check


def limit(*names: str) -> Check:
    """One of these limits ended it."""

    def check(result: Result) -> str | None:
        if result.status == "limit" and result.limit is not None and result.limit.name in names:
            return None
        return f"status {result.status}, limit {result.limit}"

    return check


def crashed(signal: int | None) -> Check:
    """A signal ended it; None: it broke the protocol."""

    def check(result: Result) -> str | None:
        if (result.status, result.signal) != ("crashed", signal):
            return f"status {result.status}, signal {result.signal}"
        if signal is None and (result.error is None or result.error.type != "GuestProtocolError"):
            return f"error {result.error}"
        return None

    return check


def status(*names: str) -> Check:
    """One of these; which one is up to the guest."""

    def check(result: Result) -> str | None:
        return None if result.status in names else f"status {result.status}"

    return check


def both(*checks: Check) -> Check:
    """The first of them that finds something wrong."""

    def check(result: Result) -> str | None:
        return next((found for one in checks if (found := one(result)) is not None), None)

    return check

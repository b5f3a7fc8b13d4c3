"""What a result looks like to a person, on standard error.

What: the guest's traceback as it is, then a line that starts with ``belljar:`` for a limit,
a crash and each denial.  Because: those lines are ours and are to be believed, all that the
guest had a hand in is put on one line in them.  Then: the caller writes the whole, made
harmless where it goes to a terminal.
"""

from __future__ import annotations

from ..errors import PolicyError, SandboxFailure, UnsupportedError
from .options import FLAGS
from .signals import describe
from .terminal import one_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..result import Denial, LimitHit, Result

MOST_DENIALS = 10  # a screen has room for the outcome as well; --json has them all
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+=,")


def describe_result(
    result: Result, *, quiet: bool = False, more_hint: str = "; --json lists them all"
) -> str:
    """How a run ended; nothing for a good end without denials.

    ``quiet`` leaves out what was refused; ``more_hint`` says where all of that is to be had.
    """
    parts: list[str] = []
    # With a limit that the kernel saw, the guest's exception is only what came of it.
    claimed = result.limit is not None and result.limit.evidence == "guest"
    if result.error is not None and (result.status == "raised" or claimed):
        text = result.error.traceback or f"{result.error.type}: {result.error.message}"
        parts.append(text if text.endswith("\n") else f"{text}\n")
    if result.limit is not None:
        parts.append(f"belljar: {describe_limit(result.limit)}\n")
    elif result.status == "crashed":
        parts.append(f"belljar: {describe_crash(result)}\n")
    if not quiet:
        parts.extend(f"belljar: {describe_denial(d)}\n" for d in result.denials[:MOST_DENIALS])
        more = len(result.denials) - MOST_DENIALS
        if more > 0:
            parts.append(f"belljar: refused {more} more{more_hint}\n")
    return "".join(parts)


def describe_limit(hit: LimitHit) -> str:
    """``limit wall: allowed 2 s, used 2.01 s (--wall sets it)``

    Without ``used`` where it is not the kernel that met the limit: a guest that asked for
    too much at once never used it.
    """
    from ..policy.limits import LIMITS
    from ..policy.units import format_limit

    # wall -> wall_s, open_files -> open_files
    field = next((f for f in LIMITS if hit.name in (f, f.rpartition("_")[0])), "")
    if not field:
        return f"limit {one_line(hit.name)}: allowed {hit.allowed:g}"
    text = f"limit {hit.name}: allowed {format_limit(field, hit.allowed)}"
    if hit.used is not None and hit.evidence == "kernel":
        text += f", used {_about(field, hit.used)}"
    flag = next((f.name for f in FLAGS.values() if f.limit == field), "")
    return f"{text} ({flag} sets it)" if flag else text


def _about(field: str, used: float) -> str:
    """A measured figure in three digits; its last ones mean nothing."""
    from ..policy.limits import LIMITS

    if LIMITS[field].unit == "bytes":
        for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
            if used >= size:
                return f"{used / size:.1f} {unit}"
        return f"{used:.0f} bytes"
    if LIMITS[field].unit == "seconds":
        return f"{used:.3g} s" if used < 1000 else f"{used:.0f} s"
    return f"{used:.0f}"


def describe_crash(result: Result) -> str:
    """``crashed: Segmentation fault (signal 11)``"""
    if result.signal:
        return f"crashed: {describe(result.signal)} (signal {result.signal})"
    if result.error is not None:
        return f"crashed: it broke the protocol: {one_line(result.error.message)}"
    return "crashed"


def describe_denial(denial: Denial) -> str:
    """``refused read /srv/data: allow with --read /srv/data``"""
    tried = one_line(f"{denial.action} {denial.target}" if denial.target else denial.action)
    if denial.action in ("read", "write") and denial.target.startswith("/"):
        return f"refused {tried}: {_place_hint(f'--{denial.action}', denial.target)}"
    if denial.action == "fork" and denial.grant.startswith("allow("):
        flags = f"--run {quote(denial.target)}" if denial.grant.startswith("allow(run=") else ""
        more = "--processes 1" if denial.grant.endswith("processes=1)") else ""
        return f"refused {tried}: allow with {' '.join(filter(None, (flags, more)))}"
    return f"refused {tried}: {one_line(denial.grant)}"


def _place_hint(flag: str, target: str) -> str:
    from ..policy.paths import check_host, check_inside, check_path

    try:
        path = check_host(check_path(target, flag), flag)
    except PolicyError:
        return "no grant would allow it"
    if ":/" in path:
        return "allow in a policy file; as a flag its name would read as two places"
    try:
        check_inside(path, path, flag, flag)
    except PolicyError:
        return f"allow at another place with {flag} {quote(f'{path}:/data')}"
    return f"allow with {flag} {quote(path)}"


def quote(text: str) -> str:
    """``text`` as one word of a shell, on one line, to be copied and pasted.

    What cannot be shown, or could end the word, is written as in a shell's ``$'...'``.
    """
    if text and all(character in _PLAIN for character in text):
        return text
    shown = one_line(text)
    if shown == text:
        return "'" + text.replace("'", "'\\''") + "'"
    return "$'" + one_line(text.replace("\\", "\\\\").replace("'", "\\'")) + "'"


def describe_failure(error: Exception) -> str:
    """Why nothing ran, or why belljar itself failed; lines that start with ``belljar:``."""
    if isinstance(error, UnsupportedError):
        return "".join(f"belljar: {line.strip()}\n" for line in str(error).splitlines())
    text = one_line(str(error))
    if isinstance(error, PolicyError) and error.key in ("code", "argv"):
        text = one_line(error.message)
    if isinstance(error, (SandboxFailure, OSError)):
        retryable = isinstance(error, SandboxFailure) and error.retryable
        again = "; it may work if tried again" if retryable else ""
        text = f"belljar itself failed: {text}{again}"
    return f"belljar: {text}\n"

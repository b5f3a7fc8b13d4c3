"""Flags -> ``Policy``.

What: a policy file or baseline first, then each flag on top.  Because: a flag is the user's
own word at this moment; a limit is set to just what it says, higher or lower.  Then: every
fault is a ``PolicyError`` that names the flag.
"""

from __future__ import annotations

import os

from ..errors import PolicyError
from ..policy import PathGrant, Policy
from .options import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from .options import Parsed

    _T = TypeVar("_T")

_ELSEWHERE = "; show it elsewhere"  # how the policy says so in the words of Python


def make_policy(parsed: Parsed) -> Policy:
    """The policy that a command line asks for.

    Raises:
        PolicyError: ``key`` is the flag, or the key path in the policy file.
    """
    if not parsed.values and not parsed.switches:
        return Policy()
    policy = _base(parsed.one("policy"))
    for dest in ("read", "write"):
        for text in parsed.each(dest):
            policy = _grant_place(policy, dest, text)
    for text in parsed.each("package"):
        policy = _named("--package", lambda text=text: policy.allow(packages=[text]))
    for text in parsed.each("env"):
        name, equals, value = text.partition("=")
        if not equals:
            raise PolicyError("--env", f"expected NAME=VALUE, got {text!r}")
        policy = _named("--env", lambda name=name, value=value: policy.allow(env={name: value}))
    if "system_info" in parsed.switches:
        policy = policy.allow(system_info=True)
    if "stdin" in parsed.switches:
        policy = policy.allow(streams=["stdin"])
    return _set_limits(policy, parsed)


def split_place(text: str) -> tuple[str, str]:
    """``HOST[:INSIDE]`` as its two parts; INSIDE starts with a slash, else it is part of HOST."""
    place = text.rfind(":/")
    return (text[:place], text[place + 1 :]) if place > 0 else (text, "")


def absolute(path: str) -> str:
    """``path`` from the root on.  With ``..`` in it, where it leads, symbolic links resolved."""
    if not path:
        raise PolicyError("", "the path is empty")
    if ".." in path.split("/"):
        return os.path.realpath(path)
    return os.path.abspath(path)


def _base(source: str | None) -> Policy:
    from ..policy.baselines import PREFIX, baseline

    if source is None:
        return Policy()
    if source.startswith(PREFIX):
        return _named("--policy", lambda: baseline(source))
    from ..policy.files import load_policy

    return load_policy(source)


def _grant_place(policy: Policy, verb: str, text: str) -> Policy:
    flag = f"--{verb}"
    host, inside = split_place(text)

    def grant() -> Policy:
        where = absolute(host)
        try:
            os.stat(where)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            hint = "; to let it create a file, grant its directory" if verb == "write" else ""
            raise PolicyError(flag, f"{host}: {reason}{hint}") from None
        place = PathGrant(where, inside or where)
        return policy.allow(read=[place]) if verb == "read" else policy.allow(write=[place])

    try:
        return _named(flag, grant)
    except PolicyError as error:
        message, found, _ = error.message.partition(_ELSEWHERE)
        if found:
            message += f"{found}: {flag} {host}:/data"
        raise PolicyError(flag, message) from None


def _set_limits(policy: Policy, parsed: Parsed) -> Policy:
    """The limits exactly as the flags say, above or below what the policy had."""
    changes: dict[str, float] = {}
    for dest in parsed.values:
        flag = FLAGS[dest]
        text = parsed.one(dest)
        if flag.limit and text is not None:
            from ..policy.units import parse_limit

            changes[flag.limit] = _named(
                flag.name, lambda flag=flag, text=text: parse_limit(flag.limit, text)
            )
    if not changes:
        return policy
    from ..policy.policy import exactly

    return exactly(policy, policy.limits.replace(**changes))


def _named(flag: str, make: Callable[[], _T]) -> _T:
    """What ``make`` gives; what it has against it is said of the flag."""
    try:
        return make()
    except PolicyError as error:
        raise PolicyError(flag, error.message) from None

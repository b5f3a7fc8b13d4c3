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
    from .options import Parsed

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
        with _Said("--package"):
            policy = policy.allow(packages=[text])
    policy = _choose_modules(policy, parsed)
    for text in parsed.each("run"):
        with _Said("--run"):
            policy = policy.allow(run=[absolute(text) if "/" in text else text])
    python = parsed.one("python")
    if python is not None:
        with _Said("--python"):
            policy = policy.allow(python=absolute(python))
    if "jit" in parsed.switches:
        policy = policy.allow(jit=True)
    for text in parsed.each("env"):
        name, equals, value = text.partition("=")
        if not equals:
            raise PolicyError("--env", f"expected NAME=VALUE, got {text!r}")
        with _Said("--env"):
            policy = policy.allow(env={name: value})
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
    if source is None:
        return Policy()
    from ..policy.baselines import PREFIX, baseline

    if source.startswith(PREFIX):
        with _Said("--policy"):
            return baseline(source)
    from ..policy.files import load_policy

    return load_policy(source)


def _grant_place(policy: Policy, verb: str, text: str) -> Policy:
    flag = f"--{verb}"
    host, inside = split_place(text)
    with _Said(flag, host):
        where = absolute(host)
        try:
            os.stat(where)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            hint = "; to let it create a file, grant its directory" if verb == "write" else ""
            raise PolicyError(flag, f"{host}: {reason}{hint}") from None
        place = PathGrant(where, inside or where)
        return policy.allow(read=[place]) if verb == "read" else policy.allow(write=[place])


def _choose_modules(policy: Policy, parsed: Parsed) -> Policy:
    """Wide patterns before narrow ones, so that the most specific one decides, as in a file."""
    flags = [(text, "--module") for text in parsed.each("module")]
    flags += [(text, "--block-module") for text in parsed.each("block_module")]
    if not flags:
        return policy
    from ..policy.rules import width

    for text, flag in sorted(flags, key=lambda pair: width(pair[0])):
        with _Said(flag):
            verb = policy.allow if flag == "--module" else policy.block
            policy = verb(modules=[text])
    return policy


def _set_limits(policy: Policy, parsed: Parsed) -> Policy:
    """The limits exactly as the flags say, above or below what the policy had."""
    changes: dict[str, float] = {}
    for dest in parsed.values:
        flag = FLAGS[dest]
        text = parsed.one(dest)
        if flag.limit and text is not None:
            from ..policy.units import parse_limit

            with _Said(flag.name):
                changes[flag.limit] = parse_limit(flag.limit, text)
    if not changes:
        return policy
    from ..policy.policy import exactly

    return exactly(policy, policy.limits.replace(**changes))


class _Said:
    """A block in which whatever the policy has to say is said of a flag, and in its words."""

    def __init__(self, flag: str, host: str = "") -> None:
        self._flag = flag
        self._host = host

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, PolicyError):
            message, found, _ = error.message.partition(_ELSEWHERE)
            if found:
                message += f"{found}: {self._flag} {self._host}:/data"
            raise PolicyError(self._flag, message) from None

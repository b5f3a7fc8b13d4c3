"""K10: each call of the kernel on the way to a guest fails, one at a time.

What: a host under supervision (``belljar.testing.faults``), in which the n-th call of a name in
the host, the launcher, the zygote or the guest is answered with an error.  Because: a fault that
nobody tried is handled by luck.  Then: a right result or one typed error, which says of a
shortage that a retry may help; no descriptor, process or mount left, in the host or in the
zygote; and the next run works.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Iterator

import pytest

from belljar.testing.faults import Fault, FaultyHost, Site, faults_at, what_is_wrong

# While an interpreter starts it reads hundreds of files; a few of each call stand for them.
_OF_THE_INTERPRETER = {"newfstatat", "getdents64", "pread64", "mmap", "mprotect", "read"}
LONG_S = float(os.environ.get("BELLJAR_FUZZ_SECONDS", "600"))


@pytest.fixture
def host(walls: None) -> Iterator[FaultyHost]:
    with FaultyHost() as host:
        yield host


def sweep(host: FaultyHost, mode: str, faults: list[Fault], seconds: float = 1e9) -> list[str]:
    """Every fault in turn, as long as there is time; what went wrong, one line each."""
    wrong: list[str] = []
    until = time.monotonic() + seconds
    for fault in faults:
        if time.monotonic() > until:
            break
        if not host.alive:
            wrong.append(f"the host program ended before {fault}")
            break
        outcome = host.attempt(mode, fault)
        for trouble in what_is_wrong(fault, outcome):
            name = errno.errorcode[fault.errno]
            wrong.append(f"{fault.role} {fault.call} {fault.nth} {name}: {trouble} ({outcome})")
    return wrong


def firsts(sites: list[Site], up_to: int = 1) -> list[Site]:
    return [site for site in sites if site.nth <= up_to]


def one_error_each(sites: list[Site], seed: int = 0) -> list[Fault]:
    """For each call one of its errors, the same ones in each run of the test."""
    chance = random.Random(seed)
    found = [faults_at([site]) for site in sites]
    return [chance.choice(faults) for faults in found if faults]


def test_K10_each_call_of_a_spawn(host: FaultyHost) -> None:
    """Host, zygote and guest, with a zygote that is there: the first of each call, all errors."""
    sites = host.trace("warm")
    assert {site.role for site in sites} == {"host", "zygote", "guest"}
    faults = faults_at(firsts(sites))
    assert len(faults) > 80
    assert sweep(host, "warm", faults) == []


def test_K10_each_call_of_a_launch(walls: None) -> None:
    """Host, launcher and zygote, from nothing: the first of each call, one error each."""
    with FaultyHost(unasked=[*_OF_THE_INTERPRETER, "close", "ioctl", "access"]) as host:
        sites = [site for site in host.trace("cold") if site.role != "guest"]
        assert {site.role for site in sites} == {"host", "launcher", "zygote"}
        faults = one_error_each(firsts(sites))
        assert len(faults) > 30
        assert sweep(host, "cold", faults) == []


def test_K10_the_supervisor_would_see_what_goes_wrong(host: FaultyHost) -> None:
    """A fault is met where it was meant, and a wrong outcome is told."""
    fault = Fault("zygote", "clone", 1, errno.EAGAIN)
    outcome = host.attempt("warm", fault)
    assert (outcome.kind, outcome.stage, outcome.retryable) == ("SetupFailed", "clone", True)
    assert outcome.hit
    assert what_is_wrong(fault, outcome) == []
    wrong = outcome._replace(kind="OSError", typed=False, leaked=["child"], again="it hangs")
    assert what_is_wrong(fault, wrong) == [
        "not a typed error",
        "the next run: it hangs",
        "left: child",
    ]
    assert what_is_wrong(fault, outcome._replace(retryable=False)) == ["not retryable"]
    assert not host.attempt("warm", Fault("zygote", "clone", 99, errno.EAGAIN)).hit


@pytest.mark.long
def test_K10_every_call_of_a_spawn(host: FaultyHost) -> None:
    """All occurrences, all errors."""
    assert sweep(host, "warm", faults_at(host.trace("warm"))) == []


@pytest.mark.long
@pytest.mark.parametrize("mode", ["cold", "own"])
def test_K10_every_call_of_a_launch(host: FaultyHost, mode: str) -> None:
    """All occurrences and errors in random order, as many as the time of the long suite allows."""
    faults = faults_at([site for site in host.trace(mode) if site.role != "guest"])
    random.shuffle(faults)
    assert sweep(host, mode, faults, LONG_S) == []

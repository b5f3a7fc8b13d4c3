"""R10, R11, K9: no network, no socket that reaches anybody.

What: every kind of socket towards listeners that the test itself opens on the host.  Because:
a service on loopback or on a Unix socket is often the shortest way out of a sandbox.  Then:
nothing ever arrives there, by the filter alone and by the empty network namespace alone, and
the same probes arrive from a process outside.
"""

from __future__ import annotations

import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from belljar import Policy

from .conftest import Wall
from .native import REFUSED, outcome, outside


class Listeners:
    """One listener of each kind, and what has arrived."""

    def __init__(self, base: Path) -> None:
        name = f"belljar-test-{os.getpid()}"
        self.sockets: list[socket.socket] = []
        self.path = base / "socket"
        self.tcp = self._open(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.udp = self._open(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._open(socket.AF_UNIX, socket.SOCK_STREAM, str(self.path))
        self._open(socket.AF_UNIX, socket.SOCK_DGRAM, f"{self.path}-datagrams")
        self._open(socket.AF_UNIX, socket.SOCK_STREAM, f"\0{name}")
        self._open(socket.AF_UNIX, socket.SOCK_DGRAM, f"\0{name}-datagrams")
        for file in (self.path, Path(f"{self.path}-datagrams")):
            file.chmod(0o777)
        self.inputs: dict[str, Any] = {
            "TCP": self.tcp.getsockname()[1],
            "UDP": self.udp.getsockname()[1],
            "PATH": str(self.path),
            "NAME": name,
        }

    def _open(self, family: int, kind: int, address: Any) -> socket.socket:
        sock = socket.socket(family, kind)
        sock.bind(address)
        if kind == socket.SOCK_STREAM:
            sock.listen(64)
        self.sockets.append(sock)
        return sock

    def arrived(self) -> int:
        """How many listeners something has reached, now."""
        return len(select.select(self.sockets, [], [], 0)[0])


@pytest.fixture
def listeners(open_dir: Path) -> Iterator[Listeners]:
    made = Listeners(open_dir)
    yield made
    for sock in made.sockets:
        sock.close()


REACH = """
import struct
INET, INET6, UNIX = 2, 10, 1
STREAM, DGRAM, RAW, SEQPACKET = 1, 2, 3, 5

def inet(port, host=b"\\x7f\\0\\0\\1"):
    return struct.pack("=H", INET) + struct.pack(">H", port) + host + bytes(8)

def unix(path):
    return struct.pack("=H", UNIX) + path

def reach(family, kind, address, protocol=0):
    fd = call("socket", family, kind, protocol)
    if isinstance(fd, str):
        return fd
    got = call("connect", fd, address, len(address))
    if got == 0:
        got = call("sendto", fd, b"x", 1, 0, None, 0)
    call("close", fd)
    return got if isinstance(got, str) else "reached"

def throw(family, address, name):
    fd = call("socket", family, DGRAM, 0)
    if isinstance(fd, str):
        return fd
    if name == "sendto":
        got = call("sendto", fd, b"x", 1, 0, address, len(address))
    else:
        place, data = buffer(address), buffer(b"x")
        piece = buffer(struct.pack("QQ", _ctypes.addressof(data), 1))
        message = struct.pack(
            "QIxxxxQQQQixxxx", _ctypes.addressof(place), len(address), _ctypes.addressof(piece),
            1, 0, 0, 0)
        if name == "sendmmsg":
            message += bytes(8)
        got = call(name, fd, message, *((1, 0) if name == "sendmmsg" else (0,)))
    call("close", fd)
    return got if isinstance(got, str) else "reached"

N = b"\\0" + NAME.encode()
P = PATH.encode()
found = {
    "tcp": reach(INET, STREAM, inet(TCP)),
    "tcp by another address": reach(INET, STREAM, inet(TCP, b"\\0\\0\\0\\0")),
    "udp": reach(INET, DGRAM, inet(UDP)),
    "udp sendto": throw(INET, inet(UDP), "sendto"),
    "udp sendmsg": throw(INET, inet(UDP), "sendmsg"),
    "udp sendmmsg": throw(INET, inet(UDP), "sendmmsg"),
    "path": reach(UNIX, STREAM, unix(P)),
    "path datagram": reach(UNIX, DGRAM, unix(P + b"-datagrams")),
    "path sendto": throw(UNIX, unix(P + b"-datagrams"), "sendto"),
    "path sendmsg": throw(UNIX, unix(P + b"-datagrams"), "sendmsg"),
    "abstract": reach(UNIX, STREAM, unix(N)),
    "abstract datagram": reach(UNIX, DGRAM, unix(N + b"-datagrams")),
    "abstract sendmsg": throw(UNIX, unix(N + b"-datagrams"), "sendmsg"),
}
"""


def test_R10_the_probes_arrive_from_outside(listeners: Listeners) -> None:
    found = outside(REACH + "found", listeners.inputs)
    assert set(found.values()) == {"reached"}
    assert listeners.arrived() == 6


def test_R10_nothing_of_the_host_is_reached(listeners: Listeners, call_wall: Wall) -> None:
    found = outcome(REACH + "found", call_wall.policy, inputs=listeners.inputs)
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}
    assert listeners.arrived() == 0


def test_R10_not_even_with_the_sockets_directory_granted(listeners: Listeners) -> None:
    """A Unix socket in a granted directory is a file there, and no way to its owner."""
    policy = Policy().allow(write=[str(listeners.path.parent)])
    found = outcome(REACH + "found", policy, inputs=listeners.inputs)
    assert {name: got for name, got in found.items() if got not in REFUSED} == {}
    assert listeners.arrived() == 0


MORE_KINDS = """
def made(*arguments):
    got = call(*arguments)
    return got if isinstance(got, str) else "made"
found = {}
for family in range(50):
    for kind in (1, 2, 3, 4, 5, 10):
        for protocol in (0, 6, 17, 255, 262):
            got = made("socket", family, kind, protocol)
            if got == "made":
                found[f"socket {family} {kind} {protocol}"] = got
# High halves and flags must not slip past a comparison.
for family in (1, 2, 2 | 1 << 32, 16):
    for kind in (1 | 0o2000000, 1 | 1 << 32, 2 | 0o4000):
        if made("socket", family, kind, 0) == "made":
            found[f"socket {family} {kind}"] = "made"
pair = buffer(8)
for family, kind in ((1, 2), (1, 2 | 0o2000000), (1, 2 | 1 << 32), (2, 1), (10, 1), (16, 3)):
    if made("socketpair", family, kind, 0, pair) == "made":
        found[f"pair {family} {kind}"] = "made"
found
"""


@pytest.mark.parametrize("call_wall", ["all", "no root"], indirect=True)
def test_R10_no_kind_of_socket_can_be_made(call_wall: Wall) -> None:
    """By the filter; that none reaches anybody is held by the network namespace as well.

    But a Unix socket that nothing can name or connect, which programs probe for.
    """
    made = outcome(MORE_KINDS, call_wall.policy)
    assert {name.split()[1] for name in made} == {"1"}
    assert {int(name.split()[2]) & 0xF for name in made} == {1, 5}


ALONE = """
import os, struct, threading, time
name = b"\\1\\0" + b"/work/socket\\0"
found = []
for kind in (1, 5):
    ends = [call("socket", 1, kind, 0), call("socket", 1, kind, 0)]
    assert all(isinstance(end, int) for end in ends), ends
    for end in ends:
        for abstract in (name, b"\\1\\0\\0abstract", b"\\1\\0"):
            found.append(call("bind", end, abstract, len(abstract)))
            found.append(call("connect", end, abstract, len(abstract)))
            found.append(call("sendto", end, b"x", 1, 0, abstract, len(abstract)))
            message = buffer(56)
            address, data = buffer(abstract), buffer(b"x")
            part = buffer(struct.pack("QQ", _ctypes.addressof(data), 1))
            message[:48] = struct.pack("QQQQQQ", _ctypes.addressof(address), len(abstract), _ctypes.addressof(part), 1, 0, 0)
            found.append(call("sendmsg", end, message, 0x4000))
        found.append(call("listen", end, 1))
        found.append(call("accept4", end, None, None, 0))
        found.append(call("sendto", end, b"x", 1, 0x4000, None, 0))
        found.append(call("getsockopt", end, 1, 17, buffer(12), buffer(struct.pack("I", 12))))
found
"""


@pytest.mark.parametrize("call_wall", ["all"], indirect=True)
def test_R10_a_lone_unix_socket_leads_nowhere(call_wall: Wall) -> None:
    found = outcome(ALONE, call_wall.policy)
    assert len(found) == 4 * (3 * 4 + 4)
    assert all(isinstance(got, str) for got in found), found


PAIR = """
import array, socket, struct
left, right = socket.socketpair()
found = {}
for name, arguments in {
    "bind": (b"\\1\\0\\0name", 8), "listen": (1,), "accept": (None, None),
    "accept4": (None, None, 0), "connect": (b"\\1\\0\\0name", 8),
}.items():
    found[name] = call(name, left.fileno(), *arguments)
found["address"] = call("sendto", left.fileno(), b"x", 1, 0, b"\\1\\0\\0name", 8)
found["out of band"] = call("sendto", left.fileno(), b"x", 1, 1, None, 0)
found["pinned pages"] = call("sendto", left.fileno(), b"x", 1, 0x4000000, None, 0)
found["out of band reading"] = call("recvfrom", left.fileno(), buffer(8), 8, 1, None, None)
for option in (1, 5, 17, 26, 31, 50, 59, 77):
    value = buffer(64)
    size = buffer(struct.pack("I", 64))
    got = call("getsockopt", left.fileno(), 1, option, value, size)
    found[f"ask {option}"] = got
for option in (5, 6, 7, 8, 10, 16, 26, 32, 33, 50):
    found[f"set {option}"] = call("setsockopt", left.fileno(), 1, option, buffer(64), 64)
found
"""


def test_R10_a_pair_of_ones_own_stays_a_pair() -> None:
    found = outcome(PAIR)
    allowed = {"ask 3", "ask 4"}
    assert {n: got for n, got in found.items() if got not in REFUSED and n not in allowed} == {}


def test_R10_a_pair_of_ones_own_works(call_wall: Wall) -> None:
    """asyncio needs one, and so do programs that wake themselves."""
    code = """
import asyncio, socket
left, right = socket.socketpair()
left.settimeout(5)
left.sendall(b"ping")
async def main():
    await asyncio.sleep(0)
    return right.recv(4)
asyncio.run(main())
"""
    assert outcome(code, call_wall.policy) == b"ping"


NAMES = """
import socket
found = {}
for name in ("localhost", "example.org", "metadata.google.internal"):
    found[name] = attempt(socket.getaddrinfo, name, 80)
found["interfaces"] = attempt(socket.if_nameindex)
found["by number"] = attempt(socket.if_indextoname, 1)
found["reverse"] = attempt(socket.gethostbyaddr, "127.0.0.1")
found["netlink"] = call("socket", 16, 3, 0)
for path in ("/proc/net/dev", "/proc/net/tcp", "/proc/net/route", "/proc/self/net/tcp",
             "/etc/resolv.conf", "/etc/hosts.allow", "/sys/class/net", "/run/nscd/socket",
             "/run/systemd/resolve/io.systemd.Resolve"):
    found[path] = call("openat", AT, path.encode(), 0, 0)
left, _ = socket.socketpair()
for request in (0x8910, 0x8912, 0x8913, 0x8915, 0x8927, 0x8933, 0x89F0):
    found[hex(request)] = call("ioctl", left.fileno(), request, buffer(64))
found
"""


def test_R11_no_network_information() -> None:
    found = outcome(NAMES)
    answered = {n: got for n, got in found.items() if isinstance(got, (int, list, tuple))}
    # The made-up /etc/hosts answers for localhost where the C library asks no further.
    answered.pop("localhost", None)
    answered.pop("reverse", None)
    assert answered == {}

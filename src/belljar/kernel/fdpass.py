"""Messages with descriptors over a socket pair, between host and zygote only.

See unix(7), SCM_RIGHTS.  Built on the C module below ``socket``, because importing
``socket`` costs 11 ms for tables of constants that nothing here needs.
"""

from __future__ import annotations

import _socket
import os
import struct

MAX_MESSAGE = 1 << 20  # a plan with 256 grants and a filter of 4096 instructions fits well
MAX_DESCRIPTORS = 8


def message_pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected sockets that keep message boundaries."""
    left, right = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_SEQPACKET)
    for end in (left, right):
        end.setsockopt(_socket.SOL_SOCKET, _socket.SO_SNDBUF, MAX_MESSAGE)
    return left, right


def stream_pair() -> tuple[_socket.socket, _socket.socket]:
    """Two connected sockets for a stream of bytes."""
    return _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)


def send(sock: _socket.socket, data: bytes, descriptors: list[int] | None = None) -> None:
    """Send one message whole, with copies of the descriptors."""
    ancillary = []
    if descriptors:
        packed = struct.pack(f"{len(descriptors)}i", *descriptors)
        ancillary = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)]
    sock.sendmsg([data], ancillary, _socket.MSG_NOSIGNAL)


def receive(sock: _socket.socket) -> tuple[bytes, list[int]]:
    """Receive one message; ``(b"", [])`` when the other end is gone.

    Raises ``OSError`` where the kernel cut something off: half a message is nobody's.
    """
    space = _socket.CMSG_SPACE(4 * MAX_DESCRIPTORS)
    try:
        received = sock.recvmsg(MAX_MESSAGE, space, _socket.MSG_CMSG_CLOEXEC)
    except ConnectionResetError:
        # Told once, before what is there to be read: the other end went without reading all
        # that we sent.  What it said first is still to come.
        received = sock.recvmsg(MAX_MESSAGE, space, _socket.MSG_CMSG_CLOEXEC)
    data, ancillary, flags, _ = received
    descriptors: list[int] = []
    for level, kind, packed in ancillary:
        if level == _socket.SOL_SOCKET and kind == _socket.SCM_RIGHTS:
            count = len(packed) // 4
            descriptors.extend(struct.unpack(f"{count}i", packed[: 4 * count]))
    if flags & (_socket.MSG_TRUNC | _socket.MSG_CTRUNC):
        for fd in descriptors:
            os.close(fd)
        raise OSError(0, "a message was cut off", "recvmsg")
    return data, descriptors

"""Tries to reach the host, and anything else, through sockets of every kind.

tries:  TCP, UDP, unix, abstract and raw sockets, a look-up
inputs: bait
expect: ok
value:  []
"""

import socket

reached = []


def attempt(what, family, kind, protocol=0, address=None):
    try:
        with socket.socket(family, kind, protocol) as client:
            client.settimeout(0.5)
            if address is not None:
                client.connect(address)
                client.send(b"hello from inside")
            else:
                client.send(b"hello from inside")
    except OSError as refused:
        print(f"{what}: {type(refused).__name__}: {refused}")
    else:
        reached.append(what)


loopback = "127.0.0.1"
attempt("TCP", socket.AF_INET, socket.SOCK_STREAM, 0, (loopback, bait["tcp_port"]))
attempt("UDP", socket.AF_INET, socket.SOCK_DGRAM, 0, (loopback, bait["udp_port"]))
attempt("unix", socket.AF_UNIX, socket.SOCK_STREAM, 0, bait["unix_socket"])
attempt("abstract", socket.AF_UNIX, socket.SOCK_STREAM, 0, "\0" + bait["abstract_socket"])
attempt("elsewhere", socket.AF_INET, socket.SOCK_STREAM, 0, ("192.0.2.1", 80))
attempt("raw", socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP, (loopback, 0))
attempt("packet", socket.AF_PACKET, socket.SOCK_RAW, 0, ("lo", 0x0800))
attempt("vsock", socket.AF_VSOCK, socket.SOCK_STREAM, 0, (socket.VMADDR_CID_HOST, 22))

try:
    reached.append(f"look-up: {socket.getaddrinfo('example.org', 80)[0][4]}")
except OSError as refused:
    print(f"look-up: {type(refused).__name__}: {refused}")

reached

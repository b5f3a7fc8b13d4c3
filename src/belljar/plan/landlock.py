"""Which Landlock rights a plan asks for, by ABI version.

Rights and versions are those of the kernel's include/uapi/linux/landlock.h.  A right that
the kernel does not know yet cannot be handled; what that leaves open is named, so that
``make`` can say which other mechanism closes it.
"""

from __future__ import annotations

EXECUTE = 1 << 0
WRITE_FILE = 1 << 1
READ_FILE = 1 << 2
READ_DIR = 1 << 3
REMOVE_DIR = 1 << 4
REMOVE_FILE = 1 << 5
MAKE_CHAR = 1 << 6
MAKE_DIR = 1 << 7
MAKE_REG = 1 << 8
MAKE_SOCK = 1 << 9
MAKE_FIFO = 1 << 10
MAKE_BLOCK = 1 << 11
MAKE_SYM = 1 << 12
REFER = 1 << 13  # ABI 2
TRUNCATE = 1 << 14  # ABI 3
IOCTL_DEV = 1 << 15  # ABI 5

NET_BIND_TCP = 1 << 0  # ABI 4
NET_CONNECT_TCP = 1 << 1
SCOPE_ABSTRACT_UNIX = 1 << 0  # ABI 6
SCOPE_SIGNAL = 1 << 1

READ = READ_FILE | READ_DIR
# Devices and sockets are never made: a device node is a door, a socket needs the network grant.
# A FIFO is made only in the guest's own places: on the host somebody else may open it.
WRITE = (
    READ | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER | TRUNCATE
)
# The only rights the kernel takes for a rule on something that is not a directory.
OF_A_FILE = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV


def handled_fs(abi: int) -> int:
    """Every file right that the kernel can refuse."""
    bits = 13
    if abi >= 2:
        bits = 14
    if abi >= 3:
        bits = 15
    if abi >= 5:
        bits = 16
    return (1 << bits) - 1


def handled_net(abi: int) -> int:
    """Every network right that the kernel can refuse."""
    return NET_BIND_TCP | NET_CONNECT_TCP if abi >= 4 else 0


def scoped(abi: int) -> int:
    """Everything that can be kept inside the domain: abstract sockets and signals."""
    return SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL if abi >= 6 else 0

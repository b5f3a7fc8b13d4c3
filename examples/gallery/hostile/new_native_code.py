"""Tries to run machine code that it brought along.

tries:  executable memory, a library and a program of its own
expect: ok
value:  []
"""

import ctypes
import mmap
import os

libc = ctypes.CDLL(None, use_errno=True)
worked = []


def attempt(what, action):
    try:
        action()
    except (OSError, ValueError) as refused:
        print(f"{what}: {type(refused).__name__}: {refused}")
    else:
        worked.append(what)


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def mapped(protection, descriptor=-1):
    mmap.mmap(descriptor, 4096, flags=mmap.MAP_PRIVATE, prot=protection)


def changed():
    page = mmap.mmap(-1, 4096)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    checked(libc.mprotect(ctypes.c_void_p(address), 4096, mmap.PROT_READ | mmap.PROT_EXEC))


def from_file(path):
    with open(path, "r+b") as file:
        mapped(mmap.PROT_READ | mmap.PROT_EXEC, file.fileno())


def from_memfd():
    descriptor = os.memfd_create("code")
    os.write(descriptor, program)
    mapped(mmap.PROT_READ | mmap.PROT_EXEC, descriptor)


def run(path):
    """Replaces this process if it works, so it is tried last."""
    os.execv(path, [path])


# The head of an ELF file that would do nothing; the walls refuse it long before its content.
program = b"\x7fELF\x02\x01\x01" + bytes(4089)
with open("code.so", "wb") as file:
    file.write(program)
os.chmod("code.so", 0o755)

attempt("writable and executable memory", lambda: mapped(7))
attempt("executable anonymous memory", lambda: mapped(mmap.PROT_READ | mmap.PROT_EXEC))
attempt("memory made executable", changed)
attempt("a file of its own, mapped", lambda: from_file("code.so"))
attempt("a memfd, mapped", from_memfd)
attempt("a library of its own", lambda: ctypes.CDLL(os.path.abspath("code.so")))
attempt("an executable of its own", lambda: run("code.so"))
attempt("a shell", lambda: run("/bin/sh"))

worked

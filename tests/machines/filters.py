"""A prelude that puts a seccomp filter on a host program, by belljar's own compiler."""

from __future__ import annotations

PRELUDE = """
import ctypes, errno, struct
from belljar.bpf import ALLOW, Arg, Errno, Filter, If, compile_filter
from belljar.bpf.syscalls import arch
from belljar.kernel import libc, process
KNOWN = arch(libc.MACHINE).table
REFUSE = Errno(errno.EPERM)

def put(rules, default=ALLOW):
    rules = {name: rule for name, rule in rules.items() if name in KNOWN}
    program = compile_filter(Filter(libc.MACHINE, rules, default=default))
    process.set_no_new_privs()
    code = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    libc.syscall("seccomp", 1, 0, head)
"""


def only(names: frozenset[str]) -> str:
    """A filter that allows these calls and answers all others with EPERM."""
    return f"{PRELUDE}\nput({{name: ALLOW for name in {sorted(names)!r}}}, default=REFUSE)\n"


def rules(text: str) -> str:
    """A filter of rules in the words of the prelude; all else is allowed."""
    return f"{PRELUDE}\nput({text})\n"

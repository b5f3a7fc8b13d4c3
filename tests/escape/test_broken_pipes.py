"""A guest that closes its ends does not end its host (M11, L7).

What: hosts in which SIGPIPE has its default action, as command-line programs set it.  Because:
writing to a pipe or socket that nobody reads kills such a program, and when to close is up to
the guest.  Then: the host is alive after each of these runs, and so is its own arrangement.
"""

from __future__ import annotations

import pytest

from .hosts import run_host

HOST = """
import os, signal
def told(*_): raise SystemExit("the handler was called")
signal.signal(signal.SIGPIPE, HANDLER)
import belljar
for n in range(TIMES):
    belljar.run(CODE, stdin="x" * CHARS or None)
assert signal.getsignal(signal.SIGPIPE) is HANDLER
assert signal.SIGPIPE not in signal.pthread_sigmask(signal.SIG_BLOCK, []) | signal.sigpending()
print("alive")
"""
CLOSES = {
    "stdin": ("import os, time\nos.close(0)\ntime.sleep(0.05)", 3),
    "link": ("import os\nos.close(3)\nos._exit(0)", 20),
    "link, later": ("import os, time\nos.close(3)\ntime.sleep(0.05)", 3),
    "abort": ("import os\nos.abort()", 20),
    "nothing": ("None", 20),
}


@pytest.mark.parametrize("handler", ["signal.SIG_DFL", "signal.SIG_IGN", "told"])
@pytest.mark.parametrize("chars", [0, 500_000], ids=["no input", "input"])
@pytest.mark.parametrize("what", CLOSES)
def test_M11_a_guest_that_closes_its_ends_does_not_end_its_host(
    what: str, chars: int, handler: str
) -> None:
    code, times = CLOSES[what]
    program = HOST.replace("HANDLER", handler)
    done = run_host(program, {"CODE": code, "CHARS": chars, "TIMES": times})
    assert done.stdout == "alive\n"

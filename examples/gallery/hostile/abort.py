"""Aborts the process, with the handlers of the agent removed first.

tries:  to take the host down with SIGABRT
expect: crashed SIGABRT
prints: about to abort
"""

import os
import signal

print("about to abort", flush=True)
signal.signal(signal.SIGABRT, signal.SIG_DFL)
os.abort()

"""Reads address 0 in native code.

tries:  to take the host down with a segmentation fault
expect: crashed SIGSEGV
prints: about to read address 0
"""

import ctypes

print("about to read address 0", flush=True)
ctypes.string_at(0)

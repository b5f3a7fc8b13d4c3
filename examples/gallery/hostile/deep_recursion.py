"""Overflows the C stack: each level goes through sorted(), which is written in C.

tries:  to crash by recursion with the recursion limit raised
expect: crashed SIGSEGV or raised RecursionError
"""

# Which of the two depends on the CPython version: newer ones count the C stack as well.

import sys

sys.setrecursionlimit(2**30)


def deeper(_):
    return sorted([1], key=deeper)


deeper(0)

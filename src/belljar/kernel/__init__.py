"""The kernel layer: one file per mechanism, ctypes only, no policy.

Every file offers ``probe_…`` (asks the kernel, changes nothing) and verbs that change
this process for ever.  A verb checks its own effect before it returns, because a wall
that was only asked for is not a wall; then the caller need not check again.
"""

"""One allocation that is far too large, then many.  Fuse: 4 GiB.

tries:  to fill the machine's memory with bytearrays
expect: limit memory
"""

hoard = []
for _ in range(64):
    hoard.append(bytearray(64 * 2**20))

f"took {len(hoard) * 64} MiB"

"""Grows a list that holds itself together with ever more small objects.  Fuse: 4 GiB.

tries:  to fill memory with small objects, MemoryError caught
expect: limit memory
"""

hoard = []
refused = 0
while len(hoard) < 25_000_000 and refused < 1000:
    try:
        hoard.extend([float(len(hoard) + n), str(n)] for n in range(1000))
    except MemoryError:
        refused += 1  # a stubborn guest asks again

raise MemoryError(f"refused {refused} times at {len(hoard)} objects")

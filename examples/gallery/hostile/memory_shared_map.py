"""Fills memory that the heap's accounting does not see.  Fuse: 4 GiB.

tries:  to fill memory: shared maps, memfds, files in memory
expect: limit memory
"""

import mmap
import os

CHUNK = 32 * 2**20
filling = b"\xa5" * CHUNK
maps = []
refusals = {}


def shared_map():
    room = mmap.mmap(-1, CHUNK, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
    room[:] = filling
    maps.append(room)


def memfd():
    os.write(os.memfd_create("hoard"), filling)


def file_in_tmp():
    with open(f"/tmp/{len(os.listdir('/tmp'))}", "wb") as file:
        file.write(filling)


for _ in range(42):
    for way in (shared_map, memfd, file_in_tmp):
        try:
            way()
        except (OSError, MemoryError) as refused:
            refusals[way.__name__] = f"{type(refused).__name__}: {refused}"

for way, refused in refusals.items():
    print(way, refused)
if set(refusals) == {"shared_map", "memfd", "file_in_tmp"}:
    raise MemoryError("every way ended in a refusal")

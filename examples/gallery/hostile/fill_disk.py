"""Fills /work.  Fuse: 2 GiB.

tries:  to fill the disk through its own folder
expect: limit work
"""

rubbish = bytes(16 * 2**20)
for number in range(128):
    with open(f"rubbish-{number}", "wb") as file:
        file.write(rubbish)

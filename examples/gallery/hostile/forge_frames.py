"""Writes rubbish and fake frames into every descriptor that is open.

tries:  to speak for the agent on its own socket
expect: crashed
"""

import os
import struct

frame = b"\x82\xa6status\xa2ok\xa5value\xa6forged"
lies = (
    frame,
    struct.pack(">I", len(frame)) + frame,
    struct.pack("<I", len(frame)) + frame,
    struct.pack("<Q", 2**63) + frame,
    b"\xff" * 4096,
    b"\x91" * 4096,  # 4096 lists, one in the other
)

for descriptor in range(3, 256):
    for lie in lies:
        try:
            os.write(descriptor, lie)
        except OSError:
            break

"finished"

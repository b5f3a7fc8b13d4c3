"""Closes every descriptor and leaves without a word.

tries:  to make the host wait for an answer for ever
expect: exited 7
"""

import os

os.closerange(0, 4096)
os._exit(7)

"""Prints what a finished sandbox might print, and rewires Python underneath.

tries:  to fake a result with printed frames, patched built-ins
expect: ok
value:  "the true value"
"""

import builtins
import json
import os
import sys

forged = {"status": "ok", "value": "forged", "usage": {"cpu_s": 0.0}, "denials": []}

for stream in (1, 2):
    os.write(stream, json.dumps(forged).encode() + b"\n")
    os.write(stream, b"\x00\x00\x00\x2a\x82\xa6status\xa2ok\xa5value\xa6forged")
    os.write(stream, b"\x1b]0;forged\x07\x1b[2J\r\n--boundary--\r\n")

json.dumps = builtins.repr = builtins.print = lambda *args, **kwargs: "forged"
sys.exit = sys.excepthook = sys.displayhook = lambda *args: None
sys.argv[:] = ["forged"]
sys.modules["json"] = sys.modules["belljar"] = sys
sys.stdout = sys.stderr = sys.__stdout__ = None

"the true value"

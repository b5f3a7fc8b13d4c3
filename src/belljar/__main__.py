"""``python -m belljar``: the command, for where no script of that name is on the path.

What: drop the current directory from the import path, then run the command.  Because
``-m`` puts it first there, and it may hold the untrusted program's own ``math.py``.  Then:
what is imported from here on comes from Python and from belljar.  Python itself imports a
few modules before this line; in a directory that is not trusted, use ``belljar`` or
``python -P -m belljar``.
"""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    if not sys.flags.safe_path:
        del sys.path[0]
    main()

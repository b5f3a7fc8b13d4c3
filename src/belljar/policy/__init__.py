"""What a guest may do, as a frozen value.

What: ``Policy`` (grants and limits, three verbs, one operator), ``Limits``, ``PathGrant``.
Because: every decision of belljar starts from one value that nobody can change afterwards,
and that can be compared, intersected, printed and stored.  Then: the layers above turn it
into a plan; nothing here touches the file system, the clock or the kernel.

The map of this package:

- ``limits``    the bounds: defaults, ranges, reasons
- ``paths``     read and write grants: host path, inside path, covering, intersection
- ``grants``    every other grant: what it accepts
- ``abilities`` flags, caps, memberships, values of the application's own (import it by name)
- ``values``    plain data for the ``names`` grant, frozen and in file form
- ``policy``    ``Policy`` itself
- ``rules``     what is said of modules and built-ins by pattern
- ``whitelist`` C modules of the standard library, with reasons (import it by name)
- ``show``      a policy as the calls that make it
- ``checks``    messages and key paths that the others share
- ``units``     ``256M`` and ``2s``, for the command line and for files (import it by name)
- ``files``     TOML and JSON (import it by name)
- ``baselines`` named, dated policies (import it by name)
"""

from __future__ import annotations

from .limits import LIMITS, Limits, LimitSpec
from .paths import PathGrant
from .policy import Policy

__all__ = ["LIMITS", "LimitSpec", "Limits", "PathGrant", "Policy"]

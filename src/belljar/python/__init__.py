"""What one Python installation consists of on this host.

What: the files that an interpreter, and the packages granted beside it, need in order
to run: ``elf`` and ``ldcache`` read formats, ``libraries`` searches as the loader does,
``interpreter`` describes a CPython, ``distributions`` resolves the packages grant.
Because: a guest's root is built of bind mounts of exactly these, and whatever is not
named here is not there.  Then: this layer reads files and, for an interpreter other
than the running one, asks it once; it mounts nothing and decides nothing.

Nothing is imported here: ``belljar run`` needs ``interpreter`` at each start and
``distributions`` only where packages are granted.
"""

"""The closed set of values that cross, as MessagePack.

What: ``encode`` and ``decode`` for None, bool, int, float, complex, str, bytes, list, tuple,
dict, set, frozenset, date, time, datetime, timedelta, timezone, Decimal, Fraction and UUID;
bytearray, memoryview and NumPy arrays (``arrays``); tables and frames (``tables``);
dataclasses, enums and models as plain data (``records``).  Because: pickle and marshal run code on the reading side, json loses half of these types, and
no MessagePack library bounds the number and the decoded size of what it makes.  Then: one
loop each way (``encoder``, ``decoder``), no recursion, every price paid before the memory is taken (``limits``).

Plain values (None, bool, int within 64 bits, float, str, bytes, list, dict) are encoded
exactly as MessagePack encodes them.  A tuple, set or frozenset is an array whose first
element is the extension MARKER with one byte, its kind: valid MessagePack, and no second
length that could lie.  Other scalars are extensions (``scalars``).

Rules: subclasses of the built-in types cross as their plain base, read with the base's own
methods.  A dict keeps its order.  Two equal keys, a key that cannot be hashed, a byte too
many or too few are errors.  NaN, infinities, -0.0 and lone surrogates are kept.
"""

from __future__ import annotations

from .decoder import UntrustedBytes, decode
from .encoder import encode

__all__ = ["UntrustedBytes", "decode", "encode"]

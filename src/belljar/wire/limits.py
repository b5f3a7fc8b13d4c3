"""What one message may cost, and what decoded things cost.

What: budgets, and a table of prices.  Because: a byte cap alone bounds nothing (an empty
list is one byte on the wire and 56 in memory), so nesting, number and *decoded* size are
bounded too, and each price is paid before the memory is taken.  Then: encoder and decoder
share the prices, and what one lets out under a budget the other takes under the same one.

Memory promise: decoding one value holds at most ``2 * memory_bytes + 3 * frame_bytes``.
The 2: a container exists twice for a moment (its list of parts, then itself; a hash table
while it grows).  The 3: the peer's bytes in the frame, the value inside it, one text of it.
"""

from __future__ import annotations

from .._record import Record

__all__ = ["FRAME_HEAD", "MESSAGE", "VALUE", "Budget"]

FRAME_HEAD = 5  # four bytes of length, one of kind

MAX_DEPTH = 200  # hash() of a nested tuple recurses in C unchecked: 200 levels fit a 64 KiB stack
MAX_FRAME_BYTES = 2**31  # what a length of four bytes can say, with room for its head


class Budget(Record):
    """Bounds on one message, or on one value inside it.

    frame_bytes   encoded size, 1 .. 2**31
    depth         containers inside containers, 1 .. 200; a bare number has depth 0
    nodes         values in all, containers and keys included, 1 ..
    memory_bytes  decoded size by the prices below, 1 ..

    Raises ``ValueError`` when a bound is not an int in its range.
    """

    # 10 MB of source must fit, which is 30 MB of UTF-8 when every character takes three.
    frame_bytes: int = 32 * 2**20
    # Data made by people nests to 20; json's own default breaks near 1000; hashing bounds 200.
    depth: int = 100
    # A million numbers decode within a second; more is bulk data and goes by memfd.
    nodes: int = 1_000_000
    # The same million as floats in a list: 57 MB by the prices below.
    memory_bytes: int = 64 * 2**20

    def __post_init__(self) -> None:
        for name, most in (
            ("frame_bytes", MAX_FRAME_BYTES),
            ("depth", MAX_DEPTH),
            ("nodes", 2**40),
            ("memory_bytes", 2**50),
        ):
            bound = getattr(self, name)
            if type(bound) is not int or not 1 <= bound <= most:
                raise ValueError(f"budget {name} is an int from 1 to {most}, got {bound!r}")


MESSAGE = Budget()  # a whole frame, either direction
VALUE = Budget(frame_bytes=MESSAGE.frame_bytes - 64 * 2**10)  # leaves the frame room for the rest

# Prices in bytes, of CPython 3.11 on 64 bits with pymalloc's rounding to 16.
NUMBER_BYTES = 48  # int up to 64 bits 36, float 24; the ints 0 .. 127 are shared and free
TEXT_BYTES = 80  # header of a str (49 ASCII, 73 otherwise) or bytes (33)
ARRAY_BYTES = 88  # list or tuple with its collector head and the smallest array
ARRAY_ITEM_BYTES = 9  # a pointer, and the eighth that a growing list takes in advance
MAP_BYTES = 152  # dict: the smallest table;
MAP_ITEM_BYTES = 104  # and the worst share of a table that has just grown
SET_BYTES = 216
SET_ITEM_BYTES = 112
TABLE_BYTES = 16 * 2**10  # what a library makes around its columns
SCALAR_BYTES = 256  # datetime family, Decimal, Fraction, UUID, complex: object and its parts

# Numbers whose size the sender chooses.
MAX_INT_BYTES = 128 * 2**10  # a million bits; int.from_bytes is linear, but printing is not
MAX_DECIMAL_CHARS = 64 * 2**10  # parsing, hashing and printing are linear: 0.4 ms at this size
MAX_FRACTION_BYTES = 2**10  # per part: its gcd is quadratic, 0.1 ms at this size
MAX_KEY_BITS = 512  # comparing int with Decimal is quadratic; a SHA-512 as int still fits
KEY_STEPS_PER_KEY = 32  # and in one table; honest keys meet 20 at worst, see below
KEY_STEPS = 8_000_000  # taken slots met per message, a second: 300,000 multiples of 2**-10 need 6
FRACTION_NODES = 8  # beyond its own: made by Python code, 4 us against 0.3 for a number

# Caps on texts, in characters, and on lists of them.
TYPE_CHARS = 200  # a dotted class name
MESSAGE_CHARS = 64 * 2**10  # a page of a terminal is 4 KiB; validation errors run to ten of them
TRACEBACK_CHARS = 256 * 2**10  # 1000 frames of recursion with a long source line each
NOTE_CHARS = 4 * 2**10
NOTES = 64
NAME_CHARS = 4 * 2**10  # PATH_MAX
LABEL_CHARS = 64  # names that belljar itself gives: stages, limits, streams
LABELS = 64
ARGUMENTS = 65_536
DENIALS_PER_FRAME = 64  # a frame of the longest ones stays under 8 MiB
CALLS = 64  # of host functions that wait for their answers: as many threads or tasks inside
CALL_BYTES = 16 * 2**20  # of arguments of one of them, encoded
CALLS_BYTES = 2 * CALL_BYTES  # and of all that wait
DENIALS_PER_RUN = 1_000  # more is a flood; the guest's agent stops sending there
ARTIFACTS_PER_RUN = 256  # a notebook with hundreds of figures is read by nobody
REPRESENTATIONS = 16  # of one thing; IPython's own formatters know twelve
MEDIA_TYPE_CHARS = 100  # the longest in use, of office documents, has 73
METADATA = 16  # entries: width, height and the like
METADATA_CHARS = 200
ARTIFACT_ROOM = 64 * 2**10  # in a frame, for all but the data of the representations


def text_price(raw: bytes) -> int:
    """What the str of these UTF-8 bytes costs while it is made.

    CPython gives every character the width of the widest, and while decoding it has room for
    as many characters as there are bytes.
    """
    size = len(raw)
    if raw.isascii():
        return TEXT_BYTES + size
    width = 1
    for start in range(0, size, 65_536):  # in pieces, because translate() copies
        wide = raw[start : start + 65_536].translate(None, _BELOW_TWO)
        if wide.translate(None, _BELOW_FOUR):
            return TEXT_BYTES + 4 * size
        if wide:
            width = 2
    return TEXT_BYTES + width * size


_BELOW_TWO = bytes(range(0xC4))  # first bytes of characters beyond Latin-1 are above these,
_BELOW_FOUR = bytes(range(0xF0))  # of those beyond the basic plane above these

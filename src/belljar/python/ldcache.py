"""The cache of library names that ldconfig writes.

What: from the bytes of ``/etc/ld.so.cache`` to a dict of names and paths, and back.
Because: it is where glibc's loader finds most libraries, in directories that only it names.
Then: what the loader would find is found without asking ``ldconfig -p``, and programs inside
find the libraries of the guest's root without a variable in their environment.
"""

from __future__ import annotations

from struct import Struct

__all__ = ["make_cache", "parse_cache"]

# The flags of a cache entry: FLAG_ELF_LIBC6 (3) and the architecture (ldconfig.h).
_CACHE_FLAGS = {"x86_64": 0x0303, "aarch64": 0x0A03}

_OLD_MAGIC = b"ld.so-1.7.0\0"
_NEW_MAGIC = b"glibc-ld.so.cache1.1"
_NEW_HEADER = Struct("<20sIIB3xIII4x")  # 48 bytes: magic, entries, string bytes, byte order, …
_NEW_ENTRY = Struct("<iIIIQ")  # flags, offset of name, offset of path, unused, hwcap


def parse_cache(data: bytes, machine: str) -> dict[str, str]:
    """Names to paths from the bytes of ``ld.so.cache`` (format glibc-ld.so.cache1.1).

    Only entries for ``machine`` that every processor of its kind can use are kept; of
    several for one name the first wins, as in the loader.  Bytes that are not such a
    cache, or that contradict themselves, give an empty result.

    Source: glibc ``sysdeps/generic/dl-cache.h``.
    """
    base = 0
    if data.startswith(_OLD_MAGIC) and len(data) >= 16:
        # The format before glibc 2.2 may come first: a header of 16 bytes, entries of 12,
        # then the new format at the next multiple of 8.
        base = (16 + int.from_bytes(data[12:16], "little") * 12 + 7) & ~7
        data = data[base:]
    if len(data) < _NEW_HEADER.size or not data.startswith(_NEW_MAGIC):
        return {}
    _, count, _, order, *_ = _NEW_HEADER.unpack_from(data)
    end = _NEW_HEADER.size + count * _NEW_ENTRY.size
    if order not in (0, 2) or end > len(data):  # 0: written before 2.33, 2: little-endian
        return {}
    flags_wanted = _CACHE_FLAGS[machine]
    # What: comprehensions over one text.  Because: a desktop's cache has thousands of
    # entries and this runs at each start.  Then: Latin-1 keeps offsets, one character per
    # byte, and names beyond ASCII are put right where they occur.
    text = data.decode("latin-1")
    index = text.index
    # Backwards, so that the first of several stays in the dict.
    entries = [
        (key, value)
        for flags, key, value, _, hwcap in _NEW_ENTRY.iter_unpack(data[_NEW_HEADER.size : end])
        if flags == flags_wanted and not hwcap
    ][::-1]
    try:
        names = [text[key : index("\0", key)] for key, _ in entries]
        paths = [text[value : index("\0", value)] for _, value in entries]
    except ValueError:  # a string that does not end
        return {}
    if not all(map(str.isascii, paths)):
        names = [name.encode("latin-1").decode("utf-8", "surrogateescape") for name in names]
        paths = [path.encode("latin-1").decode("utf-8", "surrogateescape") for path in paths]
    return dict(zip(names, paths, strict=True))


def make_cache(libraries: dict[str, str], machine: str) -> bytes:
    """The bytes of an ``ld.so.cache`` that maps names to paths, for glibc 2.2 and newer.

    The loader searches it by halves, in descending order of ``_dl_cache_libcmp``.
    """
    names = sorted(libraries, key=_in_order, reverse=True)
    strings = bytearray()
    entries = bytearray()
    start = _NEW_HEADER.size + len(names) * _NEW_ENTRY.size
    for name in names:
        places: list[int] = []
        for text in (name, libraries[name]):
            places.append(start + len(strings))
            strings += text.encode("utf-8", "surrogateescape") + b"\0"
        entries += _NEW_ENTRY.pack(_CACHE_FLAGS[machine], *places, 0, 0)
    header = _NEW_HEADER.pack(_NEW_MAGIC, len(names), len(strings), 2, 0, 0, 0)
    return bytes(header + entries + strings)


def _in_order(name: str) -> list[tuple[int, int]]:
    """What orders names as the loader does: digits after all else, and by their value."""
    key: list[tuple[int, int]] = []
    digits = ""
    for byte in (*name.encode("utf-8", "surrogateescape"), 0):
        if 48 <= byte <= 57:
            digits += chr(byte)
            continue
        if digits:
            key.append((1, int(digits)))
            digits = ""
        key.append((0, byte))
    return key

"""What a program or a shared library asks the dynamic loader for.

What: reads the few fields of an ELF file that decide which other files it needs:
the loader it names, the libraries it wants, where it says to look for them.
Because: the guest's root holds exactly the files its Python needs, and asking
``ldd`` would run the loader on the file once per file, at ten times the cost.
Then: one read of the head, one of the dynamic section, one of the strings; every
offset and count in the file is treated as a lie until it is checked.

Source: elf(5), ld.so(8), the System V gABI chapters "Program Header" and
"Dynamic Section".
"""

from __future__ import annotations

from struct import Struct

from .._record import Record
from ..errors import BelljarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Reader = Callable[[int, int], bytes]
    """``read(size, offset)``: up to ``size`` bytes from ``offset`` on, as os.pread gives them."""

__all__ = ["Elf", "ElfError", "parse_elf"]

# The first read.  Ehdr, all program headers and PT_INTERP end before 1 KiB in practice;
# the string table of a small extension module mostly ends before 4 KiB, which saves a read.
_HEAD_BYTES = 4096
# The linker makes about a dozen; PN_XNUM (65535) is for core dumps, which never load.
_MAX_SEGMENTS = 128
# 16 bytes per entry; Chromium's largest library has under 200 entries.
_MAX_DYNAMIC_BYTES = 64 * 1024
# PATH_MAX of linux/limits.h for one path; a search list may hold several.
_MAX_STRING_BYTES = 16 * 1024
# The wanted strings of one file lie close together; beyond this they are read one by one.
_MAX_SPAN_BYTES = 32 * 1024

_MACHINES = {62: "x86_64", 183: "aarch64"}  # EM_X86_64, EM_AARCH64

_EHDR = Struct("<16sHHIQQQIHHHHHH")
_PHDR = Struct("<IIQQQQQQ")
_DYN = Struct("<qQ")

_ET_EXEC, _ET_DYN = 2, 3
_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_PT_GNU_STACK = 0x6474E551
_PF_X, _PF_W = 1, 2
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SONAME, _DT_RPATH, _DT_RUNPATH = 0, 1, 5, 14, 15, 29


class ElfError(BelljarError):
    """A file is not an ELF file that this kernel's loader would map for these machines."""


class Elf(Record):
    """The loader's view of one file.

    ``machine`` is ``x86_64`` or ``aarch64``.  ``interpreter`` is PT_INTERP, None in a
    library.  ``needed`` are the DT_NEEDED strings in order.  ``rpath`` and ``runpath``
    are the search lists as written, colons and ``$ORIGIN`` included, None where absent.
    ``writable_code`` says that the kernel, starting it, maps memory that can be written and
    executed: its stack or a segment.
    """

    machine: str
    interpreter: str | None = None
    needed: tuple[str, ...] = ()
    soname: str | None = None
    rpath: str | None = None
    runpath: str | None = None
    writable_code: bool = False


def parse_elf(source: bytes | Reader) -> Elf:
    """Read the dynamic linking fields of a 64-bit little-endian ELF file.

    ``source`` is the whole file, or a function ``read(size, offset)`` that may return
    fewer bytes at the end of the file; at most a few short reads are made.  Names that
    are not UTF-8 come back with surrogate escapes, as ``os.fsdecode`` gives them.

    Raises ``ElfError`` if the file is anything else or contradicts itself.
    """
    read = _reader_of(source) if isinstance(source, bytes) else source
    head = read(_HEAD_BYTES, 0)
    machine, segments = _segments(head, read)
    interpreter: str | None = None
    dynamic = b""
    loads: list[tuple[int, int, int]] = []  # (address, offset, bytes in the file)
    writable_code = False
    for kind, flags, offset, address, size in segments:
        if kind == _PT_GNU_STACK:
            writable_code |= bool(flags & _PF_X)
        elif kind == _PT_LOAD:
            writable_code |= flags & (_PF_X | _PF_W) == _PF_X | _PF_W
            loads.append((address, offset, size))
        elif kind == _PT_DYNAMIC:
            if size > _MAX_DYNAMIC_BYTES:
                raise ElfError(f"a dynamic section of {size} bytes")
            dynamic = _slice(head, read, offset, size - size % _DYN.size)
        elif kind == _PT_INTERP:
            if not 1 < size <= _MAX_STRING_BYTES:
                raise ElfError(f"a loader's name of {size} bytes")
            interpreter = _text(_slice(head, read, offset, size), 0)
    if not dynamic:
        # Statically linked: it asks for nothing.
        return Elf(machine, interpreter, writable_code=writable_code)

    needed, single = _entries(dynamic)
    wanted = [*needed, *(single[tag] for tag in _STRING_TAGS if tag in single)]
    if not wanted:
        return Elf(machine, interpreter, writable_code=writable_code)
    if _DT_STRTAB not in single:
        raise ElfError("names libraries but has no string table")
    start, room = _file_offset(single[_DT_STRTAB], loads)
    strings = _Strings(head, read, start, room, wanted)
    soname, rpath, runpath = (
        strings.at(single[tag]) if tag in single else None for tag in _STRING_TAGS
    )
    names = tuple([strings.at(position) for position in needed])
    return Elf(machine, interpreter, names, soname, rpath, runpath, writable_code)


def _reader_of(data: bytes) -> Reader:
    return lambda size, offset: data[offset : offset + size]


_STRING_TAGS = (_DT_SONAME, _DT_RPATH, _DT_RUNPATH)


def _segments(head: bytes, read: Reader) -> tuple[str, list[tuple[int, int, int, int, int]]]:
    """The machine, and (kind, flags, file offset, address, bytes in the file) per header."""
    if len(head) < _EHDR.size or head[:4] != b"\x7fELF":
        raise ElfError("not an ELF file")
    if head[4] != 2:  # EI_CLASS: ELFCLASS64
        raise ElfError("a 32-bit ELF file")
    if head[5] != 1:  # EI_DATA: ELFDATA2LSB
        raise ElfError("a big-endian ELF file")
    fields = _EHDR.unpack_from(head)
    kind, machine_id, phoff, phentsize, phnum = fields[1], fields[2], fields[5], *fields[9:11]
    machine = _MACHINES.get(machine_id)
    if machine is None:
        raise ElfError(f"an ELF file for machine {machine_id}, neither x86_64 nor aarch64")
    if kind not in (_ET_EXEC, _ET_DYN):
        raise ElfError("neither a program nor a shared library")
    if phentsize != _PHDR.size or not 0 < phnum <= _MAX_SEGMENTS:
        raise ElfError(f"{phnum} program headers of {phentsize} bytes")
    table = _slice(head, read, phoff, phnum * phentsize)
    return machine, [(*entry[:4], entry[5]) for entry in _PHDR.iter_unpack(table)]


def _entries(dynamic: bytes) -> tuple[list[int], dict[int, int]]:
    """String offsets of DT_NEEDED in order, and the last value of each other tag."""
    needed: list[int] = []
    single: dict[int, int] = {}
    for tag, value in _DYN.iter_unpack(dynamic):
        if tag == _DT_NEEDED:
            needed.append(value)
        elif tag == _DT_NULL:
            break
        else:
            single[tag] = value
    return needed, single


def _file_offset(address: int, loads: list[tuple[int, int, int]]) -> tuple[int, int]:
    """Where in the file ``address`` is mapped from, and how many bytes follow there."""
    for start, offset, size in loads:
        if start <= address < start + size:
            return address - start + offset, size - (address - start)
    raise ElfError("its string table is outside of what it maps")


class _Strings:
    """The part of a file's string table that holds the wanted strings."""

    def __init__(self, head: bytes, read: Reader, start: int, room: int, wanted: list[int]) -> None:
        if max(wanted) >= room:
            raise ElfError("a name lies outside of the string table")
        first = min(wanted)
        # What: all wanted strings in one read.  Because: they are a few bytes each and
        # neighbours.  Then: a name that runs past the end of it is read again on its own.
        span = min(max(wanted) - first + 256, _MAX_SPAN_BYTES, room - first)
        self._head, self._read = head, read
        self._start, self._room = start, room
        self._first = first
        self._bytes = _slice(head, read, start + first, span, exact=False)

    def at(self, position: int) -> str:
        """The string at ``position`` of the string table."""
        inner = position - self._first
        if self._bytes.find(b"\0", inner) >= 0:
            return _text(self._bytes, inner)
        size = min(_MAX_STRING_BYTES, self._room - position)
        return _text(_slice(b"", self._read, self._start + position, size, exact=False), 0)


def _slice(head: bytes, read: Reader, offset: int, size: int, *, exact: bool = True) -> bytes:
    """``size`` bytes of the file from ``offset``, without a read where the head has them."""
    if offset + size <= len(head):
        return head[offset : offset + size]
    if offset >= 2**63:  # off_t; a real pread would refuse it with OverflowError
        raise ElfError("an offset beyond the largest file")
    data = read(size, offset)
    if exact and len(data) != size:
        raise ElfError("the file is shorter than it says")
    return data


def _text(data: bytes, start: int) -> str:
    """The NUL-terminated string at ``start``."""
    end = data.find(b"\0", start)
    if end < 0:
        raise ElfError("a name without an end")
    return data[start:end].decode("utf-8", "surrogateescape")

"""The ELF parser: real files, made-up ones, and bytes that only look like one."""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.errors import BelljarError
from belljar.python.elf import Elf, ElfError, parse_elf
from belljar.python.interpreter import describe_interpreter

names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)


def test_the_running_interpreter_names_its_loader_and_the_c_library() -> None:
    elf = parse_elf(Path(os.path.realpath(sys.executable)).read_bytes())
    assert elf.machine == os.uname().machine
    assert elf.interpreter is not None
    assert os.path.exists(elf.interpreter)
    assert any(name.startswith(("libc.", "libpython")) for name in elf.needed)


def test_an_extension_module_names_no_loader() -> None:
    paths = [path for _, path in describe_interpreter().extensions]
    parsed = [parse_elf(Path(path).read_bytes()) for path in paths]
    assert parsed
    assert {elf.machine for elf in parsed} == {os.uname().machine}
    assert {elf.interpreter for elf in parsed} == {None}
    assert any(elf.needed for elf in parsed)


def test_a_file_is_read_in_few_short_pieces() -> None:
    path = os.path.realpath(sys.executable)
    descriptor = os.open(path, os.O_RDONLY)
    asked: list[int] = []

    def read(size: int, offset: int) -> bytes:
        asked.append(size)
        return os.pread(descriptor, size, offset)

    try:
        elf = parse_elf(read)
    finally:
        os.close(descriptor)
    assert elf == parse_elf(Path(path).read_bytes())
    assert len(asked) <= 4
    assert sum(asked) <= 128 * 1024


@given(
    needed=st.lists(names, max_size=5),
    soname=st.none() | names,
    rpath=st.none() | names,
    runpath=st.none() | names,
    machine=st.sampled_from([(62, "x86_64"), (183, "aarch64")]),
    address=st.sampled_from([0, 0x400000]),
)
@settings(max_examples=60, deadline=None)
def test_every_field_comes_back_as_written(
    make_elf: Callable[..., bytes],
    needed: list[str],
    soname: str | None,
    rpath: str | None,
    runpath: str | None,
    machine: tuple[int, str],
    address: int,
) -> None:
    data = make_elf(
        needed, soname=soname, rpath=rpath, runpath=runpath, machine=machine[0], address=address
    )
    assert parse_elf(data) == Elf(machine[1], None, tuple(needed), soname, rpath, runpath)


def test_names_that_are_not_utf8_survive(make_elf: Callable[..., bytes]) -> None:
    name = os.fsdecode(b"lib\xff.so")
    assert parse_elf(make_elf([name])).needed == (name,)


def test_a_long_list_of_paths_is_read_whole(make_elf: Callable[..., bytes]) -> None:
    paths = ":".join(f"/opt/{number:04}" for number in range(1000))
    elf = parse_elf(make_elf(["liba.so"], runpath=paths, soname="x"))
    assert (elf.runpath, elf.soname) == (paths, "x")


def test_a_static_program_asks_for_nothing(make_elf: Callable[..., bytes]) -> None:
    data = bytearray(make_elf(["liba.so"], interpreter="/lib/ld.so"))
    struct.pack_into("<I", data, 64 + 56, 0x6474E551)  # PT_DYNAMIC becomes PT_GNU_STACK
    assert parse_elf(bytes(data)) == Elf("x86_64", "/lib/ld.so")


@pytest.mark.parametrize(
    ("offset", "value", "text"),
    [
        (0, b"\x7fELG", "not an ELF file"),
        (4, b"\x01", "32-bit"),
        (5, b"\x02", "big-endian"),
        (16, b"\x01\x00", "neither a program nor a shared library"),
        (18, b"\xf3\x00", "machine 243"),
        (32, b"\xff" * 8, "offset"),  # e_phoff
        (54, b"\x20\x00", "program headers"),  # e_phentsize
        (56, b"\xff\xff", "program headers"),  # e_phnum
        (64 + 8, b"\xff" * 7, "string table"),  # PT_LOAD: p_offset and the rest
        (64 + 56 + 8, b"\xff" * 8, "offset"),  # PT_DYNAMIC: p_offset
        (64 + 56 + 32, b"\xff" * 8, "dynamic section"),  # PT_DYNAMIC: p_filesz
        (64 + 112 + 32, b"\xff" * 8, "loader's name"),  # PT_INTERP: p_filesz
        (64 + 168 + 8, b"\xff" * 8, "outside of the string table"),  # DT_NEEDED
    ],
)
def test_a_lie_in_a_header_is_named(
    make_elf: Callable[..., bytes], offset: int, value: bytes, text: str
) -> None:
    data = bytearray(make_elf(["liba.so"], soname="b", interpreter="/lib/ld.so"))
    data[offset : offset + len(value)] = value
    if text == "string table":
        struct.pack_into("<Q", data, 64 + 16, 2**40)  # p_vaddr: nothing is mapped there
    with pytest.raises(ElfError, match=text):
        parse_elf(bytes(data))


def test_a_name_without_an_end_is_an_error(make_elf: Callable[..., bytes]) -> None:
    data = make_elf(["liba.so"])
    with pytest.raises(ElfError, match="without an end"):
        parse_elf(data[:-1])


def test_the_error_belongs_to_belljar() -> None:
    assert issubclass(ElfError, BelljarError)


def _survives(data: bytes) -> None:
    try:
        elf = parse_elf(data)
    except ElfError:
        return
    assert isinstance(elf, Elf)


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_a_value_or_an_elf_error(data: bytes, prefixed: bool) -> None:
    head = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0
    )
    _survives(head + data if prefixed else data)


@given(
    cut=st.integers(0, 500),
    changes=st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=8)), max_size=4),
)
@settings(max_examples=300, deadline=None)
def test_damage_gives_a_value_or_an_elf_error(
    make_elf: Callable[..., bytes], cut: int, changes: list[tuple[int, bytes]]
) -> None:
    data = bytearray(make_elf(["liba.so", "libb.so"], runpath="$ORIGIN", interpreter="/lib/ld.so"))
    for offset, value in changes:
        data[offset : offset + len(value)] = value
    _survives(bytes(data))
    _survives(bytes(data[:cut]))


@given(st.lists(st.tuples(st.integers(0, 4095), st.binary(min_size=1, max_size=8)), max_size=6))
@settings(max_examples=100, deadline=None)
def test_damage_to_a_real_file_read_by_pread_gives_a_value_or_an_elf_error(
    changes: list[tuple[int, bytes]],
) -> None:
    descriptor = os.open(os.path.realpath(sys.executable), os.O_RDONLY)

    def read(size: int, offset: int) -> bytes:
        data = bytearray(os.pread(descriptor, size, offset))
        if offset == 0:
            for place, value in changes:
                data[place : place + len(value)] = value
        return bytes(data)

    try:
        parse_elf(read)
    except ElfError:
        pass
    finally:
        os.close(descriptor)

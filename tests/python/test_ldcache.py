"""The parser of ld.so.cache: against ldconfig, made-up caches, and damage."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from belljar.python.ldcache import parse_cache

X86_64, AARCH64, I386 = 0x0303, 0x0A03, 0x0003


def make_cache(entries: list[tuple[int, str, str, int]], *, old: int | None = None) -> bytes:
    """A cache of (flags, name, path, hwcap); ``old`` puts that many old entries before it."""
    strings = b""
    table = b""
    start = 48 + 24 * len(entries)
    for flags, name, path, hwcap in entries:
        key = start + len(strings)
        strings += os.fsencode(name) + b"\0"
        value = start + len(strings)
        strings += os.fsencode(path) + b"\0"
        table += struct.pack("<iIIIQ", flags, key, value, 0, hwcap)
    head = struct.pack(
        "<20sIIB3xIII4x", b"glibc-ld.so.cache1.1", len(entries), len(strings), 2, 0, 0, 0
    )
    data = head + table + strings
    if old is not None:
        before = b"ld.so-1.7.0\0" + struct.pack("<I", old) + b"\xee" * 12 * old
        data = before + b"\0" * (-len(before) % 8) + data
    return data


SAMPLE = [
    (X86_64, "libz.so.1", "/lib/x86_64-linux-gnu/libz.so.1", 0),
    (I386, "libz.so.1", "/lib/i386-linux-gnu/libz.so.1", 0),
    (AARCH64, "libz.so.1", "/lib/aarch64-linux-gnu/libz.so.1", 0),
    (X86_64, "liba.so", "/usr/lib/glibc-hwcaps/x86-64-v3/liba.so", 1 << 62),
    (X86_64, "liba.so", "/usr/local/lib/liba.so", 0),
    (X86_64, "liba.so", "/usr/lib/liba.so", 0),
]


@pytest.mark.parametrize("old", [None, 0, 1, 2])
def test_the_first_plain_entry_for_the_machine_wins(old: int | None) -> None:
    data = make_cache(SAMPLE, old=old)
    assert parse_cache(data, "x86_64") == {
        "libz.so.1": "/lib/x86_64-linux-gnu/libz.so.1",
        "liba.so": "/usr/local/lib/liba.so",
    }
    assert parse_cache(data, "aarch64") == {"libz.so.1": "/lib/aarch64-linux-gnu/libz.so.1"}


def test_names_beyond_ascii_are_as_the_file_system_gives_them() -> None:
    name = os.fsdecode(b"lib\xc3\xa9\xff.so")
    assert parse_cache(make_cache([(X86_64, name, f"/lib/{name}", 0)]), "x86_64") == {
        name: f"/lib/{name}"
    }


@pytest.mark.skipif(
    shutil.which("ldconfig", path="/sbin:/usr/sbin:/bin:/usr/bin") is None
    or not os.path.exists("/etc/ld.so.cache"),
    reason="no ldconfig or no cache on this machine",
)
def test_it_agrees_with_ldconfig() -> None:
    tool = shutil.which("ldconfig", path="/sbin:/usr/sbin:/bin:/usr/bin")
    assert tool is not None
    listing = subprocess.run([tool, "-p"], capture_output=True, check=True).stdout.decode()
    machine = os.uname().machine
    tag = {"x86_64": "libc6,x86-64", "aarch64": "libc6,AArch64"}[machine]
    expected: dict[str, str] = {}
    for name, kind, path in re.findall(r"^\t(.+) \((.+?)\) => (.+)$", listing, re.MULTILINE):
        if kind == tag or kind.startswith(f"{tag}, OS ABI"):
            expected.setdefault(name, path)
    assert expected
    assert parse_cache(Path("/etc/ld.so.cache").read_bytes(), machine) == expected


@given(st.binary(max_size=300), st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_bytes_give_a_dict(data: bytes, prefixed: bool) -> None:
    result = parse_cache(b"glibc-ld.so.cache1.1" + data if prefixed else data, "x86_64")
    assert isinstance(result, dict)


@given(
    changes=st.lists(st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=8)), max_size=4),
    cut=st.integers(0, 600),
    old=st.sampled_from([None, 3]),
)
@settings(max_examples=200, deadline=None)
def test_damage_gives_a_dict(changes: list[tuple[int, bytes]], cut: int, old: int | None) -> None:
    data = bytearray(make_cache(SAMPLE, old=old))
    for offset, value in changes:
        data[offset : offset + len(value)] = value
    for variant in (bytes(data), bytes(data[:cut])):
        assert all("\0" not in name + path for name, path in parse_cache(variant, "x86_64").items())


def test_a_big_endian_cache_counts_as_empty() -> None:
    data = bytearray(make_cache(SAMPLE))
    data[28] = 3
    assert parse_cache(bytes(data), "x86_64") == {}

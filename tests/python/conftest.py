"""Material for the tests of ``belljar.python``.

What: ELF files made to order, and site-packages directories of made-up distributions.
Because: search rules and shared directories are about layouts that no test machine has.
Then: each test states its layout in a few lines.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest

EM_X86_64, EM_AARCH64 = 62, 183


def _make_elf(
    needed: Iterable[str] = (),
    *,
    soname: str | None = None,
    rpath: str | None = None,
    runpath: str | None = None,
    interpreter: str | None = None,
    machine: int = EM_X86_64,
    kind: int = 3,
    address: int = 0x10000,
) -> bytes:
    """The smallest ELF file that has these fields; it is mapped at ``address``."""
    strings = b"\0"
    entries: list[tuple[int, int]] = []
    for tag, text in [
        *((1, name) for name in needed),
        (14, soname),
        (15, rpath),
        (29, runpath),
    ]:
        if text is not None:
            entries.append((tag, len(strings)))
            strings += text.encode("utf-8", "surrogateescape") + b"\0"
    loader = b"" if interpreter is None else interpreter.encode() + b"\0"
    segments = 2 + bool(loader)
    dynamic_at = 64 + 56 * segments
    strings_at = dynamic_at + 16 * (len(entries) + 2)
    loader_at = strings_at + len(strings)
    size = loader_at + len(loader)
    dynamic = b"".join(
        struct.pack("<qQ", *entry) for entry in [*entries, (5, address + strings_at), (0, 0)]
    )

    def segment(kind: int, offset: int, length: int) -> bytes:
        place = address + offset
        return struct.pack("<IIQQQQQQ", kind, 4, offset, place, place, length, length, 1)

    head = struct.pack(
        "<16sHHIQQQIHHHHHH",
        b"\x7fELF\x02\x01\x01",
        kind,
        machine,
        1,
        0,
        64,
        0,
        0,
        64,
        56,
        segments,
        0,
        0,
        0,
    )
    headers = segment(1, 0, size) + segment(2, dynamic_at, len(dynamic))
    if loader:
        headers += segment(3, loader_at, len(loader))
    return head + headers + dynamic + strings + loader


@pytest.fixture(scope="session")
def make_elf() -> Callable[..., bytes]:
    return _make_elf


@pytest.fixture
def install(tmp_path: Path) -> Callable[..., Path]:
    """``install(name, files, ...)`` puts a distribution into ``tmp_path/site`` as pip would."""

    def install(
        name: str,
        files: Mapping[str, str | bytes] | Iterable[str] = (),
        *,
        requires: Iterable[str] = (),
        extras: Iterable[str] = (),
        version: str = "1.0",
        site: str = "site",
        unlisted: Iterable[str] = (),
        info: Mapping[str, str] | None = None,
    ) -> Path:
        root = tmp_path / site
        root.mkdir(exist_ok=True)
        contents = dict(files) if isinstance(files, Mapping) else dict.fromkeys(files, "")
        directory = f"{name.replace('-', '_')}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        metadata += "".join(f"Requires-Dist: {line}\n" for line in requires)
        metadata += "".join(f"Provides-Extra: {line}\n" for line in extras)
        contents[f"{directory}/METADATA"] = metadata
        for extra_name, text in (info or {}).items():
            contents[f"{directory}/{extra_name}"] = text
        record = "".join(
            (f'"{path}"' if "," in path else path) + ",sha256=x,1\n" for path in contents
        )
        contents[f"{directory}/RECORD"] = record + f"{directory}/RECORD,,\n"
        for path, text in [*contents.items(), *dict.fromkeys(unlisted, "").items()]:
            target = root / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode() if isinstance(text, str) else text)
        return root

    return install

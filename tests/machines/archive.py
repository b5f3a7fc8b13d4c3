"""A cpio archive in the "newc" format, which the kernel unpacks as its first root.

What: files, links and devices under the paths that they shall have, each with mode 0755 or
0644 and owned by root.  Because: the format is a header of 13 hexadecimal numbers before each
name and each content, aligned to four bytes (kernel: driver-api/early-userspace/buffer-format).
Then: several archives may follow one another, and later files replace earlier ones.
"""

from __future__ import annotations

import importlib.util
import os
import stat
from pathlib import Path


class Archive:
    """Collects entries; parent directories are made as they are needed."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._seen: set[str] = set()

    def add(self, path: str, data: bytes, mode: int = 0o644, mtime: int = 0) -> None:
        """A regular file."""
        if self._new(path):
            self._entry(path, stat.S_IFREG | mode, data, mtime)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        if self._new(path):
            self._entry(path, stat.S_IFLNK | 0o777, os.fsencode(target))

    def character_device(self, path: str, major: int, minor: int) -> None:
        """A device node."""
        if self._new(path):
            self._entry(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def add_linked(self, path: Path) -> None:
        """A file of this machine under its real path, and the links that lead to it."""
        real = Path(os.path.realpath(path.parent)) / path.name
        if real.is_symlink():
            self.link(str(real), os.readlink(real))
            self.add_linked(real.parent / os.readlink(real))
            return
        found = real.stat()
        mode = 0o755 if found.st_mode & 0o111 else 0o644
        self.add(str(real), real.read_bytes(), mode, int(found.st_mtime))

    def add_module(self, path: Path, inside: str) -> None:
        """A Python source file and its bytecode, which spares an emulated machine compiling."""
        source, mtime = path.read_bytes(), int(path.stat().st_mtime)
        self.add(inside, source, mtime=mtime)
        code = compile(source, inside, "exec", dont_inherit=True)
        from importlib import _bootstrap_external as external  # type: ignore[attr-defined]

        data = external._code_to_timestamp_pyc(code, mtime, len(source))
        self.add(importlib.util.cache_from_source(inside), bytes(data))

    def data(self) -> bytes:
        """The whole archive."""
        done = len(self._parts)
        self._entry("TRAILER!!!", 0)
        whole = b"".join(self._parts)
        del self._parts[done:]
        return whole + bytes(-len(whole) % 512)

    def _new(self, path: str) -> bool:
        if path in self._seen:
            return False
        self._seen.add(path)
        parent = os.path.dirname(path)
        if parent != "/" and self._new(parent):
            self._entry(parent, stat.S_IFDIR | 0o755)
        return True

    def _entry(
        self,
        path: str,
        mode: int,
        data: bytes = b"",
        mtime: int = 0,
        device: tuple[int, int] = (0, 0),
    ) -> None:
        name = os.fsencode(path.lstrip("/")) + b"\0"
        numbers = (
            len(self._parts) + 1,  # inode
            mode,
            *(0, 0, 1),  # user, group, links
            mtime,
            len(data),
            *(0, 0),  # the device that the file lies on
            *device,
            len(name),
            0,  # checksum, unused
        )
        head = b"070701" + b"".join(b"%08X" % number for number in numbers) + name
        self._parts += [head + bytes(-len(head) % 4), data + bytes(-len(data) % 4)]

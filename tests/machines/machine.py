"""Another machine: a Debian kernel booted under qemu, with this Python and belljar in it.

    boot(kernel("6.1"), "print(1 + 1)", user=1234)     # "2\n"

What: ``boot`` packs this interpreter, its standard library and belljar's source into an
initramfs, boots a kernel with it, runs a program there as root or as another user, and gives
what it printed.  Because: Landlock, mounts and cgroups differ from kernel to kernel, and what
``belljar check`` claims of a kernel is only known where that kernel runs.  Then: the machine
has no disk and no network, a bounded time and memory, and is gone afterwards.

Without hardware acceleration qemu emulates every instruction: a boot takes tens of seconds,
so one boot makes many checks.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest

import belljar

from .archive import Archive

QEMU = "qemu-system-x86_64"
SOURCE = Path(belljar.__file__).parents[1]
SOURCE_INSIDE = "/opt/belljar/src"
TIMEOUT_S = 300  # an emulated boot takes 20 to 60; only a hang takes so long
MEMORY_BYTES = 2**30  # the archive twice while it is unpacked, and some guests
USER = 1234  # whom init knows as "user"
NEWEST = "newest"

# Directories of the standard library that no program here imports.
_LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3"} | {
    "site-packages",
    "dist-packages",
    "__phello__",
}
# Hardware acceleration by choice only: inside a virtual machine /dev/kvm may open and then hang.
_ACCELERATION = ("-accel", "kvm") if os.environ.get("BELLJAR_KVM") == "1" else ("-accel", "tcg")
_BEGIN, _END = "-----8<-----", "----->8-----"


class BootFailed(Exception):
    """The machine did not start, did not end, or its program failed; with its console."""


# --- kernels -----------------------------------------------------------------------------------


@cache
def kernels() -> dict[str, Path]:
    """Kernel images by series, as ``{"6.1": Path}``: of ``$BELLJAR_KERNELS``, else fetched."""
    named = os.environ.get("BELLJAR_KERNELS")
    found: dict[str, Path] = {}
    for path in sorted((Path(named) if named else _fetched()).rglob("vmlinuz-*"), key=_version):
        found[".".join(map(str, _version(path)[:2]))] = path
    return found


def kernel(series: str) -> Path:
    """The image of this series, or of the newest there is; skips where something is missing."""
    if platform.machine() != "x86_64":
        pytest.skip("kernels are booted on x86_64 only")
    if shutil.which(QEMU) is None:
        pytest.skip(f"no {QEMU}: apt-get install qemu-system-x86")
    found = kernels()
    if not found:
        pytest.skip(
            "no kernel images: set BELLJAR_KERNELS to a directory of vmlinuz-* files, or use a "
            "Debian with linux-image-*-cloud-amd64 in its package lists"
        )
    if series == NEWEST:
        series = max(found, key=lambda name: tuple(map(int, name.split("."))))
    if series not in found:
        pytest.skip(
            f"no kernel {series} (there are {', '.join(found)}): put the vmlinuz-{series}.* of a "
            "linux-image-*-cloud-amd64 package into $BELLJAR_KERNELS"
        )
    return found[series]


def _version(path: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", path.name)[:4]))


def _fetched() -> Path:
    """A cache directory with the newest cloud kernel of each series that apt knows."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = home / "belljar-tests" / "kernels"
    place.mkdir(parents=True, exist_ok=True)
    if not all(map(shutil.which, ("apt-cache", "apt-get", "dpkg-deb"))):
        return place
    names = subprocess.run(
        ["apt-cache", "search", "--names-only", r"^linux-(image|binary)-[0-9].*-cloud-amd64$"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout.split("\n")
    newest: dict[tuple[int, ...], str] = {}
    # Newer packages keep the image apart, in linux-binary-*.
    for name in sorted((line.split(" ")[0] for line in names if line), key=_order):
        newest[_numbers(name)[:2]] = name
    for name in newest.values():
        unpacked = place / name
        if not unpacked.exists():
            _fetch(name, unpacked)
    return place


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name.split("-cloud-")[0])))


def _order(name: str) -> tuple[tuple[int, ...], bool]:
    return _numbers(name), "-binary-" in name


def _fetch(name: str, unpacked: Path) -> None:
    """Download one package and unpack its image; nothing is installed."""
    with tempfile.TemporaryDirectory(dir=unpacked.parent) as work:
        got = subprocess.run(
            ["apt-get", "download", "-o", "APT::Sandbox::User=root", name],
            cwd=work,
            capture_output=True,
            check=False,
        )
        packages = list(Path(work).glob("*.deb"))
        if got.returncode or not packages:
            return  # no network: the caller says which kernels there are
        subprocess.run(["dpkg-deb", "-x", str(packages[0]), f"{work}/tree"], check=True)
        images = Path(work) / "images"
        images.mkdir()
        for image in Path(work, "tree").rglob("vmlinuz*"):
            image.rename(images / f"vmlinuz-{name.split('-', 2)[2]}")
        images.rename(unpacked)


# --- what is in the machine --------------------------------------------------------------------

# The first process.  It mounts, applies the settings, runs the program and powers off.
_INIT = r"""#!{python} -IS
import ctypes, json, os, subprocess, sys, traceback
libc = ctypes.CDLL(None, use_errno=True)

def mount(source, target, kind=None, flags=0, data=None):
    if not os.path.exists(target):
        os.makedirs(target)
    encode = lambda text: None if text is None else text.encode()
    if libc.mount(encode(source), encode(target), encode(kind), flags, encode(data)):
        raise OSError(ctypes.get_errno(), "mount " + target)

def write(path, text):
    with open(path, "w") as file:
        file.write(text)

def own_root():
    # pivot_root refuses the first mount of all; a copy of it mounted over itself will do.
    mount("/", "/new", flags=0x1000 | 0x4000)
    os.chdir("/new")
    if libc.mount(b".", b"/", None, 0x2000, None):
        raise OSError(ctypes.get_errno(), "mount --move")
    os.chroot(".")
    os.chdir("/")

def mount_all():
    mount("proc", "/proc", "proc", 14)
    mount("sys", "/sys", "sysfs", 14)
    mount("dev", "/dev", "devtmpfs", 2)
    for name, target in {{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0"}}.items():
        if not os.path.islink("/dev/" + name):
            os.symlink(target, "/dev/" + name)
    mount("pts", "/dev/pts", "devpts", 10, "ptmxmode=0666")
    for path in ("/dev/shm", "/tmp", "/var/tmp", "/run"):
        mount("tmpfs", path, "tmpfs", 6, "mode=1777")
    mount("cgroup2", "/sys/fs/cgroup", "cgroup2", 14)
    try:
        mount("securityfs", "/sys/kernel/security", "securityfs", 14)
    except OSError:
        pass

def up_loopback():
    import fcntl, socket, struct
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        fcntl.ioctl(s, 0x8914, struct.pack("16sh14x", b"lo", 0x41))

def delegate(uid):
    top, own = "/sys/fs/cgroup", "/sys/fs/cgroup/user.slice"
    has = open(top + "/cgroup.controllers").read().split()
    write(top + "/cgroup.subtree_control",
          " ".join("+" + name for name in ("memory", "pids", "cpu") if name in has))
    os.mkdir(own)
    for name in ("", "/cgroup.procs", "/cgroup.threads", "/cgroup.subtree_control"):
        os.chown(own + name, uid, uid)
    return own + "/cgroup.procs"

def main():
    own_root()
    mount_all()
    up_loopback()
    settings = json.load(open("/settings.json"))
    uid = settings["uid"]
    for name, value in settings["sysctl"].items():
        write("/proc/sys/" + name.replace(".", "/"), value)
    for path in settings["mask"]:
        # As a container engine covers them.
        if os.path.exists(path):
            mount("/dev/null" if os.path.isfile(path) else "/opt/empty", path, flags=0x1000)
    procs = delegate(uid or 0) if settings["delegate"] else None
    def enter():
        if procs:
            write(procs, "0")
        for number in settings["without"]:
            libc.prctl(24, number, 0, 0, 0)  # PR_CAPBSET_DROP
        os.setgroups([])
        os.setresgid(uid or 0, uid or 0, uid or 0)
        os.setresuid(uid or 0, uid or 0, uid or 0)
    # The program's own session: what it kills, it kills among its own.
    child = subprocess.Popen(
        ["{python}", "-S", *settings["options"], "/program.py"], cwd="/", stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=enter, start_new_session=True,
        env={{"PYTHONPATH": "{source}", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8",
             "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/tmp", **settings["environment"]}})
    out, err = child.communicate()
    return {{"code": child.returncode, "out": out.decode("utf-8", "backslashreplace"),
            "err": err.decode("utf-8", "backslashreplace")}}

try:
    answer = main()
except BaseException:
    answer = {{"code": -1, "out": "", "err": traceback.format_exc()}}
try:
    import tty
    fd = os.open("/dev/ttyS1", os.O_RDWR | os.O_NOCTTY)
    tty.setraw(fd)
    data = ("\n{begin}" + json.dumps(answer) + "{end}\n").encode()
    while data:
        data = data[os.write(fd, data):]
    import termios
    termios.tcdrain(fd)
except BaseException:
    traceback.print_exc()
os.sync()
libc.reboot(0x01234567)
"""


def _base_python() -> Path:
    return Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))


def _libraries(file: Path) -> Iterator[Path]:
    """The shared libraries that a binary is linked to, by the loader's own word."""
    said = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
    for path in re.findall(r"(/\S+) \(0x", said):
        yield Path(path)


@cache
def _base() -> bytes:
    """The archive without settings and program: the same for every machine of a session."""
    archive = Archive()
    python = _base_python()
    stdlib = Path(sysconfig.get_path("stdlib", vars={"installed_base": sys.base_prefix}))
    binaries = [python, *stdlib.glob("lib-dynload/*.so")]
    for library in sorted({lib for binary in binaries for lib in _libraries(binary)}):
        archive.add_linked(library)
    archive.add_linked(python)
    for path in sorted(stdlib.rglob("*")):
        below = path.relative_to(stdlib)
        left_out = not _LEFT_OUT.isdisjoint(below.parts) or below.parts[0].startswith("config-")
        if not left_out and (path.is_symlink() or path.is_file()):
            archive.add_linked(path)
    for path in sorted(SOURCE.rglob("*.py")):
        archive.add_module(path, f"{SOURCE_INSIDE}/{path.relative_to(SOURCE)}")
    for name in ("/etc/ld.so.cache", "/usr/bin/true", "/usr/bin/sleep"):
        if os.path.exists(name):
            archive.add_linked(Path(name))
            for library in _libraries(Path(name)):
                archive.add_linked(library)
    archive.add("/etc/passwd", f"root:x:0:0::/root:/bin/sh\nuser:x:{USER}:{USER}::/tmp:\n".encode())
    archive.add("/etc/group", f"root:x:0:\nuser:x:{USER}:\n".encode())
    archive.add("/etc/hosts", b"127.0.0.1 localhost\n")
    archive.add("/etc/hostname", b"machine\n")
    for link in ("bin", "sbin", "lib", "lib64"):
        if Path("/", link).is_symlink():
            archive.link(f"/{link}", os.readlink(f"/{link}"))
    archive.add("/opt/empty/.keep", b"")
    init = _INIT.format(python=python, source=SOURCE_INSIDE, begin=_BEGIN, end=_END)
    archive.add("/init", init.encode(), 0o755)
    archive.character_device("/dev/console", 5, 1)
    return archive.data()


# --- booting -----------------------------------------------------------------------------------


def boot(
    kernel: Path,
    program: str,
    *,
    user: int | None = None,
    cmdline: str = "",
    sysctl: Mapping[str, str] | None = None,
    delegate: bool = False,
    mask: Sequence[str] = (),
    without_capabilities: Sequence[int] = (),
    files: Mapping[str, bytes | str] | None = None,
    environment: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = MEMORY_BYTES,
    cpus: int = 1,
) -> str:
    """What ``program`` (Python) printed on a machine with this kernel.

    ``user``: as this user id, else as root.  ``cmdline``: more words for the kernel, such as
    ``lsm=yama`` for a machine without Landlock.  ``sysctl``: settings such as
    ``{"user.max_user_namespaces": "0"}``.  ``delegate``: the program starts in a cgroup v2 that
    its user owns, with memory, pids and cpu, as a service with ``Delegate=yes`` does.
    ``mask``: files and directories covered by empty ones, as container engines cover parts of
    ``/proc``.  ``without_capabilities``: taken out of the program's bounding set, by number.
    ``files``: by absolute path, world-readable.  ``options``: of Python.  Raises ``BootFailed``
    where the machine does not end within ``timeout_s`` or the program's exit code is not 0,
    with its standard error or the console.
    """
    archive = Archive()
    settings = {
        "uid": user,
        "sysctl": dict(sysctl or {}),
        "delegate": delegate,
        "mask": list(mask),
        "without": list(without_capabilities),
        "environment": dict(environment or {}),
        "options": list(options),
    }
    archive.add("/settings.json", json.dumps(settings).encode())
    archive.add("/program.py", program.encode())
    for path, data in (files or {}).items():
        archive.add(path, data.encode() if isinstance(data, str) else data)
    with tempfile.TemporaryDirectory(prefix="belljar-machine-") as work:
        image, console, result = (Path(work, n) for n in ("initrd", "console", "result"))
        image.write_bytes(_base() + archive.data())
        words = (
            f"console=ttyS0 quiet loglevel=4 panic=-1 random.trust_cpu=on rdinit=/init {cmdline}"
        )
        command = [
            *(QEMU, *_ACCELERATION, "-cpu", "max,la57=off"),
            *("-m", f"{memory_bytes >> 20}M", "-smp", str(cpus), "-nodefaults", "-no-user-config"),
            *("-display", "none", "-nic", "none", "-no-reboot"),
            *("-serial", f"file:{console}", "-serial", f"file:{result}"),
            *("-kernel", str(kernel), "-initrd", str(image), "-append", words),
        ]
        try:
            qemu = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
            said = qemu.stderr.decode(errors="replace")
        except subprocess.TimeoutExpired:
            said = f"not done within {timeout_s} s\n"
        output = result.read_text() if result.exists() else ""
        log = console.read_text(errors="replace")[-4000:] if console.exists() else ""
    found = re.search(f"{_BEGIN}(.*){_END}", output, re.DOTALL)
    if found is None:
        raise BootFailed(f"{kernel.name}: no answer\n{said}{log}")
    answer = json.loads(found[1])
    if answer["code"]:
        raise BootFailed(f"{kernel.name}: exit code {answer['code']}\n{answer['err']}{log}")
    return str(answer["out"])

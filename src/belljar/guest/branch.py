"""A copy of this process: made when the host asks for it, and settled in before any code goes on.

What: ``make`` copies the process, ``settle`` gives the copy its own files.  Because: a fork shares
with its parent every open file, the working directory and the event loop, and what one of them
does there the other would see.  Then: the copy opens anew what can be opened anew, in its own
``/work`` and ``/tmp``; what cannot is found by the host, which looks at the copy from outside and
lets no code run in it.

Nothing here is a wall.  The kernel's clone is called as it is, because the C library's fork has
no way to ask for what keeps two branches apart.
"""

from __future__ import annotations

import _ctypes
import errno
import fcntl
import gc
import os
import stat
import sys
import time

from ..wire.events import Finished
from . import execute, imports, report

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal as _signal
    from typing import Any

    from ..wire.events import Fork
else:
    import _signal

_TRIES, _PAUSE_S = 50, 0.002
_PLACES = ("/work", "/tmp")
_LINK = 3
_PIECE = 1 << 20
_MOST_DESCRIPTORS = 4096
_AGAIN = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK | os.O_SYNC | os.O_NOATIME | os.O_PATH

# The number of the system call, and what it is called with: the zygote says so.
clone = copy_flags = take_flags = 0
_streams: dict[tuple[int, int], int] = {}  # what was behind 0, 1 and 2 -> its number
_nameless: list[int] = []  # files of a branch that settles
_from: list[tuple[str, int]] = []  # in a branch that has not settled: its parent's places


class _Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
    _type_ = "l"


class _Call(_ctypes.CFuncPtr):
    # With the interpreter's lock held all the way, as the interpreter's own fork does.
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_USE_ERRNO | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_ = _Long


class _Hook(_ctypes.CFuncPtr):
    _flags_ = _ctypes.FUNCFLAG_CDECL | _ctypes.FUNCFLAG_PYTHONAPI
    _restype_: Any = None


def _function(kind: Any, name: str) -> Any:
    this_process: Any = None
    return kind(_ctypes.dlsym(_ctypes.dlopen(this_process, os.RTLD_NOW), name))


_syscall = _function(_Call, "syscall")
_before_fork = _function(_Hook, "PyOS_BeforeFork")
_in_parent = _function(_Hook, "PyOS_AfterFork_Parent")
_in_child = _function(_Hook, "PyOS_AfterFork_Child")


def make(order: Fork) -> Finished | None:
    """Copy this process.  The parent's answer; None in the copy, which has its own link by now."""
    places: list[tuple[str, int]] = []
    collected = gc.isenabled()
    gc.disable()
    imports.lift()  # the policy may block what this takes
    try:
        _refuse_what_waits()
        execute.flush()
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        for name in _PLACES:
            fd = os.open(name, flags)
            # Above what the host will put into the copy; the code may have closed those.
            places.append((name, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _LINK + 1)))
            os.close(fd)
        state = _random_state()
        pid = _clone()
        if pid == 0:
            try:
                _in_child()
                _from[:] = places
                places = []
                _take_descriptors()
                _leave_loops()
                _random_state(state)
            except BaseException:
                os._exit(1)  # nothing of this is the parent's
            gc.freeze()  # what is not collected is not written to, and stays the parent's
            return None
        _in_parent()
    except BaseException as error:
        text = report.describe(error, "<fork>")
        error.__traceback__ = None
        return Finished(order.run_id, "raised", error=text)
    finally:
        for _, fd in places:
            os.close(fd)
        if collected:
            gc.enable()
    return Finished(order.run_id, "ok")


def _clone() -> int:
    """0 in the copy; in both the interpreter is to be told that it was forked."""
    number = 0
    for left in range(_TRIES, -1, -1):
        _before_fork()
        # A signal would make the kernel begin the call again, and the host lets it happen once.
        blocked = _signal.pthread_sigmask(_signal.SIG_BLOCK, range(1, 65))
        pid: int = _syscall(_Long(clone), _Long(copy_flags), *[_Long(0)] * 4)
        number = _ctypes.get_errno()
        _signal.pthread_sigmask(_signal.SIG_SETMASK, blocked)
        if pid >= 0:
            return pid
        _in_parent()
        if number != errno.EPERM or not left:
            break
        # A thread that was joined may be about to end yet, and the host lets none be left behind.
        time.sleep(_PAUSE_S)
    raise OSError(number, os.strerror(number), "clone")


def _refuse_what_waits() -> None:
    """Tasks of the event loop stand in the middle of something that cannot be there twice."""
    runner = execute.loops()
    if runner is None:
        return
    asyncio: Any = sys.modules.get("asyncio")
    waiting = len(asyncio.all_tasks(runner.get_loop())) if asyncio is not None else 0
    if waiting:
        raise RuntimeError(f"{waiting} asyncio task(s) of an earlier run are not done")


def _take_descriptors() -> None:
    """In the copy: wait until the host has put its own link and streams in the old ones' places."""
    for number in range(3):
        try:
            found = os.fstat(number)
        except OSError:
            continue  # the code has closed it
        _streams[found.st_dev, found.st_ino] = number
    if _syscall(_Long(clone), _Long(take_flags), *[_Long(0)] * 4) != 0:
        raise OSError(_ctypes.get_errno(), "the host gave nothing")


def _leave_loops() -> None:
    """In the copy: let go of the event loop without a word to the kernel's, which is the parent's."""
    runner = execute.loops()
    if runner is None:
        return
    execute.forget_loops()
    loop: Any = runner.get_loop()
    for end in (loop._ssock, loop._csock, loop._selector):
        end.close()
    loop._ssock = loop._csock = loop._selector = None
    loop._closed = True


def _random_state(state: Any = None) -> Any:
    """What ``random`` has come to; it goes on from there in both, and a fork would seed it anew."""
    own: Any = getattr(sys.modules.get("random"), "_inst", None)
    if own is None:
        return None
    if state is None:
        return own.getstate()
    own.setstate(state)
    return None


# --- in the copy, when the host has given it its own places -----------------------------------


def settle(run_id: int, link: int) -> Finished:
    """Copy the files and open anew what is open; the answer to the first order."""
    places, _from[:] = _from[:], []
    imports.lift()
    try:
        _reseed()
        moved: dict[tuple[int, int], str] = {}
        for name, fd in places:
            _copy(fd, name, moved)
        where = os.stat(".")
        os.chdir(moved.get((where.st_dev, where.st_ino)) or _elsewhere())
        keep = {0, 1, 2, link, *(fd for _, fd in places)}
        for number in _open_descriptors():
            if number not in keep:
                _open_anew(number, moved)
    except BaseException as error:
        text = report.describe(error, "<fork>")
        error.__traceback__ = None
        return Finished(run_id, "raised", error=text)
    finally:
        for fd in (*_nameless, *(fd for _, fd in places)):
            os.close(fd)
        _nameless.clear()
        _streams.clear()
    return Finished(run_id, "ok")


def _reseed() -> None:
    """What has to be one's own: see ``standins.reseed``, which seeds the generators as well."""
    uuid: Any = sys.modules.get("uuid")
    if uuid is not None:
        uuid._generate_time_safe = None
        uuid._last_timestamp = None
        # As its own, but not of the numbers that both go on with.
        uuid._node = int.from_bytes(os.urandom(6), "big") | 1 << 40


def _elsewhere() -> str:
    """The working directory by its name, where it is not one of the guest's own places."""
    return os.getcwd()


def _open_descriptors() -> list[int]:
    try:
        names = os.listdir("/proc/self/fd")
    except OSError:
        return list(range(_MOST_DESCRIPTORS))  # a machine whose proc shows less
    return [int(name) for name in names]


def _copy(source: int, target: str, moved: dict[tuple[int, int], str]) -> None:
    """The contents of a directory into an empty one; ``moved`` says what lies where then."""
    own = os.fstat(source)
    moved[own.st_dev, own.st_ino] = target
    for entry in os.scandir(source):
        found = entry.stat(follow_symlinks=False)
        key = (found.st_dev, found.st_ino)
        path = f"{target}/{entry.name}"
        if stat.S_ISDIR(found.st_mode):
            os.mkdir(path, 0o700)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = _readable(entry.name, source, found.st_mode, flags)
            try:
                _copy(fd, path, moved)
            finally:
                os.close(fd)
        elif stat.S_ISLNK(found.st_mode):
            os.symlink(os.readlink(entry.name, dir_fd=source), path)
            continue
        elif key in moved:
            os.link(moved[key], path)
            continue
        elif stat.S_ISFIFO(found.st_mode):
            os.mkfifo(path, 0o600)
        else:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = _readable(entry.name, source, found.st_mode, flags)
            try:
                to = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                try:
                    _copy_contents(fd, to)
                finally:
                    os.close(to)
            finally:
                os.close(fd)
        moved[key] = path
        os.chmod(path, stat.S_IMODE(found.st_mode))
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def _readable(name: str, directory: int, mode: int, flags: int) -> int:
    """Open what belongs to us, whatever its permissions are; the parent waits meanwhile."""
    try:
        return os.open(name, flags, dir_fd=directory)
    except PermissionError:
        os.chmod(name, 0o700, dir_fd=directory)
    try:
        return os.open(name, flags, dir_fd=directory)
    finally:
        os.chmod(name, stat.S_IMODE(mode), dir_fd=directory)


def _copy_contents(source: int, target: int) -> None:
    """From the beginning to the end, holes as holes."""
    size = os.fstat(source).st_size
    at = 0
    while at < size:
        try:
            at = os.lseek(source, at, os.SEEK_DATA)
            end = os.lseek(source, at, os.SEEK_HOLE)
        except OSError:
            break  # nothing but a hole is left
        while at < end:
            data = os.pread(source, min(_PIECE, end - at), at)
            if not data:
                break
            done = 0
            while done < len(data):
                done += os.pwrite(target, data[done:], at + done)
            at += len(data)
    os.ftruncate(target, size)


def _open_anew(number: int, moved: dict[tuple[int, int], str]) -> None:
    """Open a file once more, where it lies now, with the same flags and at the same position.

    What cannot be is left as it is: the host finds it.
    """
    try:
        found = os.fstat(number)
        flags = fcntl.fcntl(number, fcntl.F_GETFL) & _AGAIN
    except OSError:
        return
    key = (found.st_dev, found.st_ino)
    if key in _streams:
        os.dup2(_streams[key], number, inheritable=os.get_inheritable(number))
        return
    is_file = stat.S_ISREG(found.st_mode)
    if not (is_file or stat.S_ISDIR(found.st_mode) or stat.S_ISCHR(found.st_mode)):
        return
    path = moved.get(key)
    ours = path is not None
    if path is None and is_file and not found.st_nlink:
        path = _copy_nameless(number, moved)
        ours = path is not None
    if path is None:
        path = os.readlink(f"/proc/self/fd/{number}")
    try:
        anew = os.open(path, flags | os.O_CLOEXEC)
    except OSError:
        return
    again = os.fstat(anew)
    if ours or (again.st_dev, again.st_ino) == key:
        if is_file and not flags & os.O_PATH:
            os.lseek(anew, os.lseek(number, 0, os.SEEK_CUR), os.SEEK_SET)
        os.dup2(anew, number, inheritable=os.get_inheritable(number))
    os.close(anew)


def _copy_nameless(number: int, moved: dict[tuple[int, int], str]) -> str | None:
    """A copy of a file that has no name, by a path that lasts until the branch has settled."""
    try:
        source = os.open(f"/proc/self/fd/{number}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if os.fstat(source).st_dev != os.stat("/tmp").st_dev:
            return None
        fd = os.open("/tmp", os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
        _copy_contents(source, fd)
    finally:
        os.close(source)
    key = os.fstat(number)
    # Other descriptors of the same file find it as well.
    path = moved[key.st_dev, key.st_ino] = f"/proc/self/fd/{fd}"
    _nameless.append(fd)
    return path

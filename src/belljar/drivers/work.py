"""The host's own hands in a guest's ``/work``: look, read, write, delete.

What: everything goes through one descriptor of the directory, which the guest's confinement
handed over before any untrusted code, and one call, openat2(2), that follows no link and leaves
neither the directory nor its mount.  Because: the guest may be running, and whatever it told of
its files would be a claim; what the kernel opens is what there is.  Then: only regular files
are ever opened (of all else there is a descriptor that can do nothing, O_PATH), so no FIFO is
woken, no device touched, and nothing waits.

The guest's user is not root of the host.  Files that the host makes must be the guest's, and
the kernel makes none for a user that the guest's mounts do not know: ``_as_owner``.
"""

from __future__ import annotations

import _thread
import errno
import os
import stat
import struct
from _weakref import ref

from ..errors import FileRefused
from ..files import KINDS, File, Files, Found, refuse_kind, too_large
from ..kernel import process
from ..kernel.libc import address_of, buffer, libc, syscall

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import BinaryIO, TypeVar

    from .zygotes import Work

    _T = TypeVar("_T")

MOST_NAMES = 10_000  # some 50 ms and 5 MB; a plain policy's /work has room for 4,096
MOST_WATCHED = 1_000  # in a guest that stays, where every run looks: 3 us each
MOST_NAME_BYTES = 4 * 2**20  # of all of them together, paths included
MOST_DEPTH = 64
PATH_BYTES = 4095  # PATH_MAX, less its end
MOST_HELD = 256  # a quarter of the descriptors that most processes may have
MOST_HELD_BYTES = 2**30  # sixteen guests that have filled their /work, by default
_RESOLVE = 1 | 2 | 4 | 8  # openat2(2): NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH
_COMPARED = 2**20  # bytes of given files that are compared at once, so that nothing is kept
_PR_GET_PDEATHSIG = 2

# What a look remembers of a file: kind, size, inode, mtime, ctime.  The last is the kernel's own.
Seen = tuple[str, int, int, int, int]


# --- opening ----------------------------------------------------------------------------------


def _open(work: Work, name: str, flags: int, mode: int = 0) -> int:
    how = struct.pack("QQQ", flags | os.O_CLOEXEC | os.O_NOFOLLOW, mode, _RESOLVE)
    try:
        return syscall("openat2", work.fd, to_bytes(name), how, len(how))
    except OSError as error:
        raise _told(error, name) from None


def to_bytes(name: str) -> bytes:
    """A name as the kernel has it."""
    return name.encode("utf-8", "surrogateescape")


def to_text(name: bytes) -> str:
    """A name as the host shows it."""
    return name.decode("utf-8", "surrogateescape")


def _told(error: OSError, name: str) -> Exception:
    """The kernel's refusal, with the name that the caller knows."""
    number = error.errno or 0
    if number in (errno.ELOOP, errno.EXDEV):
        return FileRefused(errno.ELOOP, "it is, or leads through, a symbolic link", name)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return FileRefused(number, "/work is full: the limit work_bytes or work_files", name)
    return OSError(number, os.strerror(number), name)


def _kind(mode: int) -> str:
    return KINDS.get(stat.S_IFMT(mode), "other")


def _seen(status: os.stat_result) -> Seen:
    return (
        _kind(status.st_mode),
        status.st_size,
        status.st_ino,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def open_to_read(work: Work, name: str, expected: Seen | None = None) -> int:
    """A descriptor of a regular file.

    What it is is asked of a descriptor that opens nothing; that very file is opened then.
    ``expected`` is what it must still be.
    """
    place = _open(work, name, os.O_PATH)
    try:
        status = os.fstat(place)
        if expected is not None and _seen(status) != expected:
            raise FileRefused(errno.ESTALE, "it has changed since the run ended", name)
        if not stat.S_ISREG(status.st_mode):
            refuse_kind(_kind(status.st_mode), name)
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        try:
            return os.open(f"/proc/self/fd/{place}", flags)
        except OSError as error:
            raise _told(error, name) from None
    finally:
        os.close(place)


def capacity(work: Work) -> int:
    """What ``/work`` has room for in all, in bytes."""
    room = os.fstatvfs(work.fd)
    return room.f_blocks * room.f_frsize


# --- looking ----------------------------------------------------------------------------------


def look(work: Work, most: int = MOST_NAMES) -> tuple[dict[str, Seen], bool]:
    """All that there is but directories, and whether that is all.

    Nothing is opened but directories, one at a time; number, depth and names are bounded.
    """
    found: dict[str, Seen] = {}
    complete = True
    todo = [("", 0)]
    looked = name_bytes = 0
    while todo:
        above, depth = todo.pop()
        try:
            here = _open(work, above or ".", os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue  # a guest that runs has just taken it away
        except (OSError, FileRefused):
            complete = False
            continue
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    name = above + to_text(os.fsencode(entry.name))
                    looked += 1
                    name_bytes += len(name)
                    if looked > most or name_bytes > MOST_NAME_BYTES:
                        return found, False
                    try:
                        seen = _seen(entry.stat(follow_symlinks=False))
                    except FileNotFoundError:
                        continue
                    except OSError:
                        complete = False
                        continue
                    if seen[0] != "directory":
                        found[name] = seen
                    elif depth < MOST_DEPTH and len(to_bytes(name)) < PATH_BYTES - 256:
                        todo.append((f"{name}/", depth + 1))
                    else:
                        complete = False
        except OSError:
            complete = False
        finally:
            os.close(here)
    return found, complete


def _file(work: Work, name: str, seen: Seen, most: int, *, same: bool = True) -> File:
    expected = seen if same else None
    return File(name, seen[0], seen[1], most, lambda: open_to_read(work, name, expected))


def _changes(
    work: Work,
    before: Mapping[str, Seen],
    after: Mapping[str, Seen],
    complete: bool,
    given: Mapping[str, bytes],
) -> Found:
    """What there is now and was not so before.

    ``given`` are files that the guest's agent wrote at the start of the run: whether the code
    changed them, their contents tell.
    """
    most = capacity(work)
    changed = {
        name: _file(work, name, seen, most)
        for name, seen in sorted(after.items())
        if before.get(name) != seen and not (name in given and _holds(work, name, given[name]))
    }
    gone = sorted(name for name in {*before, *given} if name not in after) if complete else []
    return Found(changed, tuple(gone), complete)


def _holds(work: Work, name: str, contents: bytes) -> bool:
    """Whether a file has just these contents."""
    try:
        fd = open_to_read(work, name)
    except (OSError, FileRefused):
        return False
    with open(fd, "rb") as file:
        if os.fstat(fd).st_size != len(contents):
            return False
        view = memoryview(contents)
        while view:
            piece = file.read(min(len(view), 2**20))
            if not piece or piece != bytes(view[: len(piece)]):
                return False
            view = view[len(piece) :]
        return True


def left_by(work: Work, given: Mapping[str, bytes]) -> Files | None:
    """The files of a guest that has ended after its only run; None where there are none.

    Nothing changes any more, so they are looked at when somebody asks.  ``work.known`` are those
    that the host put there before the run.
    """
    before: Mapping[str, Seen] = work.known or {}
    if not before and not given and work.empty:
        return None

    def find() -> Found:
        return _changes(work, before, *look(work), given)

    if before or given:
        size = sum(map(len, given.values()))
        if size > _COMPARED or len(given) + len(before) > MOST_WATCHED:
            return _held.hold(Files(find), work)
        found = find()
        if not found.files:
            return Files(lambda: found) if found.deleted or not found.complete else None
        return _held.hold(Files(lambda: found), work)
    return _held.hold(Files(find), work)


def changed_in(work: Work, given: Mapping[str, bytes]) -> Files | None:
    """The files of a run that others may follow; remembers what there is for the next one.

    Now, because a later run may change them: what is told is of this run, and contents that have
    changed since are refused.
    """
    before: Mapping[str, Seen] = work.known or {}
    if not before and work.empty:
        return None
    after, complete = look(work, MOST_WATCHED)
    work.known = after
    found = _changes(work, before, after, complete, given)
    if found.complete and not found.files and not found.deleted:
        return None
    return _held.hold(Files(lambda: found), work)


def remember(work: Work) -> None:
    """What is there now was there before the next run."""
    work.known = {} if work.empty else look(work, MOST_WATCHED)[0]


class _Held:
    """Whose files are held for results.

    What: the newest so many, and so many bytes of them.  Because: a program that keeps its
    results would keep all memory that its guests have filled, asked for or not, and a descriptor
    for each.  Then: an older result has no files any more, and says so.
    """

    def __init__(self) -> None:
        self._lock = _thread.allocate_lock()
        self._held: list[tuple[ref[Files], ref[Work], int]] = []

    def hold(self, files: Files, work: Work) -> Files:
        """Count these in, and let go of the oldest where that is too much."""
        room = os.fstatvfs(work.fd)
        used = (room.f_blocks - room.f_bfree) * room.f_frsize
        dropped: list[Files] = []
        with self._lock:
            # Of one guest the last figure counts, and once.
            held = [one for one in self._held if one[0]() is not None and one[1]() is not None]
            last = {id(one[1]()): one for one in held}
            last.pop(id(work), None)
            total = used + sum(one[2] for one in last.values())
            held.append((ref(files), ref(work), used))
            while len(held) > MOST_HELD or (total > MOST_HELD_BYTES and len(held) > 1):
                oldest = held.pop(0)
                if not any(one[1] == oldest[1] for one in held):
                    total -= oldest[2]
                found = oldest[0]()
                if found is not None:
                    dropped.append(found)
            self._held = held
        for one in dropped:
            one.let_go("the files were let go of, because newer results hold theirs")
        return files


_held = _Held()
_switching = _thread.allocate_lock()  # see _as_owner


def _forget() -> None:
    global _held, _switching
    _held, _switching = _Held(), _thread.allocate_lock()


os.register_at_fork(after_in_child=_forget)


# --- for the owner of a live guest ---------------------------------------------------------------


def list_in(work: Work, name: str, most: int = MOST_NAMES) -> tuple[File, ...]:
    """The files and directories in one directory, by name.

    Raises ``FileRefused`` where there are more than ``most``.
    """
    here = _open(work, name, os.O_RDONLY | os.O_DIRECTORY)
    found: list[File] = []
    room = capacity(work)
    above = "" if name == "." else f"{name}/"
    try:
        with os.scandir(here) as entries:
            for entry in entries:
                if len(found) == most:
                    raise FileRefused(errno.E2BIG, f"more than {most} files", name)
                path = above + to_text(os.fsencode(entry.name))
                try:
                    seen = _seen(entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue
                found.append(_file(work, path, seen, room, same=False))
    finally:
        os.close(here)
    return tuple(sorted(found, key=lambda file: file.name))


def create(work: Work, name: str) -> int:
    """A descriptor of a new file in place of what was there, directories on the way made.

    What was there is unlinked and not written over: it may have other names, or be open.
    """
    return _as_owner(work, lambda: _create(work, name))


def _create(work: Work, name: str) -> int:
    above, _, last = name.rpartition("/")
    parent = _make_directories(work, above)
    try:
        try:
            os.unlink(to_bytes(last), dir_fd=parent)
        except FileNotFoundError:
            pass
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(to_bytes(last), flags, 0o644, dir_fd=parent)
        os.fchmod(fd, 0o644)  # whatever the umask
        return fd
    except OSError as error:
        raise _told(error, name) from None
    finally:
        os.close(parent)


def _make_directories(work: Work, path: str) -> int:
    """A descriptor of a directory, made with those above it where they are missing."""
    done = "."
    here = _open(work, ".", os.O_PATH | os.O_DIRECTORY)
    try:
        for part in path.split("/") if path else ():
            done = part if done == "." else f"{done}/{part}"
            made = False
            try:
                os.mkdir(to_bytes(part), 0o755, dir_fd=here)
                made = True
            except FileExistsError:
                pass
            except OSError as error:
                raise _told(error, done) from None
            below = _open(work, done, os.O_PATH | os.O_DIRECTORY)
            os.close(here)
            here = below
            if made:
                # Whatever the umask.  By the descriptor, because a guest that runs may have put
                # a link in its place, and chmod(2) follows links to files of the host's.
                os.chmod(f"/proc/self/fd/{here}", 0o755)
    except BaseException:
        os.close(here)
        raise
    return here


def write(work: Work, name: str, source: bytes | BinaryIO, most: int) -> None:
    """Make a file with these contents, of at most so many bytes; it is there whole or not at all.

    The size of ``/work`` holds for the host as well.
    """
    fd = create(work, name)
    done = 0
    try:
        try:
            for piece in _pieces(source):
                done += len(piece)
                if done > most:
                    too_large(name, most)
                while piece:
                    piece = piece[os.write(fd, piece) :]
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise _told(error, name) from None
            raise
        note(work, name, fd)
    except BaseException:
        try:
            delete(work, name)
        except (OSError, FileRefused):
            pass  # a guest that runs was quicker
        raise
    finally:
        os.close(fd)


def _pieces(source: bytes | BinaryIO) -> Iterator[memoryview]:
    if isinstance(source, bytes):
        yield memoryview(source)
        return
    while piece := source.read(2**20):
        yield memoryview(piece)


def note(work: Work, name: str, fd: int) -> None:
    """Remember that the host wrote it, and no run."""
    if work.known is None:
        work.known = {}
    work.known[name] = _seen(os.fstat(fd))


def delete(work: Work, name: str) -> None:
    """Remove a file, or a directory with nothing in it."""
    _as_owner(work, lambda: _delete(work, name))
    if work.known is not None:
        work.known.pop(name, None)


def _delete(work: Work, name: str) -> None:
    above, _, last = name.rpartition("/")
    parent = _open(work, above or ".", os.O_PATH | os.O_DIRECTORY)
    try:
        try:
            os.unlink(to_bytes(last), dir_fd=parent)
        except IsADirectoryError:
            os.rmdir(to_bytes(last), dir_fd=parent)
    except OSError as error:
        raise _told(error, name) from None
    finally:
        os.close(parent)


def _as_owner(work: Work, act: Callable[[], _T]) -> _T:
    """Do something as the guest's user, as far as files are concerned, on this thread.

    What: setfsuid(2), where the host is another user, which is root.  Because: the tmpfs belongs
    to a user namespace that does not know the host's root, and the kernel makes no file for
    somebody it could not name there (EOVERFLOW).  Then: what the change resets, that the process
    may be dumped and dies with its parent, is put back; one thread at a time, or another would
    take what is reset for how it was.
    """
    status = os.fstat(work.fd)
    uid, gid = os.geteuid(), os.getegid()
    if (status.st_uid, status.st_gid) == (uid, gid):
        return act()
    with _switching:
        dumpable = process.prctl(process.PR_GET_DUMPABLE)
        number = buffer(4)
        process.prctl(_PR_GET_PDEATHSIG, address_of(number))
        death = int.from_bytes(number.raw, "little")
        parent = os.getppid()
        try:
            libc.setfsgid(status.st_gid)
            libc.setfsuid(status.st_uid)
            return act()
        finally:
            libc.setfsuid(uid)
            libc.setfsgid(gid)
            if dumpable == 1:
                process.prctl(process.PR_SET_DUMPABLE, 1)
            if death:
                process.prctl(process.PR_SET_PDEATHSIG, death)
                if os.getppid() != parent:
                    os.kill(os.getpid(), death)  # it ended just then

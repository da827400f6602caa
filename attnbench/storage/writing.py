"""Writing files whole or not at all, even with several writers, and the layout of a stored run.

A new file is written beside its place as `.attnbench-<random>.tmp`, flushed to the disk, and only then put in place. A full
disk or a signal leaves the old file; a kill may also leave the hidden one.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

#: The folder does not allow a second file, or the place is a mount point: only the file itself can be written.
_NOT_BESIDE = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY)
#: File systems without hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_MOST_LINKS = 40  # as the kernel follows
#: Where in a stored run each part has its own line, so that a diff of two files shows cases.
_OF_LINES = {
    (),
    ("benchmarks",),
    ("attnbench",),
    *(("attnbench", name) for name in ("launches", "records", "verdicts")),
}


def laid_out(document: Mapping[str, Any], dumps: Callable[[Any], str]) -> str:
    """A stored run as JSON without indentation, a line for each benchmark, launch, record and verdict."""
    return f"{_laid_out(document, dumps, ())}\n"


def _laid_out(value: Any, dumps: Callable[[Any], str], place: tuple[str, ...]) -> str:
    if place not in _OF_LINES or not value or not isinstance(value, (dict, list)):
        return dumps(value)
    if isinstance(value, list):
        lines = [dumps(part) for part in value]
    else:
        lines = [f"{dumps(name)}: {_laid_out(part, dumps, (*place, name))}" for name, part in value.items()]
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    return "\n".join([opening, ",\n".join(lines), closing])


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` where `open(path, "wb")` would, whole or not at all. Raises OSError.

    Links are followed, but other hard links of the file keep what was there. An existing file keeps its mode and, if
    permitted, its owner. A read-only file is refused, even if its folder would allow replacing it. Devices, pipes and
    `/dev/stdout` are written to directly. A writable file in a read-only folder is overwritten, and restored if that
    fails.
    """
    place = _place(path)
    if isinstance(place, int):
        _write_to_descriptor(place, content)
        return
    status = _status(place)
    if status is not None and not stat.S_ISREG(status.st_mode):
        _write_to_device(place, status, content)
        return
    if status is not None:
        os.close(os.open(place, os.O_WRONLY | os.O_CLOEXEC))
    try:
        with _written_beside(place.parent, content, status) as temporary:
            temporary.replace(place)
    except OSError as exc:
        if status is None or exc.errno not in _NOT_BESIDE:
            raise
        _overwrite(place, content)
    _flush_folder(place.parent)


def write_new(folder: Path, name: Callable[[int], str], first: Callable[[], int], content: bytes) -> Path:
    """Write `content` to a new file in `folder`: the first free one of `name(first())`, `name(first() + 1)` and so on.

    Never overwrites, and no two runs of attnbench get the same number: `first` is called while no other run numbers a file
    there. Creates the folder. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _written_beside(folder, content, None) as temporary, _alone_in(folder):
        number = first()
        while not _put_new(temporary, folder / name(number)):
            number += 1
    _flush_folder(folder)
    return folder / name(number)


def _place(path: Path) -> Path | int:
    """The file that a path means with all links followed, or the number of a descriptor that this process has open.

    `/dev/stdout` is a link to such a descriptor. What that is open on may be a log that the shell made, which must not be
    replaced by another file.
    """
    own = re.compile(rf"/proc/{os.getpid()}(/task/\d+)?/fd")
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(path.parent)
        path = Path(folder, path.name)
        if own.fullmatch(folder) and path.name.isdecimal():
            return int(path.name)
        if not path.is_symlink():
            return path
        path = Path(folder, path.readlink())
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _written_beside(folder: Path, content: bytes, like: os.stat_result | None) -> Iterator[Path]:
    """A file of this process in `folder`, on the disk and with the mode and owner of `like`; removed if still there."""
    temporary = folder / f".attnbench-{secrets.token_hex(8)}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        try:
            if like is not None:
                with contextlib.suppress(PermissionError):  # another's file in a folder of ours
                    os.fchown(descriptor, like.st_uid, like.st_gid)
                os.fchmod(descriptor, stat.S_IMODE(like.st_mode))
            _write_all(descriptor, content)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _overwrite(path: Path, content: bytes) -> None:
    """Write into the file itself, one process after the other."""
    with path.open("r+b") as file:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        before = file.read()
        try:
            _rewrite(file.fileno(), content)
        except BaseException:
            with contextlib.suppress(OSError):
                _rewrite(file.fileno(), before)
            raise


def _rewrite(descriptor: int, content: bytes) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    _write_all(descriptor, content)
    os.ftruncate(descriptor, len(content))
    os.fsync(descriptor)


def _write_to_device(path: Path, status: os.stat_result, content: bytes) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    try:  # without waiting for a reader, who may never come
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno == errno.ENXIO and stat.S_ISFIFO(status.st_mode):
            raise OSError(errno.ENXIO, "it is a FIFO that nothing reads from", str(path)) from exc
        raise
    try:
        os.set_blocking(descriptor, True)
        _write_all(descriptor, content)
    finally:
        os.close(descriptor)


def _write_to_descriptor(number: int, content: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):  # what was printed before comes before
        stream.flush()
    _write_all(number, content)


def _write_all(descriptor: int, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]


def _put_new(temporary: Path, path: Path) -> bool:
    """Put the file in a place where nothing is; False where something is."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as exc:
        if exc.errno not in _NO_LINKS:
            raise
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC))
        except FileExistsError:
            return False
        temporary.replace(path)
    return True


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """While no other process is here with this folder; where it cannot be locked, without that."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    """Have the new name survive a power cut, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

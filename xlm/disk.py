"""Errors of file systems, and features that some of them lack: locks, flushes of folders.

One table of error numbers decides which errors the user can fix; any other OSError is our bug.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import logging
import mmap
import os
import stat
import weakref
from pathlib import Path
from typing import IO, Any

log = logging.getLogger("xlm")

_ROOM = "free or choose a disk"
_OTHER = "choose another {place}"
_NAME = "choose a shorter name"
_DISK = "check the disk or the network, or choose another {place}"

ADVICE = {
    errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM,
    errno.EFBIG: "the file system, or ulimit -f, allows no file as large: choose another {place}",
    errno.EACCES: _OTHER, errno.EPERM: _OTHER, errno.EROFS: _OTHER, errno.ENOENT: _OTHER,
    errno.ENOTDIR: _OTHER, errno.EISDIR: _OTHER, errno.EEXIST: _OTHER, errno.ENOTEMPTY: _OTHER,
    errno.EBUSY: _OTHER, errno.ETXTBSY: _OTHER, errno.EXDEV: _OTHER, errno.EINVAL: _OTHER,
    errno.EILSEQ: _OTHER, errno.ENXIO: _OTHER, errno.ENODEV: _OTHER, errno.EMLINK: _OTHER,
    errno.ENOSYS: _OTHER, errno.EOPNOTSUPP: _OTHER, errno.ENOTSUP: _OTHER, errno.ENOLCK: _OTHER,
    errno.ENAMETOOLONG: _NAME, errno.ELOOP: "links lead in a circle: choose another {place}",
    errno.EIO: _DISK, errno.ESTALE: _DISK, errno.ETIMEDOUT: _DISK, errno.EHOSTDOWN: _DISK,
    errno.ENOTCONN: _DISK, errno.ECONNRESET: _DISK, errno.ECONNABORTED: _DISK,
    errno.EREMOTEIO: _DISK,
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "the machine has too many files open: end other programs",
}  # fmt: skip
"""Advice to the user for each error number of a file system."""

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_NO_FLUSH = {
    errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES,
    errno.EPERM, errno.EISDIR, errno.ENOTTY,
}  # fmt: skip
_said: set[str] = set()


def advice(refused: OSError, place: str = "file") -> str:
    """Return the advice for an error; ``place`` is a file or a folder."""
    return ADVICE.get(refused.errno or 0, _OTHER).format(place=place)


def lock(file: IO[Any]) -> None:
    """Lock an open file for this process alone, without waiting.

    Raises BlockingIOError if another process holds it. On a file system without locks a warning is
    logged once and work continues: a second process is not noticed there.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as refused:
        if refused.errno not in _NO_LOCKS:
            raise
        _say_once(
            "locks",
            f"{file.name}: this file system has no locks ({refused.strerror}): a second process "
            "that writes here would not be noticed",
        )


def is_locked(path: Path) -> bool:
    """Return whether a process of this machine holds the lock of a file, without trying to.

    False on a system that does not list its locks.
    """
    try:
        number = path.stat().st_ino
        lines = Path("/proc/locks").read_text(encoding="utf-8").splitlines()
    except OSError:
        return False
    fields = [line.split() for line in lines]
    return any(
        own[1] == "FLOCK" and own[5].rpartition(":")[2] == str(number)
        for own in fields
        if len(own) > 5
    )


def flush(path: Path) -> None:
    """Make a file or a folder survive a power cut.

    On a file system that cannot flush folders a warning is logged once: files are still flushed.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as refused:
        is_folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        if not is_folder or refused.errno not in _NO_FLUSH:
            raise
        _say_once(
            "folders",
            f"{path}: this file system cannot flush folders ({refused.strerror}): after a power "
            "cut the newest files may be missing",
        )
    finally:
        os.close(handle)


def _say_once(what: str, line: str) -> None:
    if what not in _said:
        _said.add(what)
        log.warning("%s", line)


@functools.cache
def _library() -> ctypes.CDLL:
    """Return the C library, opened once: each map would keep five kilobytes of its own."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64]
    library.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    if hasattr(library, "madvise"):
        library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def map_file(path: Path, size: int) -> memoryview:
    """Map ``size`` bytes, at least 1, of a file read-only, without keeping it open.

    Python's own ``mmap`` keeps a descriptor for each map, and a thousand files are too many for the
    usual limit. Never write to the returned memory: the process would be killed.
    """
    library = _library()
    handle = os.open(path, os.O_RDONLY)
    try:
        address = library.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, handle, 0)
    finally:
        os.close(handle)
    if address is None or address == ctypes.c_void_p(-1).value:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    content = (ctypes.c_ubyte * size).from_address(address)
    # Not when the interpreter exits: other threads may still read it.
    weakref.finalize(content, library.munmap, address, size).atexit = False
    return memoryview(content).toreadonly()


def expect_random_access(address: int, size: int) -> None:
    """Tell the system that a map (its ``address``, ``size`` bytes) is read here and there.

    It reads ahead otherwise, up to megabytes for a row of half a kilobyte. Nothing happens on a
    system that knows no such advice.
    """
    library = _library()
    if hasattr(library, "madvise") and hasattr(mmap, "MADV_RANDOM"):
        library.madvise(address, size, mmap.MADV_RANDOM)

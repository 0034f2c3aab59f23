"""Folders that appear whole or not at all, and arrays mapped only after their size is checked."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xlm.errors import DataError

HEADER = "header.json"
CHUNK = 1 << 16
"""Rows handled at a time by whatever walks over a whole array, so that memory stays constant."""

_DISK_ERRORS = {
    errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.ENOTDIR,
    errno.EEXIST, errno.ENAMETOOLONG,
}  # fmt: skip
_LOCK = ".lock"


@contextlib.contextmanager
def atomic_directory(path: Path | str, *, replace: bool = False) -> Iterator[Path]:
    """A folder to fill, that becomes ``path`` by one rename when the block ends well.

    It is filled beside its target as ``.NAME.writing``; every file is flushed to the disk first.
    What a crashed writer left there is removed by the next one; a writer still alive holds a lock.

    Raises DataError when ``path`` exists and is not to be replaced, when another process is
    writing it, or when the disk is full or read-only.
    """
    path = Path(path)
    staging = path.with_name(f".{path.name}.writing")
    replaced = path.with_name(f".{path.name}.replaced")
    try:
        _make(path.parent)
        _recover(path, replaced)
        if path.exists() and not replace:
            raise DataError(f"{path} already exists: remove it, or ask for it to be replaced")
        with _claimed(staging):
            yield staging
            _flush(staging)
            (staging / _LOCK).unlink()
            if path.exists():
                os.rename(path, replaced)
            os.rename(staging, path)
            _flush_folder(path.parent)
            shutil.rmtree(replaced, ignore_errors=True)
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        advice = "free or choose a disk" if full else "choose another folder"
        raise DataError(f"cannot write {path}: {error.strerror}; {advice}") from error


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _DISK_ERRORS:
            raise
        raise DataError(f"cannot make {folder}: {error.strerror}; choose another folder") from error


def _recover(path: Path, replaced: Path) -> None:
    """Undo or finish a replacement that a crash interrupted between its two renames."""
    if replaced.exists():
        if path.exists():
            shutil.rmtree(replaced)
        else:
            os.rename(replaced, path)


@contextlib.contextmanager
def _claimed(staging: Path) -> Iterator[None]:
    staging.mkdir(exist_ok=True)
    with open(staging / _LOCK, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise DataError(
                f"{staging} is being written by another process: wait for it, or end it"
            ) from None
        for leftover in staging.iterdir():
            if leftover.name == _LOCK:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover)
            else:
                leftover.unlink()
        try:
            yield
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _flush(folder: Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(os.path.join(parent, name), "rb") as file:
                os.fsync(file.fileno())
        _flush_folder(Path(parent))


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as indented JSON, its keys in the order given."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, what: str, keys: tuple[str, ...], version: int) -> dict[str, Any]:
    """The JSON object at ``path``, of this ``format_version`` and with these ``keys``.

    Raises DataError, one line that names the file, where it is none.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"no {what} at {path.parent}: {path.name} is missing; prepare it") from None
    except NotADirectoryError:
        raise DataError(f"no {what} at {path.parent}: it is not a folder") from None
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}): prepare it again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} is damaged: expected an object; prepare it again")
    found = content.get("format_version")
    if found != version:
        raise DataError(
            f"{path} has format version {found}, this library reads {version}: prepare it again"
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: it is no {what}; prepare it again")
    return content


def map_array(path: Path, dtype: DTypeLike, num: int) -> NDArray[Any]:
    """``num`` items of ``dtype`` mapped read-only from ``path``.

    The size is compared before anything is mapped: reading past the end of a truncated file would
    kill the process (SIGBUS). Raises DataError where it differs, or where there is no such file.
    """
    expected = num * np.dtype(dtype).itemsize
    try:
        found = path.stat().st_size
    except OSError:
        raise DataError(f"{path} is missing: prepare {path.parent} again") from None
    if found != expected:
        raise DataError(
            f"{path} has {found} bytes, its header says {expected}: prepare {path.parent} again"
        )
    if num == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype=dtype)
    # The base class: a memmap costs at every slice what its subclass bookkeeping costs.
    return np.memmap(path, dtype=dtype, mode="r", shape=(num,)).view(np.ndarray)

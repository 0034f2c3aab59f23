"""Files and folders that appear whole or not at all, JSON, and arrays mapped after a check."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from xlm import disk, strict_json
from xlm.digests import is_sealed
from xlm.errors import CheckpointError, ConfigError, DataError, XlmError
from xlm.strict_json import JsonError

HEADER = "header.json"
CHUNK = 1 << 16
"""Rows handled at a time by loops over a whole array, so that memory stays constant."""

MAX_JSON = 1 << 28
"""Largest size in bytes of a JSON file; the largest vocabulary is a tenth of it."""

_LOCK = ".lock"


@contextlib.contextmanager
def atomic_directory(
    path: Path | str, *, replace: bool = False, flush: bool = True
) -> Iterator[Path]:
    """Yield a folder to fill, which becomes ``path`` by one rename when the block ends well.

    It is filled beside its target as ``.NAME.writing``; every file is flushed to the disk first,
    unless ``flush`` is false: then it survives a killed process, but no power cut. The next writer
    removes the leftovers of a crashed one; a writer still alive holds a lock.

    A link is kept: the folder appears at its target. Raises DataError if ``path`` exists and may
    not be replaced, if another process is writing it, or if the disk refuses.
    """
    path = target_of(path)
    staging = path.with_name(f".{path.name}.writing")
    replaced = path.with_name(f".{path.name}.replaced")
    with refusing(path, DataError, place="folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
    with refusing(path, DataError, place="folder", inside=staging):
        _recover(path, replaced)
        if path.exists() and not replace:
            raise DataError(f"{path} already exists: remove it, or ask for it to be replaced")
        with _claimed(staging):
            yield staging
            if flush:
                _flush(staging)
            (staging / _LOCK).unlink()
            replace_folder(path, staging, replaced, flush=flush)


def is_being_written(path: Path | str) -> bool:
    """Return whether a process of this machine is filling what will become the folder ``path``."""
    path = target_of(path)
    return disk.is_locked(path.with_name(f".{path.name}.writing") / _LOCK)


def replace_folder(path: Path, filled: Path, aside: Path, *, flush: bool = True) -> None:
    """Give the folder ``filled`` the name ``path``; a folder of that name is removed.

    A crash between the two renames leaves the old folder under the name ``aside``; an error puts it
    back.
    """
    if path.exists():
        os.rename(path, aside)
    try:
        os.rename(filled, path)
    except OSError:
        if aside.exists():
            os.rename(aside, path)
        raise
    try:
        if flush:
            sync(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextlib.contextmanager
def whole_file(path: Path | str, *, error: type[XlmError] = DataError) -> Iterator[Path]:
    """Yield a file to fill, which becomes ``path`` by one rename when the block ends well.

    It is filled beside its target as ``.NAME.writing`` and flushed to the disk first. A device or a
    pipe, such as ``/dev/stdout``, is filled directly; a link is kept, and its target is replaced.

    Raises ``error`` if the folder is missing, ``path`` is a folder, or the disk refuses.
    """
    path = Path(path)
    with refusing(path, error):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists() and not path.is_file():
            yield path
            return
    target = path.resolve()
    beside = target.with_name(f".{target.name}.writing")
    with refusing(path, error):
        beside.write_bytes(b"")
    try:
        with refusing(path, error, inside=beside):
            yield beside
        with refusing(path, error):
            sync(beside)
            os.replace(beside, target)
            sync(target.parent)
    finally:
        beside.unlink(missing_ok=True)  # gone already if all went well


def write_whole(
    path: Path | str, content: bytes | str, *, error: type[XlmError] = DataError
) -> None:
    """Write a file, text as UTF-8, that appears whole or not at all; see ``whole_file``."""
    with whole_file(path, error=error) as beside, refusing(Path(path), error):
        beside.write_bytes(content.encode() if isinstance(content, str) else content)


def check_writable(path: Path | str, *, error: type[XlmError] = DataError) -> None:
    """Raise ``error`` now if a file could not be written later, when its content is ready."""
    path = Path(path)
    if path.is_dir():
        raise error(f"cannot write {path}: it is a folder; give the name of a file")
    above = path.absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise error(f"cannot write {path}: {above} takes no files; give another file")


def make_folder(folder: Path | str, *, error: type[XlmError] = DataError) -> None:
    """Make ``folder`` and its parents; raise ``error`` if one cannot be made."""
    with refusing(Path(folder), error, place="folder"):
        target_of(folder).mkdir(parents=True, exist_ok=True)


def target_of(path: Path | str) -> Path:
    """Return the target of a link, even a missing one; return any other path unchanged."""
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


@contextlib.contextmanager
def refusing(
    path: Path,
    error: type[XlmError] = DataError,
    *,
    place: str = "file",
    inside: Path | None = None,
) -> Iterator[None]:
    """Raise ``error`` for an OSError of writing ``path``.

    If ``inside`` is given, the block does other things too: an OSError of a file elsewhere has
    another cause, and passes unchanged.
    """
    try:
        yield
    except OSError as refused:
        named = Path(os.fsdecode(refused.filename or path))
        beside = {path, path.with_name(f".{path.name}.replaced"), inside}
        if inside is not None and not beside & {named, *named.parents}:
            raise
        what = refused.strerror or refused
        raise error(f"cannot write {path}: {what}; {disk.advice(refused, place)}") from refused


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
            disk.lock(lock)
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
            sync(Path(parent) / name)
        sync(Path(parent))


def sync(path: Path) -> None:
    """Make a file or a folder survive a power cut; see ``xlm.disk.flush``."""
    disk.flush(path)


def write_json(
    path: Path | str,
    content: Mapping[str, Any],
    *,
    indent: int = 1,
    sort_keys: bool = False,
    error: type[XlmError] = DataError,
) -> None:
    """Write ``content`` as indented JSON, which appears whole or not at all; see ``whole_file``.

    Numbers that are not finite become null.
    """
    text = strict_json.dumps(content, indent=indent, sort_keys=sort_keys)
    write_whole(path, text + "\n", error=error)


def read_json(path: Path | str, *, error: type[XlmError] = CheckpointError) -> dict[str, Any]:
    """Return the JSON object at ``path``.

    Raises ``error`` if the file is missing, larger than ``MAX_JSON`` or not a JSON object.
    """
    path = Path(path)
    content: Any
    try:
        content = strict_json.parse(read_file(path, MAX_JSON, error=error))
    except JsonError as damage:
        raise error(f"{path}{damage.suffix}: is not JSON ({damage})") from None
    if not isinstance(content, dict):
        raise error(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content


def read_file(path: Path | str, most: int, *, error: type[XlmError] = CheckpointError) -> bytes:
    """Return the bytes of a regular file of at most ``most`` bytes; raise ``error`` otherwise.

    A pipe, which may never deliver anything, and a device, which may never end, are refused.
    """
    if "\0" in str(path):
        raise error(f"{str(path)!r}: cannot be read (a name cannot contain a NUL character)")
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise error(f"{path}: is {kind_of(found.st_mode)}: expected a file")
        if found.st_size > most:
            raise error(f"{path}: {found.st_size:,} bytes, expected a file of at most {most:,}")
        return Path(path).read_bytes()
    except OSError as refused:
        raise error(f"{path}: cannot be read ({refused.strerror})") from refused


def kind_of(mode: int) -> str:
    """Return the noun for a kind of file, such as "a named pipe", from its ``st_mode``."""
    kinds = {
        stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket", stat.S_IFREG: "a file",
    }  # fmt: skip
    return kinds.get(stat.S_IFMT(mode), "no file")


def read_header(path: Path, what: str, keys: tuple[str, ...], version: int) -> dict[str, Any]:
    """Return the JSON object at ``path``, of this ``format_version`` and with these ``keys``.

    An object with hashes is verified by its own. Raises DataError, which names the file, if it is
    not such an object or was changed.
    """
    if path.parent.exists() and not path.parent.is_dir():
        raise DataError(f"no {what} at {path.parent}: it is not a folder")
    if not path.exists():
        raise DataError(f"no {what} at {path.parent}: {path.name} is missing; prepare it")
    try:
        content = read_json(path, error=DataError)
    except DataError as damage:
        raise DataError(f"{damage}; the file is damaged: prepare it again") from None
    found = content.get("format_version")
    if found != version:
        raise DataError(
            f"{path} has format version {found}, this library reads {version}: prepare it again"
        )
    missing = [key for key in keys if key not in content]
    if missing:
        raise DataError(
            f"{path} lacks {', '.join(missing)}, so it does not describe a {what}: prepare it again"
        )
    if ("files" in content or "digest" in content) and not is_sealed(content):
        raise DataError(
            f"{path} was changed after it was written (its digest differs): restore it, or "
            "prepare it again"
        )
    return content


def map_array(path: Path, dtype: DTypeLike, num: int) -> NDArray[Any]:
    """Return ``num`` items of ``dtype`` mapped read-only from ``path``.

    The size is compared before anything is mapped: reading past the end of a truncated file would
    kill the process (SIGBUS). Raises DataError if it differs, or if the file is missing.
    """
    expected = num * np.dtype(dtype).itemsize
    try:
        found = path.stat().st_size
    except OSError:
        raise DataError(f"{path} is missing: prepare {path.parent} again") from None
    if found != expected:
        raise DataError(
            f"{path} has {found} bytes, but its header says {expected}: prepare {path.parent} again"
        )
    if num == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype=dtype)
    return np.frombuffer(disk.map_file(path, expected), dtype=dtype)


def check_folder(folder: str | Path) -> None:
    """Raise ConfigError unless the folder is missing or empty; remove an empty one."""
    path = target_of(folder)
    if path.exists() and not path.is_dir():
        raise ConfigError(f"{folder} exists and is not a folder: give another name")
    if path.is_dir():
        try:
            path.rmdir()
        except OSError:
            raise ConfigError(
                f"{folder} is not empty: give an empty folder or a new name; nothing is overwritten"
            ) from None

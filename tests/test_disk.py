"""Disks that refuse, and file systems that lack locks, flushes of folders, or descriptors."""

from __future__ import annotations

import errno
import fcntl
import gc
import logging
import os
import stat
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from xlm import disk
from xlm.errors import DataError
from xlm.storage import (
    atomic_directory,
    make_folder,
    map_array,
    refusing,
    whole_file,
    write_whole,
)


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_said", set())


def failing(number: int) -> Callable[..., None]:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.parametrize("number", sorted(disk.ADVICE))
def test_every_error_of_a_write_is_one_line_with_the_file(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    monkeypatch.setattr(os, "replace", failing(number))
    with pytest.raises(DataError) as caught:
        write_whole(file, "text")
    expected = f"cannot write {file}: {os.strerror(number)}; {disk.advice(OSError(number, ''))}"
    assert str(caught.value) == expected and not list(tmp_path.iterdir())


def test_advice_says_what_would_help() -> None:
    for number, word in (
        (errno.ENOSPC, "free"), (errno.EDQUOT, "free"), (errno.EFBIG, "ulimit -f"),
        (errno.ENAMETOOLONG, "shorter"), (errno.EMFILE, "ulimit -n"), (errno.EIO, "check the disk"),
    ):  # fmt: skip
        assert word in disk.advice(OSError(number, "x"), "folder")
    assert disk.advice(OSError(errno.EROFS, "x"), "folder") == "choose another folder"


def test_a_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="File name too long; choose a shorter name"):
        write_whole(tmp_path / ("n" * 300), "text")
    with pytest.raises(DataError, match="File name too long"):
        with atomic_directory(tmp_path / ("n" * 300)):
            pass


def test_an_error_of_another_file_is_left_as_it_is(tmp_path: Path) -> None:
    """A source called after the folder lies beside it, not in it."""
    with pytest.raises(FileNotFoundError):
        with refusing(tmp_path / "a", inside=tmp_path / ".a.writing"):
            open(tmp_path / "a.txt")
    with pytest.raises(DataError, match="cannot write"):
        with refusing(tmp_path / "a", inside=tmp_path / ".a.writing"):
            open(tmp_path / ".a.writing" / "x", "w")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(fcntl, "flock", failing(number))
    for name in ("one", "two"):
        with atomic_directory(tmp_path / name) as folder:
            (folder / "file").touch()
    assert (tmp_path / "two/file").exists()
    assert [r.levelno for r in caplog.records] == [logging.WARNING]
    assert "has no locks" in caplog.text


def test_a_lock_that_another_process_holds(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as one, open(tmp_path / "lock", "w") as other:
        disk.lock(one)
        with pytest.raises(BlockingIOError):
            disk.lock(other)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.EBADF])
def test_a_file_system_that_cannot_flush_folders(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    flushed = []

    def fsync(handle: int) -> None:
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(number, os.strerror(number))
        flushed.append(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    with atomic_directory(tmp_path / "folder") as folder:
        (folder / "file").touch()
    write_whole(tmp_path / "file", "x")
    assert len(flushed) == 3  # two files and the lock
    assert len(caplog.records) == 1 and "cannot flush folders" in caplog.text


def test_a_file_that_cannot_be_flushed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    with pytest.raises(DataError, match="Input/output error; check the disk"):
        write_whole(tmp_path / "file", "x")


def test_a_folder_appears_where_a_link_leads(tmp_path: Path) -> None:
    for name in ("there", "missing"):
        link = tmp_path / f"link to {name}"
        link.symlink_to(tmp_path / "disk" / name)
        with atomic_directory(link) as folder:
            (folder / "file").write_text("x")
        assert link.is_symlink() and (tmp_path / "disk" / name / "file").read_text() == "x"
        with atomic_directory(link, replace=True) as folder:
            (folder / "other").touch()
        assert link.is_symlink() and [p.name for p in link.iterdir()] == ["other"]
    (tmp_path / "run").symlink_to(tmp_path / "disk" / "run")
    make_folder(tmp_path / "run")
    with whole_file(tmp_path / "run" / "file") as file:
        file.write_text("x")
    assert (tmp_path / "run").is_symlink() and (tmp_path / "disk/run/file").exists()


def test_maps_keep_no_file_open(tmp_path: Path) -> None:
    path = tmp_path / "array"
    expected = np.arange(100_000, dtype=np.int64)
    path.write_bytes(expected.tobytes())
    before = len(os.listdir("/proc/self/fd"))
    arrays = [map_array(path, np.int64, len(expected)) for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before
    path.unlink()  # as long as it is mapped, its bytes stay
    assert all(np.array_equal(array, expected) for array in arrays)
    assert not any(array.flags.writeable for array in arrays)
    part = arrays[0][10:20]
    arrays.clear()
    gc.collect()
    assert part.tolist() == list(range(10, 20))
    del part
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_an_empty_map_or_one_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "none").touch()
    assert map_array(tmp_path / "none", np.int64, 0).tolist() == []
    with pytest.raises(OSError, match="No such device|Is a directory"):
        disk.map_file(tmp_path, 8)


def test_a_map_that_is_read_at_random(tmp_path: Path) -> None:
    """The kernel marks it: "rr" among the flags of the map."""
    path = tmp_path / "content"
    path.write_bytes(bytes(range(256)) * 64)
    content = np.frombuffer(disk.map_file(path, 1 << 14), dtype=np.uint8)
    maps = Path("/proc/self/smaps")
    if not maps.exists():
        pytest.skip("needs /proc/self/smaps")
    disk.expect_random_access(content.ctypes.data, content.nbytes)
    after = maps.read_text().split(str(path))[1]
    flags = next(line for line in after.splitlines() if line.startswith("VmFlags"))
    assert "rr" in flags.split()
    assert content[300] == 44


def test_maps_cost_little_memory(tmp_path: Path) -> None:
    """A translator of 200 directions has thousands of them."""
    path = tmp_path / "content"
    path.write_bytes(b"content")
    disk.map_file(path, 7)
    tracemalloc.start()
    maps = [disk.map_file(path, 7) for _ in range(100)]
    added, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert added / len(maps) < 2000

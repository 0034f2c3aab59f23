import errno
import fcntl
import os

import pytest

from xlm import storage
from xlm.errors import DataError
from xlm.storage import atomic_directory, map_array


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "corpus"
    with atomic_directory(target) as folder:
        (folder / "file").write_text("x")
        assert not target.exists()
    assert (target / "file").read_text() == "x"
    assert [path.name for path in target.parent.iterdir()] == ["corpus"]
    assert [path.name for path in target.iterdir()] == ["file"]

    with pytest.raises(RuntimeError), atomic_directory(tmp_path / "other") as folder:
        (folder / "file").write_text("x")
        raise RuntimeError
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


def test_an_existing_folder_is_replaced_only_when_asked(tmp_path):
    target = tmp_path / "corpus"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(DataError, match="already exists"), atomic_directory(target):
        pytest.fail("refused before anything is written")
    with atomic_directory(target, replace=True) as folder:
        (folder / "new").touch()
        assert (target / "old").exists()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_leftovers_of_a_crash_are_removed(tmp_path):
    leftover = tmp_path / ".corpus.writing"
    (leftover / "nested").mkdir(parents=True)
    (leftover / "half").touch()
    with atomic_directory(tmp_path / "corpus") as folder:
        assert [path.name for path in folder.iterdir()] == [".lock"]
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_crash_between_the_two_renames_of_a_replacement_loses_nothing(tmp_path):
    (tmp_path / ".corpus.replaced").mkdir()
    (tmp_path / ".corpus.replaced" / "old").touch()
    with pytest.raises(DataError, match="already exists"), atomic_directory(tmp_path / "corpus"):
        pass
    assert (tmp_path / "corpus" / "old").exists()


def test_a_folder_that_another_process_writes_is_refused(tmp_path):
    staging = tmp_path / ".corpus.writing"
    staging.mkdir()
    with open(staging / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process"):
            with atomic_directory(tmp_path / "corpus"):
                pass
    assert staging.exists()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(
        DataError, match=r"^cannot write .*corpus: No space left on device; [^\n]+$"
    ):
        with atomic_directory(tmp_path / "corpus") as folder:
            (folder / "file").write_text("x")
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_text_is_not_taken_for_one_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_directory(tmp_path / "corpus"):
        open(tmp_path / "no such text")


def test_arrays_are_mapped_only_where_their_size_fits(tmp_path):
    (tmp_path / "array").write_bytes(bytes(24))
    assert map_array(tmp_path / "array", "<i8", 3).tolist() == [0, 0, 0]
    with pytest.raises(DataError, match="24 bytes, its header says 32"):
        map_array(tmp_path / "array", "<i8", 4)
    with pytest.raises(DataError, match="missing"):
        map_array(tmp_path / "none", "<i8", 4)
    (tmp_path / "empty").touch()
    assert len(map_array(tmp_path / "empty", "<i8", 0)) == 0

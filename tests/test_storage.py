import errno
import fcntl
import os
import resource

import pytest

from xlm import storage
from xlm.errors import CheckpointError, DataError
from xlm.storage import (
    atomic_directory,
    map_array,
    read_header,
    read_json,
    whole_file,
    write_json,
    write_whole,
)


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


def test_a_replacement_that_fails_leaves_the_old_folder(tmp_path, monkeypatch):
    target = tmp_path / "corpus"
    target.mkdir()
    (target / "old").touch()
    rename = os.rename

    def full(old, new):
        if str(old).endswith(".writing"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        rename(old, new)

    monkeypatch.setattr(storage.os, "rename", full)
    with pytest.raises(DataError, match="No space left"):
        with atomic_directory(target, replace=True) as folder:
            (folder / "new").touch()
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]
    assert [path.name for path in target.iterdir()] == ["old"]


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
    with pytest.raises(DataError, match="24 bytes, but its header says 32"):
        map_array(tmp_path / "array", "<i8", 4)
    with pytest.raises(DataError, match="missing"):
        map_array(tmp_path / "none", "<i8", 4)
    (tmp_path / "empty").touch()
    assert len(map_array(tmp_path / "empty", "<i8", 0)) == 0


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    target = tmp_path / "file"
    with whole_file(target) as beside:
        beside.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]

    with pytest.raises(RuntimeError), whole_file(target) as beside:
        beside.write_text("half")
        raise RuntimeError
    assert target.read_text() == "new" and list(tmp_path.iterdir()) == [target]

    (tmp_path / ".file.writing").write_text("of a crash")
    write_whole(target, "नया")
    assert target.read_bytes() == "नया".encode() and list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    for path, reason in [(tmp_path / "none" / "file", "No such file"), (tmp_path, "Is a dir")]:
        with pytest.raises(CheckpointError, match=rf"^cannot write {path}: {reason}.*; choose"):
            with whole_file(path, error=CheckpointError):
                pytest.fail("refused before anything is written")


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_whole(tmp_path / "file", "old")
    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(DataError, match=r"file: No space left on device; free or choose a disk$"):
        write_whole(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_an_error_of_a_file_that_is_read_is_not_taken_for_one_of_the_file_written(tmp_path):
    with pytest.raises(FileNotFoundError), whole_file(tmp_path / "file"):
        open(tmp_path / "no such text")


def test_a_pipe_is_written_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    reading = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_whole(tmp_path / "pipe", "content")
        assert os.read(reading, 100) == b"content"
    finally:
        os.close(reading)
    assert (tmp_path / "pipe").is_fifo()


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder/file")
    for content in ("one", "two"):
        write_whole(tmp_path / "link", content)
        assert (tmp_path / "folder" / "file").read_text() == content
    assert (tmp_path / "link").is_symlink()
    assert len(list(tmp_path.iterdir())) == 2 and len(list((tmp_path / "folder").iterdir())) == 1


def test_a_file_may_grow_no_further(tmp_path):
    write_whole(tmp_path / "file", "old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot write .*file: File too large"):
            write_whole(tmp_path / "file", bytes(2000), error=CheckpointError)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_json_goes_and_comes_back(tmp_path):
    path = tmp_path / "x.json"
    write_json(path, {"b": "न", "a": {"z": 1, "y": [None, 1e-12]}})
    assert path.read_text(encoding="utf-8").startswith('{\n "b": "न",\n "a": {\n  "z": 1')
    assert read_json(path) == {"b": "न", "a": {"z": 1, "y": [None, 1e-12]}}
    write_json(path, {"b": 1, "a": 2}, indent=2, sort_keys=True)
    assert path.read_text() == '{\n  "a": 2,\n  "b": 1\n}\n'


@pytest.mark.parametrize(
    "content, reason",
    [
        ("{", "is not JSON .*; the file is damaged: prepare it again"),
        ("[1]", "expected a JSON object, found list; the file is damaged: prepare it again"),
        ("\udcff", "is not JSON"),
        ('{"format_version": 2, "rows": 1}', "has format version 2, this library reads 1"),
        ('{"format_version": 1}', "lacks rows, so it does not describe a corpus"),
    ],
)
def test_a_header_that_is_none(tmp_path, content, reason):
    path = tmp_path / "header.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=reason):
        read_header(path, "corpus", ("rows",), 1)


def test_a_header_that_is_not_there(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(DataError, match=f"^no corpus at {folder}: header.json is missing;"):
            read_header(folder / "header.json", "corpus", ("rows",), 1)
    with pytest.raises(DataError, match="^no corpus at .*file: it is not a folder$"):
        read_header(tmp_path / "file" / "header.json", "corpus", ("rows",), 1)

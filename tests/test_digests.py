"""Hashes of files: against hashlib and sha256sum, and every change of a sealed object."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from xlm.digests import (
    SUMS,
    check_digest,
    digests,
    file_digest,
    is_sealed,
    read_sums,
    render_sums,
    sealed,
)
from xlm.errors import CheckpointError


def test_a_file_of_several_pieces(tmp_path: Path) -> None:
    content = bytes(range(256)) * 150_000  # 38 MB: three pieces
    (tmp_path / "a").write_bytes(content)
    ticks: list[int] = []
    found = file_digest(tmp_path / "a", lambda: ticks.append(1))
    assert found == hashlib.sha256(content).hexdigest() and len(ticks) == 3


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sums_are_those_of_sha256sum(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a", "deep/b c", "deep/é"):
        (tmp_path / name).write_text(name)
    found = digests(tmp_path, ["deep/b c", "a", "deep/é"])
    (tmp_path / SUMS).write_text(render_sums(found), encoding="utf-8")
    assert read_sums(tmp_path / SUMS, CheckpointError) == found
    done = subprocess.run(["sha256sum", "-c", "--strict", SUMS], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "line", ["0  a", "0" * 64, "0" * 64 + "  ../a", "0" * 64 + "  /a", "0" * 64 + "  a\0"]
)
def test_a_line_that_names_nothing_of_the_folder(line: str, tmp_path: Path) -> None:
    (tmp_path / SUMS).write_text("1" * 64 + f"  a\n{line}\n")
    with pytest.raises(CheckpointError, match="SHA256SUMS:2: expected SHA-256"):
        read_sums(tmp_path / SUMS, CheckpointError)


def test_a_file_that_is_missing_or_another(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be read .No such file.*: mend it"):
        check_digest(tmp_path / "a", "0" * 64, CheckpointError, "mend it")
    (tmp_path / "a").touch()
    with pytest.raises(CheckpointError, match="content is not what was written .*: mend it"):
        check_digest(tmp_path / "a", "0" * 64, CheckpointError, "mend it")


def test_no_character_of_a_sealed_object_changes_unseen() -> None:
    text = json.dumps(sealed({"words": 12, "files": {"a": "b"}, "dropped": {}, "name": "ने"}))
    assert is_sealed(json.loads(text))
    for at, was in enumerate(text):
        changed = text[:at] + chr(ord(was) ^ 1) + text[at + 1 :]
        try:
            content = json.loads(changed)
        except ValueError:
            continue
        assert not is_sealed(content), changed

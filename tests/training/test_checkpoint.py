"""Checkpoints: whole or absent, and every change of them noticed."""

import errno
import json
import os
import random
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from xlm.errors import CheckpointError
from xlm.training import checkpoint
from xlm.training.checkpoint import MANIFEST, NewerFormatError, latest, load, save
from xlm.training.manifest import digest_of, sha256_of

REPOSITORY = Path(__file__).parents[2]


def _save(folder: Path, step: int, size: int = 10) -> Path:
    tied = torch.full((size,), float(step))
    return save(
        folder,
        step,
        {
            "model": {"a": tied, "b": tied, "view": torch.arange(6.0).view(2, 3)[:, 1]},
            "optimizer": {"exp_avg/a": torch.arange(4, dtype=torch.bfloat16)},
        },
        {"step": step, "cursors": {"mlm/hi": 3}, "best": 0.1 + 0.2},
        {"config.yaml": "seed: 1  # हिन्दी\n"},
        {"tokenizer": lambda folder: (folder / "vocab").write_text("x y\n") and None},
    )


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("1")
    path = save(tmp_path / "run", 7, {"empty": {}}, {}, {}, {"copied": tmp_path / "other"})
    assert load(path).directory("copied").joinpath("file").read_text() == "1"
    loaded = load(_save(tmp_path / "run", 1234))
    assert loaded.path == tmp_path / "run" / "step-00001234"
    assert loaded.step == 1234
    assert loaded.state == {"step": 1234, "cursors": {"mlm/hi": 3}, "best": 0.1 + 0.2}
    model = loaded.tensors("model")
    assert torch.equal(model["b"], torch.full((10,), 1234.0))
    assert torch.equal(model["view"], torch.tensor([1.0, 4.0]))
    assert loaded.tensors("optimizer")["exp_avg/a"].dtype == torch.bfloat16
    assert loaded.text("config.yaml") == "seed: 1  # हिन्दी\n"
    assert (loaded.directory("tokenizer") / "vocab").read_text() == "x y\n"
    assert loaded.has_tensors("model")
    assert not loaded.has_tensors("averaged")
    for missing in (loaded.tensors, loaded.text, loaded.directory):
        with pytest.raises(CheckpointError, match="has no .*it holds config.yaml, model"):
            missing("averaged")


def test_hundred_flipped_bits_are_all_noticed(tmp_path: Path) -> None:
    path = _save(tmp_path, 3, size=200)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    assert len(files) == 6
    draw = random.Random(5)
    for trial in range(102):
        file = files[trial % len(files)]
        content = file.read_bytes()
        place = draw.randrange(len(content) * 8)
        flipped = bytearray(content)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        with pytest.raises(CheckpointError) as caught:
            load(path)
        assert "\n" not in str(caught.value)
        file.write_bytes(content)
    load(path)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", "tokenizer/vocab", MANIFEST])
def test_cut_emptied_and_missing_files(tmp_path: Path, name: str) -> None:
    _save(tmp_path, 1)
    path = _save(tmp_path, 2)
    file = path / name
    content = file.read_bytes()
    for damaged in (content[:-1], content[: len(content) // 2], b"", content + b"\0"):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=name):
            load(path)
    file.unlink()
    with pytest.raises(CheckpointError, match=name):
        load(path)
    found = latest(tmp_path)
    assert found.loaded is not None
    assert found.loaded.step == 1
    assert len(found.skipped) == 1
    assert name in found.skipped[0]


def test_stale_manifest_and_swapped_files(tmp_path: Path) -> None:
    one, two = _save(tmp_path, 1), _save(tmp_path, 2)
    for name in (MANIFEST, "model.safetensors"):
        content = (two / name).read_bytes()
        shutil.copy(one / name, two / name)
        with pytest.raises(CheckpointError, match=r"model.safetensors|state.json"):
            load(two)
        (two / name).write_bytes(content)
    load(two)


def test_latest_walks_back(tmp_path: Path) -> None:
    assert latest(tmp_path / "absent").loaded is None
    for step in (1, 2, 10, 100_000_000):
        _save(tmp_path, step)
    (tmp_path / "step-00000011").mkdir()
    (tmp_path / "step-00000012").write_text("not a directory")
    (tmp_path / "step-abc").mkdir()
    found = latest(tmp_path)
    assert found.loaded is not None
    assert found.loaded.step == 100_000_000
    assert found.skipped == ()
    (tmp_path / "step-100000000" / "state.json").unlink()
    found = latest(tmp_path)
    assert found.loaded is not None
    assert found.loaded.step == 10
    assert [Path(line.split(":")[0]).parts[-2] for line in found.skipped] == [
        "step-100000000", "step-00000012", "step-00000011",
    ]  # fmt: skip


def _forge(path: Path, change: dict) -> None:
    """A manifest that was changed by someone who knows how it is signed."""
    manifest = json.loads((path / MANIFEST).read_text())
    manifest.update(change)
    manifest["digest"] = digest_of(manifest)
    (path / MANIFEST).write_text(json.dumps(manifest))


def test_paths_outside_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, 1)
    (tmp_path / "secret").write_text("secret")
    entry = {"size": 6, "sha256": sha256_of(tmp_path / "secret")}
    own = json.loads((path / MANIFEST).read_text())["files"]
    names = ("../secret", str(tmp_path / "secret"), "tokenizer/../../secret", "a\\..\\b", "./x", "")
    for name in names:
        _forge(path, {"files": {**own, name: entry}})
        with pytest.raises(CheckpointError, match="not a plain path"):
            load(path)
    (path / "link").symlink_to(tmp_path / "secret")
    (path / "folder").symlink_to(tmp_path)
    for name in ("link", "folder/secret"):
        _forge(path, {"files": {**own, name: entry}})
        with pytest.raises(CheckpointError, match="is a link"):
            load(path)
    _forge(path, {"files": own})
    load(path)


def test_other_versions_and_nonsense(tmp_path: Path) -> None:
    _save(tmp_path, 1)
    path = _save(tmp_path, 2)
    whole = (path / MANIFEST).read_text()
    _forge(path, {"format_version": 3})
    for read in (lambda: load(path), lambda: latest(tmp_path)):
        with pytest.raises(
            NewerFormatError, match="format version 3, but this version of xlm reads 1 and 2"
        ):
            read()
    for nonsense in ("[]", "{}", "null", '{"files": 3}', "\xff"):
        (path / MANIFEST).write_text(nonsense, encoding="latin-1")
        with pytest.raises(CheckpointError, match="manifest.json: cannot be read"):
            load(path)
    for change in ({"files": {}}, {"step": "2"}, {"files": {"state.json": {"size": 3}}}):
        (path / MANIFEST).write_text(whole)
        _forge(path, change)
        with pytest.raises(CheckpointError, match="manifest.json: cannot be read"):
            load(path)


def test_no_pickle_is_ever_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pickle

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("pickle")

    for module, name in ((pickle, "load"), (pickle, "loads"), (torch, "load"), (torch, "save")):
        monkeypatch.setattr(module, name, refuse)
    loaded = load(_save(tmp_path, 1))
    loaded.tensors("model")
    loaded.tensors("optimizer")


def _listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failure_at_any_point_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The n-th call that touches the disk finds it full: for every n, new step or old."""
    _save(tmp_path, 1)
    failed = 0
    for step in (1, 2):
        for count in range(1, 100):
            shutil.rmtree(tmp_path / "step-00000002", ignore_errors=True)
            calls = iter(range(1, 1000))

            def full(original, calls: Iterator[int] = calls, count: int = count):
                def call(*arguments, **options):
                    if next(calls) == count:
                        raise OSError(errno.ENOSPC, "No space left on device")
                    return original(*arguments, **options)

                return call

            with monkeypatch.context() as patch:
                for module, name in (
                    (os, "fsync"), (os, "rename"), (os, "mkdir"), (Path, "write_text"),
                    (checkpoint, "save_file"),
                ):  # fmt: skip
                    patch.setattr(module, name, full(getattr(module, name)))
                try:
                    _save(tmp_path, step)
                    done = next(calls) <= count
                except CheckpointError as error:
                    failed += 1
                    done = False
                    assert "No space left on device" in str(error)
                    assert "\n" not in str(error)
            hidden = [name for name in _listing(tmp_path) if name.startswith(".")]
            assert hidden == []
            found = latest(tmp_path)
            assert found.skipped == ()
            assert found.loaded is not None
            if done:
                assert found.loaded.step == step
                break
    assert failed > 30


def test_files_may_grow_no_further(tmp_path: Path) -> None:
    """The operating system's own limit stands in for a full disk."""
    _save(tmp_path, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="not saved") as caught:
            _save(tmp_path, 2, size=100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert _listing(tmp_path) == ["step-00000001"]
    load(tmp_path / "step-00000001")


def test_too_little_space_is_seen_beforehand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(CheckpointError, match="needs 0.0 MB, 0.0 MB are free"):
        _save(tmp_path, 1)
    assert _listing(tmp_path) == []


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="not saved"):
        _save(tmp_path / "file", 1)
    read_only = tmp_path / "read-only"
    _save(read_only, 1)
    read_only.chmod(0o555)
    try:
        if os.access(read_only, os.W_OK):
            pytest.skip("this user writes where it must not (root)")
        with pytest.raises(CheckpointError, match="not saved"):
            _save(read_only, 2)
        assert _listing(read_only) == ["step-00000001"]
    finally:
        read_only.chmod(0o755)


KILLED = """
import os, shutil, signal, sys, time
from pathlib import Path
import torch
from xlm.training import checkpoint

folder, tensors = Path(sys.argv[1]), {"model": {"a": torch.ones(1000)}}
checkpoint.save(folder, 1, tensors, {"saved": 1})

def killing(original, count, calls=[0]):
    def call(*arguments, **options):
        calls[0] += 1
        if calls[0] == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments, **options)
    return call

kills = 0
for step in (1, 2):  # the same step again, then a new one
    for count in range(1, 100):
        child = os.fork()
        if child == 0:
            for module, name in ((os, "fsync"), (os, "rename"), (os, "mkdir"), (shutil, "rmtree"),
                                 (Path, "write_text"), (checkpoint, "save_file")):
                setattr(module, name, killing(getattr(module, name), count))
            checkpoint.save(folder, step, tensors, {"saved": 2})
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            break
        kills += 1
        found = checkpoint.latest(folder)
        assert found.skipped == () and found.loaded is not None, (step, count, found)
    shown = checkpoint.latest(folder).loaded
    assert shown.step == step and shown.state == {"saved": 2}, (step, shown)
print(kills)
"""


def test_killed_at_every_point_of_a_save(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path)], capture_output=True, text=True,
        cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 20

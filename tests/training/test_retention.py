"""What pruning may and may not remove, whatever happened before."""

import json
import os
import shutil
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlm.errors import CheckpointError
from xlm.training.checkpoint import latest, load, save
from xlm.training.retention import BEST, best, best_step, mark_best, note_best, prune


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


def _save(folder: Path, step: int) -> Path:
    return save(folder, step, {"model": {"a": torch.zeros(2)}}, {})


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in folder.glob("step-*"))


def test_last_and_best_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 5):
        trusted = _save(tmp_path, step)
    mark_best(tmp_path, 2, 31.5)
    removed = prune(tmp_path, 2, trusted=trusted)
    assert _steps(tmp_path) == [2, 4, 5]
    assert sorted(path.name for path in removed) == ["step-00000001", "step-00000003"]
    mark_best(tmp_path, 5, 30.0)
    prune(tmp_path, 1)
    assert _steps(tmp_path) == [5]
    found = best(tmp_path)
    assert found is not None
    assert found.step == 5


def test_every_so_many_stay(tmp_path: Path) -> None:
    for step in (2, 4, 5, 6, 7, 8):
        trusted = _save(tmp_path, step)
    mark_best(tmp_path, 5, 31.5)
    prune(tmp_path, 1, keep_every=4, trusted=trusted)
    assert _steps(tmp_path) == [4, 5, 8]


def test_those_that_are_named_stay(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        trusted = _save(tmp_path, step)
    prune(tmp_path, 1, trusted=trusted, best=1, also={3, 9})
    assert _steps(tmp_path) == [1, 3, 4]


def test_keeping_none_keeps_one(tmp_path: Path) -> None:
    for step in (0, 1):
        _save(tmp_path, step)
    prune(tmp_path, 0)
    assert _steps(tmp_path) == [1]
    assert prune(tmp_path / "absent", 3) == []


def test_the_only_sound_one_stays(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        path = _save(tmp_path, step)
    content = bytearray((path / "model.safetensors").read_bytes())
    content[-1] ^= 1  # sizes agree, the hash does not
    (path / "model.safetensors").write_bytes(content)
    assert prune(tmp_path, 1) == []
    found = latest(tmp_path)
    assert found.loaded is not None
    assert found.loaded.step == 2


def test_best_that_is_unknown(tmp_path: Path) -> None:
    assert best(tmp_path) is None
    for step in (1, 2):
        _save(tmp_path, step)
    (tmp_path / BEST).write_text("{")
    with pytest.raises(CheckpointError, match="best.json: cannot be read"):
        best_step(tmp_path)
    assert prune(tmp_path, 1) == []
    mark_best(tmp_path, 9, 1.0)
    with pytest.raises(CheckpointError, match="step-00000009"):
        best(tmp_path)


def _of_run(folder: Path, step: int, best: int | None, score: float = 1.0) -> Path:
    """The checkpoint of a run that had its best score at the step ``best``."""
    state = {"best_step": best, "best": None if best is None else score}
    return save(folder, step, {"model": {"a": torch.zeros(2)}}, {"train_state": state})


def test_the_states_say_which_one_is_the_best(tmp_path: Path) -> None:
    """A kill between the checkpoint of a new best and best.json leaves the old name there."""
    for step, best_until in ((1, None), (2, 2), (3, 2), (4, 4), (5, 4)):
        trusted = _of_run(tmp_path, step, best_until, 10.0 - step)
    mark_best(tmp_path, 2, 8.0)
    assert best_step(tmp_path) == 4
    prune(tmp_path, 1, trusted=trusted, best=4)
    assert _steps(tmp_path) == [4, 5]
    assert note_best(tmp_path) == 4
    assert json.loads((tmp_path / BEST).read_text()) == {"step": 4, "score": 6.0}
    (tmp_path / BEST).write_text("{")
    assert best_step(tmp_path) == 4 and note_best(tmp_path) == 4
    assert json.loads((tmp_path / BEST).read_text())["step"] == 4


def test_a_best_that_was_never_saved_leaves_the_one_before(tmp_path: Path) -> None:
    for step, best_until in ((2, 2), (3, 2), (5, 4), (6, 4)):  # step 4 met a full disk
        trusted = _of_run(tmp_path, step, best_until)
    assert best_step(tmp_path) == 2
    prune(tmp_path, 1, trusted=trusted, best=4)
    assert _steps(tmp_path) == [2, 6]


def test_newer_checkpoints_that_were_passed_over_are_left_alone(tmp_path: Path) -> None:
    """Step 8 calls itself the best, but is damaged: the run went on from 2, whose best is 1."""
    for step, best_until in ((1, 1), (2, 1), (8, 8), (9, 8)):
        path = _of_run(tmp_path, step, best_until)
        if step > 2:
            content = bytearray((path / "model.safetensors").read_bytes())
            content[-1] ^= 1
            (path / "model.safetensors").write_bytes(content)
    trusted = _of_run(tmp_path, 3, 1)
    prune(tmp_path, 1, trusted=trusted, best=1)
    assert _steps(tmp_path) == [1, 3, 8, 9]


def test_mark_best_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mark_best(tmp_path, 1, 1.0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CheckpointError, match="No space left"):
        mark_best(tmp_path, 2, 0.5)
    assert best_step(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [BEST]


def test_leftovers_go_and_a_commit_cut_short_is_mended(tmp_path: Path) -> None:
    for step in (1, 2):
        _save(tmp_path, step)
    for name in (".step-00000003.tmp-99", ".step-00000001.trash-99", ".step-00000002.old-99"):
        shutil.copytree(tmp_path / "step-00000001", tmp_path / name)
    (tmp_path / f".{BEST}.writing").write_text("{")
    os.rename(tmp_path / "step-00000001", tmp_path / ".step-00000001.old-98")
    (tmp_path / ".unrelated").write_text("mine")
    prune(tmp_path, 5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".unrelated", "step-00000001", "step-00000002",
    ]  # fmt: skip


def test_a_deletion_that_fails_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        trusted = _save(tmp_path, step)

    def refuse(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", refuse)
        assert prune(tmp_path, 1, trusted=trusted) == []
    assert len(prune(tmp_path, 1, trusted=trusted)) == 1


ACTIONS = st.tuples(
    st.sampled_from(["save", "save", "flip", "cut", "best", "prune", "leftover"]),
    st.integers(1, 6),
)


@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(ACTIONS, max_size=15), st.integers(0, 3))
def test_invariants(actions: list[tuple[str, int]], keep_last: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, sound, marked = Path(name), set(), None
        for action, step in actions:
            path = folder / f"step-{step:08d}"
            if action == "save":
                _save(folder, step)
                sound.add(step)
            elif action in ("flip", "cut") and path.exists():
                file = path / "model.safetensors"
                content = bytearray(file.read_bytes())
                if content:
                    content[-1] = (content[-1] + 1) % 256  # never what it was
                file.write_bytes(content[:-1] if action == "cut" else content)
                sound.discard(step)
            elif action == "best" and path.exists():
                mark_best(folder, step, 1.0)
                marked = step
            elif action == "leftover":
                (folder / f".step-{step:08d}.tmp-1").mkdir(exist_ok=True)
            elif action == "prune":
                before = set(_steps(folder))
                prune(folder, keep_last)
                after = set(_steps(folder))
                assert not list(folder.glob(".step-*"))
                assert marked is None or marked not in before or marked in after
                assert bool(sound & after) == bool(sound)
                assert not sound or max(after) == max(before)
                sound &= after
        found = latest(folder).loaded
        assert (found.step if found else None) == (max(sound) if sound else None)
        for step in sound:
            load(folder / f"step-{step:08d}")

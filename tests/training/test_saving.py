"""A save in the background: what it writes is what a blocking one writes, whatever goes on."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError
from xlm.pretrain import pretrain
from xlm.run import reporter
from xlm.training import checkpoint
from xlm.training.distributed.processes import Parallel
from xlm.training.saving import Copies, Job, Saver

SETTINGS: dict[str, Any] = {"steps": 4, "save_every": 1, "keep_last": 9, "average": 0.9}


@pytest.fixture(scope="module")
def made() -> Corpora:
    return tiny.corpora(num=30)


def saved(folder: Path) -> dict[str, Any]:
    """Everything of the checkpoints of a run but the clock."""
    found: dict[str, Any] = {}
    for path in sorted((folder / "checkpoints").glob("step-*")):
        loaded = checkpoint.load(path)
        tensors = {
            f"{group} {name}": tensor
            for group in ("model", "optimizer", "averaged")
            for name, tensor in loaded.tensors(group).items()
        }
        state = {**loaded.state, "train_state": {**loaded.state["train_state"], "unreported": 0}}
        found[path.name] = (tiny.digest(tensors), state, loaded.files)
    return found


def test_the_contents_are_those_of_a_blocking_save(
    made: Corpora, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each save begins to write when the update after it is over."""
    pretrain(tiny.recipe(tmp_path / "blocking", save_in_background=False, **SETTINGS), made)
    updates: list[int] = []
    moved = threading.Event()
    save = checkpoint.save

    def late(folder: Path, step: int, *given: Any) -> Path:
        assert threading.current_thread().name == "xlm-save"
        moved.wait(5 if step < SETTINGS["steps"] else 0)
        moved.clear()
        updates.append(step)
        return save(folder, step, *given)

    monkeypatch.setattr(checkpoint, "save", late)
    run = tiny.recipe(tmp_path / "background", save_in_background=True, **SETTINGS)
    train = reporter.Reporter.train

    def reporting(self: Any, report: Any) -> None:
        train(self, report)
        moved.set()

    monkeypatch.setattr(reporter.Reporter, "train", reporting)
    pretrain(run, made)
    assert updates == [1, 2, 3, 4]
    assert saved(tmp_path / "background") == saved(tmp_path / "blocking")


def test_a_failure_is_told_with_the_next_counts(
    made: Corpora,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save = checkpoint.save

    def full(folder: Path, step: int, *given: Any) -> Path:
        if step != 2:
            raise CheckpointError(f"step {step}: not saved (no room)")
        return save(folder, step, *given)

    monkeypatch.setattr(checkpoint, "save", full)
    run = tiny.recipe(tmp_path, save_in_background=True, **{**SETTINGS, "steps": 3})
    with pytest.raises(CheckpointError, match="step 3: not saved"):
        pretrain(run, made)
    assert [line for line in caplog.messages if "no room" in line] == [
        "step 1: not saved (no room)", "step 3: not saved (no room)",
    ]  # fmt: skip
    assert [path.name for path in (tmp_path / "checkpoints").glob("step-*")] == ["step-00000002"]


def alone(background: bool) -> Saver:
    return Saver(Parallel(torch.device("cpu")), background=background)


@pytest.mark.parametrize("background", [False, True])
def test_pieces_come_before_the_commit(background: bool) -> None:
    done: list[Any] = []
    saver = alone(background)

    def write() -> checkpoint.Entries:
        done.append("write")
        return {"piece": {"size": 1}}

    saver.begin(Job(write, done.append))
    if not background:
        assert len(done) == 2
    saver.finish()
    assert done == ["write", {"piece": {"size": 1}}]
    assert not saver.is_ready and saver.failure == ""


@pytest.mark.parametrize("background", [False, True])
def test_a_piece_that_fails_discards_the_others(background: bool) -> None:
    done: list[str] = []
    saver = alone(background)

    def write() -> checkpoint.Entries:
        raise CheckpointError("no room")

    saver.begin(Job(write, lambda entries: done.append("commit"), lambda: done.append("discard")))
    saver.finish()
    assert done == ["discard"]
    assert saver.failure == "no room"


def test_a_bug_in_the_thread_is_raised_by_the_loop() -> None:
    saver = alone(background=True)

    def bug(entries: checkpoint.Entries) -> None:
        raise ZeroDivisionError

    saver.begin(Job(None, bug))
    with pytest.raises(ZeroDivisionError):
        saver.finish()


def test_copies_are_not_moved_by_the_update() -> None:
    tensor = torch.arange(6.0).view(2, 3)
    copies, filled = Copies().take({"model": {"a": tensor, "column": tensor[:, 1]}})
    tensor.zero_()
    filled()
    assert copies["model"]["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert (
        copies["model"]["column"].tolist() == [1, 4] and copies["model"]["column"].is_contiguous()
    )

"""Which checkpoint is taken, and weights that do not fit the model."""

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from xlm.errors import CheckpointError
from xlm.training import checkpoint, retention
from xlm.training.restore import CHECKPOINTS, find_checkpoint, load_weights


@pytest.fixture(autouse=True)
def no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with checkpoints of steps 1 to 3, of which 2 is the best."""
    for step in (1, 2, 3):
        tensors = {"model": nn.Linear(2, 3).state_dict()}
        checkpoint.save(tmp_path / CHECKPOINTS, step, tensors, {})
    retention.mark_best(tmp_path / CHECKPOINTS, 2, 1.0)
    return tmp_path


def _break(run: Path, step: int) -> None:
    path = run / CHECKPOINTS / checkpoint.step_name(step) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def test_best_latest_and_one_by_its_path(run: Path) -> None:
    assert find_checkpoint(run, "best").step == 2
    assert find_checkpoint(str(run), "latest").step == 3
    assert find_checkpoint(run / CHECKPOINTS / checkpoint.step_name(1), "best").step == 1


def test_the_newest_stands_in_for_a_best_that_is_damaged_or_unmarked(
    run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _break(run, 2)
    assert find_checkpoint(run, "best").step == 3
    assert "the best checkpoint is skipped, the newest is used" in caplog.text
    caplog.clear()
    (run / CHECKPOINTS / retention.BEST).unlink()
    assert find_checkpoint(run, "best").step == 3
    assert not caplog.text


def test_no_checkpoint_that_can_be_read(run: Path, tmp_path: Path) -> None:
    for step in (1, 2, 3):
        _break(run, step)
    with pytest.raises(CheckpointError, match=r"no readable checkpoint \(.*step-00000003"):
        find_checkpoint(run, "latest")
    with pytest.raises(CheckpointError, match="expected a run's folder or a checkpoint"):
        find_checkpoint(tmp_path / "absent", "best")


def test_weights_are_loaded_whole_or_not_at_all(run: Path) -> None:
    loaded = find_checkpoint(run, "latest")
    model = nn.Linear(2, 3)
    load_weights(model, loaded, "model")
    assert torch.equal(model.weight, loaded.tensors("model")["weight"])
    with pytest.raises(CheckpointError, match="1 tensors do not fit .* the first is bias"):
        load_weights(nn.Linear(2, 3, bias=False), loaded, "model")
    other = nn.Linear(2, 4)
    before = other.bias.detach().clone()
    with pytest.raises(CheckpointError, match="2 tensors do not fit .* the first is bias"):
        load_weights(other, loaded, "model")
    assert torch.equal(other.bias, before)

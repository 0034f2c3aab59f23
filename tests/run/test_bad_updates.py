"""The batches of an update that could not be made are kept."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.training import tiny
from xlm.errors import TrainingError
from xlm.run.bad_updates import FOLDER, keep_batches
from xlm.training.distributed.processes import Parallel
from xlm.training.loop import train
from xlm.training.prefetch import Step


def test_the_batches_of_a_stuck_run_are_kept(tmp_path: Path) -> None:
    made = tiny.trainer(tiny.recipe(tmp_path, steps=40), tiny.corpora(20), ALONE)
    made.report_every, made.skipped.limit = 100, 4
    with torch.no_grad():
        next(made.learner.parameters()).fill_(torch.nan)
    steps: list[Step] = []

    def keep(step: Step) -> str:
        steps.append(step)
        return keep_batches(tmp_path, step, rank=3)

    with pytest.raises(TrainingError, match=r"step 5: .* 5 updates in a row .*are in .*rank-3"):
        train(made, keep=keep)
    (step,) = steps
    assert step.number == 4
    with safe_open(tmp_path / FOLDER / "step-00000004-rank-3.safetensors", "pt") as file:
        described = json.loads(file.metadata()["micro_batches"])
        assert len(described) == len(step.micro_batches) > 0
        for number, own in enumerate(step.micro_batches):
            assert described[number]["stream"] == own.stream_id
            assert torch.equal(file.get_tensor(f"{number}.tokens"), own.batch.tokens)
            assert torch.equal(file.get_tensor(f"{number}.targets"), own.batch.targets)


def test_a_disk_that_refuses_ends_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FOLDER).write_text("no folder")
    with caplog.at_level(logging.WARNING):
        assert keep_batches(tmp_path, Step(7, [], {}), rank=0) == ""
    assert "the batches of step 7 are not kept" in caplog.text


ALONE = Parallel(torch.device("cpu"))

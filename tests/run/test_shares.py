"""Shares as they were meant and as they were drawn."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from xlm.data.corpora import Corpora
from xlm.data.mixture import advance
from xlm.data.sampling import Sampling
from xlm.model.config import ModelConfig
from xlm.objectives import MaskedLM
from xlm.pretrain import pretrain
from xlm.run.build import build_mixture, training_streams
from xlm.run.config import Run
from xlm.run.shares import realized_shares, share_lines
from xlm.training.journal import read_metrics
from xlm.training.state import TrainState


def run_of(data: Path, folder: Path, **settings: object) -> Run:
    objective = MaskedLM(
        languages=["en", "ne"], rows=4, length=32,
        sampling=Sampling(rule="shares", shares={"en": 3.0, "ne": 1.0}),
    )  # fmt: skip
    run = Run(
        data=str(data),
        folder=str(folder),
        objectives={"mlm": objective},
        model=ModelConfig(dim=16, num_layers=1, num_heads=2),
        steps=8,
        group_size=2,
        evaluate_every=0,
        tensorboard=False,
    )
    return dataclasses.replace(run, **settings)


def test_realized_shares_are_those_of_the_plans(debug_data: Path, tmp_path: Path) -> None:
    run = run_of(debug_data, tmp_path / "run", steps=400)
    mixture = build_mixture(run, training_streams(run, Corpora.open(debug_data)))
    state = TrainState(step=400)
    drawn = {"en": 0, "ne": 0}
    for step in range(400):
        groups = mixture.plan(step, state.cursors)
        for group in groups:
            for stream, _ in group.micro_batches:
                drawn[stream.name] += 1
                state.tokens[stream.id] = state.tokens.get(stream.id, 0) + 100
        state.cursors = advance(state.cursors, groups)
    english, nepali = realized_shares(mixture, state)
    assert (english.intended, nepali.intended) == pytest.approx((0.75, 0.25))
    assert english.realized == drawn["en"] / 800 == english.tokens
    assert abs(english.realized - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 800)
    assert english.epochs == drawn["en"] / mixture.streams["mlm"][0].batches_per_epoch
    assert list(share_lines([english]))[1].split() == [
        "mlm", "en", "0.7500", f"{english.realized:.4f}", f"{english.tokens:.4f}",
        f"{english.epochs:.2f}",
    ]  # fmt: skip
    assert realized_shares(mixture, TrainState()) == []


def test_a_run_ends_with_its_shares(debug_data: Path, tmp_path: Path) -> None:
    result = pretrain(run_of(debug_data, tmp_path / "run"))
    end = read_metrics(tmp_path / "run" / "metrics.jsonl")[-1]
    shares = {row["stream"]: row for row in json.loads(json.dumps(end))["shares"]}
    total = sum(result.state.cursors.values())
    assert total == 16
    for name in ("en", "ne"):
        assert shares[name]["realized"] == result.state.cursors.get(f"mlm/{name}", 0) / total
    assert shares["en"]["intended"] == 0.75

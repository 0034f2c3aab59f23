"""A model's figures: those of ``xlm evaluate``, and kinds of subwords that add up to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.evaluate import Evaluate, evaluate_run, open_learner
from xlm.objectives.causal import CausalLM
from xlm.pretrain import ModelConfig, Run, Schedule, pretrain
from xlm.reproduce.measure import FEWEST_SEEN, kinds_of_subwords, measure
from xlm.reproduce.text import StudyText
from xlm.run.config import read_run
from xlm.training.restore import find_checkpoint


def test_figures_are_those_of_the_verb(tmp_path: Path, text: StudyText) -> None:
    data = str(Path(text.config.folder) / "text" / "base")
    objective = CausalLM(languages=["ne"], rows=4, length=32)
    pretrain(
        Run(
            data=data, folder=str(tmp_path), objectives={"clm": objective},
            model=ModelConfig(dim=16, num_layers=1, num_heads=2), steps=4, group_size=1,
            schedule=Schedule(peak_lr=1e-2, warmup_steps=1), average=0.5, evaluate_every=2,
            tensorboard=False, device="cpu",
        )
    )  # fmt: skip
    expected = evaluate_run(Evaluate(folder=str(tmp_path), split="test"))["figures"]["clm/ne"]
    loaded = find_checkpoint(tmp_path, "best")
    run = read_run(loaded.path)
    learner = open_learner(loaded, run, text.base)
    (stream,) = objective.streams("clm", text.base, seed=0, split="test")
    sums = measure(learner, objective, stream, seed=0, precision="fp32", device=torch.device("cpu"))
    assert sums.figures(stream) == pytest.approx(expected, rel=1e-6)
    by_kind = sums.by_kind(kinds_of_subwords(text.base, "ne"))
    for name in ("in Devanagari", "known from hi", "known from en"):
        other = name.replace("known", "not known") if "known" in name else f"not {name}"
        parts = [by_kind[kind] for kind in (name, other) if kind in by_kind]
        assert sum(part["share"] for part in parts) == pytest.approx(1)
        mean = sum(part["share"] * part["nats"] for part in parts)
        assert mean == pytest.approx(expected["nats"], rel=1e-6)


def test_kinds_of_subwords(text: StudyText) -> None:
    kinds = kinds_of_subwords(text.base, "ne")
    tokenizer = text.base.tokenizer
    for letter, expected in (("क", True), ("a", False)):
        (own,) = [i for i in tokenizer.encode(letter) if tokenizer.decode([i]) == letter]
        assert kinds["in Devanagari"][own] == expected
        assert kinds["not in Devanagari"][own] != expected
    seen = np.bincount(text.base.text("train", "hi").ids, minlength=tokenizer.vocab_size)
    assert np.array_equal(kinds["known from hi"], seen >= FEWEST_SEEN)
    assert np.array_equal(kinds["not known from hi"], seen < FEWEST_SEEN)

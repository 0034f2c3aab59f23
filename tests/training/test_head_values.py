"""Heads that start from another model's: by name, or by the part that they play."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.training import tiny
from xlm.model.pretrained import PretrainedModel
from xlm.run import build as building
from xlm.tasks.heads import Readout
from xlm.training.head_values import take_heads
from xlm.training.initialization_report import InitializationReport


@pytest.fixture(scope="module")
def source() -> PretrainedModel:
    run = tiny.recipe("", objectives={"nsp": tiny.NSP})
    learner = building.build_learner(run, tiny.corpora())
    heads = {n: t for n, t in learner.state_dict().items() if n.startswith("heads.")}
    return PretrainedModel(learner.model, tiny.Words(), {"en": 0, "hi": 1}, heads=heads)


def taken(source: PretrainedModel, objective, name: str = "nli", *, whole: bool = True):
    learner = building.build_learner(tiny.recipe("", objectives={name: objective}), tiny.corpora())
    report, values = InitializationReport(), {}
    take_heads(learner, whole, source, report, values)
    return values, report


def nli(kind: str):
    return dataclasses.replace(tiny.NLI, readout=Readout(kind=kind, dropout=0.0))


def test_a_layer_and_tanh_start_from_the_pooler(source):
    values, report = taken(source, nli("tanh"))
    for part in ("weight", "bias"):
        name = f"heads.nli.after.1.{part}"
        assert torch.equal(values[name], source.heads[f"heads.nsp.pooler.{part}"])
        assert report.copied[name] == f"heads.nsp.pooler.{part}"
        assert report.left[f"heads.nli.output.{part}"] == "a new head"


@pytest.mark.parametrize("kind", ["dense", "linear", "feed-forward"])
def test_other_heads_are_new(source, kind):
    assert not taken(source, nli(kind))[0]


def test_next_sentence_prediction_goes_on_under_any_name(source):
    values, report = taken(source, tiny.NSP, "pretrain")
    expected = {n.replace(".nsp.", ".pretrain."): t for n, t in source.heads.items()}
    assert values.keys() == expected.keys() and not report.left
    assert all(torch.equal(values[name], own) for name, own in expected.items())


def test_nothing_is_taken_if_only_the_embeddings_are(source):
    assert not taken(source, nli("tanh"), whole=False)[0]

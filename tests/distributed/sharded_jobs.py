"""Jobs about sharding together with other settings; ``jobs`` has them too."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from safetensors.torch import save_file

from tests.training import tiny
from xlm.model.layers import Layer
from xlm.model.pretrained import PretrainedModel
from xlm.objectives.translation import Translation
from xlm.pretrain import pretrain
from xlm.run import build as building
from xlm.run import start
from xlm.training.initialization import Initialization
from xlm.training.learner import Learner


def leave_weights(learner: Learner, folder: str) -> str:
    """Rank 0 leaves the weights, every rank returns their digest."""
    weights = {n: t.detach().clone() for n, t in learner.state_dict().items()}
    if os.environ.get("RANK", "0") == "0":
        save_file(weights, Path(folder) / "weights.safetensors")
    return tiny.digest(weights)


def compiled(folder: str, **settings: Any) -> str:
    """Train one layer, compiled if ``compile`` says so."""
    model = tiny.model(num_layers=1)
    run = tiny.recipe(folder, objectives={"tlm": tiny.TLM}, model=model, **settings)
    eagerly = partial(building.compile_model, backend="eager")
    with mock.patch.object(building, "compile_model", eagerly):
        return leave_weights(pretrain(run, tiny.corpora()).learner, folder)


def recomputed(folder: str, **settings: Any) -> str:
    """Train with dropout, and note how often a layer is called beside the weights."""
    calls, forward = [], Layer.forward

    def counted(self: Layer, *given: Any, **named: Any) -> Any:
        calls.append(1)
        return forward(self, *given, **named)

    model = tiny.model(num_decoder_layers=1, dropout=0.1, attention_dropout=0.1)
    ways = Translation(pairs=["en-hi"], tokens=8 * 12, length=12, num_lengths=3)
    objectives = {"mlm": tiny.MLM, "mt": ways, "nli": tiny.NLI}
    run = tiny.recipe(folder, objectives=objectives, model=model, dtype="float64", **settings)
    with mock.patch.object(Layer, "forward", counted):
        digest = leave_weights(pretrain(run, tiny.corpora()).learner, folder)
    if os.environ.get("RANK", "0") == "0":
        (Path(folder) / "calls").write_text(str(len(calls)))
    return digest


def started(folder: str, **settings: Any) -> str:
    """Train from the weights of another model."""
    other = building.build_learner(tiny.recipe("", seed=9), tiny.corpora()).model
    source = PretrainedModel(other, tiny.Words(), {"en": 0, "hi": 1})
    run = tiny.recipe(folder, initialize=Initialization(encoder="elsewhere"), **settings)
    with mock.patch.object(start, "load", lambda path: source):
        return leave_weights(pretrain(run, tiny.corpora()).learner, folder)

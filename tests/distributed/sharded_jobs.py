"""Jobs about sharding together with other settings; ``jobs`` has them too."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from safetensors.torch import save_file

from tests.training import tiny
from xlm.model.pretrained import PretrainedModel
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


def started(folder: str, **settings: Any) -> str:
    """Train from the weights of another model."""
    other = building.build_learner(tiny.recipe("", seed=9), tiny.corpora()).model
    source = PretrainedModel(other, tiny.Words(), {"en": 0, "hi": 1})
    run = tiny.recipe(folder, initialize=Initialization(encoder="elsewhere"), **settings)
    with mock.patch.object(start, "load", lambda path: source):
        return leave_weights(pretrain(run, tiny.corpora()).learner, folder)

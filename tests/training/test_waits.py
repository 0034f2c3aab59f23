"""No operation of an update waits for the device: nothing reads a value back, whatever is trained.

On a GPU ``.item()``, ``bool(tensor)``, ``nonzero`` and indexing by booleans wait for all work that
was queued. Here each is an operation of torch, which is noticed on a CPU too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.distributed.jobs import OBJECTIVES
from tests.tasks import toys
from tests.training import tiny
from xlm.model import attention
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.objective import Objective
from xlm.run import build as building
from xlm.training import loop
from xlm.training.distributed.processes import Parallel

WAITING = (
    "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique",
    "_unique2", "item", "repeat_interleave.Tensor",
)  # fmt: skip
"""Operations whose result, or its size, has to be known by the CPU."""


class Watched(TorchDispatchMode):
    """Notes operations that would wait; backward passes on a CPU are in this thread too."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.num = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func).removeprefix("aten.")
        self.num += 1
        masks = name.startswith(("index.", "index_put")) and any(
            isinstance(index, torch.Tensor) and index.dtype == torch.bool for index in args[1]
        )
        if name.startswith(tuple(f"{waiting}." for waiting in WAITING)) or masks:
            self.waits.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def watched_updates(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    mode, update = Watched(), loop._update

    def watched(*arguments: Any) -> Any:
        with mode:
            return update(*arguments)

    monkeypatch.setattr(loop, "_update", watched)
    yield mode
    assert mode.num > 100


def _waits(
    monkeypatch: pytest.MonkeyPatch, objectives: dict[str, Objective], made: Any, **changes: Any
) -> list[str]:
    layers = 1 if {"mt", "bt"} & set(objectives) else 0
    model = tiny.model(
        max_positions=256, num_decoder_layers=layers, dropout=0.1, attention_dropout=0.1
    )
    run = tiny.recipe("", objectives=objectives, model=model, steps=2, average=0.5, **changes)
    parallel = Parallel(torch.device("cpu"))
    mixture = building.build_mixture(run, building.training_streams(run, made))
    trainer = building.build_trainer(run, made, mixture, parallel)
    trainer.report_every = 100
    # a CPU's own ways: to ask for a row's cells alone, and to make scores with their gradients
    monkeypatch.setattr(attention, "by_row", lambda *_: None)
    trainer.learner.model.summed = partial(sum_cross_entropy)
    with watched_updates(monkeypatch) as mode:
        loop.train(trainer)
    return mode.waits


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["two heads", "language models", "translation"])
def test_language_models_and_translation(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    assert _waits(monkeypatch, OBJECTIVES[name], tiny.corpora(20), precision=precision) == []


def test_every_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    toys.write_several(tmp_path)
    assert _waits(monkeypatch, dict(toys.several(tmp_path)), toys.corpora()) == []


def test_such_operations_are_noticed() -> None:
    x = torch.tensor([1.0, 2.0])
    with Watched() as mode:
        x[0].item()
        x[x > 1]
        bool(x[0] > 0)
        x.nonzero()
    assert len(mode.waits) >= 4

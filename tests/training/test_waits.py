"""No operation of an update waits for the device: nothing reads a value back, whatever is trained.

On a GPU ``.item()``, ``bool(tensor)``, ``nonzero`` and indexing by booleans wait for all work that
was queued. Here each is an operation of torch, which is noticed on a CPU too. Back-translation
alone waits: for the rows that have ended, every few tokens, and for the sizes of the translations.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode

from tests.distributed.jobs import OBJECTIVES
from tests.tasks import toys
from tests.training import tiny
from xlm.model import attention
from xlm.model import generate as generation
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.objective import Objective
from xlm.objectives.causal import CausalLM, CausalTLM
from xlm.objectives.denoising import Denoising
from xlm.objectives.infilling import Infilling
from xlm.objectives.original import OriginalCausalLM, OriginalCausalTLM, OriginalMaskedLM
from xlm.objectives.teacher_forcing import TeacherForced
from xlm.run import build as building
from xlm.training import loop
from xlm.training.distributed.processes import Parallel

WAITING = (
    "_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal", "unique",
    "_unique2", "item", "repeat_interleave.Tensor",
)  # fmt: skip
"""Operations whose result, or its size, has to be known by the CPU."""
COPIES = ("tolist", "numpy", "cpu", "__array__")
"""Methods that copy to the CPU, which is no operation on one."""


class Copies(TorchFunctionMode):
    """Notes copies to the CPU."""

    def __init__(self, waits: list[str]) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in COPIES:
            self.waits.append(func.__name__)
        return func(*args, **(kwargs or {}))


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
        with mode, Copies(mode.waits):
            return update(*arguments)

    monkeypatch.setattr(loop, "_update", watched)
    yield mode
    assert mode.num > 100


def _waits(
    monkeypatch: pytest.MonkeyPatch, objectives: dict[str, Objective], made: Any, **changes: Any
) -> list[str]:
    layers = any(isinstance(own, TeacherForced) for own in objectives.values())
    model = tiny.model(
        max_positions=256, num_decoder_layers=int(layers), dropout=0.1, attention_dropout=0.1
    )
    run = tiny.recipe("", objectives=objectives, model=model, steps=2, average=0.5, **changes)
    parallel = Parallel(torch.device("cpu"))
    mixture = building.build_mixture(run, building.training_streams(run, made))
    trainer = building.build_trainer(run, made, mixture, parallel)
    trainer.report_every = 100
    # a CPU's own ways: to ask for a row's cells alone, and to make scores with their gradients
    monkeypatch.setattr(attention, "by_row", lambda *_: None)
    trainer.learner.model.summed = partial(sum_cross_entropy)
    if trainer.learner.model.decoder is not None:  # translations of more than their end
        with torch.no_grad():
            trainer.learner.model.decoder.output_bias[made.tokenizer.end_id] -= 3.0
    with watched_updates(monkeypatch) as mode:
        loop.train(trainer)
    return mode.waits


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", ["two heads", "language models", "translation"])
def test_language_models_and_translation(
    monkeypatch: pytest.MonkeyPatch, name: str, precision: str
) -> None:
    assert _waits(monkeypatch, OBJECTIVES[name], tiny.corpora(20), precision=precision) == []


@pytest.mark.parametrize(
    "objective",
    [
        Denoising(languages=["en", "hi"], tokens=100, length=12),
        Infilling(languages=["en", "hi"], tokens=100, length=24, pieces_in=["en", "hi"]),
        CausalLM(languages=["en", "hi"], rows=4, length=12),
        CausalTLM(pairs=["en-hi"], tokens=100, length=24),
        tiny.NSP,
        OriginalMaskedLM(languages=["en", "hi"], rows=4, length=24, masks="original"),
        OriginalCausalLM(languages=["en", "hi"], rows=4, length=12, stream_layout="original"),
        OriginalCausalTLM(pairs=["en-hi"], rows=4, length=24, pair_order="original"),
    ],
    ids=lambda objective: type(objective).__name__,
)
def test_every_other_objective(monkeypatch: pytest.MonkeyPatch, objective: Objective) -> None:
    found = _waits(monkeypatch, {"own": objective}, tiny.corpora(20), skip_spikes=6.0)
    assert found == []


@pytest.mark.parametrize("sample", [False, True])
def test_back_translation_waits_for_what_it_writes(
    monkeypatch: pytest.MonkeyPatch, sample: bool
) -> None:
    monkeypatch.setattr(generation, "tokens_between_looks", lambda device: 8)
    made: list[tuple[Any, int]] = []

    def generated(*rest: Any, largest: int, **more: Any) -> Any:
        found = generation.generate(*rest, largest=largest, **more)
        if isinstance(_get_current_dispatch_mode(), Watched):  # not when the trainer is built
            made.append((found, largest))
        return found

    monkeypatch.setattr("xlm.objectives.backtranslation.generate", generated)
    settings = generation.Generation(ratio=1.3, extra=5, sample=sample)
    bt = replace(OBJECTIVES["back-translation"]["bt"], generation=settings)
    found = _waits(monkeypatch, {"mlm": tiny.MLM, "bt": bt}, tiny.corpora(20))
    expected = []
    for each, largest in made:
        longest = int(each.lengths.max())
        looks = min(math.ceil((longest - 1) / 8), (largest - 1) // 8)
        # rows that have ended, the longest translation, the longest of each micro-batch
        expected += ["nonzero.default"] * looks + ["_local_scalar_dense.default", "tolist"]
    assert found == expected
    assert "nonzero.default" in found and found.count("tolist") == len(made)


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

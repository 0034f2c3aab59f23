"""Lingvo's Adafactor beside its formula, transformers' and torch's; its schedule; its state."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training import tiny
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.pretrain import pretrain
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.lingvo_adafactor import LingvoAdafactor
from xlm.training.optimizers.step import set_lr
from xlm.training.schedule import Schedule

SHAPES = {"wide": (200, 130), "narrow": (130, 7), "vector": (40,), "one": (1,), "table": (150, 140)}
NUM_UPDATES = 40
UNTOUCHED = slice(20, 90)
"""Rows of the table whose gradient is always 0."""


def _values(update: int) -> dict[str, np.ndarray]:
    """Gradients of an update (update 0: the start) of very different sizes."""
    draw = np.random.default_rng(update)
    found = {name: draw.normal(size=shape) for name, shape in SHAPES.items()}
    if update:
        found = {name: value * 10 ** draw.uniform(-4, 1) for name, value in found.items()}
        found["table"][UNTOUCHED] = 0
    return found


def _rates(peak: float = 0.02) -> list[float]:
    schedule = Schedule(peak_lr=peak, warmup_steps=8, warmup_init_lr=peak / 8)
    return [schedule.lr(step) for step in range(NUM_UPDATES)]


def _train(optimizer: torch.optim.Optimizer, parameters: dict[str, nn.Parameter]) -> None:
    for update, rate in enumerate(_rates(), start=1):
        for name, value in _values(update).items():
            parameters[name].grad = torch.tensor(value, dtype=parameters[name].dtype)
        set_lr(optimizer, rate)
        optimizer.step()


def _parameters(dtype: torch.dtype = torch.float64) -> dict[str, nn.Parameter]:
    return {n: nn.Parameter(torch.tensor(v, dtype=dtype)) for n, v in _values(0).items()}


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt((x**2).mean()))


def _by_the_formula(
    p: np.ndarray,
    gradients: list[np.ndarray],
    rates: list[float],
    *,
    momentum: float = 0.0,
    scaled: bool = True,
    tensor_norm: float = 0.0,
    smallest: int = 128,
    clip: float = 1.0,
    decay: float = 0.0,
) -> np.ndarray:
    rows, columns, squares, average = 0.0, 0.0, 0.0, 0.0
    for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True), start=1):
        norm = np.sqrt((gradient**2).sum())
        if tensor_norm and norm > tensor_norm:
            gradient = gradient * tensor_norm / norm
        beta = 1 - t**-0.8
        if p.ndim > 1 and min(p.shape) >= smallest:
            rows = beta * rows + (1 - beta) * (gradient**2 + 1e-30).mean(1, keepdims=True)
            columns = beta * columns + (1 - beta) * (gradient**2 + 1e-30).mean(0, keepdims=True)
            update = gradient / np.sqrt(rows / rows.mean()) / np.sqrt(columns)
        else:
            squares = beta * squares + (1 - beta) * (gradient**2 + 1e-30)
            update = gradient / np.sqrt(squares)
        update = update / max(1.0, _rms(update) / clip)
        update = update * rate * (max(1e-3, _rms(p)) if scaled else 1.0)
        average = momentum * average + (1 - momentum) * update
        p = p - rate * decay * p - (average if momentum else update)
    return p


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("tensor_norm", [0.0, 1.0])
@pytest.mark.parametrize("others", [{}, {"smallest": 1, "clip": 0.5, "decay": 0.1}])
def test_forty_updates_of_the_formula_written_out(
    momentum: float, scaled: bool, tensor_norm: float, others: dict[str, Any]
) -> None:
    parameters = _parameters()
    config = Optimizer(
        kind="lingvo-adafactor", momentum=momentum, scale_by_parameter=scaled,
        max_tensor_grad_norm=tensor_norm, smallest_factored=others.get("smallest"),
        update_clip=others.get("clip"), weight_decay=others.get("decay", 0.0),
    )  # fmt: skip
    _train(build_optimizer(config, parameters.items()), parameters)
    settings = {"momentum": momentum, "scaled": scaled, "tensor_norm": tensor_norm, **others}
    for name, start in _values(0).items():
        gradients = [_values(update)[name] for update in range(1, NUM_UPDATES + 1)]
        expected = _by_the_formula(start, gradients, _rates(), **settings)
        found = parameters[name].detach().numpy()
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
        assert np.abs(found - start).max() > 1e-3
    if not (momentum or "decay" in others):
        untouched = parameters["table"].detach().numpy()[UNTOUCHED]
        assert np.array_equal(untouched, _values(0)["table"][UNTOUCHED])


@pytest.mark.parametrize("momentum", [None, 0.9])
@pytest.mark.parametrize("scaled", [True, False])
def test_that_of_transformers(momentum: float | None, scaled: bool) -> None:
    optimization = pytest.importorskip("transformers.optimization")
    ours, theirs = _parameters(), _parameters()
    other = optimization.Adafactor(
        theirs.values(), lr=1.0, beta1=momentum, scale_parameter=scaled, relative_step=False
    )
    optimizer = LingvoAdafactor(
        ours.values(), momentum=momentum or 0.0, scale_by_parameter=scaled, smallest_factored=1
    )
    _train(optimizer, ours)
    _train(other, theirs)
    for name, p in ours.items():
        torch.testing.assert_close(p, theirs[name], rtol=0, atol=1e-12)


def test_that_of_torch() -> None:
    """The rate is below its relative step, 1 / sqrt(t), which torch takes if it is lower."""
    assert all(rate <= t**-0.5 for t, rate in enumerate(_rates(), start=1))
    ours, theirs = _parameters(), _parameters()
    _train(LingvoAdafactor(ours.values(), smallest_factored=1), ours)
    _train(torch.optim.Adafactor(theirs.values(), lr=0.0), theirs)
    for name, p in ours.items():
        torch.testing.assert_close(p, theirs[name], rtol=0, atol=1e-12)


def test_more_than_two_axes_are_matrices_one_above_the_other() -> None:
    values = np.random.default_rng(0).normal(size=(2, 3, 130, 140))
    whole = nn.Parameter(torch.tensor(values))
    whole.grad = whole.detach().cos()
    optimizer = LingvoAdafactor([whole], lr=0.1, update_clip=1e9, scale_by_parameter=False)
    optimizer.step()
    shapes = {name: tuple(own.shape) for name, own in optimizer.state[whole].items()}
    assert shapes == {"step": (), "rows": (2, 3, 130, 1), "columns": (2, 3, 1, 140)}
    for place in np.ndindex(2, 3):
        expected = _by_the_formula(
            values[place], [np.cos(values[place])], [0.1], scaled=False, clip=1e9
        )
        np.testing.assert_allclose(whole.detach().numpy()[place], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("tensor_norm", [0.0, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_gradient_of_zeros_moves_nothing(
    momentum: float, tensor_norm: float, dtype: torch.dtype
) -> None:
    parameters = _parameters(dtype)
    before = {name: p.detach().clone() for name, p in parameters.items()}
    optimizer = LingvoAdafactor(
        parameters.values(), lr=0.1, momentum=momentum, max_tensor_grad_norm=tensor_norm
    )
    for _ in range(3):
        for p in parameters.values():
            p.grad = torch.zeros_like(p)
        optimizer.step()
    for name, p in parameters.items():
        assert torch.equal(p, before[name])
        assert all(own.isfinite().all() for own in optimizer.state[p].values())


def test_arithmetic_is_in_single_precision_for_half_precision_parameters() -> None:
    parameters = _parameters(torch.bfloat16)
    exact = {name: nn.Parameter(p.detach().float()) for name, p in parameters.items()}
    _train(LingvoAdafactor(parameters.values(), momentum=0.9), parameters)
    optimizer = LingvoAdafactor(exact.values(), momentum=0.9)
    for update, rate in enumerate(_rates(), start=1):
        for name, value in _values(update).items():
            exact[name].grad = torch.tensor(value, dtype=torch.bfloat16).float()
        set_lr(optimizer, rate)
        optimizer.step()
        with torch.no_grad():
            for p in exact.values():
                p.copy_(p.bfloat16())
    for name, p in parameters.items():
        torch.testing.assert_close(p.float(), exact[name].detach(), rtol=2**-7, atol=2e-3)


class _Elsewhere(nn.Parameter):
    """A parameter that says that it lies on a GPU."""

    device = torch.device("cuda")  # type: ignore[assignment]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_gpu_selects_the_values_that_it_keeps(momentum: float) -> None:
    trained = []
    for flag, kind in ((None, nn.Parameter), (0.0, _Elsewhere), (1.0, _Elsewhere)):
        parameters = {name: kind(p.detach()) for name, p in _parameters(torch.float32).items()}
        optimizer = LingvoAdafactor(parameters.values(), lr=0.1, momentum=momentum)
        for update in range(1, 4):
            for name, value in _values(update).items():
                parameters[name].grad = torch.tensor(value, dtype=torch.float32)
            if flag is not None:
                optimizer.found_inf = torch.tensor(flag)
            if flag:
                parameters["wide"].grad[0] = float("nan")
            optimizer.step()
        trained.append((optimizer, parameters))
    (plain, expected), (taken, found), (skipped, kept) = trained
    for name, p in expected.items():
        assert torch.equal(p, found[name].data)
        assert torch.equal(kept[name].data, _parameters(torch.float32)[name])
        for key, own in plain.state[p].items():
            assert torch.equal(own, taken.state[found[name]][key])
            assert not skipped.state[kept[name]][key].any()


def _runs(folder: Path, **changes: Any) -> Iterator[Any]:
    optimizer = Optimizer(
        kind="lingvo-adafactor", momentum=0.9, max_tensor_grad_norm=1.0, smallest_factored=8,
        max_grad_norm=0.0,
    )  # fmt: skip
    schedule = Schedule(peak_lr=0.02, warmup_steps=8, warmup_init_lr=0.0025)
    for name, steps in (("whole", 12), ("parts", 5), ("parts", 12)):
        yield tiny.recipe(
            folder / name, steps=steps, optimizer=optimizer, schedule=schedule, **changes
        )


def test_a_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, _, parts = (pretrain(run, tiny.corpora()) for run in _runs(tmp_path))
    assert tiny.digest(whole.learner.state_dict()) == tiny.digest(parts.learner.state_dict())
    assert tiny.journal(tmp_path / "whole") == tiny.journal(tmp_path / "parts")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains(tmp_path: Path, precision: Any) -> None:
    run = next(_runs(tmp_path, precision=precision, group_size=2))
    pretrain(run, tiny.corpora())
    losses = [line["loss"]["mlm"] for line in tiny.journal(tmp_path / "whole").values()]
    assert losses[-1] < losses[0] - 0.3  # nats


@pytest.mark.parametrize(
    ("peak", "warmup"),
    [(3.0, 40_000), (0.2, 90_000), (0.2, 5_000), (0.1, 100_000), (0.1, 40_000)],
)
def test_the_papers_schedules(peak: float, warmup: int) -> None:
    """Siddhant et al. (2020), footnote 2: r x min(t W^-3/2, t^-1/2) at update t from 1 on."""
    root = math.sqrt(warmup)
    schedule = Schedule(
        peak_lr=peak / root, warmup_steps=warmup, warmup_init_lr=peak / (root * warmup)
    )
    for t in (1, warmup // 2, warmup, 4 * warmup):
        expected = peak * min(t * warmup**-1.5, t**-0.5)
        assert schedule.lr(t - 1) == pytest.approx(expected, rel=1 / warmup)


def test_its_state_is_small() -> None:
    """0.23 % of the parameters of MMTE's translator, if nothing is averaged."""
    shape = ModelConfig(
        dim=1024, num_layers=6, num_decoder_layers=6, num_heads=16, feed_forward=8192,
        language_embeddings=False, shared_words=True,
    )  # fmt: skip
    with torch.device("meta"):
        model = Transformer(shape, vocab_size=64_000, num_languages=1, pad_id=0)
        for p in model.parameters():
            p.grad = torch.empty_like(p)
    parameters = dict(model.named_parameters()).values()
    optimizer = LingvoAdafactor(parameters)
    optimizer.step()
    kept = sum(own.numel() for state in optimizer.state.values() for own in state.values())
    assert kept / sum(p.numel() for p in parameters) == pytest.approx(0.0023, abs=5e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"kind": "adafactor", "max_tensor_grad_norm": 1.0},
            "grad_norm is 1.0, but kind is",
        ),
        ({"smallest_factored": 1}, "smallest_factored is 1, but kind is adamw: only lingvo"),
        ({"kind": "muon", "update_clip": 1.0}, "update_clip is 1.0, but kind is muon: only lingvo"),
        ({"scale_by_parameter": False}, "scale_by_parameter is False, but kind is adamw"),
        ({"kind": "adam", "momentum": 0.9}, "only muon and lingvo-adafactor have it; leave it out"),
        ({"kind": "lingvo-adafactor", "smallest_factored": 0}, "smallest_factored 0: expected 1"),
        ({"kind": "lingvo-adafactor", "update_clip": 0.0}, "update_clip 0.0: expected a number"),
        ({"kind": "lingvo-adafactor", "max_tensor_grad_norm": -1.0}, "max_tensor_grad_norm -1.0"),
        ({"kind": "lingvo-adafactor", "fused": False}, "fused false with kind lingvo-adafactor"),
    ],
)
def test_misfits(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Optimizer(**settings)
    assert "\n" not in str(caught.value)

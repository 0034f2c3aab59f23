"""Schedules against the original's rates, closed forms and each other's meeting points."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from xlm.errors import ConfigError
from xlm.training.schedule import Schedule

GOLDEN = Path(__file__).parents[1] / "golden" / "optim.npz"


def _from_original(string: str) -> Schedule:
    """The schedule that an optimizer string of the original XLM stands for."""
    name, *settings = string.split(",")
    given = dict(setting.split("=") for setting in settings)
    kinds = {"adam": "constant", "adam_inverse_sqrt": "inverse-sqrt", "adam_cosine": "cosine"}
    warmup = int(given.get("warmup_updates", 0 if name == "adam" else 4000))
    return Schedule(
        kind=kinds[name],
        peak_lr=float(given["lr"]),
        warmup_steps=warmup,
        warmup_init_lr=float(given.get("warmup_init_lr", 1e-7)),
        exponent=float(given.get("exp_factor", 0.5)),
        final_lr=float(given.get("min_lr", 1e-9)),
        period=int(given.get("init_period", 1_000_000)),
        period_factor=float(given.get("period_mult", 1)),
        shrink=float(given.get("lr_shrink", 0.75)),
    )


def _golden_strings() -> dict[str, str]:
    with np.load(GOLDEN) as golden:
        return json.loads(str(golden["strings"]))


@pytest.mark.parametrize("name", _golden_strings())
def test_rates_of_the_original(name: str) -> None:
    schedule = _from_original(_golden_strings()[name])
    with np.load(GOLDEN) as golden:
        used, after = golden[f"{name}.lr_used"], float(golden[f"{name}.lr_after_last"])
    ours = [schedule.lr(step) for step in range(len(used) + 1)]
    np.testing.assert_allclose(ours, [*used, after], rtol=0, atol=1e-12)


UPDATES = np.arange(200.0)
"""More than two warm-ups and four periods of every schedule below."""


@pytest.mark.parametrize(("warmup", "exponent", "init"), [(10, 0.5, 1e-7), (7, 0.8, 0.0)])
def test_inverse_square_root_in_closed_form(warmup: int, exponent: float, init: float) -> None:
    """All updates: init + k (peak - init) / W, then peak (W / k)^e (docs/fidelity.md, B7)."""
    schedule = Schedule(
        kind="inverse-sqrt", peak_lr=6e-3, warmup_steps=warmup, warmup_init_lr=init,
        exponent=exponent,
    )  # fmt: skip
    rising = init + UPDATES * (6e-3 - init) / warmup
    falling = 6e-3 * (warmup / np.maximum(UPDATES, warmup)) ** exponent
    expected = np.where(UPDATES < warmup, rising, falling)
    np.testing.assert_allclose([schedule.lr(int(k)) for k in UPDATES], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("warmup", "period", "mult", "shrink"),
    [
        (10, 1_000_000, 1, 0.75),
        (10, 15, 1, 0.75),
        (5, 20, 1, 1.0),
        (10, 12, 2, 0.5),
        (0, 6, 3, 0.9),
    ],
)
def test_cosine_with_restarts_in_closed_form(
    warmup: int, period: int, mult: int, shrink: float
) -> None:
    """Period i begins after T (mult^i - 1) / (mult - 1) updates (docs/fidelity.md, B7)."""
    schedule = Schedule(
        kind="cosine", peak_lr=1e-2, warmup_steps=warmup, final_lr=1e-9, period=period,
        period_factor=mult, shrink=shrink,
    )  # fmt: skip
    after = np.maximum(UPDATES - warmup, 0)
    starts = [period * (i if mult == 1 else (mult**i - 1) // (mult - 1)) for i in range(20)]
    number = np.searchsorted(starts, after, side="right") - 1
    place = after - np.array(starts)[number]
    low, high = 1e-9 * shrink**number, 1e-2 * shrink**number
    falling = low + (high - low) / 2 * (
        1 + np.cos(np.pi * place / (period * float(mult) ** number))
    )
    rising = 1e-7 + UPDATES * (1e-2 - 1e-7) / max(warmup, 1)
    expected = np.where(UPDATES < warmup, rising, falling)
    assert number.max() == {1_000_000: 0, 15: 12, 20: 9, 12: 4, 6: 3}[period]
    np.testing.assert_allclose([schedule.lr(int(k)) for k in UPDATES], expected, rtol=0, atol=1e-12)


def test_constant_is_flat_after_the_warmup() -> None:
    schedule = Schedule(kind="constant", peak_lr=0.5, warmup_steps=4, warmup_init_lr=0.1)
    assert [schedule.lr(s) for s in (0, 2, 4, 10**9)] == pytest.approx([0.1, 0.3, 0.5, 0.5])
    assert Schedule(kind="constant", peak_lr=0.5, warmup_steps=0).lr(0) == 0.5


def test_linear_is_a_straight_line_to_the_end() -> None:
    schedule = Schedule(
        kind="linear", peak_lr=1.0, warmup_steps=10, final_lr=0.2, total_steps=50, warmup_init_lr=0
    )
    assert schedule.lr(5) == pytest.approx(0.5)
    rates = [schedule.lr(s) for s in range(10, 51)]
    np.testing.assert_allclose(rates, np.linspace(1.0, 0.2, 41), atol=1e-15)
    assert schedule.lr(51) == schedule.lr(10**6) == pytest.approx(0.2)


def test_plain_cosine_is_one_half_wave() -> None:
    schedule = Schedule(kind="cosine", peak_lr=1.0, warmup_steps=20, final_lr=0.1, total_steps=120)
    expected = [0.1 + 0.9 * math.cos(math.pi * s / 200) ** 2 for s in range(101)]
    np.testing.assert_allclose([schedule.lr(20 + s) for s in range(101)], expected, atol=1e-14)
    assert schedule.lr(500) == pytest.approx(0.1)


def test_restarts_shrink_both_bounds_and_lengthen() -> None:
    schedule = Schedule(
        kind="cosine", peak_lr=1.0, warmup_steps=0, final_lr=0.1, period=10, period_factor=3,
        shrink=0.5,
    )  # fmt: skip
    assert [schedule.lr(s) for s in (0, 10, 40, 130)] == pytest.approx([1.0, 0.5, 0.25, 0.125])
    assert schedule.lr(5) == pytest.approx(0.55)  # halfway down the first
    assert schedule.lr(25) == pytest.approx(0.275)  # halfway down the second


def test_warmup_stable_decay() -> None:
    schedule = Schedule(
        kind="wsd", peak_lr=1.0, warmup_steps=5, warmup_init_lr=0, decay_steps=20, total_steps=100
    )
    assert {schedule.lr(s) for s in range(5, 81)} == {1.0}
    np.testing.assert_allclose(
        [schedule.lr(s) for s in range(80, 101)], np.linspace(1, 0, 21), atol=1e-15
    )


@pytest.mark.parametrize("kind", ["linear", "cosine", "wsd"])
def test_the_run_fills_in_its_length(kind: str) -> None:
    schedule = Schedule(kind=kind, warmup_steps=10, decay_steps=10)
    with pytest.raises(ConfigError, match="total_steps"):
        schedule.lr(50)
    assert schedule.for_run(100).lr(100) == 0.0
    assert schedule.for_run(100).for_run(7).total_steps == 100
    with pytest.raises(ConfigError, match=r"total_steps is 9, but warmup_steps.* take (10|20)"):
        schedule.for_run(9)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "square"}, "kind is 'square': expected one of constant"),
        ({"peak_lr": -1.0}, "peak_lr must be a number that is 0 or more: found -1.0"),
        ({"peak_lr": math.nan}, "peak_lr .* found nan"),
        ({"warmup_init_lr": math.inf}, "warmup_init_lr .* found inf"),
        ({"warmup_steps": -1}, "warmup_steps must be 0 or more: found -1"),
        ({"warmup_steps": 0}, "warmup_steps is 0"),
        ({"kind": "wsd"}, "decay_steps is 0"),
        ({"kind": "cosine", "period": 0}, "period is 0"),
        ({"kind": "cosine", "period": 5, "period_factor": 0.5}, "period_factor is 0.5"),
        ({"kind": "cosine", "period": 5, "shrink": 0.0}, "shrink is 0.0"),
        (
            {"kind": "linear", "total_steps": 10},
            "total_steps is 10, but warmup_steps of the schedule linear take 4000",
        ),
    ],
)
def test_misfits(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        Schedule(**settings)
    assert "\n" not in str(caught.value)

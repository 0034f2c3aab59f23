"""Updates with far larger gradients than those before are skipped, alike after a resume."""

from __future__ import annotations

import math

import pytest
import torch

from xlm.training.skipped import SkippedUpdates
from xlm.training.spikes import DECAY, FIRST, Spikes

CPU = torch.device("cpu")


def skipped(spikes: Spikes, norm: float) -> bool:
    value = torch.tensor(norm)
    return bool(spikes(value, (~value.isfinite()).float()))


def test_a_spike_is_skipped_and_moves_the_mean_little() -> None:
    spikes = Spikes(CPU, 4.0)
    assert not any(skipped(spikes, 1.0 + at % 2) for at in range(FIRST))
    mean = spikes.state()["mean"]
    assert mean == pytest.approx(1.5) and spikes.state()["count"] == FIRST
    assert skipped(spikes, 1000.0) and not skipped(spikes, 5.9)
    assert spikes.state()["mean"] < 1.1 * mean


def test_nothing_is_skipped_in_the_first_updates_but_what_is_not_finite() -> None:
    spikes = Spikes(CPU, 2.0)
    found = [skipped(spikes, norm) for norm in (1.0, 50.0, math.inf, math.nan, 1.0)]
    assert found == [False, False, True, True, False]
    assert spikes.state() == {"mean": pytest.approx(52 / 3), "count": 3.0}


def test_norms_that_stay_high_are_accepted() -> None:
    spikes = Spikes(CPU, 2.0)
    for _ in range(FIRST):
        skipped(spikes, 1.0)
    found = [skipped(spikes, 10.0) for _ in range(400)]
    # the mean grows by a factor of 1 + (1 - DECAY) an update until 10 is twice the mean
    num = math.ceil(math.log(5) / math.log(2 - DECAY))
    assert found == [True] * num + [False] * (400 - num)


def test_a_resumed_run_goes_on_with_the_same_mean() -> None:
    norms = [1 + at % 7 for at in range(150)]
    whole, first, second = Spikes(CPU, 1.5), Spikes(CPU, 1.5), Spikes(CPU, 1.5)
    expected = [skipped(whole, norm) for norm in norms]
    found = [skipped(first, norm) for norm in norms[:120]]
    second.load(first.state())
    found += [skipped(second, norm) for norm in norms[120:]]
    assert found == expected and any(expected)
    assert second.state() == whole.state()


def test_a_stuck_run_is_seen_before_the_next_report() -> None:
    counter = SkippedUpdates(CPU, limit=3)
    for at, bad in enumerate((1.0, 1.0, 0.0, 1.0, 1.0, 1.0)):
        assert not counter.looks_stuck(), at
        counter.add(torch.tensor(bad))
    assert counter.looks_stuck()

"""Updates with far larger gradients than those before are skipped, alike after a resume."""

from __future__ import annotations

import math

import pytest
import torch

from xlm.errors import TrainingError
from xlm.training.skipped import SkippedUpdates
from xlm.training.spikes import FIRST, MOST_IN_A_ROW, Spikes

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
    state = spikes.state()
    assert (state["mean"], state["count"]) == (pytest.approx(52 / 3), 3.0)


@pytest.mark.parametrize(("factor", "high"), [(2.0, 4.0), (2.0, 10.0), (6.0, 100.0), (6.0, 1e30)])
def test_norms_that_stay_high_are_accepted(factor: float, high: float) -> None:
    spikes, counter = Spikes(CPU, factor), SkippedUpdates(CPU)
    found = []
    for norm in [1.0] * FIRST + [high] * 200:
        skips = spikes(torch.tensor(norm), torch.tensor(0.0))
        counter.add(skips, torch.tensor(0.0))
        found.append(bool(skips))
    assert found == [False] * FIRST + [True] * MOST_IN_A_ROW + [False] * (200 - MOST_IN_A_ROW)
    assert not counter.looks_stuck()
    assert spikes.state()["mean"] == pytest.approx(high)
    counter.raise_if_stuck(300, "")


def test_the_lowest_spike_of_a_row_is_the_new_mean() -> None:
    spikes = Spikes(CPU, 2.0)
    for _ in range(FIRST):
        skipped(spikes, 1.0)
    high = [50.0, 1e30, 40.0, *[45.0] * (MOST_IN_A_ROW - 4)]
    assert all(skipped(spikes, norm) for norm in high)
    assert skipped(spikes, math.nan) and skipped(spikes, math.inf)  # neither counts nor ends it
    assert spikes.state()["mean"] < 2
    assert skipped(spikes, 60.0) and spikes.state()["mean"] == 40.0
    assert not skipped(spikes, 80.0)
    assert spikes.state()["in_a_row"] == 0


def test_a_spike_that_is_alone_begins_anew() -> None:
    spikes = Spikes(CPU, 2.0)
    for _ in range(FIRST):
        skipped(spikes, 1.0)
    for _ in range(3 * MOST_IN_A_ROW):
        assert skipped(spikes, 100.0) and not skipped(spikes, 1.0)
    assert spikes.state()["mean"] < 2


def test_a_run_that_ends_for_spikes_says_so() -> None:
    counter = SkippedUpdates(CPU, limit=4)
    one, none = torch.tensor(1.0), torch.tensor(0.0)
    for skips, found_inf in ((one, none), (none, none), (one, one), (one, none), (one, none)):
        counter.add(skips, found_inf)
    assert (counter.total(), counter.in_a_row(), counter.spikes()) == (4, 3, 2)
    again = SkippedUpdates(CPU, limit=4)
    again.load(counter.total(), counter.in_a_row(), counter.spikes())
    for each in (counter, again):
        each.add(one, none)
        with pytest.raises(TrainingError, match="not finite in 1, a spike in 3.*skip_spikes"):
            each.raise_if_stuck(7, "objectives mlm")


def test_a_resumed_run_goes_on_with_the_same_mean() -> None:
    norms = [1 + at % 7 for at in range(114)] + [90.0] * 36
    whole, first, second = Spikes(CPU, 1.5), Spikes(CPU, 1.5), Spikes(CPU, 1.5)
    expected = [skipped(whole, norm) for norm in norms]
    found = [skipped(first, norm) for norm in norms[:120]]
    second.load(first.state())
    found += [skipped(second, norm) for norm in norms[120:]]
    assert found == expected and 0 < sum(expected[114:]) < 36
    assert second.state() == whole.state()


def test_a_stuck_run_is_seen_before_the_next_report() -> None:
    counter = SkippedUpdates(CPU, limit=3)
    for at, bad in enumerate((1.0, 1.0, 0.0, 1.0, 1.0, 1.0)):
        assert not counter.looks_stuck(), at
        counter.add(torch.tensor(bad))
    assert counter.looks_stuck()

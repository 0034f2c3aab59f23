"""Differences of models on the same rows: a planted one is found, on what both have."""

from __future__ import annotations

import numpy as np
import pytest

from xlm.analysis.intervals import Estimate, share
from xlm.analysis.minimal_pairs import Judged
from xlm.analysis.readers import MinimalPair
from xlm.analysis.report import Analysis
from xlm.analysis.sections.in_context import compare_judged

DRAW = np.random.default_rng(0)


def differences(found: Analysis) -> dict[tuple[str, str], Estimate]:
    assert {own.model for own in found.figures} == {"model - other"}
    return {(own.of, own.measure): own.estimate for own in found.figures}


def test_minimal_pairs_are_compared_where_both_models_judged() -> None:
    """The model is right wherever the other one is, and on a tenth of the pairs besides."""
    pairs = [MinimalPair(name, "", "") for name in ("agreement", "reflexive") for _ in range(200)]
    theirs = (DRAW.random(400) < 0.5).astype(float)
    ours = theirs.copy()
    ours[np.flatnonzero(theirs[:200] == 0)[:20]] = 1.0
    ours[5], theirs[9], theirs[300:] = np.nan, np.nan, np.nan
    found = Analysis("minimal pairs")
    compare_judged(found, pairs, {"model": Judged(ours, 1), "other": Judged(theirs, 1)}, 0)
    own = differences(found)
    both = ~np.isnan(ours + theirs)
    for of, rows in (("agreement", range(200)), ("all pairs", range(400))):
        difference = own[of, "accuracy, difference"]
        kept = np.flatnonzero(both[list(rows)])
        assert difference.num == len(kept)
        assert difference.value == pytest.approx(ours[kept].mean() - theirs[kept].mean())
        assert difference.low is not None and difference.low > 0
    same = own["reflexive", "accuracy, difference"]
    assert (same.value, same.low, same.high, same.num) == (0, 0, 0, 100)
    # independent intervals of the two accuracies would not tell them apart
    alone = [share(float(np.nansum(side[:200])), 200) for side in (ours, theirs)]
    assert alone[0].low is not None and alone[1].high is not None
    assert alone[0].low < alone[1].high


def test_a_paired_interval_is_narrower_than_two_independent_ones() -> None:
    pairs = [MinimalPair("agreement", "", "")] * 300
    theirs = (DRAW.random(300) < 0.5).astype(float)
    ours = np.where(DRAW.random(300) < 0.05, 1.0, theirs)
    found = Analysis("minimal pairs")
    compare_judged(found, pairs, {"model": Judged(ours, 1), "other": Judged(theirs, 1)}, 0)
    own = differences(found)["agreement", "accuracy, difference"]
    variance = ours.var() / 300 + theirs.var() / 300
    assert own.low is not None and own.high is not None
    assert own.high - own.low < 0.5 * 2 * 1.96 * variance**0.5


def test_pairs_that_no_model_shares_have_no_difference() -> None:
    pairs = [MinimalPair("agreement", "", "")] * 2
    choices = {
        "model": Judged(np.array([1.0, np.nan]), 1), "other": Judged(np.array([np.nan, 1.0]), 1)
    }  # fmt: skip
    found = Analysis("minimal pairs")
    compare_judged(found, pairs, choices, 0)
    assert all(own.value is None and own.reason for own in differences(found).values())

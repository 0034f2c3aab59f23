"""Permutations stay among their groups; random weights are a run's first values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.analysis.models import tiny
from xlm.analysis.intervals import Estimate
from xlm.analysis.nulls import of_draws, permutations, permuted, untrained, untrained_of
from xlm.metrics.agreement import pearson


def test_permutations_keep_every_row_and_group() -> None:
    groups = np.array([3, 1, 1, 2, 3, 3, 1, 2, 3])
    drawn = list(permutations(9, 0, groups=groups, num=50))
    for own in drawn:
        assert sorted(own) == list(range(9))
        assert (groups[own] == groups).all()
    assert len({tuple(own) for own in drawn}) > 30
    again = list(permutations(9, 0, groups=groups, num=50))
    assert all((one == two).all() for one, two in zip(drawn, again, strict=True))


def test_every_permutation_is_as_likely() -> None:
    places = np.array([own[0] for own in permutations(4, 1, num=2000)])
    counts = np.bincount(places, minlength=4)
    assert counts.min() > 420 and counts.max() < 580  # 500 ± 4 standard deviations of 19


def test_p_counts_permutations_that_reach_the_figure() -> None:
    null = of_draws(0.9, [0.1] * 150 + [0.9] * 50)
    assert null.p == 51 / 201 and null.value == pytest.approx(0.3)
    assert of_draws(1.0, [0.5] * 200).p == 1 / 201


def test_independent_rows_are_seldom_called_dependent() -> None:
    below = left = 0
    for seed in range(1000):
        draw = np.random.default_rng(seed)
        one, two = draw.normal(size=(2, 20))
        null = permuted(pearson(one, two), lambda own, a=one, b=two: pearson(a, b[own]), 20, seed)  # type: ignore[misc]
        below += null.p is not None and null.p < 0.05
        left += bool(Estimate(pearson(one, two), nulls={"permuted": null}).leaves("permuted"))
    assert 30 <= below <= 70 and 30 <= left <= 70


def test_models_of_one_shape_share_their_random_weights() -> None:
    models = {
        "model": tiny(), "other": tiny(dropout=0.3), "flat": tiny(num_layers=1),
        "causal": replace(tiny(), extra={"objectives": ["CausalLM"]}),
        "without": replace(tiny(), extra={"no head": True}),
        "languages": replace(tiny(), languages={"en": 1, "hi": 0, "ne": 2}),
    }  # fmt: skip
    own = untrained_of(models, 0)
    assert own["other"] is own["model"]
    assert len({id(fresh) for fresh in own.values()}) == 5
    assert own["flat"].transformer.config.num_layers == 1


def test_random_weights_are_those_of_the_seed() -> None:
    model = tiny()
    state = torch.get_rng_state()
    fresh = untrained(model, 3)
    assert torch.equal(torch.get_rng_state(), state)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        expected = type(model.transformer)(
            model.transformer.config, vocab_size=model.transformer.vocab_size,
            num_languages=model.transformer.num_languages, pad_id=model.transformer.pad_id,
        )  # fmt: skip
    for name, value in expected.state_dict().items():
        assert torch.equal(fresh.transformer.state_dict()[name], value)
    assert not fresh.transformer.training and fresh.tokenizer is model.tokenizer

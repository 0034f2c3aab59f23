"""The original's masks, against the chances of each cell."""

import numpy as np
import pytest
from scipy import stats

from xlm.data.original_masks import choose_targets_as_original, original_evaluation_mask
from xlm.errors import ConfigError
from xlm.rng import Random

SEEDS = [0, 1, 2]


def test_each_row_of_the_original_s_evaluation_mask_has_a_target_inside():
    lengths = np.array([3, 5, 9, 3])
    generator, seen = np.random.RandomState(0), np.zeros((4, 9))
    for _ in range(2000):
        mask = original_evaluation_mask(lengths, 0.01, generator)
        assert mask.any(axis=1).all()
        seen += mask
    assert not seen[:, 0].any()
    for row, length in enumerate(lengths):
        assert not seen[row, length - 1 :].any()
        inside = seen[row, 1 : length - 1]
        if len(inside) > 1:  # a row's lone target lies anywhere alike
            assert stats.chisquare(inside).pvalue > 0.001
    with pytest.raises(ConfigError, match="a row has 2 tokens: the original's .* set evaluation"):
        original_evaluation_mask(np.array([2, 5]), 0.15, generator)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_original_takes_back_what_it_drew_where_no_target_may_be(seed):
    tokens = np.arange(14, 14 + 40).reshape(4, 10)
    allowed = np.ones((4, 10), dtype=bool)
    allowed[:, 0] = allowed[3] = False
    random, weights = Random(seed, "x"), np.ones(200)
    num = np.zeros(2000, dtype=int)
    for k in range(2000):
        cells = choose_targets_as_original(tokens, allowed, weights, 0.5, random)
        assert allowed.ravel()[cells].all() and (np.diff(cells) > 0).all()
        num[k] = len(cells)
    # 20 of 40 cells are drawn, of which 27 count: a hypergeometric number of them.
    drawn = np.bincount(num, minlength=28)
    expected = stats.hypergeom(40, 27, 20).pmf(np.arange(28)) * 2000
    often = expected > 5
    rest = [2000 - drawn[often].sum()], [2000 - expected[often].sum()]
    observed = np.concatenate([drawn[often], rest[0]])
    assert stats.chisquare(observed, np.concatenate([expected[often], rest[1]])).pvalue > 0.001
    nothing = choose_targets_as_original(tokens, np.zeros_like(allowed), None, 0.5, random)
    assert len(nothing) == 0

"""Dropout by bits: the distribution of torch's, its mean, its gradient."""

import pytest
import torch

from xlm.model.dropout import LEVELS, dropout

NUM = 1 << 20


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rate", [0.01, 0.1, 0.5, 0.9])
def test_the_share_that_goes_and_the_scale_of_the_others(rate, dtype):
    torch.manual_seed(0)
    x = torch.ones(NUM + 3, dtype=dtype)
    found = dropout(x, rate)
    kept = found != 0
    error = 4.5 * (rate * (1 - rate) / NUM) ** 0.5 + 0.5 / LEVELS
    assert abs(float((~kept).double().mean()) - rate) < error
    exact = LEVELS / (LEVELS - round(rate * LEVELS))
    assert (found[kept] == torch.tensor(exact, dtype=torch.float64).to(dtype)).all()
    assert found.dtype == dtype


def test_all_four_decisions_of_a_word_are_alike_and_independent():
    """Correlations of neighbors within a word, between words, and with a fresh draw."""
    torch.manual_seed(1)
    kept = (dropout(torch.ones(NUM), 0.3) != 0).double()
    by_place = kept.view(-1, 4).mean(0)
    assert (by_place - 0.7).abs().max() < 4.5 * (0.21 / (NUM / 4)) ** 0.5
    centered = (kept - 0.7) / 0.21**0.5
    for distance in (1, 2, 3, 4, 5, 64):
        correlation = float((centered[distance:] * centered[:-distance]).mean())
        assert abs(correlation) < 4.5 / NUM**0.5, distance
    again = ((dropout(torch.ones(NUM), 0.3) != 0).double() - 0.7) / 0.21**0.5
    assert abs(float((centered * again).mean())) < 4.5 / NUM**0.5


def test_the_gradient_goes_where_the_values_went():
    torch.manual_seed(0)
    x = torch.randn(7, 5, 3, dtype=torch.float64, requires_grad=True)
    found = dropout(x, 0.4)
    found.sum().backward()
    assert torch.equal(x.grad * x.detach(), found.detach())


def test_equal_seeds_draw_alike_and_evaluation_draws_nothing():
    x = torch.randn(11, 3)
    torch.manual_seed(3)
    first = dropout(x, 0.2)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x, 0.2))
    state = torch.get_rng_state()
    assert dropout(x, 0.2, training=False) is x and dropout(x, 0.0) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_rates_with_few_levels_are_torchs():
    torch.manual_seed(0)
    expected = torch.nn.functional.dropout(torch.ones(1000), 0.001)
    torch.manual_seed(0)
    assert torch.equal(dropout(torch.ones(1000), 0.001), expected)
    assert torch.equal(dropout(torch.ones(5), 1.0), torch.zeros(5))

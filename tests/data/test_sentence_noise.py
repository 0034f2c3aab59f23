"""The noise of sentences against its bounds, closed forms, and permutations sorted one by one."""

from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from xlm.data.sentence_noise import SentenceNoise
from xlm.errors import ConfigError
from xlm.rng import Random

MASK = 5
SEEDS = [0, 1, 2]


def noisy(sentences, seed=0, **amounts):
    noise = SentenceNoise(**{"shuffle": 0, "drop": 0, "blank": 0, **amounts})
    return noise.apply(sentences, MASK, Random(seed, "noise"))


def ascending(*lengths):
    """Sentences whose tokens say where they were."""
    return [100 + np.arange(length) for length in lengths]


LENGTHS = st.lists(st.integers(0, 30), max_size=8)


# -- shuffle


@settings(max_examples=200, deadline=None)
@given(LENGTHS, st.floats(1.001, 12), st.integers(0, 2**32))
def test_no_token_moves_k_places(lengths, k, seed):
    sentences = ascending(*lengths)
    found = noisy(sentences, seed, shuffle=k)
    assert len(found) == len(lengths)
    for before, after in zip(sentences, found, strict=True):
        assert sorted(after.tolist()) == before.tolist()
        places = np.arange(len(before))
        moved = np.abs(after - 100 - places)
        assert (moved < k).all()
        # Nor does one pass another that was k or more behind it.
        origin = after - 100
        for left, right in combinations(origin.tolist(), 2):
            assert left < right + k


def test_with_whole_k_some_tokens_move_one_place_less():
    """For the paper's k = 3 these are two places: U[0, k) is below k."""
    for k in (2, 3, 5):
        (found,) = noisy(ascending(20000), shuffle=k)
        moved = found - 100 - np.arange(20000)
        assert moved.max() == k - 1 and moved.min() == 1 - k


def test_draws_next_to_one_do_not_let_a_token_pass_k_places(monkeypatch):
    """U[0, k) may round to k in the sum: the sort is stable, and equal scores keep their order."""
    highest = 1 - 2.0**-53
    length = 3000
    for shift in range(4):
        uniform = np.where(np.arange(length) % 4 == shift, highest, 0.0)
        monkeypatch.setattr(
            Random, "uniform", lambda self, num, own=uniform: np.resize(own, num)[:num]
        )
        (found,) = noisy(ascending(length), shuffle=3.0)
        assert np.abs(found - 100 - np.arange(length)).max() == 2


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("k", [1.5, 3.0])
def test_two_tokens_change_places_as_often_as_they_should(k, seed):
    """P(U0 > 1 + U1) for uniforms on [0, k): a triangle of the square, (1 - 1/k)^2 / 2."""
    found = noisy(ascending(*[2] * 40000), seed, shuffle=k)
    num = sum(int(row[0] == 101) for row in found)
    assert stats.binomtest(num, 40000, (1 - 1 / k) ** 2 / 2).pvalue > 0.001


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("length", "k"), [(3, 3.0), (4, 2.5), (5, 3.0)])
def test_orders_of_short_sentences_are_those_of_scores_sorted_one_by_one(length, k, seed):
    num = 60000
    random = np.random.default_rng(seed + 10)
    expected = Counter(
        tuple(sorted(range(length), key=row.__getitem__))
        for row in (np.arange(length) + random.uniform(0, k, (num, length))).tolist()
    )
    found = Counter(
        tuple(row.tolist()) for row in noisy([np.arange(length)] * num, seed, shuffle=k)
    )
    orders = [order for order in permutations(range(length)) if expected[order] + found[order] > 20]
    assert len(orders) > 4
    table = [[counts[order] for order in orders] for counts in (expected, found)]
    assert stats.chi2_contingency(table).pvalue > 0.001


# -- drop and blank


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rate", [0.1, 0.35])
def test_the_rates_of_dropping_and_hiding(rate, seed):
    sentences = ascending(*[50] * 2000)
    dropped = 100000 - sum(len(row) for row in noisy(sentences, seed, drop=rate))
    assert stats.binomtest(dropped, 100000, rate).pvalue > 0.001
    hidden = sum(int((row == MASK).sum()) for row in noisy(sentences, seed, blank=rate))
    assert stats.binomtest(hidden, 100000, rate).pvalue > 0.001
    both = noisy(sentences, seed, shuffle=3, drop=rate, blank=rate)
    left = sum(len(row) for row in both)
    hidden = sum(int((row == MASK).sum()) for row in both)
    assert stats.binomtest(hidden, left, rate).pvalue > 0.001


@pytest.mark.parametrize("seed", SEEDS)
def test_rates_are_alike_wherever_a_token_stands(seed):
    """Each place is as likely to go and to be hidden as any other: a test of homogeneity."""
    sentences = ascending(*[8] * 20000)
    left = np.bincount(np.concatenate(noisy(sentences, seed, drop=0.25)) - 100, minlength=8)
    hidden = (np.stack(noisy(sentences, seed, blank=0.25)) == MASK).sum(axis=0)
    for counts in (left, hidden):
        assert stats.chi2_contingency([counts, 20000 - counts]).pvalue > 0.001


@pytest.mark.parametrize("seed", SEEDS)
def test_which_tokens_of_a_short_sentence_are_left(seed):
    """Each subset by its probability; the empty one's goes to the three singles alike."""
    num, rate = 40000, 0.6
    found = Counter(tuple(row.tolist()) for row in noisy([np.arange(3)] * num, seed, drop=rate))
    expected = {
        left: (1 - rate) ** size * rate ** (3 - size) + (rate**3 / 3 if size == 1 else 0)
        for size in (1, 2, 3)
        for left in combinations(range(3), size)
    }
    assert set(found) == set(expected)
    observed = [found[left] for left in expected]
    assert stats.chisquare(observed, num * np.array(list(expected.values()))).pvalue > 0.001


@settings(max_examples=100, deadline=None)
@given(LENGTHS, st.floats(0, 0.999), st.floats(0, 0.999), st.integers(0, 2**32))
def test_what_is_left_keeps_its_order_and_is_never_nothing(lengths, drop, blank, seed):
    sentences = ascending(*lengths)
    given_before = [row.copy() for row in sentences]
    found = noisy(sentences, seed, drop=drop, blank=blank)
    for before, after in zip(sentences, found, strict=True):
        assert min(1, len(before)) <= len(after) <= len(before)
        seen = after[after != MASK].tolist()
        assert seen == sorted(set(seen)) and set(seen) <= set(before.tolist())
    assert all((a == b).all() for a, b in zip(sentences, given_before, strict=True))


# -- all


def test_no_noise_is_none():
    sentences = ascending(4, 0, 1, 7)
    for before, after in zip(sentences, noisy(sentences), strict=True):
        assert after.dtype == np.int64 and after.tolist() == before.tolist()
    assert noisy([]) == []


def test_one_kind_of_noise_does_not_change_what_the_others_do():
    sentences = ascending(9, 14, 3)
    shuffled = noisy(sentences, shuffle=3)
    moved_and_hidden = noisy(sentences, shuffle=3, blank=0.4)
    for left, right in zip(shuffled, moved_and_hidden, strict=True):
        assert ((left == right) | (right == MASK)).all()
    kept = noisy(sentences, drop=0.4)
    kept_and_hidden = noisy(sentences, drop=0.4, blank=0.4)
    assert [len(row) for row in kept] == [len(row) for row in kept_and_hidden]
    assert any((row == MASK).any() for row in kept_and_hidden)


def test_the_same_address_makes_the_same_noise():
    amounts = {"shuffle": 3, "drop": 0.2, "blank": 0.2}
    sentences = ascending(30, 20)
    once, again, other = (noisy(sentences, seed, **amounts) for seed in (0, 0, 1))
    assert [row.tolist() for row in once] == [row.tolist() for row in again]
    assert [row.tolist() for row in once] != [row.tolist() for row in other]


@pytest.mark.parametrize("amounts", [{"shuffle": 1.0}, {"shuffle": -3}, {"shuffle": np.inf}])
def test_a_shuffle_that_does_nothing_or_everything_is_refused(amounts):
    with pytest.raises(ConfigError, match=r"shuffle must be 0 \(off\) or above 1"):
        noisy([], **amounts)


@pytest.mark.parametrize("name", ["drop", "blank"])
@pytest.mark.parametrize("rate", [-0.1, 1.0, np.nan])
def test_rates_that_are_none_are_refused(name, rate):
    with pytest.raises(ConfigError, match=rf"{name} must be in \[0, 1\): found"):
        noisy([], **{name: rate})

"""Addressed randomness, pinned: what is drawn at an address must never change."""

import hashlib
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from xlm.rng import BlockedPermutation, Permutation, Random, key

SEEDS = [0, 1, 2]


def test_a_key_is_the_first_8_bytes_of_the_sha_256_of_its_parts():
    assert key(0, "mlm/ne", 3, 17) == int(hashlib.sha256(b'[0,"mlm/ne",3,17]').hexdigest()[:16], 16)
    assert key() == int(hashlib.sha256(b"[]").hexdigest()[:16], 16)
    assert key("ने") == int(hashlib.sha256(rb'["\u0928\u0947"]').hexdigest()[:16], 16)


def test_known_answers():
    assert key(0, "plan", 0) == 0xA5B7BAD7A4DFEF34
    assert Random(0, "plan", 0).words(2).tolist() == [18153828003616389729, 12363224040527174462]
    assert Random(0, "plan", 0).integers(8, 1000).tolist() == [
        984,
        670,
        41,
        270,
        745,
        587,
        296,
        252,
    ]
    assert Permutation(10, 0, "mlm/en", 0)(np.arange(10)).tolist() == [3, 0, 6, 7, 4, 9, 1, 2, 5, 8]


def test_parts_do_not_run_into_each_other():
    addresses = [(1, 23), (12, 3), ("1", 23), ("1,23",), (123,), (1, "23"), (1, 23, "")]
    assert len({key(*address) for address in addresses}) == len(addresses)


def test_words_are_philox_s_raw_words():
    expected = np.random.Philox(key=key(5, "x")).random_raw(100)
    random = Random(5, "x")
    drawn = [random.words(1), random.words(60), random.words(0), random.words(39)]
    assert np.concatenate(drawn).tolist() == expected.tolist()


def test_uniforms_come_from_the_upper_53_bits():
    words = Random(1, "u").words(1000)
    expected = [int(word) // 2**11 / 2**53 for word in words]
    assert Random(1, "u").uniform(1000).tolist() == expected
    assert Random(1, "u").integers(1000, 7).tolist() == [int(u * 7) for u in expected]
    assert Random(1, "u").exponential(1000) == pytest.approx([-math.log1p(-u) for u in expected])


@pytest.mark.parametrize("seed", SEEDS)
def test_draws_follow_their_distributions(seed):
    uniform = Random(seed, "uniform").uniform(20_000)
    assert 0 <= uniform.min() and uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 0.001
    assert stats.kstest(Random(seed, "e").exponential(20_000), "expon").pvalue > 0.001
    whole = np.bincount(Random(seed, "i").integers(20_000, 13), minlength=13)
    assert len(whole) == 13 and stats.chisquare(whole).pvalue > 0.001


class AlwaysZero(Random):
    """The least number that can be drawn, which no test would see by chance."""

    def uniform(self, num):
        return np.zeros(num)


@pytest.mark.parametrize("seed", SEEDS)
def test_choice_goes_by_the_probabilities_and_leaves_out_those_of_zero(seed):
    probabilities = np.array([0.0, 0.5, 0.0, 0.2, 0.3, 0.0])
    drawn = np.bincount(Random(seed, "c").choice(probabilities, 20_000), minlength=6)
    assert drawn[probabilities == 0].sum() == 0
    assert AlwaysZero(seed).choice(probabilities, 3).tolist() == [1, 1, 1]
    there = probabilities > 0
    assert stats.chisquare(drawn[there], probabilities[there] * 20_000).pvalue > 0.001


@pytest.mark.parametrize("size", [*range(1, 201), 4095, 4096, 4097, 100_003])
def test_a_permutation_is_one(size):
    images = Permutation(size, 3, "x")(np.arange(size))
    assert np.array_equal(np.sort(images), np.arange(size))


def test_a_permutation_answers_at_any_position():
    whole = Permutation(1000, 1, "x")(np.arange(1000))
    at = np.array([999, 0, 500, 500])
    assert Permutation(1000, 1, "x")(at).tolist() == whole[at].tolist()
    assert Permutation(1000, 1, "x")(np.zeros(0, dtype=np.int64)).tolist() == []
    large = Permutation(10**13, 1, "x")(np.array([0, 10**13 - 1, 123456789]))
    assert len(set(large.tolist())) == 3 and 0 <= large.min() and large.max() < 10**13
    with pytest.raises(IndexError, match="position 1000 is outside of a permutation of 1000"):
        Permutation(1000, 1, "x")(np.array([1000]))


@pytest.mark.parametrize("salt", SEEDS)
def test_no_image_is_preferred(salt):
    """Of position 0 over many addresses, and of all positions at once: every order as often."""
    first = [int(Permutation(23, salt, seed)(np.array([0]))[0]) for seed in range(900)]
    assert stats.chisquare(np.bincount(first, minlength=23)).pvalue > 0.001
    orders = dict.fromkeys(itertools.permutations(range(4)), 0)
    for seed in range(700):
        orders[tuple(Permutation(4, salt, "order", seed)(np.arange(4)).tolist())] += 1
    assert stats.chisquare(list(orders.values())).pvalue > 0.001


@pytest.mark.parametrize("size", [64, 100, 1000])
def test_neighbors_are_torn_apart(size):
    """The step from one image to the next is as good as uniform: nothing of the order is left."""
    steps = np.zeros(size, dtype=np.int64)
    for seed in range(60_000 // size):
        images = Permutation(size, "steps", seed)(np.arange(size))
        steps += np.bincount(np.diff(images) % size, minlength=size)
    assert steps[0] == 0  # a step of 0 would be the same image twice
    assert stats.chisquare(steps[1:]).pvalue > 0.001


def test_a_permutation_in_blocks_is_the_same() -> None:
    """Around the borders of blocks, in any order, with blocks that are forgotten meanwhile."""
    size = 3 * BlockedPermutation.BLOCK + 7
    made = BlockedPermutation(size, 3, "mlm/en", "order")
    places = np.array([0, 4095, 4096, 4097, 8191, 8192, size - 1, 5, 4096])
    for epoch in (0, 5, 0, 2, 1, 0):
        expected = Permutation(size, 3, "mlm/en", "order", epoch)(places)
        assert made(epoch, places).tolist() == expected.tolist()
        assert made(epoch, places[:0]).tolist() == []
    assert len(made._blocks) <= BlockedPermutation.MOST_KEPT

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tests.data.fakes import WordTokenizer
from xlm.data.masking import (
    choose_targets,
    frequency_weights,
    partition_cells,
    replace_targets,
)
from xlm.errors import ConfigError
from xlm.rng import Random

TOKENIZER = WordTokenizer()
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "masks.json").read_text())
SEEDS = [0, 1, 2]


@pytest.mark.parametrize("exponent", ["0", "0.3", "0.5", "0.7"])
def test_weights_are_the_original_s(exponent):
    counts = np.array(GOLDEN["counts"])
    found = frequency_weights(counts, float(exponent), WordTokenizer(len(counts)))
    assert np.abs(found - GOLDEN["scores"][exponent]).max() <= 1e-12


def test_special_tokens_have_no_weight_however_often_they_occur():
    counts = np.full(200, 4)
    found = frequency_weights(counts, 0.5, TOKENIZER)
    assert not found[:14].any() and (found[14:] == 0.5).all()
    with pytest.raises(ConfigError, match="exponent"):
        frequency_weights(counts, -1, TOKENIZER)


@given(st.lists(st.sampled_from([0.0, 1e-9, 0.3, 2.0, 1e9]), max_size=30), st.integers(0, 40))
def test_the_number_of_targets_is_exact(scores, num):
    scores = np.array(scores)
    chosen = choose_targets(scores, num, Random(1, "x"))
    assert len(chosen) == min(num, np.count_nonzero(scores))
    assert (np.diff(chosen) > 0).all()
    assert (scores[chosen] > 0).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_first_target_goes_by_one_over_root_frequency(seed):
    counts = np.array([0] * 14 + [1, 2, 5, 30, 100, 1000, 20000] + [0] * 179)
    weights = frequency_weights(counts, 0.5, TOKENIZER)
    row = np.array([1, 14, 15, 16, 17, 18, 19, 20, 15, 1])
    random = Random(seed, "first")
    first = Counter(int(choose_targets(weights[row], 1, random)[0]) for _ in range(10**5))
    expected = np.array([1 / np.sqrt(counts[token]) for token in row if token != 1])
    observed = [first[cell] for cell, token in enumerate(row) if token != 1]
    assert sum(observed) == 10**5
    assert stats.chisquare(observed, expected / expected.sum() * 10**5).pvalue > 0.001


def sequential_draw(scores, num, generator):
    """``num`` cells one after the other, each from what is left."""
    left = list(range(len(scores)))
    chosen = []
    for _ in range(num):
        steps = np.cumsum(scores[left])
        chosen.append(left.pop(int(np.searchsorted(steps, generator.random() * steps[-1]))))
    return chosen


@pytest.mark.parametrize("seed", SEEDS)
def test_frequency_classes_are_chosen_as_by_a_sequential_draw(seed):
    # Four classes of very unequal weight, so that drawing without replacement matters.
    classes = np.repeat([0, 1, 2, 3], [20, 10, 6, 4])
    scores = np.array([0.01, 0.1, 0.5, 2.0])[classes]
    generator, random = np.random.default_rng(seed), Random(seed, "classes")
    draws = (
        [choose_targets(scores, 8, random) for _ in range(3000)],
        [sequential_draw(scores, 8, generator) for _ in range(3000)],
    )
    for group in range(4):
        # How often 0, 1, 2, ... of the eight are of this class: draws are independent, cells not.
        per_draw = [[int((classes[cells] == group).sum()) for cells in sample] for sample in draws]
        table = np.array([np.bincount(numbers, minlength=9) for numbers in per_draw])
        common = table[:, table.sum(0) >= 10]
        assert stats.chi2_contingency(common).pvalue > 0.001


@pytest.mark.parametrize("name", ["stream_en", "sent_hi", "tlm_en_hi"])
def test_cells_are_chosen_as_often_as_by_the_original(name):
    golden = GOLDEN["draws"][name]
    scores = np.array(golden["cell_scores"])
    # The original draws with these weights over all cells, then takes back row 0.
    num = int(np.ceil(0.15 * scores.size))
    random, times = Random(0, name), np.zeros(scores.size)
    for _ in range(4000):
        times[choose_targets(scores.ravel(), num, random)] += 1
    times = times.reshape(scores.shape)
    expected = np.array(golden["times_drawn"])
    cells = (expected + times > 20) & (expected > 0)
    table = np.array([times[cells], expected[cells]])
    variance = (table * (1 - table / 4000)).sum(0)
    z = (table[0] - table[1]) / np.sqrt(np.maximum(variance, 1))
    assert np.abs(z).max() < 4.5
    assert np.abs(z.mean()) < 1


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("from_all", [False, True])
def test_eighty_ten_ten(seed, from_all):
    size = 10**6
    tokens = np.full(size + 1000, 50)
    cells = np.arange(size) + 500
    found = replace_targets(tokens, cells, TOKENIZER, Random(seed, "x"), from_all=from_all)
    assert (tokens == 50).all()
    assert (found[:500] == 50).all() and (found[-500:] == 50).all()
    counts = np.bincount(found[cells], minlength=200)
    ordinary = np.arange(200) >= (0 if from_all else 14)
    expected = 0.1 * size * ordinary / ordinary.sum()
    expected[TOKENIZER.mask_id] += 0.8 * size
    expected[50] += 0.1 * size
    assert not counts[~ordinary & (expected == 0)].any()
    seen = expected > 0
    assert stats.chisquare(counts[seen], expected[seen]).pvalue > 0.001


def test_shares_of_replacement():
    tokens, cells = np.arange(20, 60).reshape(4, 10), np.arange(40)

    def replaced(**shares):
        return replace_targets(tokens, cells, TOKENIZER, Random(0, "x"), **shares)

    assert (replaced(mask=1, keep=0, rand=0) == TOKENIZER.mask_id).all()
    assert (replaced(mask=0, keep=1, rand=0) == tokens).all()
    assert replaced(mask=0, keep=0, rand=1).min() >= 14
    assert replaced(mask=0.7, keep=0.2, rand=0.1).shape == (4, 10)
    for shares in ({"mask": 0.5}, {"mask": 1.2, "keep": -0.3, "rand": 0.1}):
        with pytest.raises(ConfigError, match="shares that sum to 1"):
            replaced(**shares)


@settings(max_examples=50)
@given(st.sets(st.integers(0, 1000), max_size=60), st.integers(1, 9))
def test_folds_cover_every_cell_once(cells, num_folds):
    cells = np.array(sorted(cells), dtype=np.int64)
    folds = partition_cells(cells, num_folds, Random(2, "fold"))
    assert len(folds) == num_folds
    sizes = [len(fold) for fold in folds]
    assert max(sizes) - min(sizes) <= 1
    assert np.sort(np.concatenate(folds)).tolist() == cells.tolist()
    assert all((np.diff(fold) > 0).all() for fold in folds)


@pytest.mark.parametrize("seed", SEEDS)
def test_folds_are_drawn_at_random(seed):
    random, first = Random(seed, "folds"), np.zeros((10, 3))
    for _ in range(5000):
        for fold, cells in enumerate(partition_cells(np.arange(10), 3, random)):
            first[cells, fold] += 1
    expected = np.full((10, 1), 5000) * [[0.4, 0.3, 0.3]]
    # Ten cells share the folds' sizes, so each column has one degree of freedom less.
    chi = ((first - expected) ** 2 / expected).sum() * 9 / 10
    assert stats.chi2.sf(chi, 18) > 0.001


def test_the_same_address_draws_the_same():
    scores = np.linspace(0.1, 1, 50)
    draws = [choose_targets(scores, 7, Random(seed, "mlm/en", 3)).tolist() for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]

"""The best tree against every tree there is."""

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlm.errors import ConfigError, DataError, TrainingError
from xlm.tasks.spanning_tree import maximum_tree


def is_tree(heads):
    for word in range(1, len(heads) + 1):
        node, steps = word, 0
        while node:
            node, steps = heads[node - 1], steps + 1
            if steps > len(heads):
                return False
    return True


def all_trees(num_words):
    options = itertools.product(range(num_words + 1), repeat=num_words)
    return np.array([heads for heads in options if is_tree(heads)], dtype=np.int64)


TREES = {num: all_trees(num) for num in range(1, 6)}


def total(scores, heads):
    return scores[np.arange(len(heads)), heads].sum()


def test_there_are_as_many_trees_as_cayley_says():
    assert [len(trees) for trees in TREES.values()] == [(n + 1) ** (n - 1) for n in TREES]


def best_total(scores, single_root):
    trees = TREES.get(len(scores))
    if trees is None:
        trees = TREES.setdefault(len(scores), all_trees(len(scores)))
    if single_root:
        trees = trees[(trees == 0).sum(1) == 1]
    return scores[np.arange(len(scores)), trees].sum(1).max()


@given(
    num=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([2, 4, 1000]),
    single_root=st.booleans(),
)
@settings(max_examples=400, deadline=None)
def test_no_tree_is_better(num, seed, levels, single_root):
    # few levels: many ties and many cycles, integers so that sums are exact
    scores = np.random.default_rng(seed).integers(-levels, levels, (num, num + 1)).astype(float)
    heads = maximum_tree(scores, single_root=single_root)
    assert is_tree(heads) and heads.dtype == np.int64
    assert not single_root or (heads == 0).sum() == 1
    assert total(scores, heads) == best_total(scores, single_root)


@pytest.mark.parametrize("single_root", [True, False])
def test_no_tree_of_six_words_is_better(single_root):
    random = np.random.default_rng(1)
    for _ in range(40):
        scores = random.normal(size=(6, 7))
        # roots that pull, so that a single root costs something
        scores[:, 0] += random.choice([0, 2])
        heads = maximum_tree(scores, single_root=single_root)
        assert is_tree(heads)
        assert total(scores, heads) == pytest.approx(best_total(scores, single_root), abs=1e-12)


@given(num=st.integers(1, 5), seed=st.integers(0, 2**32 - 1), single_root=st.booleans())
@settings(max_examples=200, deadline=None)
def test_forbidden_arcs(num, seed, single_root):
    random = np.random.default_rng(seed)
    scores = random.integers(-9, 9, (num, num + 1)).astype(float)
    scores[random.random(scores.shape) < 0.5] = -np.inf
    best = best_total(scores, single_root)
    if np.isneginf(best):
        with pytest.raises(DataError, match="no tree"):
            maximum_tree(scores, single_root=single_root)
    else:
        assert total(scores, maximum_tree(scores, single_root=single_root)) == best


def test_a_single_root_costs_no_digits():
    # the two trees differ by less than a large constant on top would leave of it
    scores = np.array([[1e6, 0, 0.0], [1e6, 1e-9, 0]])
    assert maximum_tree(scores).tolist() == [0, 1]
    assert maximum_tree(scores, single_root=False).tolist() == [0, 0]


def test_a_word_is_never_its_own_head_and_no_words_have_no_heads():
    scores = np.zeros((3, 4))
    scores[np.arange(3), np.arange(1, 4)] = 100
    assert is_tree(maximum_tree(scores))
    assert maximum_tree(np.zeros((0, 1))).tolist() == []


def test_140_words_take_less_than_50_ms():
    scores = np.random.default_rng(0).normal(size=(140, 141)).astype(np.float32)
    # cycle in cycle in cycle: every word's best head is the next, and the last one's the first
    nested = np.zeros((140, 141))
    nested[np.arange(139), np.arange(2, 141)] = 20 - 0.01 * np.arange(139)
    nested[np.arange(1, 140), np.arange(1, 140)] = 25
    for case in (scores, nested):
        times = []
        for _ in range(5):
            start = time.process_time()
            assert is_tree(maximum_tree(case))
            times.append(time.process_time() - start)
        assert min(times) < 0.05


def test_wrong_scores_are_refused():
    with pytest.raises(ConfigError, match=r"\[3, 3\]: expected \[n, n \+ 1\]"):
        maximum_tree(np.zeros((3, 3)))
    for value in (np.nan, np.inf):
        with pytest.raises(TrainingError, match="NaN or"):
            maximum_tree(np.full((1, 2), value))

"""Retrieval and mining against loops over all pairs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tests.analysis.models import lines, tiny, tokenizer
from xlm.analysis.neighbors import centered, unit
from xlm.analysis.retrieval import (
    Mined,
    accuracy,
    best_layer,
    distinct,
    lexical,
    mine,
    mined_by_row,
    mined_f1,
    mined_f1_difference,
    piece_vectors,
    retrieval,
    retrieval_by_layer,
    score_mined,
    scorings,
)
from xlm.analysis.states import sentence_states
from xlm.errors import DataError


def planted(num: int = 40, noise: float = 0.6, seed: int = 0):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(num, 8)) + 1.0  # a common mean: denominators above 0
    return x.astype(np.float32), (x + noise * draw.normal(size=x.shape)).astype(np.float32)


def scores_by_hand(name: str, x, y):
    """Every pair's score by its definition, in float64."""
    if name.startswith("centered"):
        x, y = centered(x), centered(y)
    one, two = unit(x).astype(np.float64), unit(y).astype(np.float64)
    cos = one @ two.T
    k = 10 if name == "CSLS" else 4
    of_x = np.sort(cos, axis=1)[:, -k:].mean(1)[:, None]
    of_y = np.sort(cos, axis=0)[-k:].mean(0)[None, :]
    if name == "CSLS":
        return 2 * cos - of_x - of_y
    if name.endswith("distance margin"):
        return cos - (of_x + of_y) / 2
    if name == "ratio margin":
        return cos / ((of_x + of_y) / 2)
    return cos


@pytest.mark.parametrize(
    "name", ["raw", "centered", "CSLS", "distance margin", "centered distance margin",
             "ratio margin"],
)  # fmt: skip
def test_figures_are_those_of_all_pairs(name: str) -> None:
    x, y = planted()
    found, scores = retrieval(x, y), scores_by_hand(name, x, y)
    own = np.diag(scores)
    forth = 1 + (scores > own[:, None]).sum(1)
    back = 1 + (scores > own[None, :]).sum(0)
    for cut in (1, 5, 10):
        hits = ((forth <= cut).mean(), (back <= cut).mean())
        assert found[f"{name} @{cut}, forth"].value == pytest.approx(hits[0])
        assert found[f"{name} @{cut}, back"].value == pytest.approx(hits[1])
        assert found[f"{name} @{cut}"].value == pytest.approx(sum(hits) / 2)
    ranks = ((1 / forth).mean() + (1 / back).mean()) / 2
    assert found[f"{name} reciprocal rank"].value == pytest.approx(ranks)


@pytest.mark.parametrize("seed", range(5))
def test_raw_accuracy_is_that_of_xtremes_rule(seed: int) -> None:
    """XTREME's Tatoeba: rows of length 1, the largest inner product of each source's, counted."""
    x, y = planted(num=60, noise=1.0, seed=seed)
    lengths = [np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y)]
    predicted = ((x / lengths[0]) @ (y / lengths[1]).T).argmax(axis=1)
    expected = sum(int(own == at) for at, own in enumerate(predicted)) / len(x)
    assert 0 < expected < 1
    assert retrieval(x, y)["raw @1, forth"].value == pytest.approx(expected, abs=1e-12)


def test_csls_is_twice_the_distance_margin_at_equal_k() -> None:
    x, y = planted()
    one, two, forth, _ = scorings(x, y)["CSLS"]
    cos = torch.from_numpy(one @ two.T)
    k10 = forth(cos, slice(0, len(x)))
    cosines = np.sort(one @ two.T, axis=1)[:, -10:].mean(1), np.sort(one @ two.T, 0)[-10:].mean(0)
    margin = cos.numpy() - (cosines[0][:, None] + cosines[1][None, :]) / 2
    np.testing.assert_allclose(k10.numpy(), 2 * margin, atol=1e-5)


def test_a_ratio_without_a_positive_denominator_is_no_figure() -> None:
    draw = np.random.default_rng(0)
    x = np.concatenate([draw.normal(size=(6, 3)) + 5, -draw.normal(size=(6, 3)) - 5])
    y = np.abs(draw.normal(size=(12, 3))) + 5
    cos = unit(x) @ unit(y).T
    sums = np.sort(cos, 1)[:, -4:].mean(1)[:, None] + np.sort(cos, 0)[-4:].mean(0)[None, :]
    own = retrieval(x, y)["ratio margin @1"]
    assert own.value is None
    assert own.reason == f"{(sums <= 0).sum()} of 144 denominators are 0 or less"


def test_nulls_of_shares_are_chance() -> None:
    draw = np.random.default_rng(1)
    x, y = draw.normal(size=(2, 60, 5))
    own = retrieval(x, y)["raw @5"]
    assert own.nulls["chance"].value == 5 / 60
    assert own.nulls["permuted"].value == pytest.approx(5 / 60, abs=0.01)
    assert own.nulls["permuted"].p > 0.05
    x, y = planted()
    assert retrieval(x, y)["centered @1"].nulls["permuted"].p == 1 / 201


def test_centering_takes_away_what_a_language_shares() -> None:
    x, y = planted(noise=0.1)
    y = y + 30 * np.eye(8, dtype=np.float32)[0]
    assert accuracy(x, y, center=False) < 0.3 and accuracy(x, y) > 0.9


def test_a_tie_shares_the_hit() -> None:
    same = np.ones((4, 3))
    assert accuracy(same, same, center=False) == pytest.approx(0.25)
    assert retrieval(same, same)["raw @1"].value == pytest.approx(0.25)


def test_layers_of_a_model_are_measured_one_by_one() -> None:
    model, pairs = tiny(), distinct(lines("en", 8), lines("hi", 8))
    found = retrieval_by_layer(model, pairs, ("en", "hi"))
    x = sentence_states(model, lines("en", 8), "en")
    y = sentence_states(model, lines("hi", 8), "hi")
    assert len(found) == 3
    for layer, own in enumerate(found):
        assert own == retrieval(x[layer], y[layer])


def test_a_layer_is_chosen_on_even_rows_and_reported_on_odd_ones() -> None:
    right = np.eye(8)
    wrong = np.eye(8)[[2, 3, 0, 1, 6, 7, 4, 5]]  # even rows exchange places, and so do odd ones
    half = np.eye(8)[[0, 3, 2, 1, 4, 7, 6, 5]]  # even rows are right, odd ones exchanged
    layer, own = best_layer([right, right], [wrong, half])
    assert (layer, own.value, own.num) == (1, 0.0, 4)
    assert best_layer([right, right], [wrong, right])[1].value == 1.0


def test_rows_of_equal_text_are_one() -> None:
    first = ["one", "two", "one", "", "three", "four", "five"]
    second = ["eins", "zwei", "uno", "x", "zwei", "vier", "fünf "]
    own = distinct(first, second)
    assert own.first == ["one", "two", "four", "five"] and own.second[-1] == "fünf"
    assert (own.num_repeated, own.num_empty) == (2, 1)
    assert distinct(first + ["six"], second + ["sechs"], most=4).first[-1] == "five"


def test_a_pair_that_is_left_out_takes_no_other_with_it() -> None:
    empty = distinct(["a", "a", "c", "d", "e", "f"], ["", "x", "y", "z", "v", "w"])
    assert (empty.first[0], empty.second[0], empty.num_empty) == ("a", "x", 1)
    repeated = distinct(["a", "a", "b", "d", "e"], ["x", "y", "y", "z", "v"])
    assert (repeated.first, repeated.num_repeated) == (["a", "b", "d", "e"], 1)


def test_sides_must_be_of_equal_length_and_of_four_rows() -> None:
    with pytest.raises(DataError, match="3 and 2 lines: expected two sides"):
        distinct(["a"] * 3, ["b"] * 2)
    with pytest.raises(
        DataError, match="only 1 of 3 lines are different pairs: expected at least 4"
    ):
        distinct(["a"] * 3, ["b"] * 3)
    with pytest.raises(DataError, match="3 rows on one side and 3"):
        retrieval(np.eye(3), np.eye(3))


def test_pieces_weigh_by_their_rarity() -> None:
    first, second = ["a b", "a", "a"], ["a", "a", "a"]
    one, two = (own.dense() for own in piece_vectors(tokenizer(), first, second))
    rare = set(tokenizer().encode("a b")) - set(tokenizer().encode("a"))
    assert one[0].sum() == pytest.approx(math.log(6) * len(rare), rel=1e-5)
    assert not two.any()  # in every line: ln(6 / 6)
    nulls = lexical(tokenizer(), ["water", "air", "fire", "soil"], ["water", "air", "fire", "soil"])
    assert nulls["@1"].value == 1.0


def test_pairs_are_mined_each_row_once() -> None:
    x, y = planted(30, noise=0.05)
    order = np.random.default_rng(5).permutation(30)
    mined = mine(x, y[order])
    gold = {int(row): at for at, row in enumerate(order)}
    assert len(set(mined.first)) == len(mined.first) == len(set(mined.second))
    assert (np.diff(mined.scores) <= 0).all()
    scores = score_mined(mined, gold)
    assert scores.f1[scores.best] == 1.0


def test_scores_of_mined_pairs_by_hand() -> None:
    mined = Mined(np.array([0, 1, 2, 3]), np.array([0, 9, 2, 8]), np.array([4.0, 3, 3, 1]))
    own = score_mined(mined, {0: 0, 1: 1, 2: 2})
    np.testing.assert_allclose(own.precision, [1, 2 / 3, 2 / 3, 2 / 4])
    np.testing.assert_allclose(own.recall, [1 / 3, 2 / 3, 2 / 3, 2 / 3])
    np.testing.assert_allclose(own.f1, [0.5, 2 / 3, 2 / 3, 4 / 7])
    assert own.best in (1, 2)
    rows = mined_by_row(mined, {0: 0, 1: 1, 2: 2}, 4, own.best)
    assert rows.tolist() == [[1, 1, 1], [1, 0, 1], [1, 1, 1], [0, 0, 0]]
    assert mined_f1(rows.mean(0, keepdims=True))[0] == pytest.approx(2 / 3)


def test_f1_of_two_models_is_compared_on_the_same_sentences() -> None:
    x, y = planted(200, noise=0.4)
    other = planted(200, noise=1.2)[1]
    gold = {at: at for at in range(200)}
    best = [mine(x, own) for own in (y, other)]
    scores = [score_mined(own, gold) for own in best]
    sides = [
        mined_by_row(own, gold, 200, value.best) for own, value in zip(best, scores, strict=True)
    ]
    f1 = [value.f1[value.best] for value in scores]
    own = mined_f1_difference(*sides)
    assert own.value == pytest.approx(f1[0] - f1[1])
    assert own.low is not None and own.high is not None and own.low > 0
    same = mined_f1_difference(sides[0], sides[0])
    assert (same.value, same.low, same.high) == (0, 0, 0)

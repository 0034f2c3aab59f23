"""Class figures against counts by hand and scipy, correlations against scipy."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from xlm.errors import DataError
from xlm.metrics.agreement import (
    class_figures,
    confusion_matrix,
    confusion_scores,
    pearson,
    spearman,
)
from xlm.metrics.scores import Scores

classes = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=30)
numbers = st.lists(
    st.tuples(st.integers(-5, 5), st.floats(-1e3, 1e3, allow_subnormal=False)),
    min_size=3,
    max_size=20,
)


def test_binary_by_hand():
    # 3 true positives, 1 false negative, 2 false positives, 4 true negatives
    gold, predicted = [1] * 4 + [0] * 6, [1, 1, 1, 0, 1, 1, 0, 0, 0, 0]
    figures = class_figures(confusion_scores(gold, predicted), ["no", "yes"])
    assert figures["accuracy"] == 0.7
    assert figures["f1.yes"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 1))
    assert figures["f1.no"] == pytest.approx(2 * 4 / (2 * 4 + 2 + 1))
    assert figures["macro_f1"] == pytest.approx((figures["f1.yes"] + figures["f1.no"]) / 2)
    expected = (3 * 4 - 2 * 1) / np.sqrt((3 + 2) * (3 + 1) * (4 + 2) * (4 + 1))
    assert figures["matthews"] == pytest.approx(expected)
    assert figures["commonest"] == 0.5 and figures["rows"] == 10


@given(classes)
def test_matthews_is_the_correlation_of_indicators(cells):
    """Gorodkin's coefficient: covariances of the one-hot rows, summed over classes."""
    gold, predicted = np.array(cells).T
    one, two = np.eye(3)[gold], np.eye(3)[predicted]
    one, two = one - one.mean(0), two - two.mean(0)
    norm = np.sqrt((one * one).sum() * (two * two).sum())
    expected = (one * two).sum() / norm if norm > 1e-9 else 0.0
    figures = class_figures(confusion_scores(gold.tolist(), predicted.tolist()), ["a", "b", "c"])
    assert figures["matthews"] == pytest.approx(expected, abs=1e-12)
    assert figures["accuracy"] == pytest.approx((gold == predicted).mean())


@given(classes, classes)
def test_confusion_adds(one, two):
    def scores(cells):
        gold, predicted = zip(*cells, strict=True)
        return confusion_scores(gold, predicted)

    added = confusion_matrix(scores(one) + scores(two), 3)
    assert (added == confusion_matrix(scores(one + two), 3)).all()
    assert added.sum() == len(one) + len(two)


def test_absent_labels_have_no_f1_and_collapse_is_seen():
    figures = class_figures(confusion_scores([0, 1, 0, 1], [0, 0, 0, 0]), ["a", "b", "c"])
    assert "f1.c" not in figures and figures["f1.b"] == 0
    assert figures["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert figures["matthews"] == 0 and figures["commonest"] == 1
    assert class_figures(Scores({"nats": 3.0}), ["a", "b"]) == {}


@given(numbers)
def test_correlations_are_scipys(cells):
    one, two = np.array(cells, dtype=float).T
    if np.ptp(one) == 0 or np.ptp(two) == 0:
        assert pearson(one, two) == spearman(one, two) == 0
        return
    assert spearman(one, two) == pytest.approx(scipy.stats.spearmanr(one, two)[0], abs=1e-9)
    if np.ptp(two) > 1e-3:  # scipy itself warns about numbers that hardly vary
        assert pearson(one, two) == pytest.approx(scipy.stats.pearsonr(one, two)[0], abs=1e-9)


def test_correlations_of_extreme_numbers():
    assert pearson([1e200, 2e200, 3e200], [1e-200, 2e-200, 3e-200]) == pytest.approx(1)
    assert pearson([0.1, 0.1, 0.1], [1, 2, 3]) == 0
    assert spearman([1, 10, 100], [3, 2, 1]) == pytest.approx(-1)


def test_wrong_input_is_refused():
    with pytest.raises(DataError, match="1 predictions for 2 rows"):
        confusion_scores([0, 1], [0])
    with pytest.raises(DataError, match="classes from 0 to 1"):
        class_figures(confusion_scores([0], [2]), ["a", "b"])
    for one, two in (([1], [1]), ([1, 2], [1]), ([[1, 2]], [[1, 2]])):
        with pytest.raises(DataError, match="and a prediction for each"):
            pearson(one, two)

"""Links against SimAlign's, scores against nltk's."""

from __future__ import annotations

import numpy as np
import pytest

from xlm.analysis.alignment import (
    Gold,
    cosines,
    diagonal,
    f1_difference,
    link,
    link_counts,
    link_scores,
    word_links,
    wrong_partners,
)
from xlm.errors import ConfigError


def test_links_are_simaligns() -> None:
    package = pytest.importorskip("simalign.simalign", reason="simalign is the reference")
    theirs = package.SentenceAligner
    draw = np.random.default_rng(0)
    for _ in range(1000):
        similar = draw.uniform(-1, 1, size=draw.integers(1, 12, size=2))
        positive = (similar + 1) / 2
        forward, reverse = theirs.get_alignment_matrix(positive)
        expected = {
            "argmax": forward * reverse,
            "itermax": theirs.iter_max(positive),
            "match": theirs.get_max_weight_match(positive),
            "forward": forward,
            "reverse": reverse,
        }
        for method, matrix in expected.items():
            links = set(zip(*map(np.ndarray.tolist, np.nonzero(matrix)), strict=True))
            assert link(similar, method) == links, (method, similar.shape)


def test_links_by_hand() -> None:
    similar = np.array([[0.9, 0.2, 0.1], [0.8, 0.1, 0.3], [0.7, 0.6, 0.0]])
    assert link(similar, "forward") == {(0, 0), (1, 0), (2, 0)}
    assert link(similar, "reverse") == {(0, 0), (2, 1), (1, 2)}
    assert link(similar) == {(0, 0)}
    assert link(similar, "match") == {(0, 0), (1, 2), (2, 1)}
    assert link(similar, "itermax") == {(0, 0), (1, 0), (2, 1)}
    assert link(np.zeros((0, 3))) == frozenset()
    with pytest.raises(ConfigError, match="expected one of argmax"):
        link(similar, "best")  # type: ignore[arg-type]


def test_cosines_are_those_of_rows() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 3, 4))
    expected = x @ y.T / np.outer(np.linalg.norm(x, axis=1), np.linalg.norm(y, axis=1))
    np.testing.assert_allclose(cosines(x, y), expected, atol=1e-6)


def test_words_are_linked_where_a_piece_is() -> None:
    pieces = frozenset({(0, 0), (1, 0), (3, 2)})
    assert word_links(pieces, np.array([0, 0, 1, 2]), np.array([0, 1, 1])) == {(0, 0), (2, 1)}


def test_scores_are_those_of_the_corpus() -> None:
    metrics = pytest.importorskip("nltk.translate.metrics", reason="nltk is the reference")
    from nltk.translate import Alignment  # type: ignore[import-untyped]

    draw = np.random.default_rng(1)
    found, gold = [], []
    for _ in range(1000):
        drawn = [frozenset(map(tuple, draw.integers(0, 6, size=(9, 2)).tolist())) for _ in "abc"]
        found.append(drawn[0])
        gold.append(Gold(drawn[1], drawn[1] | drawn[2]))
        own = link_scores(found[-1:], gold[-1:])["AER"].value
        expected = metrics.alignment_error_rate(
            Alignment(gold[-1].sure), Alignment(found[-1]), Alignment(gold[-1].possible)
        )
        assert own == pytest.approx(expected)
    own = link_scores(found, gold)
    possible = sum(len(a & g.possible) for a, g in zip(found, gold, strict=True))
    sure = sum(len(a & g.sure) for a, g in zip(found, gold, strict=True))
    p, r = possible / sum(map(len, found)), sure / sum(len(g.sure) for g in gold)
    assert own["precision"].value == pytest.approx(p) and own["recall"].value == pytest.approx(r)
    assert own["F1"].value == pytest.approx(2 * p * r / (p + r))
    assert own["AER"].low < own["AER"].value < own["AER"].high


def test_no_links_have_no_precision() -> None:
    own = link_scores([frozenset()], [Gold(frozenset({(0, 0)}), frozenset({(0, 0)}))])
    assert own["precision"].value is None and own["recall"].value == 0 and own["AER"].value == 1


def test_no_right_link_has_an_f1_of_0() -> None:
    """So have the resamples without one: they stay in the interval."""
    gold = [Gold(frozenset({(0, 0)}), frozenset({(0, 0)}))] * 5
    wrong, right = frozenset({(0, 1)}), frozenset({(0, 0)})
    own = link_scores([wrong] * 5, gold)["F1"]
    assert (own.value, own.low, own.high) == (0, 0, 0)
    assert link_scores([wrong] * 4 + [right], gold)["F1"].low == 0  # a third of the resamples
    assert link_scores([wrong], [Gold(frozenset(), frozenset())])["F1"].value is None
    assert link_scores([frozenset()], gold[:1])["F1"].value is None


def test_models_are_compared_on_the_same_resamples_of_sentences() -> None:
    """The interval is that of one bootstrap by hand, in which both models have the same rows."""
    draw = np.random.default_rng(0)
    gold, better, worse = [], [], []
    for size in draw.integers(2, 40, size=60):
        every = frozenset((at, at) for at in range(size))
        found = {at for at in range(size) if draw.random() < draw.random()} | {0}
        wrong = frozenset((at, at + 1) for at in range(size) if at not in found)
        gold.append(Gold(every, every))
        worse.append(frozenset((at, at) for at in found) | wrong)
        better.append(worse[-1] | frozenset((at, at) for at in range(0, size, 9)))
    ours, theirs = link_counts(better, gold), link_counts(worse, gold)
    own = f1_difference(ours, theirs)
    scores = [link_scores(found, gold)["F1"] for found in (better, worse)]
    assert own.value == pytest.approx(scores[0].value - scores[1].value)
    drawn = []
    for rows in draw.integers(60, size=(2000, 60)):
        f1 = []
        for counts in (ours, theirs):
            linked, sure, right, _ = counts[rows].sum(0)
            f1.append(2 * right / (linked + sure))  # P and R have the same numerator here
        drawn.append(f1[0] - f1[1])
    width = np.quantile(drawn, 0.975) - np.quantile(drawn, 0.025)
    assert 0 < own.low < own.value < own.high and own.num == 60
    assert own.high - own.low == pytest.approx(width, rel=0.15)
    assert own.high - own.low < 0.5 * max(score.high - score.low for score in scores)
    same = f1_difference(ours, ours)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    nothing = Gold(frozenset(), frozenset())
    none = link_counts([frozenset()], [nothing])
    assert f1_difference(none, none).value is None


def test_links_of_positions_alone() -> None:
    assert diagonal(4, 4) == {(0, 0), (1, 1), (2, 2), (3, 3)}
    assert diagonal(4, 2) == {(0, 0), (1, 0), (2, 1), (3, 1)}
    assert diagonal(2, 6) == {(0, 0), (1, 3)} and diagonal(0, 3) == frozenset()


def test_wrong_partners_are_others_of_about_the_same_length() -> None:
    sizes = [5, 1, 9, 5, 2]
    partners = wrong_partners(sizes)
    assert sorted(partners) == [0, 1, 2, 3, 4] and all(at != own for at, own in enumerate(partners))
    assert partners == [3, 4, 1, 2, 0]

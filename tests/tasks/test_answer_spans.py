"""Answers by hand from the official scripts' rules, spans and windows against brute force."""

import itertools
import math
import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlm.errors import ConfigError, DataError, TrainingError
from xlm.metrics.scores import Scores
from xlm.tasks.answer_spans import (
    MLQA_LANGUAGES,
    Answer,
    Window,
    answer_figures,
    answer_scores,
    best_answer,
    best_threshold,
    best_windows,
    normalize_answer,
    windows,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Cat, an a.b-c!", "cat abc"),
        ("A\tpan and the man", "pan and man"),
        ("“the” — x", "“ ” — x"),  # ASCII marks only
        ("der Hund.", "der hund"),
        ("The", ""),
        ("l'a", "la"),  # marks go first, articles then
        ("a-the b", "athe b"),
    ],
)
def test_squad_normalization(text, expected):
    assert normalize_answer(text) == expected


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The “cat” — sat", "cat sat"),
        ("es", "La casa de los Reyes, ¿una?", "casa de reyes"),
        ("de", "Der Hund des Mannes; the", "hund mannes the"),
        ("vi", "Những con mèo của tôi", "con mèo tôi"),
        ("hi", "भारत का संविधान।", "भारत का संविधान"),
        ("ar", "الكتاب والقلم", "كتاب و قلم"),
        ("zh", "《红楼梦》是the小说 in 1791年。", "红 楼 梦 是 the 小 说 in 1791 年"),
        ("zh", "ABC公司 Ltd.", "abc 公 司 ltd"),
    ],
)
def test_mlqa_normalization(language, text, expected):
    assert normalize_answer(text, "mlqa", language) == expected


def test_mlqa_knows_seven_languages_and_says_so():
    assert MLQA_LANGUAGES == ("ar", "de", "en", "es", "hi", "vi", "zh")
    with pytest.raises(ConfigError, match="no rules for 'th'.*ar, de, en, es, hi, vi, zh.*squad1"):
        normalize_answer("x", "mlqa", "th")
    with pytest.raises(ConfigError, match="squad1, squad2, mlqa"):
        normalize_answer("x", "squad")


def score(prediction, golds, rules="squad1", language="en"):
    scores = answer_scores(prediction, golds, rules, language)
    return scores["exact"], scores["f1"]


def test_answers_by_hand():
    assert score("the cat", ["Cat!"]) == (1, 1)
    assert score("big cat", ["the cat", "dog"]) == (0, pytest.approx(2 / 3))
    assert score("cat cat dog", ["cat dog dog"]) == (0, pytest.approx(2 * 2 / 6))
    assert score("a", ["b", "x y", "x"]) == (0, 0)
    # English articles go from Spanish too, Spanish ones stay; Chinese without spaces is one token
    assert score("el gato", ["gato"]) == (0, pytest.approx(2 / 3))
    assert score("el gato", ["gato"], "mlqa", "es") == (1, 1)
    assert score("红楼", ["红楼梦"]) == (0, 0)
    assert score("红楼", ["红楼梦"], "mlqa", "zh") == (0, pytest.approx(2 * 2 / 5))


def test_nothing_against_nothing():
    # v1.1: equal, but no common token; v2: equal
    assert score("the", ["a"]) == (1, 0)
    assert score("the", ["a"], "squad2") == (1, 1)
    assert score("", [], "squad2") == (1, 1)
    assert score("cat", [], "squad2") == (0, 0)
    assert score("", ["cat"], "squad2") == (0, 0)
    assert score("", ["the", "cat"], "squad2") == (0, 0)
    with pytest.raises(DataError, match="without a gold answer"):
        answer_scores("cat", [])


def test_figures_add_and_tell_the_kinds_apart():
    scores = Scores()
    for prediction, golds in [("cat", ["cat"]), ("big cat", ["cat"]), ("", []), ("x", [])]:
        scores = scores + answer_scores(prediction, golds, "squad2")
    figures = answer_figures(scores)
    assert figures["exact"] == 2 / 4 and figures["f1"] == pytest.approx((1 + 2 / 3 + 1) / 4)
    assert figures["answerable.f1"] == pytest.approx((1 + 2 / 3) / 2)
    assert figures["unanswerable.exact"] == 1 / 2 and figures["unanswerable.questions"] == 2
    assert answer_figures(Scores()) == {}
    assert "answerable.f1" not in answer_figures(answer_scores("x", ["x"]))


pieces = st.sampled_from(["a", "an", "the", "cat", " ", " ", ".", "x", "é", "的", "B"])
texts = st.lists(pieces, max_size=8).map("".join)


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_squad_against_its_definition(prediction, golds):
    """v1.1's steps one after the other, precision and recall apart."""

    def tokens(text):
        text = text.lower().translate(str.maketrans("", "", string.punctuation))
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    def f1(found, true):
        common = sum(min(found.count(t), true.count(t)) for t in set(found))
        if not common:
            return 0.0
        precision, recall = common / len(found), common / len(true)
        return 2 * precision * recall / (precision + recall)

    found = tokens(prediction)
    exact = max(found == tokens(gold) for gold in golds)
    assert score(prediction, golds) == (
        exact,
        pytest.approx(max(f1(found, tokens(gold)) for gold in golds)),
    )


@given(st.integers(0, 60), st.integers(1, 12), st.data())
def test_windows_cover_every_subword(num, room, data):
    stride = data.draw(st.integers(1, room))
    stretches = windows(num, room, stride)
    covered = Counter(
        place for first, length in stretches for place in range(first, first + length)
    )
    assert set(covered) == set(range(num))
    assert [w.first for w in stretches] == [stride * i for i in range(len(stretches))]
    assert all(w.length == room for w in stretches[:-1]) and stretches[-1].length <= room
    # only the last may hold what another holds whole, and no window is too many
    assert len(stretches) == max(1, math.ceil((num - room) / stride) + 1)


@given(st.integers(0, 40), st.integers(1, 9), st.data())
def test_most_context_by_brute_force(num, room, data):
    stretches = windows(num, room, data.draw(st.integers(1, room)))
    for place, owner in enumerate(best_windows(stretches, num).tolist()):
        contexts = [
            min(place - first, first + length - 1 - place) + 0.01 * length
            if first <= place < first + length
            else -1.0
            for first, length in stretches
        ]
        assert owner == contexts.index(max(contexts))


def test_length_of_the_window_is_a_hundredth_of_context():
    # subword 252: 47 on its left-hand side in the first window, 48 in the second, which is shorter
    first, second = Window(0, 300), Window(204, 150)
    assert best_windows([first, second], 354)[252] == 0  # 47 + 3.0 against 48 + 1.5
    assert best_windows([first, Window(204, 260)], 464)[252] == 1  # 47 + 3.0 against 48 + 2.6


@given(st.integers(1, 14), st.integers(1, 6), st.integers(1, 5), st.booleans(), st.data())
@settings(max_examples=200)
def test_best_answer_by_brute_force(num, room, max_length, most_context, data):
    stretches = windows(num, room, data.draw(st.integers(1, room)))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    starts = [random.integers(-3, 3, w.length) for w in stretches]  # integers: many ties
    ends = [random.integers(-3, 3, w.length) for w in stretches]
    nulls = [float(value) for value in random.normal(size=len(stretches))]
    owner = best_windows(stretches, num)
    spans = []
    for index, (first, length) in enumerate(stretches):
        for one, two in itertools.combinations_with_replacement(range(length), 2):
            allowed = not most_context or owner[first + one] == index
            if two - one < max_length and allowed:
                value = float(starts[index][one] + ends[index][two])
                spans.append((value, -(first + one), -(first + two)))
    value, one, two = max(spans)
    answer = best_answer(
        starts,
        ends,
        stretches,
        max_length=max_length,
        null_scores=nulls,
        most_context=most_context,
    )
    assert answer == Answer(value, -one, -two, min(nulls))


def test_no_span_and_no_answer():
    none = best_answer([[]], [[]], windows(0, 5, 5))
    assert none.first == none.last == -1 and none.is_null()
    blocked = best_answer([[-np.inf, -np.inf]], [[1, 2]], [Window(0, 2)])
    assert blocked.first == -1 and blocked.is_null(1e9)
    answer = Answer(score=3.0, first=0, last=1, null_score=4.0)
    assert answer.is_null() and answer.is_null(0.5) and not answer.is_null(1.0)
    # SQuAD v1.1: without null scores there is always an answer
    assert not best_answer([[-9.0]], [[-9.0]], [Window(0, 1)]).is_null()


def test_wrong_input_is_refused():
    with pytest.raises(ConfigError, match="stride 0: expected 1 to 4"):
        windows(9, 4, 0)
    with pytest.raises(ConfigError, match="stride 5"):
        windows(9, 4, 5)
    with pytest.raises(ConfigError, match="max_length"):
        best_answer([[1]], [[1]], [Window(0, 1)], max_length=0)
    with pytest.raises(DataError, match="1 starts, 0 ends"):
        best_answer([[1]], [], [Window(0, 1)])
    with pytest.raises(DataError, match="2 logits for a window of 1"):
        best_answer([[1, 2]], [[1, 2]], [Window(0, 1)])
    with pytest.raises(TrainingError, match="NaN"):
        best_answer([[np.nan]], [[1]], [Window(0, 1)])
    with pytest.raises(TrainingError, match="NaN"):
        best_answer([[1]], [[1]], [Window(0, 1)], null_scores=[np.nan])
    with pytest.raises(DataError, match="0 questions"):
        best_threshold([], [], [])


questions = st.lists(
    st.tuples(st.integers(-3, 3), st.sampled_from([0.0, 0.5, 1.0]), st.booleans()),
    min_size=1,
    max_size=12,
)


@given(questions)
def test_best_threshold_by_brute_force(cells):
    leads, scores, answerable = zip(*cells, strict=True)

    def mean(threshold):
        given = [
            (score if has else 0.0) if lead <= threshold else float(not has)
            for lead, score, has in cells
        ]
        return sum(given) / len(given)

    threshold, value = best_threshold(leads, scores, answerable)
    assert mean(threshold) == pytest.approx(value)
    assert value == pytest.approx(max(map(mean, [-math.inf, *leads])))

"""Answers by hand from the official scripts' rules, and against their definition."""

import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlm.errors import ConfigError, DataError
from xlm.metrics.answers import MLQA_LANGUAGES, answer_figures, answer_scores, normalize_answer
from xlm.metrics.scores import Scores


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
    with pytest.raises(DataError, match="has no gold answer"):
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

"""Units of a language model's loss, against sums by hand."""

import math

import pytest

from xlm.metrics.scores import Scores, TextSize, language_model_figures, perplexity


def test_sums_add_name_by_name():
    total = Scores({"nats": 1.5, "targets": 2}) + {"nats": 2.0, "correct": 1} + Scores()
    assert dict(total) == {"nats": 3.5, "targets": 2.0, "correct": 1.0}
    assert sorted(total) == ["correct", "nats", "targets"] and len(total) == 3
    assert total == Scores(total)
    with pytest.raises(KeyError):
        total["perplexity"]


def test_sums_do_not_depend_on_the_order_they_come_in():
    parts = [Scores({"nats": 2.0**-k, "targets": k}) for k in range(20)]
    one = sum(parts, Scores())
    other = sum(reversed(parts), Scores())
    assert dict(one) == dict(other) == {"nats": 2 - 2.0**-19, "targets": 190}


def test_text_sizes_add():
    assert TextSize(1, 2, 3, 4, 5) + TextSize(10, 20, 30, 40, 50) == TextSize(11, 22, 33, 44, 55)


def test_perplexity_of_too_many_nats_is_infinite():
    assert perplexity(0) == 1
    assert perplexity(math.log(50)) == pytest.approx(50)
    assert perplexity(1e6) == math.inf


def test_units_by_hand():
    # Two lines, "ab cd" and "ने": 3 words + 2 line ends; 5 + 2 characters + 2; 5 + 6 bytes + 2.
    text = TextSize(sentences=2, tokens=4 + 2, words=5, characters=9, bytes=13)
    # Half of the subwords were predicted, with 1.2 nats each.
    found = language_model_figures({"nats": 3.6, "targets": 3, "correct": 1}, text)
    assert found == {
        "nats": pytest.approx(1.2),
        "perplexity": pytest.approx(math.exp(1.2)),
        "word_perplexity": pytest.approx(math.exp(1.2 * 6 / 5)),
        "bits_per_character": pytest.approx(1.2 * 6 / 9 / math.log(2)),
        "bits_per_byte": pytest.approx(1.2 * 6 / 13 / math.log(2)),
        "accuracy": pytest.approx(1 / 3),
        "targets": 3,
    }


def test_where_each_subword_is_predicted_once_a_word_costs_total_nats_by_words():
    text = TextSize(sentences=3, tokens=40, words=13, characters=90, bytes=160)
    sums = {"nats": 77.7, "targets": 40, "correct": 0, "unigram_nats": 100.0}
    found = language_model_figures(sums, text)
    assert found["word_perplexity"] == pytest.approx(math.exp(77.7 / 13))
    assert found["bits_per_byte"] * 160 == pytest.approx(77.7 / math.log(2))
    assert found["unigram_perplexity"] == pytest.approx(math.exp(100 / 40))


def test_uniform_guessing_costs_the_size_of_the_vocabulary():
    text = TextSize(sentences=1, tokens=8, words=4, characters=8, bytes=8)
    found = language_model_figures({"nats": 8 * math.log(256), "targets": 8, "correct": 0}, text)
    assert found["perplexity"] == pytest.approx(256)
    assert found["bits_per_byte"] == pytest.approx(8)
    assert found["word_perplexity"] == pytest.approx(256**2)


def test_nothing_predicted_gives_no_figures():
    text = TextSize(1, 1, 1, 1, 1)
    assert language_model_figures({"nats": 0.0, "targets": 0, "correct": 0}, text) == {}


def test_units_of_unknown_size_are_left_out() -> None:
    text = TextSize(sentences=2, tokens=10, words=0, characters=0, bytes=0)
    figures = language_model_figures({"nats": 5.0, "targets": 10.0, "correct": 1.0}, text)
    assert set(figures) == {"nats", "perplexity", "accuracy", "targets"}

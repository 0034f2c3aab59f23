"""The best span of an answer against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlm.errors import ConfigError, DataError, TrainingError
from xlm.tasks.answer_spans import Answer, best_answer
from xlm.tasks.windows import SubwordWindow, best_windows, subword_windows


@given(st.integers(1, 14), st.integers(1, 6), st.integers(1, 5), st.booleans(), st.data())
@settings(max_examples=200)
def test_best_answer_by_brute_force(num, room, max_length, most_context, data):
    stretches = subword_windows(num, room, data.draw(st.integers(1, room)))
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
    none = best_answer([[]], [[]], subword_windows(0, 5, 5))
    assert none.first == none.last == -1 and none.is_null()
    blocked = best_answer([[-np.inf, -np.inf]], [[1, 2]], [SubwordWindow(0, 2)])
    assert blocked.first == -1 and blocked.is_null(1e9)
    answer = Answer(score=3.0, first=0, last=1, null_score=4.0)
    assert answer.is_null() and answer.is_null(0.5) and not answer.is_null(1.0)
    # SQuAD v1.1: without null scores there is always an answer
    assert not best_answer([[-9.0]], [[-9.0]], [SubwordWindow(0, 1)]).is_null()


def test_wrong_input_is_refused():
    with pytest.raises(ConfigError, match="max_length"):
        best_answer([[1]], [[1]], [SubwordWindow(0, 1)], max_length=0)
    with pytest.raises(DataError, match="1 starts, 0 ends"):
        best_answer([[1]], [], [SubwordWindow(0, 1)])
    with pytest.raises(DataError, match="2 logits for a window of 1"):
        best_answer([[1, 2]], [[1, 2]], [SubwordWindow(0, 1)])
    with pytest.raises(TrainingError, match="NaN"):
        best_answer([[np.nan]], [[1]], [SubwordWindow(0, 1)])
    with pytest.raises(TrainingError, match="NaN"):
        best_answer([[1]], [[1]], [SubwordWindow(0, 1)], null_scores=[np.nan])

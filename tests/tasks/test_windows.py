"""Windows over words and over subwords, against what they must cover."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlm.errors import ConfigError
from xlm.tasks.windows import (
    SubwordWindow,
    WordWindow,
    best_windows,
    subword_windows,
    word_windows,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 30), st.data())
def test_every_word_is_new_once_and_context_is_as_long_as_can_be(lengths, room, data):
    context = data.draw(st.integers(0, room - 1))
    found = list(word_windows(lengths, room, context))
    news = [word for window in found for word in range(window.new, window.end)]
    assert news == list(range(len(lengths)))
    for window in found:
        start, new, end = window
        assert 0 <= start <= new < end <= len(lengths)
        before, after = sum(lengths[start:new]), sum(lengths[new:end])
        if lengths[new] > room:
            assert window == (new, new, new + 1), "a word too long is alone"
            continue
        assert before + after <= room and before <= context
        # no word more fits behind
        assert end == len(lengths) or before + after + lengths[end] > room
        # and none before, but where the new word left no room for any
        longest = start == 0 or before + lengths[start - 1] > context
        crowded = start == new and sum_of_fitting(lengths[:new], context) + lengths[new] > room
        assert longest or crowded


def sum_of_fitting(lengths, context):
    """Of the last ones, as long as they fit into ``context``."""
    total = 0
    for length in reversed(lengths):
        if total + length > context:
            break
        total += length
    return total


def test_the_mbert_study_s_windows():
    """126 pieces beside the special ones, 64 of them context from the second window on."""
    assert list(word_windows([1] * 300, 126, 64)) == [
        WordWindow(0, 0, 126),
        WordWindow(62, 126, 188),
        WordWindow(124, 188, 250),
        WordWindow(186, 250, 300),
    ]
    assert list(word_windows([1] * 126, 126, 64)) == [WordWindow(0, 0, 126)]
    assert list(word_windows([], 126, 64)) == []


def test_without_context_and_with_long_words():
    assert list(word_windows([2, 2, 2], 5, 0)) == [(0, 0, 2), (2, 2, 3)]
    assert list(word_windows([2, 9, 2], 5, 3)) == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]


@pytest.mark.parametrize(("room", "context"), [(4, 4), (4, 5), (4, -1), (0, 0)])
def test_context_is_less_than_the_room(room, context):
    with pytest.raises(ConfigError, match=f"windows of {room} pieces with a context of {context}"):
        list(word_windows([1], room, context))


@given(st.integers(0, 60), st.integers(1, 12), st.data())
def test_windows_cover_every_subword(num, room, data):
    stride = data.draw(st.integers(1, room))
    stretches = subword_windows(num, room, stride)
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
    stretches = subword_windows(num, room, data.draw(st.integers(1, room)))
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
    first, second = SubwordWindow(0, 300), SubwordWindow(204, 150)
    assert best_windows([first, second], 354)[252] == 0  # 47 + 3.0 against 48 + 1.5
    assert (
        best_windows([first, SubwordWindow(204, 260)], 464)[252] == 1
    )  # 47 + 3.0 against 48 + 2.6


@pytest.mark.parametrize("stride", [0, 5])
def test_a_stride_skips_no_subword(stride):
    with pytest.raises(ConfigError, match=f"stride {stride}: expected 1 to 4"):
        subword_windows(9, 4, stride)

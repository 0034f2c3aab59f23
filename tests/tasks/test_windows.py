"""Windows over words: each is new exactly once, whatever the lengths."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xlm.errors import ConfigError
from xlm.tasks.windows import Window, windows


@settings(max_examples=300, deadline=None)
@given(st.lists(st.integers(1, 40), max_size=60), st.integers(1, 30), st.data())
def test_every_word_is_new_once_and_context_is_as_long_as_can_be(lengths, room, data):
    context = data.draw(st.integers(0, room - 1))
    found = list(windows(lengths, room, context))
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
    assert list(windows([1] * 300, 126, 64)) == [
        Window(0, 0, 126), Window(62, 126, 188), Window(124, 188, 250), Window(186, 250, 300)
    ]  # fmt: skip
    assert list(windows([1] * 126, 126, 64)) == [Window(0, 0, 126)]
    assert list(windows([], 126, 64)) == []


def test_without_context_and_with_long_words():
    assert list(windows([2, 2, 2], 5, 0)) == [(0, 0, 2), (2, 2, 3)]
    assert list(windows([2, 9, 2], 5, 3)) == [(0, 0, 1), (1, 1, 2), (2, 2, 3)]


@pytest.mark.parametrize(("room", "context"), [(4, 4), (4, 5), (4, -1), (0, 0)])
def test_context_is_less_than_the_room(room, context):
    with pytest.raises(ConfigError, match=f"windows of {room} pieces with {context} of context"):
        list(windows([1], room, context))

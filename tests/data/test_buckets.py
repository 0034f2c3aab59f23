from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from xlm.data import buckets as module
from xlm.data.buckets import Buckets, best_lengths, common_lengths

HISTOGRAMS = st.lists(st.integers(0, 5), min_size=1, max_size=12).map(np.array)


def padded_cells(histogram, lengths):
    """Cells when each row is padded to the smallest length that holds it."""
    return sum(
        count * min(length for length in lengths if length >= row)
        for row, count in enumerate(histogram.tolist())
        if count
    )


@settings(max_examples=100, deadline=None)
@given(HISTOGRAMS, st.integers(1, 5))
def test_no_other_lengths_have_fewer_padded_cells(histogram, num_lengths):
    found = best_lengths(histogram, num_lengths)
    present = np.flatnonzero(histogram).tolist()
    if not present:
        assert found == []
        return
    assert found == sorted(set(found)) and len(found) <= num_lengths and found[-1] == present[-1]
    best = min(
        padded_cells(histogram, [*chosen, present[-1]])
        for chosen in combinations(present[:-1], min(num_lengths, len(present)) - 1)
    )
    assert padded_cells(histogram, found) == best


def best_lengths_in_loops(histogram, num_lengths):
    """The dynamic program with a loop over the last length of each prefix."""
    lengths = np.flatnonzero(histogram)
    rows = np.concatenate([[0], np.cumsum(histogram[lengths])])
    cells = rows * np.concatenate([[0], lengths])
    choices = []
    for _ in range(min(num_lengths, len(lengths)) - 1):
        totals, choice = cells.copy(), np.zeros(len(cells), dtype=np.int64)
        for j in range(2, len(cells)):
            split = cells[1:j] + (rows[j] - rows[1:j]) * lengths[j - 1]
            best = int(np.argmin(split))
            if split[best] < totals[j]:
                totals[j], choice[j] = split[best], best + 1
        cells = totals
        choices.append(choice)
    return module._backtrack(lengths, choices)


@settings(max_examples=100, deadline=None)
@given(HISTOGRAMS, st.integers(1, 6))
def test_ties_are_broken_as_the_loops_break_them(histogram, num_lengths):
    if histogram.any():
        found = best_lengths(histogram, num_lengths)
        assert found == best_lengths_in_loops(histogram, num_lengths)


def test_common_lengths_are_those_of_the_mixture():
    """Two texts of which the small one is drawn nine times of ten: 90 and 10 rows of a hundred."""
    small, large = np.zeros(21, dtype=np.int64), np.zeros(31, dtype=np.int64)
    small[[5, 20]], large[[5, 10, 30]] = [1, 1], [500, 300, 200]
    mixture = np.zeros(31, dtype=np.int64)
    mixture[[5, 10, 20, 30]] = [450 + 50, 30, 450, 20]
    for num in (1, 2, 3, 4):
        found = common_lengths([(0.9, small), (0.1, large)], num)
        assert found == best_lengths(mixture, num)
    assert common_lengths([(1e-6, large), (1.0, small)], 9)[-1] == 30  # no text loses a row


def test_lengths_above_the_longest_row_have_no_batch():
    histogram = np.array([0, 2, 0, 3])
    found = Buckets(histogram, [1, 4, 9, 30], tokens_per_batch=8)
    slots = [found.in_order(k) for k in range(found.num_slots)]
    assert [(slot.positions.tolist(), slot.length) for slot in slots] == [
        ([0, 1], 1), ([2, 3], 4), ([4], 4),
    ]  # fmt: skip
    parts = Buckets(histogram, [1, 4, 9], tokens_per_batch=8, parts=2)
    assert sorted(
        np.concatenate([parts.in_order(k).positions for k in range(parts.num_slots)])
    ) == list(range(5))


def test_the_parts_of_a_bucket_are_of_equal_size():
    histogram = np.array([0, 0, 6, 4, 0, 7])  # cut into 3, 3, 4 and 2, 2, 3 rows
    whole = Buckets(histogram, [3, 5], tokens_per_batch=12)
    found = Buckets(histogram, [3, 5], tokens_per_batch=12, parts=3)
    assert list(found.whole()) == list(whole.whole()) == [(0, 10), (10, 17)]
    assert found.num_rows == 17 and found.num_cells == whole.num_cells
    slots = [found.in_order(k) for k in range(found.num_slots)]
    parts = [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9], [10, 11], [12, 13], [14, 15], [16]]
    assert [slot.positions.tolist() for slot in slots] == parts  # at most 4, then 2 rows a batch
    assert [slot.length for slot in slots] == [3] * 3 + [5] * 4
    shuffled = [found.shuffled(k, 0, "mt/en-ne").positions for k in range(found.num_slots)]
    assert sorted(np.concatenate(shuffled).tolist()) == list(range(17))


def test_many_lengths_are_rounded_up_first(monkeypatch):
    histogram = np.random.default_rng(0).integers(0, 9, 100)
    exact = padded_cells(histogram, best_lengths(histogram, 8))
    monkeypatch.setattr(module, "MOST_CANDIDATES", 30)
    rounded = best_lengths(histogram, 8)
    assert len(rounded) <= 8 and rounded[-1] == 99
    assert exact <= padded_cells(histogram, rounded) < 1.05 * exact


@settings(max_examples=100, deadline=None)
@given(HISTOGRAMS, st.integers(1, 5), st.integers(1, 40), st.none() | st.integers(1, 3))
def test_each_epoch_serves_each_row_once(histogram, num_lengths, tokens, most_rows):
    if not histogram.any():
        return
    lengths = best_lengths(histogram, num_lengths)
    found = Buckets(histogram, lengths, tokens_per_batch=tokens, most_rows=most_rows)
    row_lengths = np.repeat(np.arange(len(histogram)), histogram)
    assert found.num_rows == len(row_lengths)
    assert found.num_cells == padded_cells(histogram, lengths)
    for epoch in (0, 1, 10**6):
        served = []
        for k in range(found.num_slots):
            slot = found.shuffled(epoch * found.num_slots + k, 7, "tlm/en-hi")
            longest = row_lengths[slot.positions].max()
            assert slot.length == min(length for length in lengths if length >= longest)
            assert len(slot.positions) <= max(1, tokens // max(slot.length, 1))
            assert most_rows is None or len(slot.positions) <= most_rows
            served += slot.positions.tolist()
        assert sorted(served) == list(range(len(row_lengths)))
    in_order = [found.in_order(k).positions for k in range(found.num_slots)]
    assert np.concatenate(in_order).tolist() == list(range(len(row_lengths)))


def test_only_the_last_batch_of_a_bucket_is_shorter():
    found = Buckets(np.array([0, 0, 7, 0, 5]), [2, 4], tokens_per_batch=8)
    sizes = [len(found.in_order(k).positions) for k in range(found.num_slots)]
    assert sizes == [4, 3, 2, 2, 1]


def test_epochs_and_seeds_have_orders_of_their_own():
    found = Buckets(np.array([0, 100]), [1], tokens_per_batch=10)

    def batches(epoch, seed):
        slots = [found.shuffled(epoch * 10 + k, seed, "x") for k in range(10)]
        return [slot.positions.tolist() for slot in slots]

    places = [(0, 1), (1, 1), (0, 2)]
    assert batches(0, 1) == batches(0, 1)
    # Not only the order of the batches changes: so does which rows are together.
    together = [frozenset(frozenset(batch) for batch in batches(*at)) for at in places]
    assert len(set(together)) == 3
    assert sum(batches(0, 1), []) != list(range(100))

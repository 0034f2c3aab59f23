"""Pairs in the original's batches: its own figures, and a brute force of its rule."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.fakes import corpora
from xlm.data.original_pairs import UNCUT_LANGUAGES, OriginalPairStream, evaluation_cut
from xlm.data.sentence_streams import PairStream
from xlm.errors import ConfigError, DataError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "pair_order.json").read_text())


def stream(first, second, **settings):
    settings = {"rows": 3, "num_specials": 4, **settings}
    return OriginalPairStream(corpora(en_hi=(first, second)), "en-hi", objective="tlm", **settings)


def batches(found, epoch=0):
    start = epoch * found.num_batches
    return [found.examples(start + k).rows.tolist() for k in range(found.num_batches)]


@pytest.mark.parametrize(
    "case",
    GOLDEN["orders"],
    ids=lambda c: f"{c['batch_size']}-{c['tokens_per_batch']}-{c['max_len']}-{c['group_by_size']}",
)
def test_unshuffled_batches_are_the_original_s(case):
    found = stream(
        GOLDEN["lengths1"],
        GOLDEN["lengths2"],
        rows=case["batch_size"],
        tokens=None if case["tokens_per_batch"] == -1 else case["tokens_per_batch"],
        longest_side=case["max_len"] or None,
        sort=case["group_by_size"],
        shuffle=False,
    )
    kept = case["kept"]  # the original numbers the pairs that are left anew
    assert batches(found) == [[kept[place] for place in batch] for batch in case["batches"]]
    assert found.num_sentences == found.num_rows == len(kept)
    assert found.num_dropped == len(GOLDEN["lengths1"]) - len(kept)
    with pytest.raises(IndexError):
        found.examples(found.num_batches)


LENGTHS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=40)


def cut(order, lengths, rows, tokens):
    """Batches of an order by numpy's own splitting."""
    if tokens is None:
        return [part.tolist() for part in np.array_split(order, -(-len(order) // rows))]
    numbers = np.cumsum([lengths[row] for row in order]) // tokens
    return [[row for row, own in zip(order, numbers, strict=True) if own == number]
            for number in np.unique(numbers)]  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(
    LENGTHS,
    st.integers(1, 6),
    st.sampled_from([None, 9, 23, 60]),
    st.booleans(),
    st.sampled_from([None, 7]),
)
def test_each_epoch_is_a_permutation_sorted_and_cut_by_the_original_s_rule(
    lengths, rows, tokens, sort, longest
):
    kept = [i for i, pair in enumerate(lengths) if min(pair) and max(pair) <= (longest or 9)]
    sums = [a + b + 4 for a, b in lengths]
    if not kept or (tokens and not sort and max(sums[row] for row in kept) >= tokens):
        return
    first, second = zip(*lengths, strict=True)
    choices = {"rows": rows, "tokens": tokens, "sort": sort, "longest_side": longest}
    found = stream(first, second, **choices, seed=3)
    for epoch in (0, 1, 10**7):
        served = batches(found, epoch)
        assert sorted(row for batch in served for row in batch) == kept
        if sort:  # which of equally long pairs share a batch is chance, how long they are is not
            expected = cut(sorted(kept, key=lambda row: sums[row]), sums, rows, tokens)
            assert sorted([sums[row] for row in batch] for batch in served) == sorted(
                [sums[row] for row in batch] for batch in expected
            )
        elif tokens is None:
            expected = [len(batch) for batch in cut(kept, sums, rows, None)]
            assert sorted(map(len, served), reverse=True) == expected
    unshuffled = stream(first, second, **choices, shuffle=False)
    order = sorted(kept, key=lambda row: sums[row]) if sort else kept
    assert batches(unshuffled) == cut(order, sums, rows, tokens)


def test_batches_are_served_in_another_order_each_epoch_and_equals_change_places():
    found = stream([5] * 40, [3] * 20 + [6] * 20, seed=1)
    epochs = [batches(found, epoch) for epoch in (0, 1, 2)]
    assert epochs[0] != epochs[1] != epochs[2]
    assert epochs[0] == batches(stream([5] * 40, [3] * 20 + [6] * 20, seed=1))
    assert epochs[0] != batches(stream([5] * 40, [3] * 20 + [6] * 20, seed=2))
    # Neither by length from batch to batch, nor by number inside one.
    lengths = [max(batch) >= 20 for batch in epochs[0]]
    assert lengths != sorted(lengths)
    assert any(batch != sorted(batch) for batch in epochs[0])


def test_rows_are_the_pairs_and_padded_to_the_longest_of_their_batch():
    found = stream([4, 1, 7, 3, 0], [5, 2, 6, 3, 4], rows=2)
    for k in range(found.num_batches):
        examples = found.examples(k)
        sums = []
        for row, a, b in zip(examples.rows, examples.first, examples.second, strict=True):
            assert a.tolist() == found.pairs.sides[0][row].tolist()
            assert b.tolist() == found.pairs.sides[1][row].tolist()
            sums.append(len(a) + len(b) + 4)
        assert examples.length == max(sums)


@pytest.mark.parametrize(("sides", "longest"), [("joint", 13), ("longer", 9)])
def test_pairs_that_do_not_fit_are_left_out_and_counted(sides, longest):
    found = stream(
        [4, 6, 7, 3, 0], [5, 2, 6, 3, 4], sides=sides, max_length=longest,
        num_specials=4 if sides == "joint" else 2, shuffle=False,
    )  # fmt: skip
    assert sorted(row for batch in batches(found) for row in batch) == (
        [0, 1, 3] if sides == "joint" else [0, 1, 2, 3]
    )
    assert found.num_dropped == (2 if sides == "joint" else 1)


def test_only_the_first_pairs_that_are_left_count_where_there_are_enough():
    found = stream([4, 0, 7, 3, 2], [5, 2, 6, 3, 4], most_pairs=3, shuffle=False)
    assert batches(found) == [[3, 0, 2]]
    assert (found.num_rows, found.num_dropped) == (3, 2)
    assert found.why_dropped.endswith(
        "longest_side, or come after the first 3 that the original reads"
    )
    assert stream([4], [5]).why_dropped.endswith("or are longer than length or longest_side")


def test_both_directions_have_the_same_batches_with_their_sides_exchanged():
    made = corpora(en_hi=([4, 1, 7], [5, 2, 6]))
    there, back = (
        OriginalPairStream(made, pair, objective="o", rows=2, num_specials=4, shuffle=False)
        for pair in ("en-hi", "hi-en")
    )
    assert batches(there) == batches(back)
    assert there.examples(0).first[0].tolist() == back.examples(0).second[0].tolist()
    assert there.language_ids == back.language_ids[::-1]


def test_it_serves_what_bucketed_pairs_serve():
    first, second = [4, 1, 7, 3, 2, 9], [5, 2, 6, 3, 4, 1]
    made = corpora(en_hi=(first, second))
    ours = PairStream(made, "en-hi", objective="o", tokens_per_batch=30, num_specials=4)
    rows = [row for k in range(ours.num_batches) for row in ours.examples(k).rows.tolist()]
    assert sorted(rows) == sorted(row for batch in batches(stream(first, second)) for row in batch)


def test_sizes_that_cannot_be():
    for wrong, message in [
        ({"rows": 0}, "tlm/en-hi: rows is 0, expected at least 1"),
        ({"tokens": 0}, "tokens is 0, expected at least 1"),
        ({"tokens": 12, "sort": False}, "batches hold 12 tokens, but the longest pair has 12"),
    ]:
        with pytest.raises(ConfigError, match=message):
            stream([3, 4], [3, 4], **wrong)
    with pytest.raises(DataError, match="none of 2 pairs .* in max_length 512 and longest_side 2"):
        stream([3, 0], [3, 1], longest_side=2)


@pytest.mark.parametrize(
    ("split", "language", "num_languages", "expected"),
    [
        ("valid", "en", 5, (1, None)),
        ("test", "en", 5, (1, None)),
        ("valid", "ne", 6, (5, 1500)),
        ("test", "en", 6, (10, 300)),
        ("valid", "ne", 30, (5, 1500)),
        ("valid", "en", 31, (5, 1500)),
        ("valid", "ne", 31, (10, 600)),
        ("test", "en", 31, (10, 600)),
    ],
)
def test_how_much_is_evaluated_of_many_languages(split, language, num_languages, expected):
    assert evaluation_cut(split, language, num_languages) == expected
    assert len(UNCUT_LANGUAGES) == 15

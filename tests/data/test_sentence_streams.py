import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.fakes import corpora
from xlm.data.sentence_streams import PairStream, SentenceStream
from xlm.errors import ConfigError, DataError


def pair_stream(first, second, **settings):
    settings = {"tokens_per_batch": 30, "num_specials": 4, **settings}
    made = corpora(en_hi=(first, second))
    return PairStream(made, settings.pop("pair", "en-hi"), objective="tlm", **settings)


def sentence_stream(lengths, **settings):
    settings = {"tokens_per_batch": 30, "num_specials": 2, "objective": "ae", **settings}
    return SentenceStream(corpora(en=lengths), "en", **settings)


# -- pairs


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=30),
    st.sampled_from(["joint", "longer"]),
    st.integers(1, 6),
    st.integers(10, 30),
)
def test_an_epoch_of_pairs_serves_each_that_fits_once(lengths, sides, num_lengths, max_length):
    first, second = zip(*lengths, strict=True)
    measure = sum if sides == "joint" else max
    specials = 4 if sides == "joint" else 2
    fitting = [row for row, pair in enumerate(lengths) if measure(pair) + specials <= max_length]
    if not fitting:
        return
    stream = pair_stream(
        first, second, sides=sides, num_lengths=num_lengths, max_length=max_length,
        num_specials=specials, seed=5,
    )  # fmt: skip
    assert stream.num_dropped == len(lengths) - len(fitting)
    assert stream.num_rows == stream.num_sentences == len(fitting)
    padded = set()
    for epoch in (0, 10**8):
        served, num_cells, num_real = [], 0, 0
        for k in range(stream.num_batches):
            examples = stream.examples(epoch * stream.num_batches + k)
            for row, a, b in zip(examples.rows, examples.first, examples.second, strict=True):
                assert a.tolist() == stream.pairs.sides[0][row].tolist()
                assert b.tolist() == stream.pairs.sides[1][row].tolist()
                assert measure((len(a), len(b))) + specials <= examples.length <= max_length
                num_real += measure((len(a), len(b))) + specials
            num_cells += len(examples.rows) * examples.length
            assert len(examples.rows) <= max(1, 30 // examples.length)
            served += examples.rows.tolist()
            padded.add(examples.length)
        assert sorted(served) == fitting
        assert stream.padding == pytest.approx(1 - num_real / num_cells)
    assert len(padded) <= num_lengths


def test_held_out_pairs_are_served_once_in_order_of_length():
    stream = pair_stream([5, 1, 9, 3], [5, 1, 2, 3], shuffle=False, rows=2)
    batches = [stream.examples(k) for k in range(stream.num_batches)]
    assert [row for batch in batches for row in batch.rows] == [1, 3, 0, 2]
    assert all(len(batch.rows) <= 2 for batch in batches)
    with pytest.raises(IndexError):
        stream.examples(stream.num_batches)


def test_more_lengths_pad_less():
    random = np.random.default_rng(0)
    first, second = random.integers(1, 40, (2, 3000))
    shares = [pair_stream(first, second, num_lengths=num).padding for num in (1, 8, 24, 100)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.4 and shares[1] < 0.09 and shares[2] < 0.03 and shares[3] == 0


def test_both_orders_of_a_pair():
    settings = {"seed": 1, "tokens_per_batch": 40}
    there = pair_stream([5, 1, 9, 3], [5, 1, 2, 3], **settings)
    back = pair_stream([5, 1, 9, 3], [5, 1, 2, 3], pair="hi-en", **settings)
    assert (there.id, back.id) == ("tlm/en-hi", "tlm/hi-en")
    assert there.languages == back.languages[::-1] == ("en", "hi")
    assert there.language_ids == back.language_ids[::-1] == (0, 1)
    assert there.side_sizes == back.side_sizes[::-1]
    assert there.text_size == back.text_size
    examples = back.examples(0)
    row = examples.rows[0]
    assert examples.first[0].tolist() == there.pairs.sides[1][row].tolist()


def test_pairs_that_cannot_be_served():
    with pytest.raises(ConfigError, match="tlm/en-hi: tokens_per_batch 0"):
        pair_stream([3], [3], tokens_per_batch=0)
    with pytest.raises(DataError, match="none of the 2 rows of the train split fits in 9 tokens"):
        pair_stream([3, 6], [3, 6], max_length=9)


# -- sentences


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=40),
    st.integers(1, 6),
    st.integers(5, 30),
    st.sampled_from([None, 1, 2]),
)
def test_an_epoch_of_sentences_serves_each_that_fits_once(lengths, num_lengths, max_length, rows):
    fitting = [row for row, length in enumerate(lengths) if 0 < length <= max_length - 2]
    if not fitting:
        return
    stream = sentence_stream(
        lengths, num_lengths=num_lengths, max_length=max_length, rows=rows, seed=5
    )
    corpus = corpora(en=lengths).text("train", "en")
    assert stream.num_dropped == len(lengths) - len(fitting)
    assert stream.num_rows == stream.num_sentences == len(fitting)
    orders, padded = [], set()
    for epoch in (0, 10**8):
        served, num_cells, num_real = [], 0, 0
        for k in range(stream.num_batches):
            examples = stream.examples(epoch * stream.num_batches + k)
            assert examples.second is None and examples.before is None
            for row, ids in zip(examples.rows, examples.first, strict=True):
                assert ids.tolist() == corpus[row].tolist()
                assert len(ids) + 2 <= examples.length <= max_length
                num_real += len(ids) + 2
            num_cells += len(examples.rows) * examples.length
            assert len(examples.rows) <= min(max(1, 30 // examples.length), rows or 30)
            served += examples.rows.tolist()
            padded.add(examples.length)
        assert sorted(served) == fitting
        assert stream.padding == pytest.approx(1 - num_real / num_cells)
        orders.append(served)
    assert len(padded) <= num_lengths
    if len(fitting) > 20:
        assert orders[0] != orders[1]


def test_held_out_sentences_are_served_once_in_order_of_length():
    stream = sentence_stream([5, 0, 1, 9, 3, 1, 40], shuffle=False, rows=2, max_length=20)
    batches = [stream.examples(k) for k in range(stream.num_batches)]
    assert [row for batch in batches for row in batch.rows] == [2, 5, 4, 0, 3]
    assert stream.num_dropped == 2
    assert stream.why_dropped == "are empty (1) or longer than the objective's length"
    with pytest.raises(IndexError, match="ae/en: found micro-batch"):
        stream.examples(stream.num_batches)


def test_sentences_come_as_a_side_of_pairs_does():
    """The buckets are those of pairs whose other side is no longer; with one id, one order."""
    lengths = [5, 1, 9, 3, 7, 7, 2, 12, 4, 4, 4, 6]
    made = corpora(en=lengths, en_hi=(lengths, [1] * len(lengths)))
    settings = {"objective": "o", "tokens_per_batch": 24, "num_specials": 2, "seed": 3}
    pairs = PairStream(made, "en-hi", sides="longer", num_lengths=3, **settings)
    sentences = SentenceStream(made, "en", name="en-hi", num_lengths=3, **settings)
    assert (pairs.id, pairs.num_batches) == (sentences.id, sentences.num_batches)
    for k in range(2 * pairs.num_batches):
        ours, theirs = sentences.examples(k), pairs.examples(k)
        assert ours.rows.tolist() == theirs.rows.tolist() and ours.length == theirs.length
        assert [row.tolist() for row in ours.first] == [row.tolist() for row in theirs.first]


def test_a_name_of_its_own_is_an_order_of_its_own():
    lengths = [4] * 40
    plain = sentence_stream(lengths)
    named = sentence_stream(lengths, name="hi-en", objective="bt")
    assert (plain.id, plain.name, named.id, named.name) == ("ae/en", "en", "bt/hi-en", "hi-en")
    assert plain.languages == named.languages == ("en",) and named.language_ids == (0,)
    assert plain.side_sizes == named.side_sizes
    orders = [
        [row for k in range(stream.num_batches) for row in stream.examples(k).rows.tolist()]
        for stream in (plain, named)
    ]
    assert orders[0] != orders[1] and sorted(orders[0]) == sorted(orders[1])


def test_sentences_that_cannot_be_served():
    with pytest.raises(DataError, match="ae/en: all 2 sentences of the train text of en are empty"):
        sentence_stream([0, 0])
    with pytest.raises(DataError, match="none of the 2 rows of the train split fits in 5 tokens"):
        sentence_stream([0, 4, 6], max_length=5)
    with pytest.raises(ConfigError, match="ae/en: tokens_per_batch 0"):
        sentence_stream([3], tokens_per_batch=0)
    with pytest.raises(DataError, match="no text 'en' in the valid split"):
        sentence_stream([3], split="valid")

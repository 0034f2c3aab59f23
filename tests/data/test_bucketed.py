import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.fakes import corpora
from xlm.data.bucketed import PairStream, SentenceStream
from xlm.errors import ConfigError, DataError


def sentence_stream(lengths, **settings):
    settings = {"tokens_per_batch": 30, "num_specials": 2, "objective": "ae", **settings}
    return SentenceStream(corpora(en=lengths), "en", **settings)


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
    assert stream.num_empty == lengths.count(0)
    assert stream.num_dropped == sum(length > max_length - 2 for length in lengths)
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
    assert (stream.num_empty, stream.num_dropped) == (1, 1)
    with pytest.raises(IndexError, match="ae/en: micro-batch"):
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
    with pytest.raises(DataError, match="ae/en: the train text of en has no sentence but 2 empty"):
        sentence_stream([0, 0])
    with pytest.raises(DataError, match="none of 2 rows of the train split fits in max_length 5"):
        sentence_stream([0, 4, 6], max_length=5)
    with pytest.raises(ConfigError, match="ae/en: tokens_per_batch 0"):
        sentence_stream([3], tokens_per_batch=0)
    with pytest.raises(DataError, match="no text 'en' in the valid split"):
        sentence_stream([3], split="valid")

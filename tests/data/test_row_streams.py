"""Rows in memory: batches of one length, no row lost, every epoch anew."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.fakes import WordTokenizer
from xlm.data.corpora import Corpora
from xlm.data.row_streams import BATCHES_PER_LENGTH, Row, RowStream
from xlm.errors import ConfigError, DataError

TOKENIZER = WordTokenizer()
CORPORA = Corpora(TOKENIZER, {"en": 3, "hi": 5})


def row(length, **settings):
    return Row(TOKENIZER.wrap(np.full(length - 2, 20)), **settings)


def stream(lengths, **settings):
    settings = {"rows_per_batch": 4, "objective": "task", "languages": ("en", "en"), **settings}
    return RowStream(CORPORA, "en", [row(length) for length in lengths], **settings)


sizes = st.lists(st.integers(2, 60), min_size=1, max_size=80)


@settings(max_examples=60, deadline=None)
@given(sizes, st.integers(1, 9), st.integers(1, 24), st.booleans(), st.integers(0, 3))
def test_every_epoch_serves_each_row_once_in_batches_of_one_length(
    lengths, rows, num_lengths, shuffle, epoch
):
    found = stream(lengths, rows_per_batch=rows, num_lengths=num_lengths, shuffle=shuffle, seed=7)
    num, epoch = found.num_batches, epoch * shuffle
    seen, cells, short = [], 0, Counter()
    for k in range(epoch * num, (epoch + 1) * num):
        examples = found.examples(k)
        own = [lengths[row] for row in examples.rows]
        assert [len(ids) for ids in examples.first] == own
        assert max(own) <= examples.length and len(own) <= rows
        short[examples.length] += len(own) < rows
        cells += examples.length * len(own)
        seen += examples.rows.tolist()
    assert sorted(seen) == list(range(len(lengths)))
    assert max(short.values()) <= 1, "only the last batch of a length is shorter"
    assert len(short) <= min(num_lengths, max(1, len(lengths) // (BATCHES_PER_LENGTH * rows)))
    assert found.padding == pytest.approx(1 - sum(lengths) / cells)
    assert found.batches_per_epoch == num and found.num_rows == len(lengths)
    if not shuffle:
        with pytest.raises(IndexError):
            found.examples(num)


def test_epochs_and_seeds_have_orders_of_their_own():
    lengths = np.random.default_rng(0).integers(2, 30, 50).tolist()

    def order(seed, epoch, name="task"):
        found = stream(lengths, seed=seed, objective=name)
        ks = range(epoch * found.num_batches, (epoch + 1) * found.num_batches)
        return [row for k in ks for row in found.examples(k).rows.tolist()]

    orders = [order(0, 0), order(0, 1), order(1, 0), order(0, 0, "other")]
    assert len({tuple(own) for own in orders}) == 4
    assert orders[0] == order(0, 0)


def test_lengths_that_pay_make_little_padding():
    """Many rows of steeply different lengths, as sentences have them."""
    lengths = np.random.default_rng(1).geometric(0.05, 4000).clip(3, 128).tolist()
    assert stream(lengths, rows_per_batch=16).padding < 0.05
    assert stream(lengths, rows_per_batch=16, num_lengths=1).padding == pytest.approx(
        1 - np.mean(lengths) / max(lengths)
    )


def test_what_an_objective_reads_off_it():
    found = stream([5, 3, 9], languages=("hi", "en"), upsampled_to=70)
    assert (found.id, found.name) == ("task/en", "en")
    assert found.languages == ("hi", "en") and found.language_ids == (5, 3)
    assert found.num_sentences == 70 and stream([5, 3, 9]).num_sentences == 3
    assert found.text_size.sentences == 3 and found.text_size.tokens == 17
    assert found.unigram is None and found.tokenizer is TOKENIZER
    assert found.items[2].example == 0 and row(3, example=4, group=2).group == 2


def test_what_cannot_be():
    with pytest.raises(DataError, match="task/en: there are no rows to read: give another file"):
        stream([])
    with pytest.raises(ConfigError, match="rows 0, num_lengths 24: expected at least 1"):
        stream([3], rows_per_batch=0)
    with pytest.raises(ConfigError, match="rows 4, num_lengths 0: expected at least 1"):
        stream([3], num_lengths=0)
    with pytest.raises(ConfigError, match="does not know the language sw: it knows en, .*stand_"):
        stream([3], languages=("sw", "en"))

import json
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.fakes import WordTokenizer, corpora, corpus
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.sentence_streams import PairStream
from xlm.data.streams import TextStream
from xlm.errors import ConfigError, DataError

TOKENIZER = WordTokenizer()
GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "streams.json").read_text())
LENGTHS = st.lists(st.integers(0, 9), min_size=1, max_size=12)


def text(lengths, **settings):
    made = corpora(en=lengths)
    return TextStream(made, "en", objective="clm", **settings), made.text("train", "en").ids


# -- text, paper layout


@settings(max_examples=60, deadline=None)
@given(LENGTHS, st.integers(1, 7), st.integers(1, 7), st.sampled_from([0, 3, 10**8]))
def test_an_epoch_of_text_serves_every_token_once(lengths, length, rows, epoch):
    stream, ids = text(lengths, length=length, rows=rows, seed=3)
    num_rows = -(-len(ids) // length)
    assert stream.num_rows == num_rows
    start = epoch * num_rows
    served = {}
    for k in range(start // rows, (start + num_rows - 1) // rows + 1):
        examples = stream.examples(k)
        assert len(examples.rows) == rows and examples.length == length
        for place, row in enumerate(examples.rows.tolist()):
            assert examples.first[place].tolist() == ids[row * length : (row + 1) * length].tolist()
            assert examples.before[place] == ids[row * length - 1]
            if start <= k * rows + place < start + num_rows:
                assert row not in served
                served[row] = examples.first[place]
    assert np.concatenate([served[row] for row in range(num_rows)]).tolist() == ids.tolist()


def test_the_token_before_the_first_row_is_an_end_symbol():
    stream, ids = text([4, 4], length=3, rows=4, shuffle=False)
    assert stream.examples(0).before.tolist() == [1, ids[2], ids[5], ids[8]]


def test_held_out_text_is_served_once_in_order():
    stream, ids = text([5, 9, 2], length=4, rows=2, shuffle=False)
    assert stream.num_batches == 3
    batches = [stream.examples(k) for k in range(3)]
    assert [len(batch.rows) for batch in batches] == [2, 2, 1]
    tokens = np.concatenate([row for batch in batches for row in batch.first])
    assert tokens.tolist() == ids.tolist()
    with pytest.raises(IndexError, match="clm/en: found micro-batch 3, expected one below 3"):
        stream.examples(3)
    with pytest.raises(IndexError):
        stream.examples(-1)


def test_epochs_seeds_and_ids_have_orders_of_their_own():
    made = corpora(en=[9] * 40)

    def order(objective, seed, epoch):
        stream = TextStream(made, "en", objective=objective, length=4, rows=100, seed=seed)
        return tuple(stream.examples(epoch).rows.tolist())

    places = [("a", 0, 0), ("a", 0, 1), ("a", 1, 0), ("b", 0, 0)]
    assert len({order(*place) for place in places}) == 4
    assert order("a", 0, 1) == order("a", 0, 1)


def test_any_micro_batch_is_computed_directly():
    stream, _ = text([50] * 200, length=16, rows=8)
    pairs = PairStream(
        corpora(en_hi=([5, 9, 12] * 50, [3, 8] * 75)), "en-hi",
        objective="tlm", tokens_per_batch=64, num_specials=4,
    )  # fmt: skip
    for served in (stream, pairs):
        times = []
        for k in (10, 10**9):
            start = time.perf_counter()
            for more in range(20):
                served.examples(k + more)
            times.append(time.perf_counter() - start)
        assert times[1] < 5 * times[0] + 0.05


# -- text, the original's layout


@pytest.mark.parametrize("case", GOLDEN["streams"], ids=lambda case: str(case["bptt"]))
def test_code_layout_is_the_original_s_to_the_token(case):
    sentences = [case["tokens"][start:end] for start, end in case["positions"]]
    found = Corpus.from_sentences(sentences, language="en", tokenizer=TOKENIZER)
    assert found.ids.tolist() == case["tokens"]
    made = Corpora(TOKENIZER, ["en"], texts={("train", "en"): found})
    settings = {"rows": case["batch_size"], "length": case["bptt"], "layout": "original"}
    stream = TextStream(made, "en", objective="mlm", **settings, shuffle=False)
    chunks = [np.stack(stream.examples(k).first).T.tolist() for k in range(stream.num_batches)]
    assert chunks == case["batches"]
    shuffled = TextStream(made, "en", objective="mlm", **settings, seed=1)
    for epoch in (0, 5):
        ks = range(epoch * stream.num_batches, (epoch + 1) * stream.num_batches)
        served = [np.stack(shuffled.examples(k).first).T.tolist() for k in ks]
        assert sorted(served) == sorted(chunks)


def test_code_layout_knows_the_token_before_each_row():
    stream, _ = text([7, 3, 9, 4], length=4, rows=2, layout="original", shuffle=False)
    chunks = [stream.examples(k) for k in range(stream.num_batches)]
    assert chunks[0].before.tolist() == [1, 1]
    for before, after in zip(chunks, chunks[1:], strict=False):
        assert after.before.tolist() == [row[-1] for row in before.first]


@pytest.mark.parametrize("case", GOLDEN["streams"], ids=lambda case: str(case["bptt"]))
def test_a_cut_serves_the_first_chunks_as_the_original_does(case, caplog):
    sentences = [case["tokens"][start:end] for start, end in case["positions"]]
    found = Corpus.from_sentences(sentences, language="en", tokenizer=TOKENIZER)
    made = Corpora(TOKENIZER, ["en"], texts={("valid", "en"): found})
    settings = {
        "rows": case["batch_size"], "length": case["bptt"], "layout": "original", "one_in": 2,
        "objective": "mlm", "split": "valid", "shuffle": False,
    }  # fmt: skip
    if not case["batches_subsample_2"]:
        with pytest.raises(DataError, match="1 chunk.* one in 2, so none: give more text"):
            TextStream(made, "en", **settings)
        return
    caplog.set_level("INFO", logger="xlm")
    stream = TextStream(made, "en", **settings)
    assert f"the first {stream.num_batches} of {case['n_batches']} chunks are read" in caplog.text
    chunks = [np.stack(stream.examples(k).first).T.tolist() for k in range(stream.num_batches)]
    assert chunks == case["batches_subsample_2"]


def test_code_layout_says_when_most_of_what_it_serves_is_filler(caplog):
    text([3] * 4, length=8, rows=4, layout="original")  # 16 tokens in 32 cells
    text([3] * 3, length=8, rows=4)
    assert not caplog.records
    text([3, 3, 3, 2], length=8, rows=4, layout="original")
    (record,) = caplog.records
    assert record.levelname == "WARNING" and record.name == "xlm"
    assert record.getMessage() == (
        "clm/en: 17 of the 32 cells that layout original makes are filler, for only 15 "
        "tokens of text: lower rows (4) or length (8), or use layout paper"
    )


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(ConfigError, match="clm/en: one_in is 2 with layout paper"):
        text([3], length=1, rows=1, one_in=2)
    for wrong in ({"length": 0, "rows": 1}, {"length": 1, "rows": 0}):
        with pytest.raises(ConfigError, match="clm/en: rows"):
            text([3], **wrong)
    with pytest.raises(ConfigError, match="text layout 'book': expected paper or original"):
        text([3], length=1, rows=1, layout="book")
    with pytest.raises(DataError, match="is empty"):
        text([], length=1, rows=1)
    unnamed = Corpora(TOKENIZER, ["hi"], texts={("train", "en"): corpus([3])})
    with pytest.raises(
        ConfigError, match="clm/en: .*not know the language en: it knows hi; list it"
    ):
        TextStream(unnamed, "en", objective="clm", length=1, rows=1)


# -- any


def test_what_an_objective_reads_off_a_stream():
    made = corpora(en=[3, 4], hi=[5], en_hi=([1, 2], [3, 4]))
    stream = PairStream(made, "en-hi", objective="tlm", tokens_per_batch=9, num_specials=4)
    assert stream.tokenizer is made.tokenizer
    assert stream.counts is made.counts()
    assert stream.unigram[1] is made.unigram("hi")
    held_out = Corpora(TOKENIZER, ["en"], texts={("valid", "en"): corpus([3])})
    stream = TextStream(held_out, "en", objective="mlm", split="valid", length=4, rows=1)
    assert stream.unigram is None

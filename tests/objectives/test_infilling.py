"""Infilling: rows written out by hand, whole words, and a model that learns it."""

import math

import numpy as np
import pytest
import torch

from tests.objectives.toys import END, MASK, TOKENIZER, corpora, model, real
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.errors import ConfigError, DataError
from xlm.objectives.infilling import Infilling, first_pieces
from xlm.rng import Random
from xlm.text.tokenizers.language_tokens import LanguageTokens
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.text.tokenizers.word_marks import word_marks

CORPORA = corpora()
QUIET = {"permute": 0, "share": 0}
SETTINGS = {
    "languages": ["en", "ne"], "tokens": 80, "length": 20, "num_lengths": 3,
    "pieces_in": ["en", "ne"],
}  # fmt: skip
NOISY = Infilling(**SETTINGS)


def batches(objective, at=0, split="valid"):
    found = objective.streams("ae", CORPORA, seed=0, split=split)[at]
    for k in range(found.num_batches):
        yield found.examples(k), objective.collate(found.examples(k), Random(0, k), train=False)


def test_rows_by_hand():
    """A block of two sentences of ne (id 1), without noise."""
    rows = [np.array([20, 21, 22]), np.array([30])]
    text = Corpus.from_sentences(rows, language="ne", tokenizer=TOKENIZER)
    made = Corpora(TOKENIZER, ["en", "ne"], texts={("valid", "ne"): text})
    objective = Infilling(languages=["en", "ne"], length=8, pieces_in=["en", "ne"], **QUIET)
    (found,) = objective.streams("ae", made, seed=0, split="valid")
    batch = objective.collate(found.examples(0), Random(0), train=False)
    assert batch.source.tokens.tolist() == [[END, 20, 21, 22, END, 30, END]]
    assert batch.tokens.tolist() == [[END, 20, 21, 22, END, 30]]
    assert real(batch)[1] == [20, 21, 22, END, 30, END]
    assert (batch.langs == 1).all() and (batch.source.langs == 1).all()
    assert batch.source.positions.tolist() == [list(range(7))]


def test_rows_of_mbart():
    """The language's token closes what is read and opens what is written."""
    tokenizer = LanguageTokens(TOKENIZER, ["en", "ne"])  # 60 and 61
    text = Corpus.from_sentences([np.array([20, 21, 22])] * 2, language="ne", tokenizer=tokenizer)
    made = Corpora(tokenizer, ["en", "ne"], texts={("train", "ne"): text})
    settings = {"languages": ["ne"], "length": 9, "pieces_in": ["ne"], "layout": "mbart"}
    objective = Infilling(**settings, permute=1.0, share=1.0)
    (found,) = objective.streams("ae", made, seed=0)
    batch = objective.collate(found.examples(0), Random(0), train=True)
    read = batch.source.tokens[0, : int(batch.source.lengths[0])].tolist()
    assert set(read[:-2]) == {MASK, END} and read[-2:] == [END, 61] and read.count(END) == 2
    assert batch.tokens.tolist() == [[61, 20, 21, 22, END, 20, 21, 22]]
    assert real(batch)[1] == [20, 21, 22, END, 20, 21, 22, END]


def test_noise_is_in_what_is_read_alone():
    reordered = 0
    for examples, batch in batches(NOISY):
        for row, block in enumerate(examples.first):
            length = int(batch.lengths[row])
            assert batch.tokens[row, :length].tolist() == [END, *block.tolist()]
            read = batch.source.tokens[row, : int(batch.source.lengths[row])].tolist()
            assert (read[0], read[-1]) == (END, END) and read.count(END) == 2 + sum(block == END)
            num = int((block != END).sum())
            left = [token for token in read if token not in (END, MASK)]
            assert len(left) == num - math.ceil(0.35 * num - 1e-9)
            in_order = iter(block.tolist())
            reordered += not all(token in in_order for token in left)
    assert reordered > 2


def test_held_out_noise_is_fixed():
    (found, *_) = NOISY.streams("ae", CORPORA, seed=0, split="valid")
    once, again, other = (
        [batch.source.tokens for batch in NOISY.evaluation_batches(found, seed)]
        for seed in (3, 3, 4)
    )
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert not all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(once, other, strict=True)
    )


def test_what_is_predicted_is_the_whole_text_and_has_a_unigram_model():
    (found, *_) = NOISY.streams("ae", CORPORA, seed=0, split="valid")
    network = model(num_decoder_layers=1)
    num, nats = 0, 0.0
    for _, batch in batches(NOISY):
        loss = NOISY.loss(network, None, batch)
        assert loss.count == batch.count and set(loss.scores) == {"nats", "correct"}
        num += batch.count
        nats += NOISY.baseline(found, batch)["unigram_nats"]
    text = CORPORA.text("valid", "en")
    assert num == text.text_size.tokens
    assert nats == pytest.approx(float(CORPORA.unigram("en")[np.asarray(text.ids)].sum()))


class Marked(Tokenizer):
    """Pieces are given; the first two ids are special."""

    def __init__(self, pieces):
        self.pieces, self.vocab_size = ["</s>", "<mask>", *pieces], len(pieces) + 2
        self.end_id, self.mask_id, self.pad_id, self.unk_id = 0, 1, 0, 1
        self.special_ids = frozenset({0, 1})

    digest = "0" * 64
    encode = decode = save = None


@pytest.mark.parametrize(
    ("pieces", "text", "expected"),
    [
        (["▁the", "▁", "re", "s"], [2, 5, 0, 4, 2, 3, 4], [1, 0, 0, 1, 1, 1, 0]),
        (["Ġthe", "re"], [3, 3, 2, 0, 3], [1, 0, 1, 0, 1]),
        (["the", "##re", "##s"], [2, 3, 4, 2, 0, 3, 2], [1, 0, 0, 1, 0, 1, 1]),
        (["th@@", "ere", "so"], [2, 3, 4, 0, 2, 2, 3], [1, 0, 1, 0, 1, 0, 0]),
        (["th", "ere</w>", "so</w>"], [2, 3, 4, 0, 2, 2, 3], [1, 0, 1, 0, 1, 0, 0]),
    ],
)
def test_where_words_begin(pieces, text, expected):
    tokenizer = Marked(pieces)
    block = np.array(text)
    assert first_pieces(block, tokenizer, whole_words=True).tolist() == [bool(x) for x in expected]
    assert first_pieces(block, tokenizer, whole_words=False).tolist() == [x != 0 for x in text]
    assert word_marks(tokenizer).parts_words


def test_words_that_the_tokenizer_does_not_mark():
    objective = Infilling(languages=["en", "ne"], length=20, pieces_in=["ne"])
    unmarked = Marked(["the", "re"])
    assert not word_marks(unmarked).parts_words
    with pytest.raises(ConfigError, match="whole words are to be hidden in en: list these"):
        objective.streams("ae", Corpora(unmarked, ["en", "ne"]), seed=0)
    short = Infilling(languages=["en"], length=2, pieces_in=["en"])
    with pytest.raises(DataError, match="ae/en: none of the 40 sentences of the train text fits"):
        short.streams("ae", CORPORA, seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": []}, "needs at least one language"),
        ({"pieces_in": ["th"]}, "pieces_in names 'th', which is not in languages"),
        ({"length": 0}, "length must be at least 1: found 0"),
        ({"share": 1.5}, r"share must be in \[0, 1\]: found 1.5"),
        ({"mean_length": 0.5}, "mean_length must be from 1 to 100"),
        ({"label_smoothing": 1.0}, r"in \[0, 1\): found 1.0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Infilling(**{"languages": ["en"], **settings})

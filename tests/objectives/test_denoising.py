"""Denoising auto-encoding: rows written out by hand, and as translation of noisy sentences."""

import math

import numpy as np
import pytest
import torch

from tests.objectives.toys import END, MASK, PAD, TOKENIZER, corpora, corpus, model, real
from xlm.data.corpora import Corpora
from xlm.data.pairs import Pairs
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores
from xlm.objectives.denoising import Denoising
from xlm.objectives.translation import Translation
from xlm.rng import Random

CORPORA = corpora()
QUIET = {"shuffle": 0, "drop": 0, "blank": 0}
SETTINGS = {"languages": ["en", "ne"], "tokens": 40, "num_lengths": 3}
NOISY = Denoising(**SETTINGS, shuffle=3, drop=0.3, blank=0.2)


def stream(objective, at=0, split="valid", made=CORPORA):
    return objective.streams("ae", made, seed=0, split=split)[at]


def batches(objective, at=0, split="valid"):
    found = stream(objective, at, split)
    for k in range(found.num_batches):
        yield found.examples(k), objective.collate(found.examples(k), Random(0, k), train=False)


def tensors(batch):
    own = [batch.tokens, batch.positions, batch.langs, batch.lengths, batch.predict, batch.targets]
    return [*own, *(tensors(batch.source) if batch.source else [])]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(tensors(one), tensors(other), strict=True))


def test_rows_by_hand():
    """Two sentences of ne (id 1) in rows of 5 cells, without noise."""
    rows = [np.array([20, 21, 22]), np.array([30])]
    made = Corpora(TOKENIZER, ["en", "ne"], texts={("valid", "ne"): corpus(rows, "ne")})
    objective = Denoising(languages=["en", "ne"], tokens=10, num_lengths=1, **QUIET)
    (found,) = objective.streams("ae", made, seed=0, split="valid")
    batch = objective.collate(found.examples(0), Random(0), train=False)
    assert (found.id, batch.rows.tolist()) == ("ae/ne", [1, 0])  # in order of length
    assert batch.source.tokens.tolist() == [[END, 30, END, PAD, PAD], [END, 20, 21, 22, END]]
    assert batch.source.lengths.tolist() == [3, 5] and batch.source.count == 0
    assert batch.tokens.tolist() == [[END, 30, END, PAD], [END, 20, 21, 22]]
    assert batch.lengths.tolist() == [2, 4]
    assert real(batch) == ([0, 1, 4, 5, 6, 7], [30, END, 20, 21, 22, END])
    assert batch.positions.tolist()[1] == [0, 1, 2, 3]
    assert batch.source.positions.tolist()[1] == [0, 1, 2, 3, 4]
    assert (batch.langs == 1).all() and (batch.source.langs == 1).all()


def test_without_noise_the_encoder_reads_the_sentence():
    for examples, batch in batches(Denoising(**SETTINGS, **QUIET)):
        width = batch.tokens.shape[1]
        assert torch.equal(batch.source.lengths, batch.lengths + 1)
        assert torch.equal(batch.source.tokens[:, :width][:, 1:], batch.tokens[:, 1:])
        for row, ids in enumerate(examples.first):
            expected = [END, *ids.tolist(), END]
            assert batch.source.tokens[row, : len(expected)].tolist() == expected


def test_noise_is_in_what_is_read_alone_and_keeps_the_ends():
    changed = masked = shorter = 0
    seen = set()
    for examples, batch in batches(NOISY):
        targets = dict(zip(*real(batch), strict=True))
        for row, ids in enumerate(examples.first):
            seen.add(int(batch.rows[row]))
            length = int(batch.lengths[row])
            assert batch.tokens[row, :length].tolist() == [END, *ids.tolist()]
            cells = row * batch.tokens.shape[1] + np.arange(length)
            assert [targets[cell] for cell in cells] == [*ids.tolist(), END]
            length = int(batch.source.lengths[row])
            read = batch.source.tokens[row, :length].tolist()
            assert (read[0], read[-1]) == (END, END) and 3 <= length <= len(ids) + 2
            assert (batch.source.tokens[row, length:] == PAD).all()
            assert set(read[1:-1]) <= {*ids.tolist(), MASK}
            changed += read[1:-1] != ids.tolist()
            masked += MASK in read
            shorter += length < len(ids) + 2
    assert seen == set(range(13))
    assert 6 < changed and 2 < masked and 2 < shorter


def test_the_same_address_is_the_same_batch_and_epochs_have_noise_of_their_own():
    found = stream(NOISY, split="train")
    examples = found.examples(0)
    once, again, other = (
        NOISY.collate(examples, Random(0, "ae/en", k), train=True) for k in (0, 0, 1)
    )
    assert same(once, again) and not same(once, other)
    assert torch.equal(once.targets, other.targets)


def test_held_out_noise_is_fixed():
    found = stream(NOISY)
    once, again = ([*NOISY.evaluation_batches(found, 3)] for _ in range(2))
    assert len(once) == found.num_batches > 1
    assert all(same(a, b) for a, b in zip(once, again, strict=True))
    others = [*NOISY.evaluation_batches(found, 4)]
    assert not all(same(a, b) for a, b in zip(once, others, strict=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("training", [False, True])
def test_the_loss_is_that_of_translating_the_noisy_sentence_into_the_clean_one(smoothing, training):
    objective = Denoising(**SETTINGS, label_smoothing=smoothing)
    translation = Translation(
        pairs=["en-en"], tokens=40, num_lengths=3, length=100, label_smoothing=smoothing
    )
    ours = [batch for _, batch in batches(objective)]
    noisy = {}
    for batch in ours:
        for row, tokens, length in zip(
            batch.rows.tolist(), batch.source.tokens, batch.source.lengths.tolist(), strict=True
        ):
            noisy[row] = tokens[1 : length - 1].numpy()
    clean = CORPORA.text("valid", "en")
    pairs = Pairs(corpus([noisy[row] for row in range(len(clean))], "en"), clean)
    made = Corpora(TOKENIZER, CORPORA.languages, pairs={("valid", "en-en"): pairs})
    (found,) = translation.streams("mt", made, seed=0, split="valid")
    assert found.num_batches == len(ours)
    network = model(num_decoder_layers=2).train(training)
    for k, batch in enumerate(ours):
        theirs = translation.collate(found.examples(k), Random(0), train=False)
        assert same(batch, theirs) and torch.equal(batch.rows, theirs.rows)
        expected = translation.loss(network, None, theirs)
        loss = objective.loss(network, None, batch)
        assert float(loss.total.detach()) == float(expected.total.detach())
        assert loss.count == expected.count == batch.count
        assert set(loss.scores) == (set() if training else {"nats", "correct"})
        assert loss.scores == expected.scores


def test_what_is_predicted_is_the_whole_text():
    num = sum(batch.count for _, batch in batches(NOISY, at=1))
    size = CORPORA.text("valid", "ne").text_size
    assert num == size.tokens
    figures = NOISY.figures(
        stream(NOISY, at=1), Scores({"nats": 30.0, "targets": num, "correct": 1})
    )
    assert figures["word_perplexity"] == pytest.approx(math.exp(30.0 / size.words))


def test_streams_of_each_language_and_of_what_is_held_out():
    found = NOISY.streams("ae", CORPORA, seed=0)
    assert [one.id for one in found] == ["ae/en", "ae/ne"] and all(one.shuffle for one in found)
    only = Corpora(TOKENIZER, ["en", "ne"], texts={("valid", "ne"): CORPORA.text("valid", "ne")})
    assert [one.id for one in NOISY.streams("ae", only, seed=0, split="valid")] == ["ae/ne"]
    with pytest.raises(DataError, match="no text 'en' in the train split"):
        NOISY.streams("ae", only, seed=0)
    short = Denoising(languages=["en"], tokens=40, length=6)
    lengths = CORPORA.text("train", "en").lengths()
    assert stream(short, split="train").num_dropped == int((lengths > 4).sum()) > 0


def test_a_model_without_decoder_is_refused():
    _, batch = next(batches(NOISY))
    with pytest.raises(ConfigError, match="set model.num_decoder_layers above 0"):
        NOISY.loss(model(), None, batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"languages": []}, "needs at least one language"),
        ({"length": 0}, "length must be at least 1: found 0"),
        ({"label_smoothing": 1.0}, r"in \[0, 1\): found 1.0"),
        ({"shuffle": 1}, r"shuffle must be 0 \(off\) or above 1"),
        ({"drop": 1}, r"drop must be in \[0, 1\): found 1"),
        ({"blank": -0.1}, r"blank must be in \[0, 1\): found -0.1"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Denoising(**{"languages": ["en"], **settings})

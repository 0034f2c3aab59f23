"""Translation with teacher forcing, against prefixes decoded one by one."""

import math

import pytest
import torch

from tests.objectives.toys import PAD, TOKENIZER, corpora, model, real
from xlm.errors import ConfigError
from xlm.metrics.scores import Scores
from xlm.objectives.translation import Translation
from xlm.rng import Random

CORPORA = corpora()
OBJECTIVE = Translation(pairs=["en-ne", "ne-en"], tokens=40, num_lengths=3)


def batches(objective=OBJECTIVE, at=0, split="valid"):
    found = objective.streams("mt", CORPORA, seed=0, split=split)[at]
    for k in range(found.num_batches):
        yield found, objective.collate(found.examples(k), Random(0), train=split == "train")


@pytest.mark.parametrize(("at", "languages"), [(0, (0, 1)), (1, (1, 0))])
def test_the_decoder_reads_the_target_and_predicts_it_one_ahead(at, languages):
    seen = set()
    for found, batch in batches(at=at):
        source, width = batch.source, batch.tokens.shape[1]
        targets = dict(zip(*real(batch), strict=True))
        for row, pair in enumerate(batch.rows.tolist()):
            seen.add(pair)
            first, second = (TOKENIZER.wrap(side[pair]).tokens for side in found.pairs.sides)
            length = int(source.lengths[row])
            assert source.tokens[row, :length].tolist() == first.tolist()
            assert (source.tokens[row, length:] == PAD).all()
            length = int(batch.lengths[row])
            assert batch.tokens[row, :length].tolist() == second[:-1].tolist()
            assert [targets.pop(row * width + t) for t in range(length)] == second[1:].tolist()
        assert not targets
        assert (batch.langs == languages[1]).all() and (source.langs == languages[0]).all()
        for side in (batch, source):
            expected = list(range(side.tokens.shape[1]))
            for row, length in enumerate(side.lengths.tolist()):
                assert side.positions[row, :length].tolist() == expected[:length]
        assert source.count == 0 and batch.num_tokens == int(batch.lengths.sum()) + int(
            source.lengths.sum()
        )
    assert seen == set(range(13))
    assert found.id == ("mt/en-ne", "mt/ne-en")[at]


def test_the_tokens_predicted_are_those_of_the_target_text():
    num = sum(batch.count for _, batch in batches())
    assert num == CORPORA.text("valid", "ne").text_size.tokens


def test_a_batch_keeps_to_its_budget_of_cells():
    pairs = CORPORA.pairs("train", "en-ne")
    longest = max(int(side.lengths().max()) for side in pairs.sides) + 2
    for _, batch in batches(split="train"):
        assert batch.source.tokens.numel() <= 40 or len(batch.rows) == 1
        assert batch.source.tokens.shape[1] <= longest  # each side in a row of its own


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_is_that_of_prefixes_decoded_one_by_one(smoothing):
    network = model(num_decoder_layers=2)
    objective = Translation(pairs=["en-ne"], tokens=40, num_lengths=3, label_smoothing=smoothing)
    _, batch = next(batches(objective))
    found = objective.loss(network, None, batch)
    nats = smoothed = correct = 0.0
    source, width = batch.source, batch.tokens.shape[1]
    for cell, target in zip(*real(batch), strict=True):
        row, at = divmod(cell, width)
        whole, length = (slice(row, row + 1), slice(0, int(source.lengths[row]))), source.lengths
        memory = network.encode(
            source.tokens[whole], length[row : row + 1], source.positions[whole],
            source.langs[whole],
        )  # fmt: skip
        prefix = (slice(row, row + 1), slice(0, at + 1))
        hidden = network.decode(
            batch.tokens[prefix], torch.tensor([at + 1]), memory, length[row : row + 1],
            batch.positions[prefix], batch.langs[prefix],
        )  # fmt: skip
        logits = network.predict(hidden, torch.tensor([at]), side="decoder")[0]
        log_probabilities = logits.log_softmax(0).detach()
        nats -= float(log_probabilities[target])
        smoothed -= float(
            (1 - smoothing) * log_probabilities[target] + smoothing * log_probabilities.mean()
        )
        correct += int(logits.argmax()) == target
    assert float(found.total.detach()) == pytest.approx(smoothed, rel=1e-10)
    assert float(found.scores["nats"]) == pytest.approx(nats, rel=1e-10)
    assert (float(found.scores["correct"]), found.count) == (correct, batch.count)


def test_figures_are_of_the_target_s_text():
    found = OBJECTIVE.streams("mt", CORPORA, seed=0, split="valid")[0]
    size = CORPORA.text("valid", "ne").text_size
    sums = Scores({"nats": 30.0, "targets": size.tokens, "correct": 1})
    figures = OBJECTIVE.figures(found, sums)
    assert figures["word_perplexity"] == pytest.approx(math.exp(30.0 / size.words))


def test_a_model_without_decoder_is_refused():
    _, batch = next(batches())
    with pytest.raises(ConfigError, match="set model.num_decoder_layers above 0"):
        OBJECTIVE.loss(model(), None, batch)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pairs": []}, "needs at least one direction"),
        ({"pairs": ["en-ne"], "label_smoothing": 1.0}, r"in \[0, 1\): found 1.0"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Translation(**settings)


def test_pairs_that_are_not_there_name_those_that_are():
    with pytest.raises(
        ConfigError, match="'en-fr' is not a pair of known .* .en, ne.: .* such as en-ne"
    ):
        Translation(pairs=["en-fr"]).streams("mt", CORPORA, seed=0)

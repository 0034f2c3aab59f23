"""CLM and causal TLM: targets shifted by one, against prefixes fed one by one."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.fakes import WordTokenizer
from tests.objectives.toys import END, MASK, TOKENIZER, batches_of, corpora, model, real
from xlm.data.binarize import binarize
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.metrics.scores import Scores
from xlm.objectives.causal import CausalLM, CausalTLM
from xlm.objectives.original import OriginalCausalLM
from xlm.rng import Random

CORPORA = corpora()
CLM = CausalLM(languages=["en", "ne"], rows=3, length=16)
CTLM = CausalTLM(pairs=["ne-en"], tokens=64, num_lengths=4)


def batches(objective, split, at=0):
    return batches_of(objective, CORPORA, split, at)


@pytest.mark.parametrize("layout", ["paper", "original"])
def test_a_target_is_the_next_input(layout):
    objective = OriginalCausalLM(languages=["en"], rows=3, length=16, stream_layout=layout)
    for _, batch in batches(objective, "train"):
        width = batch.tokens.shape[1]
        targets = dict(zip(*real(batch), strict=True))
        assert len(targets) == int(batch.lengths.sum()) == batch.count
        for row, length in enumerate(batch.lengths.tolist()):
            own = [targets[row * width + at] for at in range(length)]
            assert own[:-1] == batch.tokens[row, 1:length].tolist()


def test_each_token_of_the_text_is_once_an_input_and_once_a_target():
    ids = CORPORA.text("valid", "en").ids.tolist()
    inputs, targets = [], []
    for _, batch in batches(CLM, "valid"):
        inside = np.arange(batch.tokens.shape[1]) < batch.lengths.numpy()[:, None]
        inputs += batch.tokens.numpy()[inside].tolist()
        targets += real(batch)[1]
    assert targets == ids
    assert inputs == [END, *ids[:-1]]  # an end symbol opens the text; its last one ends it


def test_an_epoch_of_training_text_too_in_another_order():
    ids = CORPORA.text("train", "en").ids.tolist()
    found = CausalLM(languages=["en"], rows=1, length=16).streams("o", CORPORA, seed=0)[0]
    assert found.num_batches > 10
    rows, inputs, targets = [], [], []
    for k in range(found.num_batches):
        batch = CLM.collate(found.examples(k), Random(0), train=True)
        rows += batch.rows.tolist()
        length = int(batch.lengths)
        inputs += batch.tokens[0, :length].tolist()
        targets += real(batch)[1]
    assert rows != sorted(rows) == list(range(found.num_batches))
    assert Counter(targets) == Counter(ids)
    assert Counter(inputs) == Counter([END, *ids[:-1]])


def test_nothing_is_hidden_and_nothing_is_drawn():
    found = CLM.streams("o", CORPORA, seed=0)[0]
    one = CLM.collate(found.examples(3), Random(0, "a"), train=True)
    two = CLM.collate(found.examples(3), Random(1, "b"), train=False)
    assert torch.equal(one.tokens, two.tokens) and torch.equal(one.targets, two.targets)
    assert MASK not in one.tokens


def test_languages_and_positions_of_text():
    for at, language in enumerate((0, 1)):
        for _, batch in batches(CLM, "valid", at):
            assert (batch.langs == language).all()
            assert batch.positions.tolist() == [list(range(16))] * len(batch.rows)


@pytest.mark.parametrize("layout", ["tlm", "tlm-run-on", "merged"])
def test_pairs_are_read_from_left_to_right(layout):
    objective = CausalTLM(pairs=["ne-en"], tokens=64, num_lengths=4, layout=layout)
    seen = set()
    for found, batch in batches(objective, "valid"):
        width = batch.tokens.shape[1]
        targets = dict(zip(*real(batch), strict=True))
        assert len(targets) == int(batch.lengths.sum())
        for row, length in enumerate(batch.lengths.tolist()):
            pair = int(batch.rows[row])
            seen.add(pair)
            first, second = (side[pair] for side in found.pairs.sides)
            tokens, positions, segments = TOKENIZER.wrap(first, second, layout)
            assert batch.tokens[row, :length].tolist() == tokens[:-1].tolist()
            assert [targets[row * width + at] for at in range(length)] == tokens[1:].tolist()
            assert batch.positions[row, :length].tolist() == positions[:-1].tolist()
            assert batch.langs[row, :length].tolist() == (1 - segments[:-1]).tolist()
    assert seen == set(range(13))


@pytest.mark.parametrize("objective", [CLM, CTLM], ids=["clm", "causal tlm"])
def test_a_decoder_without_a_source_is_a_causal_model_too(objective):
    """Its layers are an encoder's once the cross-attention is taken out."""
    network = model(num_decoder_layers=2)
    alone = model()
    weights = {
        name.replace("decoder.", "encoder."): value
        for name, value in network.state_dict().items()
        if name.startswith("decoder.") and "cross" not in name
    }
    alone.load_state_dict(weights, strict=True)
    _, batch = next(batches(objective, "valid"))
    found = replace(objective, part="decoder").loss(network, None, batch)
    expected = objective.loss(alone, None, batch)
    assert float(found.total.detach()) == pytest.approx(float(expected.total.detach()), rel=1e-12)
    assert found.scores["correct"] == expected.scores["correct"] and found.count == batch.count
    found.total.backward()
    trained = {name for name, p in network.named_parameters() if p.grad is not None}
    assert trained == {
        name for name, _ in network.named_parameters()
        if name.startswith("decoder.") and "cross" not in name
    }  # fmt: skip
    with pytest.raises(ConfigError, match="set model.num_decoder_layers above 0"):
        replace(objective, part="decoder").loss(alone, None, batch)


@pytest.mark.parametrize("objective", [CLM, CTLM], ids=["clm", "causal tlm"])
def test_the_loss_is_that_of_prefixes_fed_one_by_one(objective):
    """The model is given each prefix alone, as an encoder that hides nothing of it."""
    network = model()
    _, batch = next(batches(objective, "valid"))
    found = objective.loss(network, None, batch)
    nats = correct = 0.0
    width = batch.tokens.shape[1]
    for cell, target in zip(*real(batch), strict=True):
        row, at = divmod(cell, width)
        prefix = (slice(row, row + 1), slice(0, at + 1))
        hidden = network.encode(
            batch.tokens[prefix], torch.tensor([at + 1]), batch.positions[prefix],
            batch.langs[prefix], causal=True,
        )  # fmt: skip
        logits = network.predict(hidden, torch.tensor([at]))[0]
        nats -= float(logits.log_softmax(0)[target].detach())
        correct += int(logits.argmax()) == target
    assert float(found.total.detach()) == pytest.approx(nats, rel=1e-10)
    assert (float(found.scores["correct"]), found.count) == (correct, batch.count)


def test_the_units_of_a_toy_text_by_hand(tmp_path):
    """Words, characters and bytes are counted here from the text itself, line ends included."""
    tokenizer = WordTokenizer(60)
    text = "नेपाल राम्रो छ\nthe cat\na\n"
    texts = {
        (split, "ne"): binarize(text.splitlines(), tmp_path / split, "ne", tokenizer)
        for split in ("train", "valid")
    }
    own = Corpora(tokenizer, ["ne"], texts=texts)
    objective = CausalLM(languages=["ne"], rows=2, length=4)
    found = objective.streams("o", own, seed=0, split="valid")[0]
    network = model()
    sums = Scores()
    for batch in objective.evaluation_batches(found, 0):
        loss = objective.loss(network, None, batch)
        scores = {name: float(value) for name, value in loss.scores.items()}
        sums = sums + {"targets": loss.count, **scores, **objective.baseline(found, batch)}
    figures = objective.figures(found, sums)
    words, line_ends = len(text.split()), text.count("\n")
    assert sums["targets"] == words + line_ends == 9  # a word is one token here
    assert figures["word_perplexity"] == pytest.approx(np.exp(sums["nats"] / (words + line_ends)))
    assert figures["perplexity"] == pytest.approx(np.exp(sums["nats"] / 9))
    bits = sums["nats"] / np.log(2)
    assert figures["bits_per_character"] == pytest.approx(bits / len(text))
    assert figures["bits_per_byte"] == pytest.approx(bits / len(text.encode()))
    assert figures["accuracy"] == sums["correct"] / 9
    # Three line ends and six words, of which the tokenizer may take two for one.
    counts = Counter({END: line_ends, **Counter(tokenizer.encode(text))})
    unigram = -sum(num * np.log((num + 1) / (9 + 60)) for num in counts.values())
    assert figures["unigram_perplexity"] == pytest.approx(np.exp(unigram / 9))


def test_each_has_its_own_kind_of_text():
    with pytest.raises(ConfigError, match="use CausalTLM for pairs"):
        CausalLM(pairs=["en-ne"])
    with pytest.raises(ConfigError, match="use CausalLM for text"):
        CausalTLM(languages=["en"])
    with pytest.raises(ConfigError, match="takes either languages or pairs"):
        CausalLM()

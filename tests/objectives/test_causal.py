"""CLM and causal TLM: targets shifted by one, against prefixes fed one by one."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.data.fakes import WordTokenizer
from tests.objectives.toys import END, MASK, TOKENIZER, corpora, model, real
from xlm.data.binarize import binarize
from xlm.data.corpora import Corpora
from xlm.data.original_pairs import OriginalPairStream
from xlm.data.sentence_streams import PairStream
from xlm.errors import ConfigError
from xlm.metrics.scores import Scores
from xlm.objectives.causal import CausalLM, CausalTLM
from xlm.objectives.original import OriginalCausalLM, OriginalCausalTLM
from xlm.rng import Random

CORPORA = corpora()
CLM = CausalLM(languages=["en", "ne"], rows=3, length=16)
CTLM = CausalTLM(pairs=["ne-en"], tokens=64, num_lengths=4)


def batches(objective, split, at=0):
    found = objective.streams("o", CORPORA, seed=0, split=split)[at]
    for k in range(found.num_batches):
        train = split == "train"
        yield found, objective.collate(found.examples(k), Random(0, k), train=train)


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


def test_the_first_token_of_a_row_may_be_left_to_be_read():
    objective = OriginalCausalLM(languages=["en"], rows=3, length=16, predict_first=False)
    for found, batch in batches(objective, "train"):
        examples = [found.examples(k) for k in range(found.num_batches)]
        assert batch.tokens.shape[1] == 15
        own = next(e for e in examples if e.rows.tolist() == batch.rows.tolist())
        targets = dict(zip(*real(batch), strict=True))
        for row, ids in enumerate(own.first):
            assert batch.tokens[row, : len(ids) - 1].tolist() == ids[:-1].tolist()
            assert [targets.pop(row * 15 + at) for at in range(len(ids) - 1)] == ids[1:].tolist()
        assert not targets


def test_the_original_s_evaluation_has_rows_of_its_streams_without_their_first_targets():
    objective = OriginalCausalLM(languages=["en"], rows=3, length=16, evaluation="original")
    (found,) = objective.streams("o", CORPORA, seed=0, split="valid")
    ids = CORPORA.text("valid", "en").ids.tolist()
    num_chunks = -(-len(ids) // 16)
    table = [END] + [END] * (num_chunks * 16 - len(ids)) + ids  # one stream (docs/fidelity.md, B1)
    for k, batch in enumerate(objective.evaluation_batches(found, 0)):
        chunk = table[16 * k : 16 * (k + 1)]
        assert batch.tokens.tolist() == [chunk[:-1]] and real(batch)[1] == chunk[1:]
    assert k + 1 == num_chunks
    # Training is as it was.
    (own,) = objective.streams("o", CORPORA, seed=0)
    assert objective.collate(own.examples(0), Random(0), train=True).tokens.shape == (3, 16)


@pytest.mark.parametrize(
    "objective",
    [
        OriginalCausalLM(languages=["en", "ne"], rows=3, length=16),
        OriginalCausalTLM(pairs=["ne-en"], tokens=64, num_lengths=4),
    ],
    ids=["clm", "causal tlm"],
)
def test_no_loss_is_taken_at_what_is_only_context(objective):
    for num_context in (1, 5):
        fewer = replace(objective, num_context=num_context)
        for (_, batch), (_, all_) in zip(
            batches(fewer, "train"), batches(objective, "train"), strict=True
        ):
            width = batch.tokens.shape[1]
            expected = [
                (cell, target)
                for cell, target in zip(*real(all_), strict=True)
                if cell % width >= num_context
            ]
            assert list(zip(*real(batch), strict=True)) == expected
            assert torch.equal(batch.tokens, all_.tokens)
        held_out = zip(batches(fewer, "valid"), batches(objective, "valid"), strict=True)
        assert all(torch.equal(a.predict, b.predict) for (_, a), (_, b) in held_out)


def test_held_out_pairs_may_be_laid_out_in_another_way():
    """As the original: positions run on in training and restart in evaluation (A1)."""
    objective = OriginalCausalTLM(
        pairs=["ne-en"], tokens=64, num_lengths=4, layout="tlm-run-on", evaluation_layout="tlm"
    )
    for split, layout in (("train", "tlm-run-on"), ("valid", "tlm")):
        found = objective.streams("o", CORPORA, seed=0, split=split)[0]
        examples = found.examples(0)
        batch = objective.collate(examples, Random(0), train=split == "train")
        first, second = examples.first[0], examples.second[0]
        positions = TOKENIZER.wrap(first, second, layout).positions[:-1]
        assert batch.positions[0, : len(positions)].tolist() == positions.tolist()


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
    with pytest.raises(ConfigError, match="CausalTLM is the objective on pairs"):
        CausalLM(pairs=["en-ne"])
    with pytest.raises(ConfigError, match="CausalLM is the objective on text"):
        CausalTLM(languages=["en"])
    with pytest.raises(ConfigError, match="takes either languages or pairs"):
        CausalLM()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "middle"}, "part 'middle': expected one of encoder, decoder"),
        ({"num_context": -1}, "at least 0 and below length \\(16\\): found -1"),
        ({"num_context": 16}, "found 16"),
        ({"num_context": 15, "predict_first": False}, "have 15 cells to predict from; lower it"),
        ({"length": 1, "predict_first": False}, "nothing to predict but their first"),
        ({"length": 1, "evaluation": "original"}, "nothing to predict but their first"),
    ],
)
def test_settings_that_leave_nothing_to_predict(settings, message):
    with pytest.raises(ConfigError, match=message):
        OriginalCausalLM(languages=["en"], **{"length": 16, **settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tokens": None}, "tokens None goes with pair_order original alone: found buckets"),
        ({"longest_side": 100}, "longest_side 100 goes with pair_order original alone"),
        ({"longest_side": 0, "pair_order": "original"}, "longest_side must be at least 1: found 0"),
        ({"pair_order": "sorted"}, "pair_order 'sorted': expected one of buckets, original, orig"),
        ({"evaluation_layout": "tml"}, "unknown layout 'tml'"),
    ],
)
def test_settings_of_pairs_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        OriginalCausalTLM(pairs=["ne-en"], **settings)


@pytest.mark.parametrize(
    ("pair_order", "tokens", "sort"), [("original", None, True), ("original", 60, True),
                                       ("original-unsorted", None, False)],
)  # fmt: skip
def test_the_order_of_pairs_is_passed_on_to_training_alone(pair_order, tokens, sort):
    objective = OriginalCausalTLM(
        pairs=["ne-en"], rows=5, tokens=tokens, pair_order=pair_order, longest_side=8
    )
    (found,) = objective.streams("o", CORPORA, seed=3)
    expected = OriginalPairStream(
        CORPORA, "ne-en", objective="o", rows=5, tokens=tokens, num_specials=4, max_length=256,
        longest_side=8, sort=sort, seed=3,
    )  # fmt: skip
    assert found.num_dropped == expected.num_dropped > 0
    for k in (0, 3, 10**6):
        assert found.examples(k).rows.tolist() == expected.examples(k).rows.tolist()
    (held_out,) = objective.streams("o", CORPORA, seed=3, split="valid")
    assert isinstance(held_out, PairStream) and held_out.num_rows == 13
    changed = replace(objective, evaluation="original")
    (evaluated,) = changed.streams("o", CORPORA, seed=3, split="valid")
    assert isinstance(evaluated, OriginalPairStream) and evaluated.num_rows == 13
    lengths = [len(evaluated.examples(k).rows) for k in range(evaluated.num_batches)]
    assert lengths == [5, 4, 4] and not evaluated.shuffle  # by rows, sorted, once


def test_of_many_languages_the_original_evaluates_a_part():
    names = [f"l{at}" for at in range(4)]
    many = Corpora(
        TOKENIZER,
        ["en", "ne", *names],
        texts={("valid", "en"): CORPORA.text("train", "en")},
        pairs={("valid", "en-ne"): CORPORA.pairs("train", "en-ne")},
    )
    objective = OriginalCausalLM(languages=["en"], length=4, evaluation="original")
    (cut,) = objective.streams("o", many, seed=0, split="valid")
    num_chunks = -(-len(CORPORA.text("train", "en").ids) // 4)
    assert cut.num_batches == num_chunks // 5
    (whole,) = replace(objective, evaluation="whole").streams("o", many, seed=0, split="valid")
    assert whole.num_rows == num_chunks
    pairs = OriginalCausalTLM(pairs=["en-ne"], evaluation="original")
    (stream,) = pairs.streams("o", many, seed=0, split="valid")
    assert stream.num_rows == 40  # fewer than 1,500

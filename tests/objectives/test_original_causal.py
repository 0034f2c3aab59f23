"""The original's settings of CLM and of causal TLM: what each of them changes."""

from dataclasses import replace

import pytest
import torch

from tests.objectives.toys import END, TOKENIZER, batches_of, corpora, real
from xlm.data.corpora import Corpora
from xlm.data.original_pairs import OriginalPairStream
from xlm.data.sentence_streams import PairStream
from xlm.errors import ConfigError
from xlm.objectives import (
    OriginalCausalLM,
    OriginalCausalTLM,
)
from xlm.rng import Random

CORPORA = corpora()


def batches(objective, split, at=0):
    return batches_of(objective, CORPORA, split, at)


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


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"part": "middle"}, "part: expected one of encoder, decoder, found 'middle'"),
        ({"num_context": -1}, "at least 0 and below length \\(16\\): found -1"),
        ({"num_context": 16}, "found 16"),
        ({"num_context": 15, "predict_first": False}, "only predict from 15 cells: lower it"),
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
        ({"tokens": None}, "tokens is null, but pair_order buckets needs a number"),
        (
            {"longest_side": 100},
            "longest_side is 100, but it does not apply with pair_order buckets",
        ),
        ({"longest_side": 0, "pair_order": "original"}, "longest_side must be at least 1: found 0"),
        ({"pair_order": "sorted"}, "pair_order: expected one of buckets, original, orig"),
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

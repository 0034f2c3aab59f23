"""The original's masks: cell by cell in evaluation, by many draws in training.

The figures in tests/golden are the original's own, on ids of toy text.
"""

import json
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy import stats

from tests.data.fakes import WordTokenizer
from tests.objectives.toys import END, MASK, batches_of, corpora, model, real
from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.data.streams import Examples
from xlm.errors import ConfigError
from xlm.objectives import (
    CausalLM,
    CausalTLM,
    MaskedLM,
    OriginalCausalLM,
    OriginalCausalTLM,
    OriginalMaskedLM,
)
from xlm.pretrain import pretrain
from xlm.rng import Random

GOLDEN = Path(__file__).parents[1] / "golden"
EVALUATION = json.loads((GOLDEN / "evaluation_masks.json").read_text())
DRAWS = json.loads((GOLDEN / "mask_draws.json").read_text())
NUM_DRAWS = 4000
ORIGINAL = WordTokenizer(442)
ORIGINAL.counts = DRAWS["counts"]
SETTINGS = {"masks": "original", "counts": "vocabulary", "random_from_all": True}

# Evaluation.


def toy_text():
    def corpus(split, language):
        sentences = EVALUATION["texts"][f"{split}.{language}"]
        return Corpus.from_sentences(sentences, language=language, tokenizer=ORIGINAL)

    splits, languages = ("valid", "test"), ("en", "fr", "hi")
    texts = {(split, name): corpus(split, name) for split in splits for name in languages}
    pairs = {
        (split, f"en-{second}"): Pairs(texts[split, "en"], texts[split, second])
        for split in splits
        for second in ("fr", "hi")
    }
    return Corpora(ORIGINAL, languages, texts=texts, pairs=pairs)


@pytest.mark.parametrize(
    "case", EVALUATION["runs"], ids=lambda c: f"{c['split']}-{c['name']}-{c['length']}"
)
def test_evaluation_masks_are_the_original_s_to_the_cell(case):
    is_pair = "-" in case["name"]
    objective = OriginalMaskedLM(
        **{"pairs" if is_pair else "languages": [case["name"]]},
        rows=case["batch_size"],
        length=512 if is_pair else case["length"],
        mask_rate=case["mask_rate"],
        evaluation="original",
    )
    (stream,) = objective.streams("o", toy_text(), seed=9, split=case["split"])
    batches = list(objective.evaluation_batches(stream, seed=5))
    assert len(batches) == len(case["batches"])
    for k, (batch, expected) in enumerate(zip(batches, case["batches"], strict=True)):
        cells, targets = real(batch)
        assert [list(batch.tokens.shape), cells] == [expected["shape"], expected["cells"]]
        unmasked = objective._cells(stream.examples(k), train=False).tokens.ravel()
        assert targets == unmasked[cells].tolist()
        unmasked[cells] = ORIGINAL.mask_id
        assert batch.tokens.flatten().tolist() == unmasked.tolist()


def test_one_batch_alone_has_the_first_mask():
    objective = OriginalMaskedLM(languages=["en"], length=16, evaluation="original")
    (stream,) = objective.streams("o", toy_text(), seed=0, split="valid")
    first = next(iter(objective.evaluation_batches(stream, 0)))
    alone = objective.collate(stream.examples(0), Random(3), train=False)
    assert torch.equal(first.predict, alone.predict) and torch.equal(first.tokens, alone.tokens)


def test_training_is_not_touched_by_the_way_of_evaluation():
    def batch(evaluation):
        objective = OriginalMaskedLM(languages=["en"], rows=3, length=16, evaluation=evaluation)
        stream = objective.streams("o", corpora(), seed=0)[0]
        return objective.collate(stream.examples(2), Random(1), train=True)

    assert torch.equal(batch("whole").tokens, batch("original").tokens)


# Training: 4,000 draws of ours against 4,000 of the original's.


def golden_batch(name):
    """The batch that the original drew on, as examples of ours."""
    found = DRAWS["draws"][name]
    rows = [
        np.array(row[:length])
        for row, length in zip(found["tokens"], found["lengths"], strict=True)
    ]
    pairs = "-" if name.startswith("tlm") else ""
    stream = SimpleNamespace(
        kept={}, id=f"o/{name}", tokenizer=ORIGINAL, language_ids=(0, 2) if pairs else (0,)
    )
    length = len(found["tokens"][0])
    first, second = rows, None
    if pairs:
        ends = [np.flatnonzero(row == END) for row in rows]
        assert all(len(own) == 4 and own[2] == own[1] + 1 for own in ends)
        first = [row[1 : own[1]] for row, own in zip(rows, ends, strict=True)]
        second = [row[own[2] + 1 : own[3]] for row, own in zip(rows, ends, strict=True)]
    return Examples(stream, np.arange(len(rows)), first, second=second, length=length), rows


def draw(name, exponent, seed, num_draws=NUM_DRAWS):
    """How often each cell was drawn, the number of targets of each draw, and what they became."""
    examples, rows = golden_batch(name)
    kind = {"pairs": ["en-hi"]} if examples.second else {"languages": ["en"]}
    objective = OriginalMaskedLM(**kind, frequency_exponent=exponent, **SETTINGS)
    assert objective._cells(examples, train=True).tokens.tolist() == [
        [*row.tolist(), *[2] * (examples.length - len(row))] for row in rows
    ]
    times = np.zeros(len(rows) * examples.length, dtype=int)
    num_targets, became = [], np.zeros(3, dtype=int)
    for k in range(num_draws):
        batch = objective.collate(examples, Random(seed, name, k), train=True)
        cells, targets = real(batch)
        times[cells] += 1
        num_targets.append(len(cells))
        shown, targets = batch.tokens.flatten().numpy()[cells], np.array(targets)
        became += ((shown == MASK).sum(), (shown == targets).sum(), 0)
    became[2] = times.sum() - became.sum()
    return times.reshape(len(rows), -1), num_targets, became


@pytest.mark.parametrize("name", ["stream_en", "sent_hi", "tlm_en_hi"])
@pytest.mark.parametrize("exponent", [0, 0.5])
def test_training_masks_are_drawn_as_the_original_s(name, exponent):
    golden = DRAWS["draws"][name][f"alpha_{exponent}"]
    times, num_targets, became = draw(name, exponent, seed=0)
    expected = np.array(golden["times_drawn"])
    # Neither padding nor a first column ever; with an exponent no special symbol, nor a word
    # without a count. A word of the rarest weight may be missed in 4,000 draws, so not equal.
    assert not times[expected == 0].any() and not times[:, 0].any()
    drawn = expected > 0
    both = np.array([times[drawn], expected[drawn]])
    variance = np.maximum((both * (1 - both / NUM_DRAWS)).sum(0), 1)
    z = (both[0] - both[1]) / np.sqrt(variance)
    assert np.abs(z).max() < stats.norm.isf(0.001 / 2 / drawn.sum())  # p > 0.001 over all cells
    if not exponent:  # independent cells: each against the rate, and all together
        off = (times[drawn] - 0.15 * NUM_DRAWS) / np.sqrt(NUM_DRAWS * 0.15 * 0.85)
        assert stats.chi2.sf((off**2).sum(), drawn.sum()) > 0.001
        assert stats.chi2.sf((z**2).sum(), drawn.sum()) > 0.001
    # How many targets a draw has: with an exponent ceil(0.15 of all cells), less the first column.
    table = np.zeros((2, max(*num_targets, len(golden["num_targets"])) + 1))
    table[0] = np.bincount(num_targets, minlength=table.shape[1])
    table[1, : len(golden["num_targets"])] = golden["num_targets"]
    often = table[:, table.sum(0) >= 10]
    if often.shape[1] > 1:
        assert stats.chi2_contingency(often).pvalue > 0.001
    else:
        assert table[0].tolist() == table[1].tolist()
    assert stats.chi2_contingency([became, golden["mask_keep_other"]]).pvalue > 0.001


def test_the_share_is_of_all_cells_padding_too():
    """Where no first column can be drawn, each draw has the same number, and padding counts."""
    for name in ("sent_hi", "tlm_en_hi"):
        examples, rows = golden_batch(name)
        num_cells = len(rows) * examples.length
        assert num_cells > sum(map(len, rows))
        _, num_targets, _ = draw(name, 0.5, seed=1, num_draws=100)
        assert set(num_targets) == {int(np.ceil(0.15 * num_cells))}


def end_targets(**changes):
    settings = {"languages": ["en"], "rows": 3, "length": 16, "masks": "original"} | changes
    objective = OriginalMaskedLM(**settings)
    stream = objective.streams("o", corpora(), seed=0)[0]
    found = [
        target
        for k in range(40)
        for target in real(objective.collate(stream.examples(k), Random(k), train=True))[1]
    ]
    return found.count(END)


def test_end_symbols_are_targets_where_the_original_has_them_or_where_they_are_asked_for():
    assert end_targets(frequency_exponent=0) > 20
    assert end_targets(frequency_exponent=0, predict_end=False) == 0
    assert end_targets(frequency_exponent=0.5, predict_end=False) == 0
    assert end_targets(frequency_exponent=0.5) > 0  # by the count in our own corpora
    pairs = {"languages": [], "pairs": ["en-ne"], "frequency_exponent": 0, "length": 64}
    assert end_targets(**pairs) > 20  # those of the layout too
    assert end_targets(**pairs, masks="exact") == 0


def test_a_vocabulary_s_counts_make_other_weights_and_none_for_the_end_symbol():
    own = corpora()
    own.tokenizer = WordTokenizer(60)
    own.tokenizer.counts = [0] * 14 + [1] * 23 + [10**8] * 23
    objective = OriginalMaskedLM(languages=["en"], rows=3, length=16, counts="vocabulary")
    stream = objective.streams("o", own, seed=0)[0]
    for k in range(10):
        batch = objective.collate(stream.examples(k), Random(k), train=True)
        rare = objective._cells(stream.examples(k), train=True).tokens.ravel()
        num_rare = np.count_nonzero((rare >= 14) & (rare < 37))
        targets = np.array(real(batch)[1])
        assert (targets >= 14).all()
        assert np.count_nonzero(targets < 37) >= min(num_rare, batch.count) - 1
    with pytest.raises(ConfigError, match="this WordTokenizer has no counts; set counts to corp"):
        stream = objective.streams("o", corpora(), seed=0)[0]
        objective.collate(stream.examples(0), Random(0), train=True)


def test_a_batch_without_targets_is_harmless():
    objective = OriginalMaskedLM(
        languages=["en"], rows=1, length=3, masks="original", frequency_exponent=0, mask_rate=0.01
    )
    stream = objective.streams("o", corpora(), seed=0)[0]
    batch = objective.collate(stream.examples(0), Random(0), train=True)
    assert batch.count == 0 and len(batch.predict) == 0
    network = model().train()
    loss = objective.loss(network, None, batch)
    loss.total.backward()
    assert float(loss.total.detach()) == 0 and loss.count == 0
    gradients = [p.grad for p in network.parameters() if p.grad is not None]
    assert gradients and not any(gradient.any() for gradient in gradients)


def test_a_run_goes_on_through_updates_without_a_target(tmp_path):
    text = dict.fromkeys(("masks", "evaluation", "stream_layout"), "original")
    text |= {"rows": 1, "length": 12}
    mlm = OriginalMaskedLM(languages=["en", "hi"], frequency_exponent=0, mask_rate=0.05, **text)
    run = tiny.recipe(
        tmp_path / "run", objectives={"mlm": mlm}, order="original", group_size=1, steps=30,
        evaluate_every=30,
    )  # fmt: skip
    result = pretrain(run, tiny.corpora(50))
    losses = [line["loss"].get("mlm") for line in tiny.journal(run.folder).values()]
    assert None in losses and len(losses) == 30
    assert np.isfinite([loss for loss in losses if loss is not None]).all()
    assert all(bool(p.isfinite().all()) for p in result.learner.parameters())
    (valid,) = tiny.journal(run.folder, "valid").values()
    assert valid["mlm/en"]["nats"] > 0 and valid["mlm/hi"]["nats"] > 0


# With its defaults each class is its base.

TEXT = {"languages": ["en", "ne"], "rows": 3, "length": 16}
PAIRS = {"pairs": ["ne-en"], "tokens": 64, "num_lengths": 4}


@pytest.mark.parametrize(
    ("base", "original", "settings"),
    [
        (MaskedLM, OriginalMaskedLM, TEXT),
        (MaskedLM, OriginalMaskedLM, PAIRS),
        (CausalLM, OriginalCausalLM, TEXT),
        (CausalTLM, OriginalCausalTLM, PAIRS),
    ],
)
def test_with_its_defaults_a_class_computes_the_same_as_its_base(base, original, settings):
    own = corpora()
    ours, same = base(**settings), original(**settings)
    assert {field.name for field in fields(base)} < {field.name for field in fields(original)}
    for split in ("train", "valid"):
        for (_, a), (_, b) in zip(
            batches_of(ours, own, split), batches_of(same, own, split), strict=True
        ):
            assert a.count == b.count > 0
            for name in ("tokens", "positions", "langs", "predict", "targets", "rows"):
                assert torch.equal(getattr(a, name), getattr(b, name)), (split, name)
    (stream, *_) = ours.streams("o", own, seed=0, split="valid")
    found = [list(o.evaluation_batches(stream, seed=3)) for o in (ours, same)]
    assert len(found[0]) == len(found[1])
    assert all(torch.equal(a.tokens, b.tokens) for a, b in zip(*found, strict=True))


# Settings that cannot be.


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"masks": "paper"}, "masks: expected one of exact, original, found 'paper'"),
        ({"counts": "file"}, "counts: expected one of corpora, vocabulary"),
        ({"evaluation": "folds"}, "evaluation: expected one of whole, original"),
        ({"masks": "original", "masked_side": "first"}, "both sides: found masked_side first"),
        ({"evaluation": "original", "evaluation_folds": 2}, "evaluation_folds 2; leave them out"),
        ({"evaluation": "original", "evaluation_side": "second"}, "evaluation_side second"),
        ({"evaluation": "original", "length": 2}, "length is 2: expected at least 3"),
    ],
)
def test_settings_that_contradict_each_other(settings, message):
    with pytest.raises(ConfigError, match=message) as caught:
        OriginalMaskedLM(languages=["en"], **settings)
    assert "\n" not in str(caught.value)

"""BERT's two objectives: their rows, masks, loss and figures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.training import tiny
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores
from xlm.objectives import NextSentence
from xlm.pretrain import pretrain
from xlm.rng import Random
from xlm.run import build as building
from xlm.run.config import Stopping

NSP = tiny.NSP


@pytest.fixture(scope="module")
def made():
    return tiny.corpora(400)


@pytest.fixture(scope="module")
def stream(made):
    return NSP.streams("nsp", made, seed=0)[0]


def batch_of(stream, k=0, **changes):
    own = NextSentence(**{"languages": ["en"], "rows": 8, "length": 20, **changes})
    return own.collate(stream.examples(k), Random(0, k), train=True)


def test_rows_are_laid_out_as_pairs_of_the_models_own_tasks(stream):
    examples = stream.examples(3)
    batch = NSP.collate(examples, Random(0), train=True)
    for row in range(8):
        wrapped = stream.tokenizer.wrap(examples.first[row], examples.second[row], "merged")
        size = int(batch.lengths[row])
        assert size == len(wrapped.tokens) <= 20
        seen, predicted = batch.tokens[row, :size].clone(), batch.predict // 20 == row
        real = predicted & (batch.targets >= 0)
        seen[batch.predict[real] % 20] = batch.targets[real]
        assert seen.tolist() == wrapped.tokens.tolist()
        assert batch.segments[row, :size].tolist() == wrapped.segments.tolist()
        assert batch.positions[row, :size].tolist() == list(range(size))
    assert batch.labels.tolist() == examples.labels.tolist()
    assert batch.parts == {"masked": batch.count, "next": 8}


def test_masks_are_uniform_and_none_is_on_a_symbol(stream, made):
    counts = np.zeros(tiny.VOCAB_SIZE)
    hidden = np.zeros(tiny.VOCAB_SIZE)
    for k in range(300):
        batch = batch_of(stream, k, mask_rate=0.3)
        targets = batch.targets[batch.targets >= 0]
        real = torch.arange(20)[None] < batch.lengths[:, None]
        assert len(targets) == int(np.ceil(0.3 * int(real.sum())))
        text = batch.tokens.clone().flatten()
        text[batch.predict[batch.targets >= 0]] = targets
        counts += np.bincount(text[real.flatten()].numpy(), minlength=tiny.VOCAB_SIZE)
        hidden += np.bincount(targets.numpy(), minlength=tiny.VOCAB_SIZE)
    assert not hidden[sorted(stream.tokenizer.special_ids)].any()
    shares = hidden[14:] / counts[14:]
    # each token alike, whatever its frequency: within 5 deviations of the common share
    expected = hidden.sum() / counts[14:].sum()
    deviation = (expected * (1 - expected) / counts[14:]) ** 0.5
    assert (np.abs(shares - expected) < 5 * deviation).all()


def test_the_loss_is_both_sums_of_cross_entropy(made, stream):
    run = tiny.recipe("", objectives={"nsp": NSP})
    learner = building.build_learner(run, made).double()
    batch = batch_of(stream)
    loss = learner("nsp", batch)
    model, head = learner.model, learner.heads["nsp"]
    hidden = model.encode(batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments)
    logits = hidden.flatten(0, 1) @ model.encoder.words.weight.T + model.encoder.output_bias
    masked = F.cross_entropy(
        logits[batch.predict], batch.targets, ignore_index=-100, reduction="sum"
    )
    pooled = torch.tanh(hidden[:, 0] @ head.pooler.weight.T + head.pooler.bias)
    scores = pooled @ head.classes.weight.T + head.classes.bias
    following = F.cross_entropy(scores, batch.labels, reduction="sum")
    torch.testing.assert_close(loss.parts["masked"], masked)
    torch.testing.assert_close(loss.parts["next"], following)
    torch.testing.assert_close(loss.total, masked + following)
    assert loss.count == batch.count and not loss.scores


def test_held_out_figures_have_both_objectives(made):
    run = tiny.recipe("", objectives={"nsp": NSP})
    learner = building.build_learner(run, made).eval()
    held_out = NSP.streams("nsp", made, seed=0, split="valid")[0]
    sums, num_cells, rows = Scores(), 0, 0
    with torch.no_grad():
        for batch in NSP.evaluation_batches(held_out, 0):
            loss = learner("nsp", batch)
            own = {"targets": float(loss.count), **NSP.baseline(held_out, batch)}
            sums = sums + own + {name: float(value) for name, value in loss.scores.items()}
            num_cells += batch.count
            rows += len(batch.labels)
    words = sum(
        len(a) + len(b)
        for k in range(held_out.num_batches)
        for e in [held_out.examples(k)]
        for a, b in zip(e.first, e.second, strict=True)
    )
    assert num_cells == words  # every token once, no symbol
    assert rows == NSP.num_folds * held_out.num_rows
    figures = NSP.figures(held_out, sums)
    assert figures["targets"] == words and 0 <= figures["next_accuracy"] <= 1
    assert figures["next_nats"] == pytest.approx(np.log(2), abs=0.5)
    assert figures["unigram_perplexity"] > 1 and "next_targets" not in figures


def test_both_are_learnt(tmp_path):
    """Each document has a word of its own, so that it shows whether the second part follows."""
    order = np.random.default_rng(0).permutation(40)
    sentences = [np.full(3, 14 + word) for word in order for _ in range(4)]
    text = Corpus.from_sentences(
        sentences, language="en", tokenizer=tiny.Words(), documents=np.arange(0, 160, 4)
    )
    texts = {(split, "en"): text for split in ("train", "valid")}
    nsp = NextSentence(languages=["en"], rows=32, length=15, short_share=0.0)
    run = tiny.recipe(
        tmp_path, objectives={"nsp": nsp}, steps=150, group_size=1, evaluate_every=150,
        stopping=Stopping(metric="next_accuracy"),
    )  # fmt: skip
    pretrain(run, Corpora(tiny.Words(), ["en"], texts=texts))
    figures = tiny.journal(tmp_path, "valid")[150]["nsp/en"]
    assert figures["next_accuracy"] > 0.65 and figures["accuracy"] > 0.25, figures


def test_settings_and_text_that_do_not_fit_are_refused(made):
    with pytest.raises(ConfigError, match="found pairs="):
        NextSentence(pairs=["en-hi"])
    with pytest.raises(ConfigError, match="short_share must be in"):
        NextSentence(languages=["en"], short_share=1.5)
    with pytest.raises(DataError, match="empty line between documents"):
        text = made.text("train", "en")
        documents, text.documents = text.documents, None
        try:
            NSP.streams("nsp", made, seed=0)
        finally:
            text.documents = documents

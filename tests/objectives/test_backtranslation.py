"""Back-translation against translation of pairs that were generated beforehand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.objectives.toys import END, PAD, TOKENIZER, corpora, corpus, model
from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.data.pairs import Pairs
from xlm.errors import ConfigError
from xlm.model.generate import Generation, generate
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.translation import Translation
from xlm.rng import Random

CORPORA = corpora()
SHORT = Generation(ratio=1.3, extra=5)
OBJECTIVE = BackTranslation(pairs=["en-ne", "ne-en"], tokens=60, length=40, num_lengths=3)


def translator(seed=0, **changes):
    made = model(seed, num_decoder_layers=2, max_positions=64, **changes)
    with torch.no_grad():
        made.decoder.words.weight.mul_(3.0)
        made.decoder.output_bias[END] -= 7.0  # tied tables would repeat the first symbol
    return made


def streams(objective=OBJECTIVE):
    return objective.streams("bt", CORPORA, seed=0)


def batch_of(stream, k=0):
    return OBJECTIVE.collate(stream.examples(k), Random(0), train=True)


def generated_beforehand(made, stream, rows):
    """The sources that ``made`` writes, one sentence at a time, as ids without end symbols."""
    source_id, target_id = stream.source_language_id, stream.language_ids[0]
    found = []
    for ids in stream._corpus.sentences(rows):
        tokens = torch.from_numpy(TOKENIZER.wrap(ids).tokens)[None]
        nothing = torch.zeros(0, dtype=torch.int64)
        source = Batch(
            tokens=tokens, positions=torch.arange(tokens.shape[1])[None],
            langs=torch.full_like(tokens, target_id), segments=torch.zeros_like(tokens),
            lengths=torch.tensor([tokens.shape[1]]), rows=torch.tensor([0]), predict=nothing,
            targets=nothing,
        )  # fmt: skip
        langs = torch.tensor([source_id])
        result = generate(made, source, langs, end_id=END, settings=SHORT)
        found.append(np.array(result.texts(0)[0], dtype=np.int64))
    return found


@pytest.mark.parametrize("at", [0, 1])
def test_loss_and_gradients_are_those_of_pairs_that_were_generated_beforehand(at):
    """So nothing flows through the generation, and generated rows count as long as they are."""
    stream, made = streams()[at], translator()
    batch = batch_of(stream)
    rows = batch.rows.numpy()
    written = generated_beforehand(made, stream, rows)
    assert len({len(row) for row in written}) > 1  # of different lengths: there is padding
    source, target = stream.name.split("-")
    sides = [corpus(written, source), corpus(stream._corpus.sentences(rows), target)]
    texts = {("train", name): CORPORA.text("train", name) for name in ("en", "ne")}
    pairs = Corpora(
        TOKENIZER, CORPORA.languages, texts=texts, pairs={("train", stream.name): Pairs(*sides)}
    )
    known = Translation(pairs=[stream.name], tokens=10_000, length=60, num_lengths=1)
    expected = translator()
    (pair_stream,) = known.streams("mt", pairs, seed=0)
    loss = known.loss(
        expected.train(), None, known.collate(pair_stream.examples(0), Random(0), train=True)
    )
    loss.total.backward()
    found = OBJECTIVE.loss(made.train(), None, batch)
    found.total.backward()
    assert found.count == loss.count
    torch.testing.assert_close(found.total, loss.total, rtol=1e-12, atol=0)
    for (name, one), two in zip(made.named_parameters(), expected.parameters(), strict=True):
        if two.grad is None:
            assert one.grad is None, name
        else:
            torch.testing.assert_close(one.grad, two.grad, rtol=1e-9, atol=1e-12, msg=name)


def test_sentences_are_translated_in_evaluation_mode():
    stream, made = streams()[0], translator(dropout=0.5, attention_dropout=0.5).train()
    batch = batch_of(stream)
    (translated,) = OBJECTIVE._translated(made, [batch])
    assert made.training and made.encoder.training
    (expected,) = OBJECTIVE._translated(made.eval(), [batch])
    assert torch.equal(translated.tokens, expected.tokens)


@pytest.mark.parametrize("beam", [1, 3])
def test_what_is_written_for_several_batches_is_what_is_written_for_each(beam):
    objective = dataclasses.replace(OBJECTIVE, generation=dataclasses.replace(SHORT, beam=beam))
    stream, made = streams()[0], translator().train()
    batches = [batch_of(stream, k) for k in range(4)]
    assert len({batch.source.tokens.shape[1] for batch in batches}) > 1
    together = objective.prepared(made, batches)
    for batch, prepared in zip(batches, together, strict=True):
        (alone,) = objective.prepared(made, [batch])
        for name in ("tokens", "positions", "langs", "segments", "lengths", "rows"):
            assert torch.equal(getattr(prepared.source, name), getattr(alone.source, name)), name
        assert prepared.targets is batch.targets
        found, expected = (objective.loss(made, None, own).total for own in (prepared, batch))
        assert torch.equal(found, expected)


def test_drawn_translations_are_left_to_each_batch():
    objective = dataclasses.replace(OBJECTIVE, generation=Generation(sample=True))
    batches = [batch_of(streams()[0], k) for k in range(2)]
    assert objective.prepared(translator().train(), batches) is batches


def test_the_languages_of_what_is_read_written_and_learnt():
    for stream, (source_id, target_id) in zip(streams(), ((0, 1), (1, 0)), strict=True):
        assert stream.id == f"bt/{stream.name}"
        batch = batch_of(stream)
        assert (batch.langs == target_id).all()
        (translated,) = OBJECTIVE._translated(translator(), [batch])
        assert (translated.langs == source_id).all()
        own = TOKENIZER.wrap(stream._corpus.sentences(batch.rows.numpy())[0]).tokens
        length = int(batch.lengths[0])
        assert batch.tokens[0, :length].tolist() == own[:-1].tolist()
        for tokens, length in zip(translated.tokens, translated.lengths.tolist(), strict=True):
            assert tokens[0] == END and tokens[length - 1] == END
            assert (tokens[length:] == PAD).all()


def test_held_out_pairs_are_those_of_translation():
    held_out = OBJECTIVE.streams("bt", CORPORA, seed=0, split="valid")
    known = Translation(pairs=["en-ne", "ne-en"], tokens=60, length=40, num_lengths=3)
    made = translator()
    for own, other in zip(
        held_out, known.streams("bt", CORPORA, seed=0, split="valid"), strict=True
    ):
        assert own.id == other.id
        for k in range(own.num_batches):
            one = OBJECTIVE.collate(own.examples(k), Random(0), train=False)
            two = known.collate(other.examples(k), Random(0), train=False)
            losses = (
                objective.loss(made, None, batch).total.item()
                for objective, batch in ((OBJECTIVE, one), (known, two))
            )
            assert len(set(losses)) == 1


@pytest.mark.parametrize("pair", ["en", "en-", "en-en", "zh-Hans-zh-Hans", ""])
def test_what_is_no_direction_is_refused(pair):
    with pytest.raises(ConfigError, match="FROM-INTO"):
        BackTranslation(pairs=[pair])


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="is not a pair of known languages .en, ne"):
        dataclasses.replace(OBJECTIVE, pairs=["hi-ne"]).streams("bt", CORPORA, seed=0)
    with pytest.raises(ConfigError, match="'en-ne-en' is not a pair of known languages .en, ne"):
        dataclasses.replace(OBJECTIVE, pairs=["en-ne-en"]).streams("bt", CORPORA, seed=0)
    with pytest.raises(ConfigError, match="no decoder, which translation needs"):
        OBJECTIVE.loss(model().train(), None, batch_of(streams()[0]))

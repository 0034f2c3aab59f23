"""The rows of every layout of translation, by hand; the memory of a token that is read apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.data.fakes import WordTokenizer
from tests.objectives.toys import MASK, model, real
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.errors import ConfigError
from xlm.model.generate import Generation, generate
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.denoising import Denoising
from xlm.objectives.translation import Translation
from xlm.rng import Random
from xlm.text.tokenizers.language_tokens import LanguageTokens
from xlm.text.tokenizers.layouts import LAYOUTS
from xlm.text.tokenizers.tokenizer import Tokenizer

E, PAD = 1, 2
EN, NE = 57, 58  # behind the 57 ids of the words
NAMES = list(LAYOUTS)
FIRST = [[20, 21, 22], [], [30] * 8, [40]]
SECOND = [[23, 24], [25], [31] * 6, []]


class Two(WordTokenizer):
    """Opens sentences with another symbol than it closes them with."""

    begin_id = 0


def corpora(base: Tokenizer | None = None, *, tokens: bool = True) -> Corpora:
    tokenizer: Tokenizer = base or WordTokenizer(57)
    if tokens:
        tokenizer = LanguageTokens(tokenizer, ["en", "ne"])

    def side(rows: list[list[int]], language: str) -> Corpus:
        arrays = [np.array(row, dtype=np.int64) for row in rows]
        return Corpus.from_sentences(arrays, language=language, tokenizer=tokenizer)

    pairs = {(split, "en-ne"): Pairs(side(FIRST, "en"), side(SECOND, "ne")) for split in SPLITS}
    texts = {(split, "en"): side(FIRST, "en") for split in SPLITS}
    return Corpora(tokenizer, ["en", "ne"], texts=texts, pairs=pairs)


SPLITS = ("train", "valid")


def batches(objective, own, split="valid"):
    stream = objective.streams("mt", own, seed=0, split=split)[0]
    for k in range(stream.num_batches):
        yield objective.collate(stream.examples(k), Random(0, k), train=split == "train")


def row_of(batch, row):
    return batch.tokens[row, : int(batch.lengths[row])].tolist()


def by_hand(name, s, t, source, target, begin=E, end=E):
    """What encoder and decoder read, and what the decoder predicts."""
    encoder = {
        "xlm": [begin, *s, end], "target": [target, *s, end], "target-apart": [begin, *s, end],
        "decoder": [begin, *s, end], "mbart": [*s, E, source], "source-first": [source, *s, end],
    }[name]  # fmt: skip
    decoder = {
        "xlm": [begin, *t], "target": [end, *t], "target-apart": [end, *t], "decoder": [target, *t],
        "mbart": [target, *t], "source-first": [end, target, *t],
    }[name]  # fmt: skip
    return encoder, decoder, [*t, end]


@pytest.mark.parametrize("begin", [E, 0])
@pytest.mark.parametrize("pair", ["en-ne", "ne-en"])
@pytest.mark.parametrize("name", NAMES)
def test_the_ids_of_a_row(name, pair, begin):
    """Empty sentences and the longest one that fits among them."""
    own = corpora(Two(57) if begin == 0 else None)
    objective = Translation(pairs=[pair], tokens=40, length=10, num_lengths=2, layout=name)
    sides = (FIRST, SECOND) if pair == "en-ne" else (SECOND, FIRST)
    source, target = (EN, NE) if pair == "en-ne" else (NE, EN)
    seen = set()
    for batch in batches(objective, own):
        width = batch.tokens.shape[1]
        predicted = dict(zip(*real(batch), strict=True))
        for row, at in enumerate(batch.rows.tolist()):
            seen.add(at)
            s, t = (side[at] for side in sides)
            encoder, decoder, targets = by_hand(name, s, t, source, target, begin)
            assert row_of(batch.source, row) == encoder
            assert row_of(batch, row) == decoder
            ends = [row * width + len(decoder) - len(targets) + i for i in range(len(targets))]
            assert [predicted.pop(cell) for cell in ends] == targets
            for side in (batch.source, batch):
                length = int(side.lengths[row])
                assert side.positions[row, :length].tolist() == list(range(length))
            assert (batch.source.tokens[row, int(batch.source.lengths[row]) :] == PAD).all()
        assert not predicted
        assert batch.source.tokens.shape[1] <= 10 and width <= 10
        apart = batch.source.source
        if name == "target-apart":
            assert apart.tokens.tolist() == [[target]] and apart.lengths.tolist() == [1]
        else:
            assert apart is None
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("name", NAMES)
def test_denoising_has_one_language(name):
    objective = Denoising(
        languages=["en"], tokens=40, length=10, layout=name, shuffle=0, drop=0, blank=0
    )
    seen = set()
    for batch in batches(objective, corpora()):
        for row, at in enumerate(batch.rows.tolist()):
            seen.add(at)
            encoder, decoder, _ = by_hand(name, FIRST[at], FIRST[at], EN, EN)
            assert (row_of(batch.source, row), row_of(batch, row)) == (encoder, decoder)
    assert seen == {0, 2, 3}  # the empty one is left out
    assert MASK not in batch.source.tokens


def network(**changes):
    return model(num_decoder_layers=2, max_positions=12, language_embeddings=False, **changes)


@pytest.fixture(scope="module")
def translator():
    torch.manual_seed(3)
    made = network()
    with torch.no_grad():
        made.decoder.output_bias.normal_()
    return made


def test_an_encoder_that_is_not_told_gives_the_same_for_every_target(translator):
    own = corpora()
    for name, same in {"target": False, "target-apart": True, "decoder": True}.items():
        states = []
        for target in ("ne", "en"):
            layout, ids = LAYOUTS[name], np.array(FIRST[0])
            row = torch.from_numpy(layout.source_row(own.tokenizer, ids, "en", target).tokens)
            states.append(translator.encode(row[None], torch.tensor([len(row)])))
        assert torch.equal(*states) is same


def test_what_is_read_apart_stands_before_the_rest(translator):
    objective = Translation(pairs=["en-ne"], tokens=40, num_lengths=1, layout="target-apart")
    (batch,) = batches(objective, corpora())
    source = batch.source
    memory, lengths = translator.remember(source)
    token = translator.encode(torch.tensor([[NE]]), torch.tensor([1]))
    plain = translator.encode(source.tokens, source.lengths)
    expected = torch.cat([token.expand(len(plain), 1, -1), plain], dim=1)
    torch.testing.assert_close(memory, expected, atol=1e-12, rtol=0)
    assert lengths.tolist() == (source.lengths + 1).tolist()


def test_its_gradient_reaches_the_encoder_through_both():
    made = network().train()
    objective = Translation(pairs=["en-ne"], tokens=40, num_lengths=1, layout="target-apart")
    (batch,) = batches(objective, corpora())
    objective.loss(made, None, batch).total.backward()
    grads = made.encoder.words.weight.grad
    assert grads[NE].abs().sum() > 0 and grads[20].abs().sum() > 0
    assert grads[EN].abs().sum() == 0


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_is_that_of_rows_decoded_one_by_one(translator, name):
    objective = Translation(pairs=["en-ne"], tokens=60, num_lengths=1, layout=name)
    (batch,) = batches(objective, corpora())
    found = objective.loss(translator, None, batch)
    nats = 0.0
    translator.requires_grad_(False)
    for row, at in enumerate(batch.rows.tolist()):
        encoder, decoder, targets = by_hand(name, FIRST[at], SECOND[at], EN, NE)
        memory = translator.encode(torch.tensor([encoder]), torch.tensor([len(encoder)]))
        if name == "target-apart":
            token = translator.encode(torch.tensor([[NE]]), torch.tensor([1]))
            memory = torch.cat([token, memory], dim=1)
        hidden = translator.decode(
            torch.tensor([decoder]), torch.tensor([len(decoder)]), memory,
            torch.tensor([memory.shape[1]]),
        )  # fmt: skip
        cells = torch.arange(len(decoder))[-len(targets) :]
        logs = translator.predict(hidden, cells, side="decoder").log_softmax(-1)
        nats -= float(logs[range(len(targets)), targets].sum())
        assert row_of(batch, row) == decoder
    assert float(found.scores["nats"]) == pytest.approx(nats, rel=1e-10)
    assert found.count == sum(len(row) + 1 for row in SECOND)


@pytest.mark.parametrize("name", NAMES)
def test_held_out_pairs_are_translated_as_training_lays_them_out(translator, name):
    settings = Generation(ratio=0, extra=6)
    objective = Translation(pairs=["en-ne"], tokens=60, num_lengths=1, layout=name, decode=settings)
    own = corpora()
    stream = objective.streams("mt", own, seed=0, split="valid")[0]
    (batch,) = batches(objective, own)
    found = objective.predictions(stream, batch, objective.loss(translator, None, batch).outputs)
    opening = torch.tensor(LAYOUTS[name].opening(own.tokenizer, "ne"))
    generated = generate(
        translator, batch.source, batch.langs[:, 0], end_id=E, settings=settings,
        begin=opening.expand(len(batch.rows), -1),
    )  # fmt: skip
    for row, at in enumerate(batch.rows.tolist()):
        assert found[at] == generated.texts(row)[0]


@pytest.mark.parametrize("name", NAMES)
def test_back_translations_are_read_as_real_sources_are(translator, name):
    settings = Generation(ratio=0, extra=7)
    objective = BackTranslation(
        pairs=["ne-en"], tokens=60, length=10, num_lengths=1, layout=name, generation=settings
    )
    own = corpora()
    (batch,) = batches(objective, own, "train")
    (made,) = objective._translated(translator, [batch])
    opening = torch.tensor(LAYOUTS[name].opening(own.tokenizer, "ne"))
    generated = generate(
        translator, batch.source, torch.ones(len(batch.rows), dtype=torch.int64), end_id=E,
        settings=settings, begin=opening.expand(len(batch.rows), -1),
    )  # fmt: skip
    for row, at in enumerate(batch.rows.tolist()):
        asked, _, _ = by_hand(name, FIRST[at], [], EN, NE)
        assert row_of(batch.source, row) == asked
        written = generated.texts(row)[0]
        encoder, decoder, _ = by_hand(name, written, FIRST[at], NE, EN)
        assert row_of(made, row) == encoder
        assert (made.tokens[row, int(made.lengths[row]) :] == PAD).all()
        assert row_of(batch, row) == decoder
    assert (made.source is not None) is (name == "target-apart")
    if made.source is not None:
        assert made.source.tokens.tolist() == [[EN]]
    assert float(objective.loss(translator.train(), None, batch).total) > 0
    translator.eval()


@pytest.mark.parametrize("objective", [Translation, BackTranslation])
def test_a_layout_without_its_tokens_is_refused(objective):
    made = objective(pairs=["en-ne"], layout="target")
    with pytest.raises(ConfigError, match=r"objectives.mt.layout is target.*language_tokens true"):
        made.streams("mt", corpora(tokens=False), seed=0)
    few = LanguageTokens(WordTokenizer(57), ["en"])
    pairs = {("train", "en-ne"): Pairs(*(
        Corpus.from_sentences([np.array([20])], language=own, tokenizer=few) for own in ("en", "ne")
    ))}  # fmt: skip
    one = Corpora(few, ["en", "ne"], pairs=pairs)
    with pytest.raises(ConfigError, match="has no token for ne, only for en"):
        made.streams("mt", one, seed=0)


def test_an_unknown_layout_is_refused():
    with pytest.raises(ConfigError, match="layout"):
        Translation(pairs=["en-ne"], layout="mbart-50")

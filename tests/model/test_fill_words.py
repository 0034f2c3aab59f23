"""Words of several subwords behind masks: all of a tiny vocabulary, by brute force."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from tests import tuned
from tests.interchange import peers
from tests.model.test_fill import TEXTS
from xlm.errors import CheckpointError, ConfigError
from xlm.model.config import ModelConfig
from xlm.model.fill import Beside, fill
from xlm.model.fill_words import Word, fill_words
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer, learn_sentencepiece
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.text.tokenizers.word_marks import word_marks

TINY = ["abab ba cab", "ca abc bab", "bc cab ab", "c a b"] * 30


def tiny(kind: str) -> PretrainedModel:
    """A random model of a dozen pieces, whose marks are in front or at the back."""
    tokenizer: Tokenizer
    if kind == "front":
        tokenizer = learn_sentencepiece(TINY, 22, kind="bpe", byte_fallback=False)
    else:
        tokenizer = learn_fastbpe_tokenizer(TINY, 4)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        shape = ModelConfig(dim=16, num_layers=2, num_heads=2, max_positions=32)
        model = Transformer(
            shape, vocab_size=tokenizer.vocab_size, num_languages=1, pad_id=tokenizer.pad_id
        )
    peers.shake(model)
    with torch.no_grad():
        for value in model.parameters():
            if value.ndim > 1:
                value.mul_(2.0)
    return PretrainedModel(model.eval(), tokenizer, {})


def logs_at(model: PretrainedModel, tokens: list[int], cell: int) -> torch.Tensor:
    row = torch.tensor([tokens])
    with torch.no_grad():
        hidden = model.transformer.encode(row, torch.tensor([len(tokens)]))
        return model.transformer.predict(hidden, torch.tensor([cell]))[0].double().log_softmax(-1)


def is_word(tokenizer: Tokenizer, ids: tuple[int, ...], kind: str) -> bool:
    """By hand: one word that begins behind a space and ends before one."""
    pieces = [tokenizer.pieces[at] for at in ids]
    if kind == "front":
        return pieces[0].startswith("▁") and not any(p.startswith("▁") for p in pieces[1:])
    return not pieces[-1].endswith("@@") and all(p.endswith("@@") for p in pieces[:-1])


@pytest.mark.parametrize("kind", ["front", "back"])
def test_words_are_the_best_of_all(kind: str) -> None:
    model = tiny(kind)
    tokenizer = model.tokenizer
    text = [at for at in range(tokenizer.vocab_size) if at not in tokenizer.special_ids]
    assert 6 < len(text) < 22
    before, after = tokenizer.encode("ab"), tokenizer.encode("ca")
    mask = tokenizer.mask_id
    scores: dict[tuple[int, ...], float] = {}
    for length in (1, 2, 3):
        start = 1 + len(before)
        for ids in itertools.product(text, repeat=length):
            if not is_word(tokenizer, ids, kind):
                continue
            total = 0.0
            for at, piece in enumerate(ids):
                given = [*ids[:at], *[mask] * (length - at)]
                row = [tokenizer.begin_id, *before, *given, *after, tokenizer.end_id]
                total += float(_cached(model, tuple(row), start + at)[piece])
            scores[ids] = total / length
    _cached_logs.clear()
    best = sorted(scores, key=lambda ids: -scores[ids])[:8]
    ((found,),) = fill_words(model, ["ab ___ ca"], pieces=3, top=8, beam=10_000)
    assert [tuple(word.ids) for word in found] == best
    assert {len(ids) for ids in best} != {1}
    for word, ids in zip(found, best, strict=True):
        assert word.probability == pytest.approx(math.exp(scores[ids]), rel=1e-4)
        assert word.pieces == [tokenizer.pieces[at] for at in ids]
        assert word.text == tokenizer.decode(list(ids)).strip() and " " not in word.text


_cached_logs: dict[tuple[tuple[int, ...], int], torch.Tensor] = {}


def _cached(model: PretrainedModel, row: tuple[int, ...], cell: int) -> torch.Tensor:
    if (row, cell) not in _cached_logs:
        _cached_logs[row, cell] = logs_at(model, list(row), cell)
    return _cached_logs[row, cell]


@pytest.mark.parametrize("kind", ["front", "back"])
def test_letters_beside_a_mask_belong_to_its_word(kind: str) -> None:
    model = tiny(kind)
    pieces = model.tokenizer.pieces
    ((after,),) = fill_words(model, ["ab___ ca"], pieces=2, top=30, beam=50)
    ((before,),) = fill_words(model, ["ab ___ca"], pieces=2, top=30, beam=50)
    for word in after:
        own = [pieces[at] for at in word.ids]
        if kind == "front":
            assert not any(piece.startswith("▁") for piece in own)
        else:
            assert not own[-1].endswith("@@")
    for word in before:
        own = [pieces[at] for at in word.ids]
        if kind == "front":
            assert own[0].startswith("▁")
        else:
            assert all(piece.endswith("@@") for piece in own)


@pytest.mark.parametrize("shape", tuned.SHAPES)
def test_a_text_alone_and_in_any_batch(shape: str) -> None:
    model = tuned.body(shape)
    model.transformer.double()
    language = "en" if shape == "xlm" else None
    alone = [fill_words(model, [text], language, pieces=2, top=3)[0] for text in TEXTS]
    assert [len(masks) for masks in alone] == [1, 2, 1, 2, 1]
    for tokens in (1, 200, 100_000):
        found = fill_words(model, TEXTS, language, pieces=2, top=3, tokens=tokens)
        for masks, others in zip(found, alone, strict=True):
            for mask, other in zip(masks, others, strict=True):
                assert [word.ids for word in mask] == [word.ids for word in other]
                for word, one in zip(mask, other, strict=True):
                    assert word.probability == pytest.approx(one.probability, abs=1e-9)
                    assert len(word.ids) <= 2
    assert fill_words(model, TEXTS, language, pieces=2, top=3, tokens=100_000) == model.fill_words(
        TEXTS, language, 3, pieces=2, tokens=100_000
    )


def test_single_pieces_have_the_probabilities_of_fill() -> None:
    model = tuned.body("bert")
    size = model.tokenizer.vocab_size
    singles = {own.id: own.probability for own in fill(model, ["a ___ b"], top=size)[0][0]}
    ((words,),) = fill_words(model, ["a ___ b"], pieces=1, top=20)
    for word in words:
        assert isinstance(word, Word) and not word.pieces[0].startswith("##")
        assert word.probability == pytest.approx(singles[word.ids[0]], rel=1e-4)
    whole = [at for at in singles if not model.tokenizer.pieces[at].startswith("##")]
    assert [word.ids[0] for word in words] == sorted(whole, key=lambda at: -singles[at])[:20]


@pytest.mark.parametrize(
    ("shape", "begins", "goes_on"),
    [("xlm-roberta", "▁", None), ("bert", None, "##"), ("xlm", None, "@@")],
)
def test_marks_of_each_kind_of_tokenizer(shape: str, begins: Any, goes_on: Any) -> None:
    tokenizer = tuned.tokenizer(shape)
    marks = word_marks(tokenizer)
    assert marks.side == ("back" if shape == "xlm" else "front")
    first = marks.allowed(0, 2, after_letters=False, before_letters=False)
    last = marks.allowed(1, 2, after_letters=False, before_letters=False)
    assert not first[sorted(tokenizer.special_ids)].any()
    for at, piece in enumerate(tokenizer.pieces):
        if at in tokenizer.special_ids:
            continue
        if shape == "xlm":
            assert (first[at], last[at]) == (piece.endswith("@@"), not piece.endswith("@@"))
        else:
            opens = piece.startswith(begins) if begins else not piece.startswith(goes_on)
            assert (first[at], last[at]) == (opens, not opens)


# Pairs.


def test_a_translation_beside_is_the_layout_of_tlm() -> None:
    model = tuned.body("xlm")
    tokenizer = model.tokenizer
    text, other = "We packed ___ into boxes", "हामीले सामान"
    beside = Beside([other], "ne")
    ((found,),) = fill(model, [text], "en", beside=beside, top=5)
    first = [*tokenizer.encode("We packed"), tokenizer.mask_id, *tokenizer.encode("into boxes")]
    row = tokenizer.wrap(np.array(first), np.array(tokenizer.encode(other)), "tlm")
    batch = model.batch_rows([row], "en", "ne")
    cell = row.tokens.tolist().index(tokenizer.mask_id)
    with torch.no_grad():
        logits = model.transformer.predict(model.encode(batch), torch.tensor([cell]))
    shares = logits[0].softmax(-1)
    for own in found:
        assert own.probability == pytest.approx(float(shares[own.id]), abs=1e-5)
    via = model.fill([text], "en", translations=[other], translation_language="ne")
    assert [own.id for own in via[0][0]] == [own.id for own in found]
    (alone,) = model.fill([text], "en")[0]
    assert [own.probability for own in alone] != [own.probability for own in found]
    merged = fill(model, [text], "en", beside=replace(beside, layout="merged"), top=5)
    assert merged[0][0] != found


def test_words_move_the_positions_behind_them_and_not_those_of_the_translation() -> None:
    model = tuned.body("xlm")
    tokenizer, seen = model.tokenizer, []
    batch_rows = model.batch_rows

    class Watched:
        def __getattr__(self, name: str) -> Any:
            return getattr(model, name)

        def reading(self, language: str | None) -> Any:
            return self

        def batch_rows(self, rows: Any, *languages: Any) -> Any:
            seen.extend(rows)
            return batch_rows(rows, *languages)

    beside = Beside(["c d"], "ne")
    fill_words(Watched(), ["a ___ b"], "en", pieces=3, top=1, beam=1, beside=beside)  # type: ignore[arg-type]
    ids = [np.array(tokenizer.encode(part)) for part in ("a", "b", "c d")]
    for row in seen:
        length = len(row.tokens) - sum(map(len, ids)) - 4
        own = np.concatenate([ids[0], np.zeros(length, dtype=np.int64), ids[1]])
        expected = tokenizer.wrap(own, ids[2], "tlm")
        assert row.positions.tolist() == expected.positions.tolist()
        assert row.segments.tolist() == expected.segments.tolist()
    assert {len(row.tokens) for row in seen} == {
        sum(map(len, ids)) + 4 + length for length in (1, 2, 3)
    }


def test_what_cannot_be_filled_is_one_line() -> None:
    model = tuned.body("xlm")

    def refused(message: str, texts: list[str], **more: Any) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            fill_words(model, texts, "en", **more)
        assert "\n" not in str(caught.value)

    refused("words is 0", ["a ___"], pieces=0)
    refused("beam is 0", ["a ___"], beam=0)
    refused("text 1 has no mask", ["a"])
    refused("text 1 has a mask in its translation", ["a ___"], beside=Beside(["b ___"], "en"))
    refused("1 translations for 2 texts", ["___", "___"], beside=Beside(["b"], "en"))
    refused("does not know the language xx", ["a ___"], beside=Beside(["b"], "xx"))
    with torch.no_grad():
        model.transformer.encoder.positions.weight[20:] = np.nan
    with pytest.raises(CheckpointError, match="for text 2 .* tensor encoder.positions.weight"):
        fill_words(model, ["a ___", "x " * 24 + "___"], "en")


def test_a_length_that_does_not_fit_is_left_out() -> None:
    model = tuned.body("xlm", max_positions=8)
    ids = model.tokenizer.encode("a b c d")
    text = "a b c d ___"
    room = 8 - 2 - len(ids)
    ((found,),) = fill_words(model, [text], "en", pieces=9, top=50, beam=5)
    assert room >= 1 and max(len(word.ids) for word in found) == room

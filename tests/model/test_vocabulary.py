"""Tables carried from one vocabulary to another, between real tokenizers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from xlm import sample
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.model.vocabulary import describe_difference, extend_vocabulary, marking
from xlm.text.tokenizers.fastbpe import SPECIALS, FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer, learn_sentencepiece
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer


def lines(*languages: str) -> list[str]:
    files = [sample.path(f"train.{language}.txt") for language in languages]
    return [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def english() -> SentencePieceTokenizer:
    return learn_sentencepiece(lines("en"), 500)


@pytest.fixture(scope="module")
def both() -> SentencePieceTokenizer:
    return learn_sentencepiece(lines("en", "ne"), 700)


def fastbpe(codes: Sequence[str], vocabulary: Sequence[str]) -> FastBpeTokenizer:
    def content(rows: Sequence[str]) -> bytes:
        return "".join(f"{row} {len(rows) - at}\n" for at, row in enumerate(rows)).encode()

    return FastBpeTokenizer(content(codes), content(vocabulary))


def test_the_same_vocabulary_keeps_every_row(english: SentencePieceTokenizer) -> None:
    carried = extend_vocabulary(english, english)
    assert carried.rows == tuple((at,) for at in range(english.vocab_size))
    assert (carried.num_kept, carried.num_averaged, carried.num_unknown) == (500, 0, 0)
    assert carried.unused == ()
    table = torch.randn(500, 3)
    assert torch.equal(carried.apply(table), table)


def test_rows_by_hand_between_two_of_fastbpe() -> None:
    """``abc`` is there ``ab@@ c``; ``abcd@@``, inside of a word, is ``ab@@ c@@ d@@``."""
    there = fastbpe(["a b", "c d</w>"], ["ab@@", "c", "d", "c@@", "d@@", "x"])
    here = fastbpe(
        ["a b", "ab c", "abc d", "ab c</w>"], ["x", "ab@@", "abc", "abcd@@", "\u0915", "c"]
    )
    carried = extend_vocabulary(here, there)
    first = len(SPECIALS)
    ids = {piece: at for at, piece in enumerate(there.pieces)}
    assert carried.rows[:first] == tuple((at,) for at in range(first))
    assert carried.rows[first:] == (
        (ids["x"],),
        (ids["ab@@"],),
        (ids["ab@@"], ids["c"]),
        (ids["ab@@"], ids["c@@"], ids["d@@"]),
        (),
        (ids["c"],),
    )
    assert (carried.num_kept, carried.num_averaged, carried.num_unknown) == (first + 3, 2, 1)
    assert carried.unused == ("d",)
    table = torch.randn(there.vocab_size, 4, generator=torch.Generator().manual_seed(0))
    found = carried.apply(table)
    for at, row in enumerate(carried.rows):
        expected = table[list(row)].mean(0) if row else table[first:].mean(0)
        assert torch.allclose(found[at], expected, atol=1e-7), here.pieces[at]
    # sums of three in another order: not bit for bit on every processor
    bias = carried.apply(table[:, 0])
    assert torch.allclose(bias, found[:, 0], atol=1e-6), "a bias likewise"


def test_sub_pieces_spell_the_new_piece(
    english: SentencePieceTokenizer, both: SentencePieceTokenizer
) -> None:
    """Whatever is averaged spells the piece: also at a word's start and inside of it."""
    carried = extend_vocabulary(both, english)
    known = set(english.pieces)
    num_inside = 0
    for piece, row in zip(both.pieces, carried.rows, strict=True):
        names = [english.pieces[at] for at in row]
        if piece in known:
            assert names == [piece]
        elif row and not any(name.startswith("<0x") for name in names):
            assert "".join(names).replace("\u2581", "") == piece.replace("\u2581", "")
            num_inside += not piece.startswith("\u2581") and not names[0].startswith("\u2581")
    assert num_inside > 5
    assert carried.num_kept == len(known & set(both.pieces))
    assert carried.num_kept + carried.num_averaged + carried.num_unknown == both.vocab_size


def test_special_symbols_go_by_their_role() -> None:
    """Elsewhere the mask has another name and another id."""

    class Renamed(FastBpeTokenizer):
        @property
        def begin_id(self) -> int:
            return 0

    there = fastbpe(["a b"], ["a", "b@@"])
    here = Renamed(there.codes, there.vocabulary)
    here.end_id, here.pad_id, here.unk_id, here.mask_id = 7, 8, 9, 4
    carried = extend_vocabulary(here, there)
    roles = {7: there.end_id, 8: there.pad_id, 9: there.unk_id, 4: there.mask_id, 0: there.begin_id}
    assert {at: carried.rows[at] for at in roles} == {at: (row,) for at, row in roles.items()}


def test_two_ways_of_marking_words_are_refused(english: SentencePieceTokenizer) -> None:
    other = learn_fastbpe_tokenizer(lines("en"), 50)
    assert marking(english) == "\u2581" and marking(other) == "@@"
    with pytest.raises(
        ConfigError, match=r"differently \(@@ here, \u2581 there\): extending only works"
    ):
        extend_vocabulary(other, english)


@pytest.mark.parametrize(
    "here, there, expected",
    [
        (
            ["a", "b"], ["a", "c"],
            "16 pieces here, 16 there; 1 only here ('b'), 1 only there ('c'); "
            "id 15 is 'b' here and 'c' there",
        ),
        (["a", "b"], ["a"], "1 only here ('b'), 0 only there; the shorter is the beginning of"),
        (["a", "b"], ["b", "a"], "0 only here, 0 only there; id 14 is 'a' here and 'b' there"),
        (["a", "b", "c", "d", "e"], ["a"], "4 only here ('b', 'c', 'd', ...)"),
    ],
)  # fmt: skip
def test_a_difference_names_the_first_items(
    here: list[str], there: list[str], expected: str
) -> None:
    assert expected in describe_difference(fastbpe(["a b"], here), fastbpe(["a b"], there))


def test_equal_pieces_cut_by_other_merges_are_told(tmp_path: Path) -> None:
    found = describe_difference(fastbpe(["a b"], ["a"]), fastbpe(["b a"], ["a"]))
    assert "the same 15 pieces, but cut text into them differently" in found


@torch.no_grad()
def test_an_extended_model_computes_the_same_on_old_pieces(
    english: SentencePieceTokenizer, both: SentencePieceTokenizer
) -> None:
    """Hidden states bit for bit, logits of old pieces, and so their perplexity among each other."""
    carried = extend_vocabulary(both, english)
    config = ModelConfig(dim=16, num_layers=2, num_heads=2, max_positions=64)
    torch.manual_seed(0)
    source = build(config, english)
    target = build(config, both)
    tensors = source.state_dict()
    for name in ("encoder.words.weight", "encoder.output_bias"):
        tensors[name] = carried.apply(tensors[name])
    target.load_state_dict(tensors)
    ids = {piece: at for at, piece in enumerate(english.pieces)}
    text = [line for line in lines("en") if all(p in ids for p in both.segment(line))][:20]
    assert len(text) == 20
    kept = [at for at, piece in enumerate(both.pieces) if piece in ids]
    there = torch.tensor([ids[both.pieces[at]] for at in kept])
    for line in text:
        here_ids = torch.tensor([both.encode(line)])
        there_ids = torch.tensor([[ids[piece] for piece in both.segment(line)]])
        length = torch.tensor([here_ids.shape[1]])
        found = target.encode(here_ids, length)
        expected = source.encode(there_ids, length)
        assert torch.equal(found, expected)
        cells = torch.arange(here_ids.shape[1])
        logits = target.predict(found, cells)[:, kept], source.predict(expected, cells)[:, there]
        assert (logits[0] - logits[1]).abs().max() < 1e-6
        nats = [one.log_softmax(-1).diagonal().sum() for one in logits]
        assert abs(float(nats[0] - nats[1])) < 1e-4


def build(config: ModelConfig, tokenizer: Tokenizer) -> Transformer:
    size, pad = tokenizer.vocab_size, tokenizer.pad_id
    return Transformer(config, vocab_size=size, num_languages=1, pad_id=pad).eval()

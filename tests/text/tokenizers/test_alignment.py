"""Which characters each piece stands for: every tokenizer, on text that changes on its way."""

from __future__ import annotations

import sys
import unicodedata
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers, trainers

from tests.data.fakes import WordTokenizer
from tests.interchange import peers
from xlm.text.normalize import normalize, normalize_traced
from xlm.text.tokenizers.alignment import align
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.hugging_face import read_hugging_face
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.learn_fastbpe import count_words, learn_fastbpe_tokenizer
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer

# Composing accents and vowels, Hangul in parts, singletons and exclusions of NFC, spaces of every
# kind, controls, joiners, marks of byte order, characters without a piece.
PARTS = [
    "the", "cat", "river", " ", "\u00a0", "\u3000", "\n", "\t", "\x00", "\x85", "e\u0301", "\u0301",
    "o\u0302\u0323", "\u1100\u1161\u11a8", "\uac00\u11a8", "\u0958", "\u0915\u093c", "\u0b47\u0b3e",
    "\u2126", "\u0344", "\u0f73", "\u200d", "\ufeff", "नमस्ते", "।", "🦜", "ক", "中文字", "ﬁ",
    "½", "…", "@@", "x" * 30, "\ud800", "<mask>", "</s>", ".", ",", "'", "Ünïted", "İ",
]  # fmt: skip
# U+2581 is SentencePiece's own sign for a space
TEXTS = st.lists(
    st.sampled_from(PARTS) | st.characters(exclude_characters="\u2581"), max_size=12
).map("".join)
KINDS = [
    "unigram", "bpe", "without bytes", "fastbpe", "words", "xlm-r", "bert", "lower", "byte-level"
]  # fmt: skip
LOSSLESS = KINDS[:5]
"""Tokenizers that change no character of a normalized line."""


@given(TEXTS)
def test_a_traced_line_is_the_normalized_one(text: str) -> None:
    line, places = normalize_traced(text)
    assert line == normalize(text) and places.shape == (len(line), 2)
    before = None
    for character, (first, end) in zip(line, places.tolist(), strict=True):
        origin = text[first:end]
        if character == " ":
            assert normalize(origin) in ("", "\ufeff")
        else:
            changed = "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in origin)
            assert character in unicodedata.normalize("NFC", changed)
        assert before is None or before == (first, end) or before[1] == first  # no gap, no overlap
        before = (first, end)
    outside = text[: places[0, 0]] + text[places[-1, 1] :] if line else text
    assert not normalize(outside.replace("\ufeff", ""))


def test_every_character_of_unicode_is_traced_to_itself() -> None:
    for code in range(sys.maxunicode + 1):
        text = f"a{chr(code)}b"
        if unicodedata.normalize("NFC", text) == text and code > 0x3100:
            continue  # the short way, for a million of them
        line, places = normalize_traced(text)
        assert line == normalize(text)
        *middle, last = places.tolist()
        assert last == [2, 3], hex(code)
        allowed = ([0, 1], [1, 2])
        if unicodedata.combining(unicodedata.normalize("NFD", text)[1]):
            allowed = (*allowed, [0, 2])  # a mark may compose with the letter
        assert middle and all(place in allowed for place in middle), hex(code)


@cache
def tokenizer(kind: str, folder: Path) -> Tokenizer:
    lines = peers.lines()
    if kind in ("unigram", "bpe"):
        return learn_sentencepiece(lines, 900, kind=kind)
    if kind == "without bytes":
        return learn_sentencepiece(lines, 700, byte_fallback=False, character_coverage=0.99)
    if kind == "fastbpe":
        return learn_fastbpe_tokenizer(count_words(lines), 400)
    if kind == "words":
        return WordTokenizer()
    if kind == "xlm-r":
        return XlmRobertaTokenizer(peers.unigram())
    if kind == "byte-level":
        return read_hugging_face(byte_level(folder / "byte-level"))
    settings = {"do_lower_case": kind == "lower"}
    vocabulary = peers.wordpieces(kind == "lower")
    peers.write(folder / kind, vocab__txt=vocabulary, tokenizer_config__json=settings)
    return read_hugging_face(folder / kind)


def byte_level(folder: Path) -> Path:
    """RoBERTa's vocab.json and merges.txt: a word has other pieces where it opens the line."""
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
    )  # fmt: skip
    backend.train_from_iterator(peers.lines(), trainer)
    folder.mkdir()
    backend.model.save(str(folder))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tokenizers")


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_stand_for_visible_stretches_in_order(kind: str, folder: Path) -> None:
    made = tokenizer(kind, folder)

    @settings(max_examples=40)
    @given(TEXTS)
    def check(text: str) -> None:
        ids, characters = align(made, text)
        assert ids.tolist() == made.encode(normalize(text))
        assert characters.shape == (len(ids), 2)
        covered = np.zeros(len(text), dtype=bool)
        for first, end in characters.tolist():
            assert 0 <= first < end <= len(text)
            assert "x x" not in (normalize(f"x{text[at]}x") for at in (first, end - 1))
            assert len(text[first:end].split()) == 1 or kind not in LOSSLESS
            covered[first:end] = True
        assert (np.diff(characters, axis=0) >= 0).all()
        if kind in LOSSLESS:
            line, places = normalize_traced(text)
            visible = np.array([character != " " for character in line], dtype=bool)
            for first, end in places[visible].tolist():
                assert covered[first:end].all(), (text, first, end)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_known_pieces_lie_where_they_are_spelled(kind: str, folder: Path) -> None:
    made = tokenizer(kind, folder)
    for line in peers.lines()[::7]:
        ids, characters = align(made, line)
        for at, (first, end) in zip(ids.tolist(), characters.tolist(), strict=True):
            piece = made.pieces[at] if kind != "words" else ""
            if at == made.unk_id or piece.startswith("<0x") or kind in ("words", "byte-level"):
                continue
            plain = piece.strip("▁").removesuffix("@@").removeprefix("##")
            found = line[first:end]
            if kind == "lower":
                found = unicodedata.normalize("NFD", found.lower())
                found = "".join(c for c in found if unicodedata.category(c) != "Mn")
                plain = unicodedata.normalize("NFD", plain)
            if kind == "xlm-r":
                found = unicodedata.normalize("NFKC", found)
            assert plain in found and (plain == found or kind == "xlm-r" or not plain)


def test_composed_characters_written_out(folder: Path) -> None:
    text = "\ufeff cafe\u0301\u00a0 \u0958\u0930 🦜!"
    ids, characters = align(tokenizer("unigram", folder), text)
    pieces = [tokenizer("unigram", folder).pieces[at] for at in ids.tolist()]
    stretches = [text[first:end] for first, end in characters.tolist()]
    assert "".join(stretches[: pieces.index("▁", 1)]).startswith("caf")
    assert stretches.count("🦜") == 4 + (pieces[-6] == "▁")  # its bytes, and the space before
    assert "e\u0301" in stretches and stretches[-1] == "!"


def test_words_open_a_line_as_they_open_no_other(folder: Path) -> None:
    """Byte-level BPE: the pieces are those of the whole line, not of its words."""
    made = tokenizer("byte-level", folder)
    line = "the cat of the river"
    apart = [at for word in line.split() for at in made.encode(word)]
    ids, characters = align(made, line)
    assert ids.tolist() == made.encode(line) != apart
    covered = {at for first, end in characters.tolist() for at in range(first, end)}
    assert "".join(line[at] for at in sorted(covered)) == line.replace(" ", "")


def test_the_questions_on_a_text_share_its_pieces() -> None:
    made = tokenizer("words", Path())
    first, second = align(made, "a b c"), align(made, "a b c")
    assert first[0] is second[0] and not first[0].flags.writeable and not first[1].flags.writeable
    assert align(made, "")[0].shape == (0,) and align(made, " \n")[1].shape == (0, 2)


def test_types_of_peers() -> None:
    assert isinstance(tokenizer("unigram", Path()), SentencePieceTokenizer)
    assert isinstance(tokenizer("fastbpe", Path()), FastBpeTokenizer)

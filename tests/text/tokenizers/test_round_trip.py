"""Any text comes back from its ids, whatever signs it holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlm import sample
from xlm.text.normalize import normalize
from xlm.text.tokenizers.fastbpe import Segmenter
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer, learn_sentencepiece

LINES = [
    normalize(line)
    for name in ("en", "ne")
    for line in sample.path(f"train.{name}.txt").read_text(encoding="utf-8").splitlines()[:300]
]
SIGNS = "\u2581\u0930\u094d\u200d\u200c\u0301\ufeff\ufffd \U0001f468<>@"
SPECIAL = ["<s>", "</s>", "<mask>", "<0x41>", "@@", "</w>", "\u2581\u2581"]
ANY_TEXT = st.lists(
    st.text(st.characters(exclude_categories=()) | st.sampled_from(SIGNS))
    | st.sampled_from(SPECIAL)
).map("".join)
TOKENIZERS = {
    kind: learn_sentencepiece(iter(LINES), 700, kind=kind)  # with byte fallback
    for kind in ("unigram", "bpe")
}
CODES = learn_fastbpe_tokenizer(iter(LINES), 400)


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=ANY_TEXT)
def test_sentencepiece_with_byte_fallback(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    line = normalize(text)
    ids = tokenizer.encode(line)
    assert tokenizer.unk_id not in ids and not tokenizer.special_ids & set(ids)
    found = tokenizer.decode(ids)
    if "\u2581" in line:  # by which SentencePiece marks a space: it comes back as one
        found, line = normalize(found), normalize(line.replace("\u2581", " "))
    assert found == line


@given(text=ANY_TEXT)
def test_codes_cut_words_and_lose_nothing(text: str) -> None:
    segment = Segmenter(CODES.codes)
    for word in normalize(text).split(" "):
        if word and not word.endswith("@@"):
            pieces = segment(word)
            assert "".join(piece.removesuffix("@@") for piece in pieces[:-1]) + pieces[-1] == word


@given(text=st.text(st.sampled_from(sorted({sign for line in LINES for sign in line}))))
def test_codes_give_back_text_of_known_letters(text: str) -> None:
    line = normalize(text)
    ids = CODES.encode(line)
    if CODES.unk_id not in ids:  # a letter that was never seen at the end of a word is unknown
        assert CODES.decode(ids) == line

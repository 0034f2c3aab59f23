import io
import pickle

import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from xlm.errors import DataError
from xlm.text.normalize import normalize
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer

LINES = [
    "the cat sat on the mat and the dog ran to the river",
    "she opened the window , then closed the door again",
    "नमस्ते संसार , यो एउटा सानो परीक्षण हो ।",
    "यह एक छोटा परीक्षण है और कुछ नहीं ।",
    # the text to learn on spells special tokens itself, often
    "<mask> <mask> </s> <pad> <unk> <s> <mask></s><pad>",
] * 20
TOKENIZERS = {kind: learn_sentencepiece(LINES, 315, kind=kind) for kind in ("unigram", "bpe")}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> SentencePieceTokenizer:
    return TOKENIZERS[request.param]


def test_ids(tokenizer: SentencePieceTokenizer) -> None:
    assert tokenizer.vocab_size == 315
    assert (tokenizer.end_id, tokenizer.pad_id, tokenizer.unk_id) == (1, 2, 3)
    assert tokenizer.mask_id == 4
    assert tokenizer.special_ids == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("special", ["<mask>", "</s>", "<pad>", "<unk>", "<s>", "<0x41>"])
@pytest.mark.parametrize("form", ["{}", "a{}b", "{0}{0}", "the {} cat"])
def test_text_never_becomes_a_special(
    tokenizer: SentencePieceTokenizer, special: str, form: str
) -> None:
    text = form.format(special)
    ids = tokenizer.encode(text)
    assert not tokenizer.special_ids & set(ids)
    assert tokenizer.decode(ids) == text


def test_unseen_characters_fall_back_to_bytes(tokenizer: SentencePieceTokenizer) -> None:
    text = "the 🦜 ক cat"
    pieces = tokenizer.segment(text)
    assert {f"<0x{byte:02X}>" for byte in "🦜".encode()} <= set(pieces)
    assert tokenizer.unk_id not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


# U+2581 is SentencePiece's own sign for a space, and U+2585 and tab bound its pieces.
@given(st.text(st.characters(exclude_characters="\u2581", exclude_categories=("Cs",))))
def test_every_line_comes_back(text: str) -> None:
    line = normalize(text)
    for tokenizer in TOKENIZERS.values():
        ids = tokenizer.encode(line)
        assert tokenizer.decode(ids) == line
        assert not tokenizer.special_ids & set(ids)


def test_batches(tokenizer: SentencePieceTokenizer) -> None:
    lines = [*LINES[:5], "", "x"]
    assert tokenizer.encode_lines(lines) == [tokenizer.encode(line) for line in lines]
    assert tokenizer.encode_lines([]) == []
    assert tokenizer.encode("") == []


def test_decode_leaves_specials_out(tokenizer: SentencePieceTokenizer) -> None:
    ids = tokenizer.encode("the cat")
    assert tokenizer.decode([1, *ids, 4, 1, 2, 2]) == "the cat"
    assert tokenizer.decode([]) == ""


def test_pickle(tokenizer: SentencePieceTokenizer) -> None:
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.digest == tokenizer.digest
    assert copy.encode(LINES[0]) == tokenizer.encode(LINES[0])


def test_digests_differ() -> None:
    assert TOKENIZERS["unigram"].digest != TOKENIZERS["bpe"].digest


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_corrupt_model(share: float, capfd: pytest.CaptureFixture[str]) -> None:
    model = TOKENIZERS["bpe"].model
    with pytest.raises(DataError, match="are not a SentencePiece model"):
        SentencePieceTokenizer(model[: int(len(model) * share)])
    with pytest.raises(DataError, match="are not a SentencePiece model"):
        SentencePieceTokenizer(b"nothing of the kind" * 9)
    assert capfd.readouterr() == ("", "")


def test_foreign_model_without_mask() -> None:
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LINES), model_writer=written, vocab_size=60, minloglevel=2, pad_id=3
    )
    with pytest.raises(DataError, match="no control symbol <mask>"):
        SentencePieceTokenizer(written.getvalue())

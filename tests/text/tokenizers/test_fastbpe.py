import json
import pickle
import random
import time
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from xlm import sample
from xlm.errors import ConfigError, DataError
from xlm.text.normalize import normalize
from xlm.text.tokenizers.fastbpe import END, SPECIALS, FastBpeTokenizer, Segmenter
from xlm.text.tokenizers.learn_fastbpe import fastbpe_vocabulary, learn_fastbpe

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "bpe.json").read_text("utf-8"))
CODES = GOLDEN["codes"].encode()
VOCABULARIES = {
    "with_vocab": GOLDEN["vocab"].encode(),
    "without_vocab": None,
    "with_small_vocab": GOLDEN["small_vocab"].encode(),
}
VOCABULARY = VOCABULARIES["with_vocab"]
assert VOCABULARY is not None


@pytest.mark.parametrize("which", VOCABULARIES)
def test_golden(which: str) -> None:
    segment = Segmenter(CODES, VOCABULARIES[which])
    for item in GOLDEN["items"]:
        assert " ".join(segment.line(item["text"])) == item[which]
    for case in GOLDEN["whitespace_cases"] if which == "with_vocab" else []:
        assert " ".join(segment.line(case["text"])) == case[which]


@pytest.mark.parametrize("which", VOCABULARIES)
def test_all_golden(which: str, shared: Path) -> None:
    folder = shared / "golden"
    items = json.loads((folder / "bpe.json").read_text("utf-8"))["items"]
    files = {"with_vocab": "vocab", "with_small_vocab": "vocab.small"}
    vocabulary = (folder / "data" / files[which]).read_bytes() if which in files else None
    segment = Segmenter((folder / "data" / "codes").read_bytes(), vocabulary)
    assert len(items) == 359
    for item in items:
        assert " ".join(segment.line(item["text"])) == item[which]


def test_ids_of_the_original(shared: Path) -> None:
    folder = shared / "golden" / "data"
    tokenizer = FastBpeTokenizer((folder / "codes").read_bytes(), (folder / "vocab").read_bytes())
    dictionary = json.loads((folder / "dictionary.json").read_text("utf-8"))
    assert list(tokenizer.pieces) == dictionary["id2word"]
    num_compared = 0
    with np.load(folder / "binarised.npz") as arrays:
        for name in arrays.files:
            text_file = folder / name.partition(".pth")[0]
            if not name.endswith(".pth.sentences") or text_file.name == "edge":
                continue
            segmented = text_file.read_text("utf-8").removesuffix("\n").split("\n")
            ids = [
                at
                for line in tokenizer.encode_lines([line.replace("@@ ", "") for line in segmented])
                for at in (*line, tokenizer.end_id)
            ]
            assert np.array_equal(ids, arrays[name]), name
            num_compared += len(ids)
    assert num_compared > 5000


WORDS = sorted({word for item in GOLDEN["items"] for word in item["text"].split(" ")})
ANY_WORD = st.sampled_from(WORDS) | st.text("abdehrst।नतिमा", min_size=1)


def _peer(codes: bytes) -> tokenizers.models.BPE:
    """The ``tokenizers`` library on the same merges (an independent segmentation)."""
    merges = [tuple(line.split(" ")[:2]) for line in codes.decode().splitlines()]
    symbols = {part for pair in merges for part in (*pair, "".join(pair))}
    symbols |= {c + end for word in WORDS for c in word for end in ("", END)}
    symbols |= {c + end for c in "abdehrst।नतिमा" for end in ("", END)}
    vocabulary = {symbol: at for at, symbol in enumerate(sorted(symbols))}
    return tokenizers.models.BPE(vocabulary, merges, end_of_word_suffix=END)


PEER = _peer(CODES)


@given(st.lists(ANY_WORD, min_size=1, max_size=4).map("".join))
def test_against_tokenizers(word: str) -> None:
    pieces = Segmenter(CODES)(word)
    symbols = [piece.removesuffix("@@") for piece in pieces[:-1]] + [pieces[-1] + END]
    assert symbols == [token.value for token in PEER.tokenize(word)]


def _original_restriction(codes: bytes, vocabulary: bytes, word: str) -> list[str]:
    """fastBPE's rule word for word: recursive, as its paper trail has it."""
    entries = {line.split(" ")[0] for line in vocabulary.decode().splitlines()}
    parts = {}
    for line in codes.decode().splitlines():
        left, right, _ = line.split(" ")
        parts[left + right] = (left, right)

    def split(symbol: str, final: bool) -> list[str]:
        name = symbol.removesuffix(END) if final else symbol + "@@"
        if name in entries or symbol not in parts:
            return [name]
        left, right = parts[symbol]
        return split(left, False) + split(right, final)

    symbols = [token.value for token in PEER.tokenize(word)]
    return [name for k, s in enumerate(symbols) for name in split(s, k == len(symbols) - 1)]


@given(st.lists(ANY_WORD, min_size=1, max_size=4).map("".join), st.randoms())
def test_restriction(word: str, chance: random.Random) -> None:
    lines = GOLDEN["vocab"].splitlines()
    kept = [line for line in lines if chance.random() < 0.4] or lines[:1]
    vocabulary = ("\n".join(kept) + "\n").encode()
    expected = _original_restriction(CODES, vocabulary, word)
    assert list(Segmenter(CODES, vocabulary)(word)) == expected


def test_codes_in_any_order() -> None:
    """Merges that create an earlier pair: every occurrence of the first is merged before."""
    segment = Segmenter(b"ab c 1\na b 1\n")
    assert segment("abcabcx") == ("abc@@", "abc@@", "x")
    assert Segmenter(b"a a 1\n")("aaaaab") == ("aa@@", "aa@@", "a@@", "b")


def test_a_very_long_word_takes_no_quadratic_time() -> None:
    start = time.perf_counter()
    FastBpeTokenizer(CODES, VOCABULARY).encode("the" * 30_000)
    assert time.perf_counter() - start < 5


def test_dictionary_skips_what_the_original_skips() -> None:
    lines = [
        "the 9",
        "a\u2028b 8",
        "three fields 7",
        "</s> 6",
        "the 5",
        "x y",
        "one",
        "cat@@ 4",
        "s 4",
    ]
    tokenizer = FastBpeTokenizer(CODES, ("\n".join(lines) + "\n").encode())
    assert tokenizer.pieces == (*SPECIALS, "the", "cat@@", "s")
    assert tokenizer.num_skipped == 6
    assert tokenizer.counts == (*[0] * 14, 9, 4, 4)
    assert (tokenizer.end_id, tokenizer.pad_id, tokenizer.unk_id, tokenizer.mask_id) == (1, 2, 3, 5)
    assert tokenizer.special_ids == set(range(14))


def test_limits() -> None:
    entries = VOCABULARY.decode().splitlines()
    limited = FastBpeTokenizer(CODES, VOCABULARY, max_vocab=40)
    assert limited.vocab_size == 40 and limited.pieces[-1] == entries[25].split(" ")[0]
    least = FastBpeTokenizer(CODES, VOCABULARY, min_count=3)
    assert least.vocab_size == 14 + sum(int(entry.split(" ")[1]) >= 3 for entry in entries)
    both = FastBpeTokenizer(CODES, VOCABULARY, max_vocab=40, min_count=3)
    assert both.vocab_size == 40
    assert len({t.digest for t in (limited, least, both)}) == 3
    # Segmentation is that of the whole vocabulary; only then pieces without an id are unknown.
    full = FastBpeTokenizer(CODES, VOCABULARY)
    text = " ".join(WORDS)
    assert limited.encode(text) == [at if at < 40 else 3 for at in full.encode(text)]
    with pytest.raises(ConfigError, match="max_vocab 14"):
        FastBpeTokenizer(CODES, VOCABULARY, max_vocab=14)


def test_special_strings_are_text() -> None:
    text = " ".join(SPECIALS)
    tokenizer = FastBpeTokenizer(CODES, VOCABULARY)
    assert set(tokenizer.encode(text)) & tokenizer.special_ids <= {tokenizer.unk_id}
    # even where the merges spell one
    codes = b"/ s 1\n/s ></w> 1\n< /s></w> 1\n"
    tokenizer = FastBpeTokenizer(codes, b"</s> 5\na 4\n")
    assert tokenizer.segment("</s>") == ("</s>",)
    assert tokenizer.encode("</s> a") == [tokenizer.unk_id, 14]


def test_round_trip_and_unknown() -> None:
    tokenizer = FastBpeTokenizer(CODES, VOCABULARY)
    for item in GOLDEN["items"]:
        ids = tokenizer.encode(item["text"])
        if tokenizer.unk_id not in ids:
            assert tokenizer.decode([1, *ids, 1, 2]) == item["text"]
    assert tokenizer.decode([tokenizer.unk_id, *tokenizer.encode("the")]) == "\u2047 the"
    assert tokenizer.encode("") == [] and tokenizer.decode([]) == ""
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy.digest == tokenizer.digest and copy.pieces == tokenizer.pieces


def test_errors() -> None:
    with pytest.raises(DataError, match=r"codes:2: found 'a b'"):
        Segmenter(b"a b 1\na b\n")
    with pytest.raises(DataError, match=r"codes:1: found '#version: 0.2'"):
        Segmenter(b"#version: 0.2\n")
    with pytest.raises(DataError, match=r"vocabulary:2: invalid UTF-8"):
        Segmenter(CODES, b"a 1\n\xff 1\n")
    with pytest.raises(
        DataError, match=r"vocabulary:2: 'b' has count 2, more than the 1 before it"
    ):
        FastBpeTokenizer(CODES, b"a 1\nb 2\n")
    with pytest.raises(DataError, match="no usable line"):
        FastBpeTokenizer(CODES, b"")


@pytest.mark.fastbpe
def test_every_word_of_the_sample_as_fastbpe_segments_it(tmp_path: Path) -> None:
    fastBPE = pytest.importorskip("fastBPE")
    texts = sorted(sample.folder().glob("*.txt"))
    if not texts:
        pytest.skip("needs the shipped corpus")
    counts: dict[str, int] = {}
    for text in texts:
        for line in text.read_text("utf-8").split("\n"):
            for word in normalize(line).split():
                counts[word] = counts.get(word, 0) + 1
    codes = learn_fastbpe(counts, 1500)
    vocabulary = fastbpe_vocabulary(counts, codes)
    # rare pieces left out, so that many words are split again
    vocabulary = b"".join(line for line in vocabulary.splitlines(True) if int(line.split()[1]) > 3)
    (tmp_path / "codes").write_bytes(codes)
    (tmp_path / "vocab").write_bytes(vocabulary)
    words = list(counts)
    for entries, path in ((vocabulary, str(tmp_path / "vocab")), (None, "")):
        segment = Segmenter(codes, entries)
        theirs = fastBPE.fastBPE(str(tmp_path / "codes"), path).apply(words)
        assert [" ".join(segment(word)) for word in words] == theirs


def test_codes_of_subword_nmt_are_the_same() -> None:
    pairs = [line.rpartition(b" ")[0] for line in CODES.splitlines()]
    codes = b"#version: 0.2\n" + b"\n".join(pairs) + b"\r\n"
    assert VOCABULARY is not None
    ours, theirs = FastBpeTokenizer(CODES, VOCABULARY), FastBpeTokenizer(codes, VOCABULARY)
    for item in GOLDEN["items"]:
        assert ours.encode(item["text"]) == theirs.encode(item["text"])
    assert theirs.codes == b"".join(pair + b" 0\n" for pair in pairs)


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (b"#version: 0.1\na b\n", "codes:1: found codes of subword-nmt 0.1, expected 0.2"),
        (b"#version: 0.2\na b</w>\na b c\n", "codes:3: found 'a b c', expected 'left right'"),
        (b"#version: 0.2\n\xc4\xa0 t\nh e\n", "codes:1: no merge ends with </w>"),
        (b"a b\n", "codes:1: found 'a b', expected 'left right count' of fastBPE, or '#version"),
    ],
)
def test_codes_of_others_are_named(codes: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        FastBpeTokenizer(codes, b"a 1\n")

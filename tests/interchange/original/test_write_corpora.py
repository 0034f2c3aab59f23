"""Ids of another program: the same corpora as preparing the text that they stand for."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from xlm import sample
from xlm.data.corpora import Corpora, write_header
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.errors import DataError
from xlm.interchange.original.write_corpora import write_pairs, write_text
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer

NUM_LINES = 60


@dataclass(frozen=True)
class Given:
    """What a file of the original's holds."""

    ids: NDArray[Any]
    lengths: NDArray[np.int64]
    unknown_words: dict[str, int]


def lines_of(language: str, split: str = "valid") -> list[str]:
    text = sample.path(f"{split}.{language}.txt").read_text(encoding="utf-8")
    return text.splitlines()[:NUM_LINES]


@pytest.fixture(scope="module")
def tokenizer() -> FastBpeTokenizer:
    """Codes of all text, and a vocabulary that lacks the rarer pieces."""
    lines = [line for language in ("en", "hi") for line in lines_of(language)]
    learnt = learn_fastbpe_tokenizer(lines, 300)
    rows = learnt.vocabulary.split(b"\n")
    return FastBpeTokenizer(learnt.codes, b"\n".join(rows[: len(rows) - 120]) + b"\n")


def as_the_original(lines: Sequence[str], tokenizer: FastBpeTokenizer) -> Given:
    """Return segmented text as preprocess.py would (docs/fidelity.md, A11), written out anew."""
    numbers = {piece: at for at, piece in enumerate(tokenizer.pieces)}
    unknown: Counter[str] = Counter()
    ids: list[int] = []
    lengths = []
    for line in lines:
        before = len(ids)
        for piece in tokenizer.segment.line(line):
            ids.append(numbers.get(piece, 3))
            unknown.update([piece] if ids[-1] == 3 else [])
        ids.append(1)
        lengths.append(len(ids) - before)
    return Given(np.array(ids, np.uint16), np.array(lengths), dict(unknown))


def same(one: Path, other: Path) -> None:
    """The two corpora are the same files, byte for byte, and the same sizes.

    Only the text says where empty lines parted documents.
    """
    for name in ("ids.bin", "offsets.bin", "counts.bin", "order.bin"):
        if (one / name).exists() or (other / name).exists():
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    headers = [json.loads((path / "header.json").read_text()) for path in (one, other)]
    dropped = [header.pop("dropped") for header in headers]
    for header in headers:
        del header["digest"]
        header.pop("documents", None)
        of_text = (".json", "documents.bin")
        header["files"] = {k: v for k, v in header["files"].items() if not k.endswith(of_text)}
    assert headers[0] == headers[1]
    assert all(number > 0 for found in dropped for number in found.values())


@pytest.fixture(scope="module")
def prepared(tokenizer: FastBpeTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same text through ``prepare``, with empty lines where pairs are to be dropped."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "codes").write_bytes(tokenizer.codes)
    (folder / "vocab").write_bytes(tokenizer.vocabulary)
    english, hindi = with_holes()
    (folder / "en").write_text("".join(f"{line}\n" for line in english), encoding="utf-8")
    (folder / "hi").write_text("".join(f"{line}\n" for line in hindi), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        prepare(
            Prepare(
                folder="data",
                text=Texts(train={"en": "en", "hi": "hi"}),
                pairs=Aligned(train={"en-hi": ["en", "hi"]}),
                vocabulary=Vocabulary(codes="codes", vocab="vocab"),
                workers=1,
            )
        )
    return folder / "data"


def with_holes() -> tuple[list[str], list[str]]:
    english, hindi = lines_of("en"), lines_of("hi")
    english[3] = english[9] = hindi[9] = hindi[20] = ""
    return english, hindi


def test_text_is_what_preparing_makes(
    tokenizer: FastBpeTokenizer, prepared: Path, tmp_path: Path
) -> None:
    for language, lines in zip(("en", "hi"), with_holes(), strict=True):
        given = as_the_original(lines, tokenizer)
        assert given.unknown_words
        account = write_text([given], tmp_path / language, language, tokenizer)
        same(tmp_path / language, prepared / "train" / language)
        assert (account.sentences, account.dropped) == (NUM_LINES - 2, 2)
        assert account.tokens == len(given.ids) - 2
        assert account.unknown == sum(given.unknown_words.values()) > 0
        assert Corpus.open(tmp_path / language, tokenizer).dropped == {"empty": 2}


def test_parts_follow_one_another(
    tokenizer: FastBpeTokenizer, prepared: Path, tmp_path: Path
) -> None:
    lines = with_holes()[0]
    parts = [as_the_original(part, tokenizer) for part in (lines[:7], lines[7:])]
    write_text(parts, tmp_path / "en", "en", tokenizer)
    same(tmp_path / "en", prepared / "train" / "en")


def test_pairs_are_what_preparing_makes(
    tokenizer: FastBpeTokenizer, prepared: Path, tmp_path: Path
) -> None:
    sides = [[as_the_original(lines, tokenizer)] for lines in with_holes()]
    accounts = write_pairs(sides, tmp_path / "train" / "en-hi", ("en", "hi"), tokenizer)
    assert [account.dropped for account in accounts] == [3, 3]
    tokenizer.save(tmp_path / "tokenizer")
    write_header(tmp_path, tokenizer, ["en", "hi"])
    found = Corpora.open(tmp_path).pairs("train", "en-hi")
    assert found.dropped == {"empty side": 3} and len(found) == NUM_LINES - 3
    theirs = Pairs.open(prepared / "train" / "en-hi")
    assert np.array_equal(found.order(), theirs.order())
    for one, other in zip(found.sides, theirs.sides, strict=True):
        assert np.array_equal(one.ids, other.ids) and np.array_equal(one.offsets, other.offsets)
        assert np.array_equal(one.counts, other.counts)
    # the sizes of unknown words in dropped pairs are not told apart: near, but not exact
    assert found.sides[0].text_size.characters == pytest.approx(
        theirs.sides[0].text_size.characters, rel=0.01
    )


def test_sides_of_another_length_are_refused(tokenizer: FastBpeTokenizer, tmp_path: Path) -> None:
    english, hindi = with_holes()
    sides = [[as_the_original(english, tokenizer)], [as_the_original(hindi[:-1], tokenizer)]]
    with pytest.raises(DataError, match=r"60 sentences in en and 59 in hi"):
        write_pairs(sides, tmp_path / "en-hi", ("en", "hi"), tokenizer)


def test_sizes_are_unknown_where_unknown_words_are(
    tokenizer: FastBpeTokenizer, tmp_path: Path
) -> None:
    given = as_the_original(lines_of("en"), tokenizer)
    silent = Given(given.ids, given.lengths, {})
    account = write_text([silent], tmp_path / "en", "en", tokenizer)
    size = Corpus.open(tmp_path / "en").text_size
    assert (size.words, size.characters, size.bytes) == (0, 0, 0) and size.sentences == NUM_LINES
    assert "no figure is per word" in account.describe("train en", "sentences")

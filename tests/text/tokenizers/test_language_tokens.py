"""Language tokens behind the ids of any tokenizer: never text, kept with it, matched by name."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.data.masking import frequency_weights, replace_targets
from xlm.errors import ConfigError, DataError
from xlm.model.vocabulary import extend_vocabulary
from xlm.preparation.config import Prepare, Texts, Vocabulary
from xlm.prepare import prepare
from xlm.rng import Random
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.language_tokens import LanguageTokens, with_language_tokens
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

LINES = ["the cat sat on the mat", "नमस्ते संसार", "a dog ran <2hi>"] * 5


def sentencepiece() -> Tokenizer:
    return learn_sentencepiece(LINES, 288)


def fastbpe() -> Tokenizer:
    return FastBpeTokenizer(b"t h 2\nth e</w> 2\n", b"the 2\nc@@ 1\nat 1\n", max_vocab=16)


BASES = pytest.mark.parametrize("base", [sentencepiece(), fastbpe()], ids=["pieces", "fastbpe"])


@BASES
def test_the_tokens_follow_the_last_id_in_alphabetical_order(base: Tokenizer) -> None:
    num = base.vocab_size
    made = LanguageTokens(base, ["ne", "en", "zh-Hans", "hi"])
    assert made.language_tokens == {"en": num, "hi": num + 1, "ne": num + 2, "zh-Hans": num + 3}
    assert made.vocab_size == len(made.pieces) == num + 4
    assert list(made.pieces)[num:] == ["<2en>", "<2hi>", "<2ne>", "<2zh-Hans>"]
    assert list(made.pieces)[:num] == list(base.pieces)
    assert made.special_ids == base.special_ids | {num, num + 1, num + 2, num + 3}
    roles = ("end_id", "begin_id", "pad_id", "unk_id", "mask_id")
    assert [getattr(made, role) for role in roles] == [getattr(base, role) for role in roles]
    assert base.language_tokens == {}


@BASES
def test_no_text_is_a_token_and_no_token_is_text(base: Tokenizer) -> None:
    made = LanguageTokens(base, ["hi"])
    for line in (*LINES, "<2hi>", "</s> <2hi>"):
        assert made.encode(line) == base.encode(line)
        assert made.encode_spans(line) == base.encode_spans(line)
        assert max(made.encode(line)) < base.vocab_size
    assert made.encode_lines(LINES) == base.encode_lines(LINES)
    ids = made.encode(LINES[0])
    token = made.language_tokens["hi"]
    assert made.decode([token, *ids[:2], token, *ids[2:], token]) == base.decode(ids)


@BASES
def test_a_folder_gives_it_back(base: Tokenizer, tmp_path: Path) -> None:
    made = LanguageTokens(LanguageTokens(base, ["ne"]), ["en", "hi"])
    assert made.language_tokens == {
        "ne": base.vocab_size, "en": base.vocab_size + 1, "hi": base.vocab_size + 2,
    }  # fmt: skip
    made.save(tmp_path / "here")
    for again in (load_tokenizer(tmp_path / "here"), pickle.loads(pickle.dumps(made))):
        assert again.digest == made.digest != base.digest
        assert again.language_tokens == made.language_tokens
        assert list(again.pieces) == list(made.pieces)
        assert again.encode_lines(LINES) == made.encode_lines(LINES)
    at = tmp_path / "here" / "tokenizer.json"
    at.write_text(at.read_text().replace('"hi"', '"mr"'))
    with pytest.raises(DataError, match=r"digest \w+ found"):
        load_tokenizer(tmp_path / "here")


def test_others_languages_are_another_tokenizer() -> None:
    base = sentencepiece()
    digests = {base.digest, *(LanguageTokens(base, own).digest for own in (["en"], ["en", "hi"]))}
    assert len(digests) == 3


def test_no_target_and_no_random_token_is_one() -> None:
    made = LanguageTokens(sentencepiece(), ["en", "hi"])
    own = sorted(made.language_tokens.values())
    weights = frequency_weights(np.ones(made.vocab_size, dtype=np.int64), 0.5, made)
    assert (weights[own] == 0).all() and (weights > 0).any()
    tokens = np.full(20_000, made.vocab_size - 10)
    drawn = replace_targets(tokens, np.arange(20_000), made, Random(0), mask=0, keep=0, rand=1)
    assert not np.isin(drawn, sorted(made.special_ids)).any()


def test_tokens_that_are_there_stay() -> None:
    base = sentencepiece()
    two = LanguageTokens(base, ["en", "ne"])
    assert with_language_tokens(two, ["ne"]) is two
    three = with_language_tokens(two, ["hi", "en", "ne"])
    assert three.language_tokens == {**two.language_tokens, "hi": two.vocab_size}
    for names, message in (
        ([], "no language"),
        (["a/b"], "'a/b' is not the name"),
        (["en"], "has one"),
    ):
        with pytest.raises(ConfigError, match=message):
            LanguageTokens(two, names)


def test_extending_matches_languages_and_means_over_those_there() -> None:
    base = sentencepiece()
    there, here = LanguageTokens(base, ["en", "ne"]), LanguageTokens(base, ["en", "hi"])
    num = base.vocab_size
    table = torch.randn(num + 2, 3, dtype=torch.float64)
    carried = extend_vocabulary(here, there).apply(table)
    assert torch.equal(carried[: num + 1], table[: num + 1])  # the pieces, and en
    torch.testing.assert_close(carried[num + 1], table[num:].mean(0))  # hi
    without = extend_vocabulary(here, base).apply(table[:num])
    text = [at for at in range(num) if at not in base.special_ids]
    for row in (num, num + 1):
        torch.testing.assert_close(without[row], table[text].mean(0))


@pytest.mark.parametrize(
    ("wanted", "expected"), [(True, ["en", "ne"]), (["hi", "ne"], ["hi", "ne"]), (False, [])]
)
def test_prepared_text_has_them(
    wanted: bool | list[str], expected: list[str], tmp_path: Path
) -> None:
    texts = Texts(train={"en": "sample:train.en.txt", "ne": "sample:train.ne.txt"})
    learned = prepare(
        Prepare(
            folder=str(tmp_path / "learned"), text=texts, workers=1,
            vocabulary=Vocabulary(size=500, language_tokens=wanted),
        )
    )  # fmt: skip
    assert list(learned.tokenizer.language_tokens) == expected
    assert learned.tokenizer.vocab_size == 500 + len(expected)
    assert not learned.counts()[500:].any() and len(learned.counts()) == 500 + len(expected)
    settings = json.loads((tmp_path / "learned/tokenizer/tokenizer.json").read_text())
    assert (settings["kind"] == "language-tokens") is bool(expected)
    over = prepare(
        Prepare(
            folder=str(tmp_path / "over"), text=texts, workers=1,
            vocabulary=Vocabulary(
                folder=str(tmp_path / "learned"), language_tokens=["en", "hi", "ne"]
            ),
        )
    )  # fmt: skip
    own = over.tokenizer.language_tokens
    assert set(own) == {"en", "hi", "ne"}
    assert {name: own[name] for name in expected} == learned.tokenizer.language_tokens
    ids = [corpora.text("train", "ne").tokens(slice(None)) for corpora in (learned, over)]
    np.testing.assert_array_equal(*ids)


def test_a_list_that_does_not_match_the_text_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = Texts(train={name: f"sample:train.{name}.txt" for name in ("en", "ne")})

    def warned(tokens: bool | list[str], folder: str) -> bool:
        vocabulary = Vocabulary(size=500, language_tokens=tokens)
        caplog.clear()
        prepare(Prepare(folder=str(tmp_path / folder), text=text, vocabulary=vocabulary, workers=1))
        return any(
            "gives tokens to en, xx, but the text is in en, ne" in m for m in caplog.messages
        )

    assert warned(["en", "xx"], "other")
    assert not warned(["en", "ne"], "same") and not warned(True, "all")

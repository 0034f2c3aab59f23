import json
import shutil

import numpy as np
import pytest

from tests.data.fakes import WordTokenizer, corpora, corpus
from xlm.data.binarize import binarize, binarize_pairs
from xlm.data.corpora import Corpora, write_header
from xlm.errors import ConfigError, DataError

TOKENIZER = WordTokenizer()


@pytest.fixture
def folder(tmp_path):
    binarize(["a b", "c"], tmp_path / "train" / "ne", "ne", TOKENIZER)
    binarize(["d"], tmp_path / "valid" / "ne", "ne", TOKENIZER)
    binarize_pairs([("e f", "g")], tmp_path / "train" / "en-ne", ("en", "ne"), TOKENIZER)
    write_header(tmp_path, TOKENIZER, ["ne", "en"])
    (tmp_path / "train" / ".hi.writing").mkdir()
    (tmp_path / "train" / ".hi.writing" / "header.json").touch()
    return tmp_path


def test_a_folder_is_opened(folder):
    found = Corpora.open(folder, TOKENIZER)
    assert found.languages == {"en": 0, "ne": 1}
    assert found.names("train") == {"texts": ["ne"], "pairs": ["en-ne"]}
    assert found.names("test") == {"texts": [], "pairs": []}
    assert found.text("train", "ne").text_size.tokens == 5
    assert found.text("valid", "ne")[0].tolist() == TOKENIZER.encode("d")
    assert found.text("valid", "ne") is found.text("valid", "ne")
    assert found.pairs("train", "en-ne").languages == ("en", "ne")
    assert found.pairs("train", "ne-en").languages == ("ne", "en")
    assert found.describe().splitlines()[0] == "train ne: 2 sentences, 5 tokens"
    assert found.describe().splitlines()[1] == "train en-ne: 5 tokens in 1 pairs"
    assert len(found.describe().splitlines()) == 3


def test_what_is_neither_a_language_nor_a_pair_is_passed_over_and_said(folder, caplog):
    shutil.copytree(folder / "train" / "ne", folder / "train" / "nli.en")
    assert Corpora.open(folder, TOKENIZER).names("train") == {"texts": ["ne"], "pairs": ["en-ne"]}
    assert f"{folder / 'train' / 'nli.en'} is skipped: nli.en is neither" in caplog.text


def test_what_is_missing_is_told_with_what_there_is(folder):
    found = Corpora.open(folder, TOKENIZER)
    for ask, message in [
        (lambda: found.text("train", "hi"), "no text 'hi' in the train split of .*: it has ne;"),
        (lambda: found.text("test", "ne"), "in the test split of .*: it has none;"),
        (lambda: found.text("train", "nee"), "it has ne; .* one of these, such as ne"),
        (lambda: found.pairs("train", "ne-ne"), "no pairs 'ne-ne' .* it has en-ne;"),
        (lambda: found.unigram("hi"), "no text 'hi'"),
    ]:
        with pytest.raises(DataError, match=message):
            ask()
    with pytest.raises(
        ConfigError, match="'hi-ne' is not a pair of known languages .en, ne.: .* en-ne"
    ):
        found.pairs("train", "hi-ne")


def test_folders_that_are_none(folder, tmp_path_factory):
    with pytest.raises(DataError, match="no corpora at"):
        Corpora.open(tmp_path_factory.mktemp("empty"), TOKENIZER)
    with pytest.raises(DataError, match="was made by tokenizer words-200"):
        Corpora.open(folder, WordTokenizer(name="other"))
    content = json.loads((folder / "corpora.json").read_text())
    (folder / "corpora.json").write_text(json.dumps({**content, "format_version": 9}))
    with pytest.raises(DataError, match="format version 9"):
        Corpora.open(folder, TOKENIZER)


def test_languages_have_the_ids_of_the_header(folder):
    write_header(folder, TOKENIZER, {"ne": 0, "en": 7})
    assert Corpora.open(folder, TOKENIZER).languages == {"ne": 0, "en": 7}


def test_counts_are_of_all_training_text_and_pairs(folder):
    found = Corpora.open(folder, TOKENIZER)
    ids = [TOKENIZER.encode(text) for text in ("a b", "c", "e f", "g")]
    expected = np.bincount([*sum(ids, []), 1, 1, 1, 1], minlength=200)
    assert found.counts().tolist() == expected.tolist()
    assert found.counts() is found.counts()
    with pytest.raises(ValueError, match="read-only"):
        found.counts()[0] = 1


def test_the_unigram_model_is_add_one_on_a_language_s_own_text(folder):
    found = Corpora.open(folder, TOKENIZER)
    ids = [*TOKENIZER.encode("a b c"), 1, 1]  # its side of the pairs is left out: it has text
    expected = [-np.log((ids.count(token) + 1) / (len(ids) + 200)) for token in range(200)]
    assert np.allclose(found.unigram("ne"), expected, rtol=1e-12)
    assert np.exp(-found.unigram("ne")).sum() == pytest.approx(1)
    sides = [*TOKENIZER.encode("e f"), 1]  # only pairs
    assert found.unigram("en")[sides[0]] == pytest.approx(np.log((3 + 200) / 2))


def test_corpora_in_memory():
    found = corpora(en=[3], hi=[4, 5], en_hi=([2], [2]))
    assert found.languages == {"en": 0, "hi": 1}
    assert found.text("train", "hi").text_size.sentences == 2
    assert found.pairs("train", "hi-en").languages == ("hi", "en")
    assert found.counts().sum() == 4 + 11 + 6
    with pytest.raises(DataError, match="in the valid split of these corpora: it has none"):
        found.text("valid", "en")
    assert Corpora(TOKENIZER, {"x": 4}, texts={("train", "x"): corpus([1], "x")}).languages == {
        "x": 4
    }

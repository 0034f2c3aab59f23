"""The sample corpus is what its README says."""

from __future__ import annotations

import re
import unicodedata
from itertools import combinations

import pytest

from xlm import sample
from xlm.errors import DataError
from xlm.rng import Random


def lines(split: str, language: str) -> list[str]:
    text = sample.path(f"{split}.{language}.txt").read_bytes().decode("utf-8")
    assert text.endswith("\n")
    return text[:-1].split("\n")


def whole(language: str) -> list[str]:
    return [line for split in sample.SPLITS for line in lines(split, language)]


def words(sentence: str) -> frozenset[str]:
    """The different words of a sentence, without case and punctuation."""
    return frozenset(re.sub(r"[.,:;?!।'-]", " ", sentence.lower()).split())


def test_the_languages_are_aligned_and_large_enough() -> None:
    for split, expected in (("train", 459), ("valid", 81)):
        counts = {language: len(lines(split, language)) for language in sample.LANGUAGES}
        assert set(counts.values()) == {expected}, counts


def test_english_has_many_words() -> None:
    assert len(frozenset().union(*map(words, whole("en")))) >= 1200


@pytest.mark.parametrize("language", sample.LANGUAGES)
def test_lines_are_clean(language: str) -> None:
    sentences = whole(language)
    assert len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert unicodedata.is_normalized("NFC", sentence), sentence
        assert sentence == " ".join(sentence.split()), sentence
        assert len(sentence.split()) >= 4, sentence
        assert sentence[-1] in (".?" if language == "en" else "।?"), sentence


@pytest.mark.parametrize("language", sample.LANGUAGES)
def test_each_language_keeps_to_its_script(language: str) -> None:
    script = "A-Za-z" if language == "en" else "\u0900-\u097f\u200d"  # a joiner, as in र्‍य
    strange = re.compile(rf"[^{script} .,:;?'-]")
    assert not [(s, strange.findall(s)) for s in whole(language) if strange.search(s)]


@pytest.mark.parametrize("language", sample.LANGUAGES)
def test_no_two_sentences_share_most_of_their_words(language: str) -> None:
    """Not even when what they share is measured against the shorter one."""
    bags = [(words(sentence), sentence) for sentence in whole(language)]
    for (one, first), (other, second) in combinations(bags, 2):
        shared = len(one & other) / min(len(one), len(other))
        assert shared <= 0.6, f"{shared:.2f}: {first} | {second}"


def test_documents_cover_every_line_once() -> None:
    header, *rows = sample.path("documents.tsv").read_text(encoding="utf-8").splitlines()
    assert header.split("\t") == ["split", "first_line", "num_lines"]
    expected_first = dict.fromkeys(sample.SPLITS, 1)
    for row in rows:
        split, first, count = row.split("\t")
        assert int(first) == expected_first[split]
        expected_first[split] += int(count)
    for split, following in expected_first.items():
        assert following == len(lines(split, "en")) + 1


def follows(split: str) -> list[tuple[str, int, int]]:
    """(label, line, line): does the second line follow the first? As the README says."""
    documents = [row.split("\t") for row in sample.path("documents.tsv").read_text().splitlines()]
    spans = [(int(first) - 1, int(num)) for own, first, num in documents[1:] if own == split]
    rows = []
    for first, num in spans:
        others = [at for start, n in spans if start != first for at in range(start, start + n)]
        for at in range(first, first + num - 1, 2):
            random = Random(0, "follows", split, at)
            if random.uniform(1)[0] < 0.5:
                rows.append(("yes", at, at + 1))
            else:
                rows.append(("no", at, others[int(random.integers(1, len(others))[0])]))
    return rows


@pytest.mark.parametrize("language", ["en", "ne"])
@pytest.mark.parametrize("split", sample.SPLITS)
def test_labeled_sentences_are_made_by_the_rule_of_the_readme(split: str, language: str) -> None:
    text = lines(split, language)
    expected = [f"{label}\t{text[one]}\t{text[other]}\n" for label, one, other in follows(split)]
    found = sample.path(f"follows.{split}.{language}.tsv").read_text(encoding="utf-8")
    assert found == "".join(expected)
    share = sum(row.startswith("yes") for row in expected) / len(expected)
    assert len(expected) == {"train": 204, "valid": 36}[split] and 0.35 < share < 0.65


def test_an_unknown_name_lists_the_names() -> None:
    assert sample.path("README.md").is_file()
    with pytest.raises(DataError, match=r"'train\.fr\.txt'.*train\.en\.txt, train\.hi\.txt"):
        sample.path("train.fr.txt")
    with pytest.raises(DataError, match="no file 'train.fr.txt'"):
        sample.resolved("sample:train.fr.txt")
    assert sample.resolved("sample:README.md") == str(sample.path("README.md"))
    assert sample.resolved("train.fr.txt") == "train.fr.txt"


@pytest.mark.parametrize("split", sample.SPLITS)
@pytest.mark.parametrize("language", ["en", "ne"])
def test_documents_are_the_same_text_with_empty_lines_between(split: str, language: str) -> None:
    text = sample.path(f"documents.{split}.{language}.txt").read_text(encoding="utf-8")
    documents = [document.strip("\n").split("\n") for document in text.split("\n\n")]
    assert [line for document in documents for line in document] == lines(split, language)
    table = sample.path("documents.tsv").read_text(encoding="utf-8").splitlines()[1:]
    sizes = [int(row.split("\t")[2]) for row in table if row.startswith(split)]
    assert [len(document) for document in documents] == sizes

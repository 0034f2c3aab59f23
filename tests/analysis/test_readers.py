"""Files of every kind: what is read, and the place of what cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from xlm.analysis import readers
from xlm.analysis.readers import InContext, MinimalPair, Scored
from xlm.errors import DataError


@pytest.fixture
def write(tmp_path: Path):
    def make(text: str, name: str = "file.txt") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode())
        return path

    return make


def test_dictionaries(write) -> None:
    path = write("\ufeffWater पानी\r\nwater\tजल\r\n\r\nice cream\tआइस क्रीम\nwater पानी\n")
    assert readers.read_dictionary(path) == {
        "Water": ["पानी"], "water": ["जल", "पानी"], "ice cream": ["आइस क्रीम"]
    }  # fmt: skip
    with pytest.raises(DataError, match=r"file.txt:2: found 3 words"):
        readers.read_dictionary(write("a b\na b c\n"))


def test_scored_pairs(write) -> None:
    path = write("Promised Land\tBaku\t0.42\r\n")
    assert readers.read_scored_pairs(path) == [Scored("Promised Land", "Baku", 0.42)]
    for bad, what in (("a\tb\tmuch\n", "the score 'much' is not a number"), ("a b 1\n", "1 cells"),
                      ("a\tb\tnan\n", "is not a number")):  # fmt: skip
        with pytest.raises(DataError, match=f"file.txt:1: .*{what}"):
            readers.read_scored_pairs(write(bad))


def test_alignments(write) -> None:
    path = write("0-0 1p2\n7\t1-1\n\n")
    own = readers.read_alignments(path)
    assert own[0].sure == {(0, 0)} and own[0].possible == {(0, 0), (1, 2)}
    assert own[1].sure == {(1, 1)} and own[2].possible == frozenset()
    assert readers.read_alignments(write("1-1 2-3\n"), first_index=1)[0].sure == {(0, 0), (1, 2)}
    with pytest.raises(DataError, match="file.txt:1: found '0:1': expected links such as"):
        readers.read_alignments(write("0:1\n"))
    with pytest.raises(
        DataError, match="file.txt:1: 0-1 is smaller than the number of the first word"
    ):
        readers.read_alignments(write("0-1\n"), first_index=1)


def test_alignments_that_do_not_fit_their_sentences(write) -> None:
    path = write("0-0 1-1\n1-2\n")
    own = readers.read_alignments(path)
    readers.check_alignments(path, own, [(2, 2), (2, 3)])
    with pytest.raises(
        DataError, match="file.txt:2: the link 1-2 is outside of sentences with 2 and 2"
    ):
        readers.check_alignments(path, own, [(2, 2), (2, 2)])
    with pytest.raises(DataError, match="2 lines of links for 1 sentence pairs"):
        readers.check_alignments(path, own, [(2, 2)])
    from_one = write("1-1 2-2\n")
    with pytest.raises(DataError, match="seems to count from 1: read it with first_index 1"):
        readers.check_alignments(from_one, readers.read_alignments(from_one), [(2, 2)])


def test_words_in_context(write) -> None:
    data = write("hook\tV\t0-1\tHook a fish .\tHe hooked a snake .\n", "data.txt")
    gold = write("T\n", "gold.txt")
    expected = InContext("Hook a fish .".split(), 0, "He hooked a snake .".split(), 1, 1.0)
    assert readers.read_wic(data, gold) == [expected]
    with pytest.raises(DataError, match="gold.txt:1: found 'yes': expected T or F"):
        readers.read_wic(data, write("yes\n", "gold.txt"))
    with pytest.raises(DataError, match="data.txt has 1 rows and .*gold.txt has 2"):
        readers.read_wic(data, write("T\nF\n", "gold.txt"))
    outside = write("hook\tV\t0-9\tHook a fish .\tHe hooked .\n", "data.txt")
    with pytest.raises(
        DataError,
        match="data.txt:1: the word's places are 0-9, but the sentences have 4 and 3 words",
    ):
        readers.read_wic(outside, write("T\n", "gold.txt"))


def test_ratings_in_context(write) -> None:
    line = "1\tBrazil\tn\tnut\tn\tin <b> Brazil </b> the\tthe <b>nuts</b> (\t1.1\t0.0\n"
    (own,) = readers.read_scws(write(line))
    assert own == InContext(["in", "Brazil", "the"], 1, ["the", "nuts", "("], 1, 1.1)
    with pytest.raises(DataError, match="file.txt:1: no word is marked"):
        readers.read_scws(write(line.replace("<b> Brazil </b>", "Brazil")))


def test_minimal_pairs(write) -> None:
    path = write("simple\tsing\tthe author laughs\tthe author laugh\n")
    assert readers.read_minimal_pairs(path) == [
        MinimalPair("simple", "the author laughs", "the author laugh")
    ]
    with pytest.raises(DataError, match="file.txt:1: found 2 cells"):
        readers.read_minimal_pairs(write("simple\tthe author laughs\n"))


def test_vectors(write) -> None:
    own = readers.read_vectors(write("2 3\nnew york 1 2 3\nb 0 0 1\nb 9 9 9\n"))
    np.testing.assert_allclose(own["new york"], [1, 2, 3])
    np.testing.assert_allclose(own["b"], [0, 0, 1])
    assert list(readers.read_vectors(write("a 0.5 1e-3\n"))) == ["a"]
    with pytest.raises(DataError, match="file.txt:3: found 3 parts: expected a word and 3 numbers"):
        readers.read_vectors(write("2 3\na 1 2 3\nb 0 1\n"))


def test_scores(write) -> None:
    assert readers.read_scores(write("hi\t60.5\nne 40\n")) == {"hi": 60.5, "ne": 40.0}
    report = {"streams": {"nli/hi": {"chosen": {"mean": 0.5, "interval": None}}}}
    assert readers.read_scores(write(json.dumps(report), "report.json")) == {"hi": 0.5}
    report["streams"]["pos/hi"] = {"chosen": {"mean": 0.25, "interval": None}}
    two = readers.read_scores(write(json.dumps(report), "report.json"))
    assert two == {"nli/hi": 0.5, "pos/hi": 0.25}
    with pytest.raises(DataError, match="expected the report.json of xlm finetune"):
        readers.read_scores(write("{}", "report.json"))

"""Tiny files of words with tags and trees; every malformed line is named."""

import pytest

from xlm.errors import ConfigError, DataError
from xlm.tasks.readers.tagged import read_tagged, read_trees
from xlm.text.readers import ReadReport


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return str(path)


def sentences(path, *args, **settings):
    return [(one.words, one.tags) for one in read_tagged(path, *args, **settings)]


def test_words_and_tags(tmp_path):
    path = write(tmp_path / "a.tsv", "# \tSYM\nNew York\tB-LOC\n\n \n\nक\u200dष\tO\n")
    assert sentences(path, "tsv") == [
        (("#", "New York"), ("SYM", "B-LOC")),
        (("क\u200dष",), ("O",)),
    ]
    found = list(read_tagged(path, "tsv", language="hi"))
    assert [one.place for one in found] == [f"{path}:1", f"{path}:6"]
    assert {one.language for one in found} == {"hi"}


def test_conll_columns_and_document_starts(tmp_path):
    text = "-DOCSTART- -X- O O\n\nEU NNP I-NP I-ORG\nrejects VBZ I-VP O\n\nPeter NNP I-NP I-PER"
    path = write(tmp_path / "eng.testa", text)
    report = ReadReport()
    assert sentences(path, report=report) == [
        (("EU", "rejects"), ("I-ORG", "O")),
        (("Peter",), ("I-PER",)),
    ]
    assert (report.num_kept, report.dropped) == (2, {"-DOCSTART-": 1})
    assert sentences(path, tag_column=1)[1] == (("Peter",), ("NNP",))
    german = write(tmp_path / "deu.testa", "EU EU NNP O I-ORG\r\nx x y O O\r\n")
    assert sentences(german, word_column=1) == [(("EU", "x"), ("I-ORG", "O"))]


def test_wikiann(tmp_path):
    path = write(tmp_path / "train", "en:R.H.\tB-PER\nen:a:b\tO\n\nen::\tO\n")
    assert sentences(path, "wikiann") == [(("R.H.", "a:b"), ("B-PER", "O")), ((":",), ("O",))]
    assert next(read_tagged(path, "wikiann", language="en")).language == "en"
    with pytest.raises(DataError, match=":1: found a word of en, expected de"):
        sentences(path, "wikiann", language="de")


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("tsv", "a\tO\nb\n", r":2: found 1 columns, expected 2"),
        ("tsv", "a\tO\n\nb\tO\tx\n", r":3: found 3 columns, expected 2"),
        ("conll", "a x O\nb O\n", r":2: found 2 columns, expected 3"),
        ("conll", "a x O\n\nb O\n", r":3: found 2 columns, expected 3"),
        ("conll", "word\n", r":1: found 1 columns, expected a word and its tag"),
        ("tsv", "a\t\n", r":1: the tag is empty"),
        ("tsv", "\u00a0\u2003\tO\n", r":1: found the word .* expected one with visible"),
        ("wikiann", "word\tO\n", r":1: found 'word', expected language:word"),
        ("wikiann", "en:a\tO\nfr:b\tO\n", r":2: found a word of fr, expected en"),
        ("tsv", "\n\n", r"found no sentence"),
        ("bio", "a\tO\n", r"format 'bio': expected one of tsv, conll, wikiann, conllu"),
    ],
)
def test_malformed_words(tmp_path, format, text, message):
    path = write(tmp_path / "bad", text)
    with pytest.raises((DataError, ConfigError), match=message) as error:
        sentences(path, format)
    assert "\n" not in str(error.value) and (format == "bio" or "bad" in str(error.value))


@pytest.mark.parametrize("columns", [{"tag_column": 3}, {"word_column": -4}, {"word_column": 2}])
def test_columns_that_are_not_there(tmp_path, columns):
    with pytest.raises(ConfigError, match="column"):
        sentences(write(tmp_path / "a", "a b O\n"), **columns)


def line(number, form, upos="NOUN", head=0, label="root"):
    return f"{number}\t{form}\t_\t{upos}\t_\t_\t{head}\t{label}\t_\tSpaceAfter=No\n"


TREE = (
    "# sent_id = 1\n# text = au lit\n"
    + line("1-2", "au", "_", "_", "_")
    + line(1, "à", "ADP", 3, "case")
    + line(2, "le", "DET", 3, "det")
    + line(3, "lit", "NOUN", 0, "root")
    + line("3.1", "vide", "NOUN", "_", "_")
    + line(4, ".", "PUNCT", 3, "punct:x")
)


def test_trees_are_of_syntactic_words(tmp_path):
    path = write(tmp_path / "a.conllu", TREE + "\n" + line(1, "oui", "INTJ"))
    report = ReadReport()
    first, second = read_trees(path, language="fr", report=report)
    assert first.words == ("à", "le", "lit", ".")
    assert first.upos == ("ADP", "DET", "NOUN", "PUNCT")
    assert first.heads == (3, 3, 0, 3)
    assert first.labels == ("case", "det", "root", "punct:x")
    assert (first.language, first.place) == ("fr", f"{path}:4")
    assert (second.words, second.heads) == (("oui",), (0,))
    assert report.num_kept == 2
    assert sentences(path, "conllu")[0] == (first.words, first.upos)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\ta\n", r":1: found 2 columns .* expected the 10"),
        (line(2, "a"), r":1: found the id '2', expected 1"),
        (line(1, "a") + line(1, "b"), r":2: found the id '1', expected 2"),
        (line("1a", "a"), r":1: found the id '1a', expected 1"),
        (line(1, "a") + line(2, "b", head=3, label="x"), r":2: found the head '3', .* 0 to 2"),
        (line(1, "a", head="_"), r":1: found the head '_', expected a number from 0 to 1"),
        (line(1, "a", head="-1"), r":1: found the head '-1'"),
        (line(1, "a", head="²"), r":1: found the head '²'"),
        (line(1, "a", upos="_"), r":1: found no part of speech"),
        (line(1, "a", label="_"), r":1: found no relation"),
        (line(1, "a", head=1), r":1: found 0 roots"),
        (line(1, "a") + line(2, "b"), r":1: found 2 roots"),
        (
            line(1, "a") + line(2, "b", head=3, label="x") + line(3, "c", head=2, label="x"),
            r":2: the heads from word 2 on form a cycle",
        ),
        (line(1, "a") + line(2, "b", head=2, label="x"), r":2: the heads from word 2 on"),
        ("# text = nothing\n", r"found no sentence"),
        (line("1-2", "au"), r":1: found a sentence without words"),
        (line(1, "\u00a0"), r":1: found the word"),
    ],
)
def test_malformed_trees(tmp_path, text, message):
    path = write(tmp_path / "bad.conllu", text)
    with pytest.raises(DataError, match=message) as error:
        list(read_trees(path))
    assert "\n" not in str(error.value) and "bad.conllu" in str(error.value)


def test_the_line_is_counted_over_sentences(tmp_path):
    path = write(tmp_path / "bad.conllu", TREE + "\n# c\n" + line(1, "a", head=7))
    with pytest.raises(DataError, match=r"bad.conllu:11: found the head '7'"):
        list(read_trees(path))


def test_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    names = ["O", "B-PER", "I-PER"]
    features = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=names)),
        }
    )
    rows = {"tokens": [["a", "b"], ["c"]], "ner_tags": [[1, 2], [0]]}
    folder = tmp_path / "ner"
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(folder))
    expected = [(("a", "b"), ("B-PER", "I-PER")), (("c",), ("O",))]
    assert sentences(f"datasets:{folder}", "tsv") == expected
    with pytest.raises(DataError, match="found the columns tokens, ner_tags, expected a list in"):
        sentences(f"datasets:{folder}?tags=upos")
    trees = {
        "tokens": [["a", "b"]], "upos": [["NOUN", "VERB"]], "head": [["2", "0"]],
        "deprel": [["nsubj", "root"]],
    }  # fmt: skip
    datasets.Dataset.from_dict(trees).save_to_disk(str(tmp_path / "ud"))
    (tree,) = read_trees(f"datasets:{tmp_path / 'ud'}")
    assert (tree.heads, tree.labels) == ((2, 0), ("nsubj", "root"))
    short = {"tokens": [["a", "b"]], "ner_tags": [["O"]]}
    datasets.Dataset.from_dict(short).save_to_disk(str(tmp_path / "short"))
    with pytest.raises(DataError, match=r":1: found 2, 1 cells in tokens, ner_tags"):
        sentences(f"datasets:{tmp_path / 'short'}")


@pytest.mark.parametrize(
    ("format", "text", "words", "num_comments"),
    [
        # MultiCoNER and UNER: comments with as many columns as words
        ("conll", "# id 4a1 domain=news\nMaya _ _ B-PER\nlives _ _ O\n", "Maya lives", 1),
        ("conll", "# newdoc\n# id = 1\n# text = a b c d\nMaya\tO\n", "Maya", 3),
        ("conll", "# O\nMeToo B-MISC\n", "# MeToo", 0),
        ("conll", "# SYM\nMeToo NN\n", "# MeToo", 0),
        ("conll", "#MeToo B-MISC\n# O\n", "#MeToo #", 0),
        ("conll", "a O\n# O\n", "a #", 0),
        ("conll", "#\tx\na\ty\n", "# a", 0),
        ("tsv", "# a comment\n#\tSYM\nx\tNN\n", "# x", 1),
        ("tsv", "#global.columns=ID FORM\n\nx\tNN\n", "x", 1),
        ("wikiann", "# a comment\nen:#\tO\nen:x\tO\n", "# x", 1),
    ],
)
def test_comments_are_no_words(tmp_path, format, text, words, num_comments):
    path = write(tmp_path / "a", text)
    report = ReadReport()
    found = list(read_tagged(path, format, report=report))
    assert " ".join(found[0].words) == words
    assert report.dropped.get("comment", 0) == num_comments and report.num_kept == 1


def test_comments_alone_are_no_sentence(tmp_path):
    path = write(tmp_path / "a", "# only\n# comments\n\n# here\n")
    with pytest.raises(DataError, match="found no sentence"):
        list(read_tagged(path, "tsv"))

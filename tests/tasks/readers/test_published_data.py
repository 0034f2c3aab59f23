"""Real files of every format, counted; skipped where the folder is not beside the checkout."""

import json
from collections import Counter

import pytest

from xlm.tasks.readers.labeled import read_rows
from xlm.tasks.readers.questions import read_questions
from xlm.tasks.readers.tagged import read_tagged, read_trees
from xlm.text.readers import ReadReport


@pytest.fixture(scope="module")
def data(shared):
    if not (shared / "data" / "nli").is_dir():
        pytest.skip("needs the folder 'data' in 'shared' beside the checkout")
    return shared / "data"


@pytest.mark.parametrize(
    ("file", "layout", "num", "labels"),
    [
        ("nli/xnli/sw.dev.tsv", "nli", 2490, {"entailment", "neutral", "contradiction"}),
        ("nli/mnli10k/en.train.tsv", "nli", 10071, {"entailment", "neutral", "contradiction"}),
        ("nli/sick/en.valid.tsv", "nli", 495, {"entailment", "neutral", "contradiction"}),
        ("nli/hindi_bbc_recast/hi.test.tsv", "nli", 2592, {"entailed", "not-entailed"}),
        ("classify/topic5/hi.test.tsv", "label-text", 202, {"sport", "entertainment", "tech"}),
    ],
)
def test_sentences(data, file, layout, num, labels):
    report = ReadReport()
    rows = list(read_rows(str(data / file), layout, report=report))
    assert (len(rows), report.num_read, report.dropped) == (num, num, {})
    assert {row.label for row in rows} == labels
    assert all(row.first and row.second != "" for row in rows)


def test_xnli_is_balanced(data):
    labels = Counter(row.label for row in read_rows(str(data / "nli/xnli/en.test.tsv"), "nli"))
    assert set(labels.values()) == {5010 // 3}


@pytest.mark.parametrize(
    ("file", "sentences", "words"),
    [
        ("tagging/ne_pos/test.tsv", 350, 9159),
        ("ner/conll2002_es/test.tsv", 1517, 51533),
        ("ner/ebiquity_ne/test.tsv", 400, 9052),
        ("ner/wikiann_fr/valid.tsv", 2788, 19630),
        ("ner/ijnlp2008_hi/valid.tsv", 1600, 37665),
    ],
)
def test_tags(data, file, sentences, words):
    found = list(read_tagged(str(data / file), "tsv"))
    assert (len(found), sum(len(one.words) for one in found)) == (sentences, words)


@pytest.mark.parametrize(
    ("file", "sentences", "words"),
    [
        ("en_ewt/test.conllu", 2077, 25094),
        ("fr_sequoia/test.conllu", 456, 10044),  # with multiword tokens
        ("hi_hdtb_v1.2/dev.conllu", 1659, 35217),  # UD v1
        ("tr_imst/dev.conllu", 1100, 10542),
        ("de_gsd/dev.conllu", 799, 12480),
    ],
)
def test_trees(data, file, sentences, words):
    found = list(read_trees(str(data / "ud" / file)))
    assert (len(found), sum(len(one.words) for one in found)) == (sentences, words)


def test_questions(data):
    splits = json.loads((data / "qa/xquad/article_split.json").read_text())
    for language in ("en", "hi", "zh"):
        path = str(data / "qa/xquad" / f"xquad.{language}.json")
        whole = list(read_questions(path))
        assert len(whole) == 1190
        parts = [list(read_questions(path, articles=titles)) for titles in splits.values()]
        assert sum(map(len, parts)) == 1190 and all(parts)

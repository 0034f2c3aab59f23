"""Preparing end to end: what comes out of good text, and the one line that bad text gives."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from backports import zstd

from xlm import prepare as module
from xlm.config.cli import read, to_yaml
from xlm.data.corpora import Corpora
from xlm.data.verification import verify_corpora
from xlm.errors import ConfigError, DataError
from xlm.prepare import Aligned, Prepare, Rules, Texts, Vocabulary, prepare

EN = ["the cat sat on the mat", "a dog barked", "the dog saw the cat", "it was late"]
NE = ["बिरालो चकटीमा बस्यो", "कुकुर भुक्यो", "कुकुरले बिरालो देख्यो", "ढिलो भएको थियो"]
SMALL = Vocabulary(kind="fastbpe", size=20)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two small aligned texts."""
    monkeypatch.chdir(tmp_path)
    write("en.txt", EN)
    write("ne.txt", NE)
    return tmp_path


def write(name: str, lines: list[str]) -> str:
    Path(name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return name


def made(**settings: Any) -> Corpora:
    settings = {"folder": "data", "vocabulary": SMALL, "workers": 1} | settings
    return prepare(Prepare(**settings))


def texts(corpora: Corpora, split: str, language: str) -> list[str]:
    corpus = corpora.text(split, language)
    return [corpora.tokenizer.decode(corpus[i].tolist()) for i in range(len(corpus))]


def nothing_was_written() -> bool:
    return not [path for path in Path().iterdir() if "data" in path.name]


# What comes out.


def test_text_and_pairs_of_every_split_come_back() -> None:
    found = made(
        text=Texts(train={"en": "en.txt", "ne": "ne.txt"}, test={"ne": "ne.txt"}),
        pairs=Aligned(train={"en-ne": ["en.txt", "ne.txt"]}, valid={"ne-en": ["ne.txt", "en.txt"]}),
    )
    assert found.languages == {"en": 0, "ne": 1}
    assert texts(found, "train", "en") == EN and texts(found, "test", "ne") == NE
    assert found.names("train") == {"texts": ["en", "ne"], "pairs": ["en-ne"]}
    pairs = found.pairs("valid", "ne-en")
    assert pairs.languages == ("ne", "en") and len(pairs) == 4
    assert found.pairs("train", "ne-en").languages == ("ne", "en")
    again = Corpora.open("data")
    assert again.tokenizer.digest == found.tokenizer.digest and again.languages == found.languages
    assert sorted(p.name for p in Path("data").iterdir()) == [
        "corpora.json", "report.html", "report.json", "test", "tokenizer", "train", "valid",
    ]  # fmt: skip


def test_the_sizes_of_a_text_are_those_of_wc() -> None:
    size = made(text=Texts(train={"ne": "ne.txt"})).text("train", "ne").text_size
    content = Path("ne.txt").read_bytes()
    assert size.sentences == content.count(b"\n") == 4
    assert size.bytes == len(content) and size.characters == len(content.decode())
    assert size.words == len(content.split()) + 4


def test_the_same_text_gives_the_same_files_however_it_is_packed() -> None:
    plain = made(folder="data1", text=Texts(train={"en": "en.txt"}), workers=1)
    Path("en.gz").write_bytes(gzip.compress(Path("en.txt").read_bytes()))
    Path("en.txt.zst").write_bytes(zstd.compress(Path("en.txt").read_bytes()))
    for name, source in (("data2", "en.gz"), ("data3", "en.txt.zst")):
        packed = made(folder=name, text=Texts(train={"en": source}), workers=3)
        assert packed.tokenizer.digest == plain.tokenizer.digest
        assert np.array_equal(packed.text("train", "en").ids, plain.text("train", "en").ids)


@pytest.mark.parametrize("kind", ["unigram", "bpe", "fastbpe"])
def test_every_kind_of_vocabulary(kind: Any) -> None:
    size = 20 if kind == "fastbpe" else 280
    found = made(
        text=Texts(train={"en": "en.txt"}, valid={"en": "en.txt"}),
        vocabulary=Vocabulary(kind=kind, size=size),
    )
    assert texts(found, "valid", "en") == EN
    assert found.text("train", "en").ids.max() < found.tokenizer.vocab_size


def test_a_vocabulary_is_taken_over() -> None:
    both = Texts(train={"en": "en.txt", "ne": "ne.txt"})
    first = made(text=both, vocabulary=Vocabulary(size=305))
    for wanted in (
        Vocabulary(folder="data"),
        Vocabulary(model="data/tokenizer/sentencepiece.model"),
    ):
        other = made(folder="data2", text=Texts(valid={"en": "en.txt"}), vocabulary=wanted,
                     replace=True)  # fmt: skip
        assert other.tokenizer.digest == first.tokenizer.digest
    laid_out = Vocabulary(
        model="data/tokenizer/sentencepiece.model", begins=True, num_separators=2, begins_again=True
    )
    other = made(folder="data2", text=Texts(valid={"en": "en.txt"}), vocabulary=laid_out,
                 replace=True)  # fmt: skip
    ids = [np.array(other.tokenizer.encode(line)) for line in EN[:2]]
    begin, end = (other.tokenizer.pieces.index(name) for name in ("<s>", "</s>"))
    pair = [begin, *ids[0], end, end, begin, *ids[1], end]
    assert other.tokenizer.wrap(*ids, "merged").tokens.tolist() == pair
    itself = made(text=Texts(train={"ne": "ne.txt"}), vocabulary=Vocabulary(folder="data"),
                  replace=True)  # fmt: skip
    assert itself.tokenizer.digest == first.tokenizer.digest and itself.languages == {"ne": 0}
    learnt = Vocabulary(kind="fastbpe", size=20)
    codes = made(folder="codes", text=Texts(train={"en": "en.txt"}), vocabulary=learnt)
    taken = Vocabulary(codes="codes/tokenizer/codes", vocab="codes/tokenizer/vocab")
    again = made(folder="codes2", text=Texts(train={"en": "en.txt"}), vocabulary=taken)
    assert again.tokenizer.digest == codes.tokenizer.digest


def test_a_limit_holds_for_what_is_written_and_for_what_is_learnt_from() -> None:
    write("en.txt", [*EN, "zebra " * 30])
    write("ne.txt", [*NE, "क"])
    pairs = Aligned(train={"en-ne": ["en.txt", "ne.txt"]})
    found = made(pairs=pairs, max_sentences={"en-ne": 2}, max_valid_sentences=1,
                 text=Texts(valid={"en": "en.txt"}))  # fmt: skip
    assert len(found.pairs("train", "en-ne")) == 2
    assert texts(found, "valid", "en") == EN[:1]
    size = found.tokenizer.vocab_size
    assert not any("z" in found.tokenizer.decode([at]) for at in range(14, size))


# Sources.


@pytest.mark.parametrize("kind", ["json", "parquet", "saved"])
def test_local_data_sets_are_sources(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    datasets = pytest.importorskip("datasets")
    rows = {"translation": [{"en": e, "ne": n} for e, n in zip(EN, NE, strict=True)]}
    rows["text"] = EN
    whole = datasets.Dataset.from_dict(rows)
    Path("set").mkdir()
    if kind == "json":
        with open("set/train.jsonl", "w", encoding="utf-8") as file:
            for row in whole:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    elif kind == "parquet":
        whole.to_parquet("set/train.parquet")
    else:
        whole.save_to_disk("set")
    column = "datasets:set?column=translation."
    found = made(
        text=Texts(train={"en": "datasets:set?split=train&column=text"}),
        pairs=Aligned(train={"en-ne": [column + "en", column + "ne"]}),
    )
    assert texts(found, "train", "en") == EN
    pairs = found.pairs("train", "en-ne")
    assert [found.tokenizer.decode(pairs.sides[1][i].tolist()) for i in range(4)] == NE


def test_a_column_that_is_not_there_names_those_that_are() -> None:
    pytest.importorskip("datasets")
    Path("rows.jsonl").write_text('{"text": "a", "id": 1}\n')
    with pytest.raises(DataError, match="no column 'txt': expected one of text, id"):
        made(text=Texts(train={"en": "datasets:rows.jsonl?column=txt"}))
    with pytest.raises(ConfigError, match="found setting 'colum', expected datasets:NAME"):
        made(text=Texts(train={"en": "datasets:rows.jsonl?colum=text"}))
    assert nothing_was_written()


def test_the_sample_and_the_root() -> None:
    Path("below").mkdir()
    os.rename("en.txt", "below/en.txt")
    found = made(
        root="below", text=Texts(train={"en": "en.txt", "hi": "sample:valid.hi.txt"}),
    )  # fmt: skip
    assert len(found.text("train", "hi")) == 81 and texts(found, "train", "en") == EN
    with pytest.raises(DataError, match="no file 'train.fr.txt' in the sample corpus; expected"):
        made(folder="data2", text=Texts(train={"fr": "sample:train.fr.txt"}))


def test_a_special_token_in_text_stays_text(caplog: pytest.LogCaptureFixture) -> None:
    write("en.txt", [*EN, "say </s> and <mask> <pad> <unk> aloud"])
    with caplog.at_level(logging.INFO, "xlm"):
        found = made(text=Texts(train={"en": "en.txt"}))
    corpus = found.text("train", "en")
    assert not set(corpus[4].tolist()) & set(found.tokenizer.special_ids)
    assert texts(found, "train", "en")[4] == "say </s> and <mask> <pad> <unk> aloud"
    assert int(corpus.counts[found.tokenizer.end_id]) == 5
    assert "1 kept as plain text though they spell a special token (first at en.txt:5)" in (
        caplog.text
    )


# What is dropped is shown.


def test_what_is_dropped_is_counted_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    Path("en.txt").write_bytes(
        b"\xef\xbb\xbfone\r\n\n  \t\ntwo\x00three\nbad \xff\n" + b"x" * 300 + b"\na b\nfour"
    )  # fmt: skip
    with caplog.at_level(logging.INFO, "xlm"):
        found = made(text=Texts(train={"en": "en.txt"}), invalid="drop", max_bytes=100)
    assert texts(found, "train", "en") == ["one", "two three", "a b", "four"]
    (record,) = [r for r in caplog.records if r.getMessage().startswith("train en:")]
    assert record.levelno == logging.WARNING  # so that a script shows it by itself
    assert record.getMessage() == (
        "train en: 8 lines read, 4 kept; 2 dropped (empty; first at en.txt:2); "
        "1 dropped (invalid UTF-8; first at en.txt:5); 1 dropped (too long; first at en.txt:6)"
    )


def test_a_pair_is_dropped_with_either_side(caplog: pytest.LogCaptureFixture) -> None:
    write("en.txt", ["one", "", "three", "four"])
    write("ne.txt", ["एक", "दुई", " ", "चार"])
    with caplog.at_level(logging.INFO, "xlm"):
        found = made(pairs=Aligned(train={"en-ne": ["en.txt", "ne.txt"]}))
    assert len(found.pairs("train", "en-ne")) == 2
    assert "train en-ne: 4 lines read, 2 kept; 2 dropped (empty; first at en.txt:2)" in caplog.text


# What cannot be is one line, and nothing is left.

BROKEN = {
    "invalid.txt": b"fine\nbad \xff\n",
    "empty.txt": b"",
    "blank.txt": b"\n \n",
    "cut.gz": gzip.compress(b"a line of text\n" * 50)[:-9],
    "short.txt": b"one\ntwo\n",
}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": {"en": "nowhere.txt"}}, "nowhere.txt does not exist: expected a text file"),
        ({"text": {"en": "."}}, "holds files with different endings"),
        ({"text": {"en": "empty.txt"}}, "empty.txt is empty: expected lines of text"),
        ({"text": {"en": "blank.txt"}}, "language 'en' has no usable line of text"),
        ({"text": {"en": "invalid.txt"}}, "invalid.txt:2: byte 0xff at offset 4 of the line is no"),
        ({"text": {"en": "cut.gz"}}, "cut.gz:.*: the compressed file is truncated"),
        ({"pairs": {"en-ne": ["short.txt", "ne.txt"]}}, "short.txt has 2 lines and ne.txt has 4"),
        ({"pairs": {"en-ne": ["en.txt", "gone.txt"]}}, "gone.txt does not exist"),
        ({"pairs": {"en": ["en.txt", "ne.txt"]}}, "pairs.train.en: expected two languages"),
        ({"pairs": {"en-ne": ["en.txt"]}}, "en.txt has no text in both languages"),
        ({"pairs": {"en-ne": []}}, "with two sources or one that holds both sides; found"),
        ({"text": {"a/b": "en.txt"}}, "a language cannot be called 'a/b'"),
        ({"text": {"": "en.txt"}}, "a language cannot be called ''"),
        ({"text": {"..": "en.txt"}}, "a language cannot be called '..'"),
        ({"pairs": {"en-": ["en.txt", "ne.txt"]}}, "pairs.train.en-: expected two languages"),
        ({}, "nothing to prepare: give text.train or pairs.train at least one source"),
        (
            {"text": {"en": "en.txt"}, "vocabulary": {"size": 100000}},
            "vocabulary.size 100000: the text yields at most",
        ),
        ({"text": {"en": "en.txt"}, "vocabulary": {"size": 5}}, "vocabulary.size 5: .* raise it"),
        ({"text": {"en": "en.txt"}, "vocabulary": {"folder": "gone"}}, "gone does not exist"),
        ({"text": {"en": "en.txt"}, "vocabulary": {"model": "gone"}}, "gone: No such file"),
        (
            {"text": {"en": "en.txt"}, "vocabulary": {"model": "en.txt"}},
            "not a SentencePiece model",
        ),
        (
            {"text": {"en": "en.txt"}, "vocabulary": {"codes": "c"}},
            "belong together, but one is missing",
        ),
        (
            {"text": {"en": "en.txt"}, "vocabulary": {"folder": "a", "model": "b"}},
            "vocabulary takes only one of folder, model, or codes with vocab: found folder a,",
        ),
        (
            {"text": {"en": "en.txt"}, "max_sentences": {"hi": 3}},
            "max_sentences names hi, but there is training text only for en",
        ),
        (
            {"text": {"en": "en.txt"}, "max_sentences": {"en": 0}},
            "max_sentences.en must be at least 1: found 0",
        ),
        ({"text": {"en": "en.txt"}, "workers": 0}, "workers must be at least 1: found 0"),
        ({"text": {"en": "en.txt"}, "folder": "en.txt"}, "en.txt is a file: give the name of a"),
        (
            {"text": {"en": "en.txt"}, "folder": "en.txt/data"},
            "cannot write en.txt/data: .*; choose another folder",
        ),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(
    settings: dict[str, Any], message: str
) -> None:
    for name, content in BROKEN.items():
        Path(name).write_bytes(content)
    before = sorted(Path().iterdir())
    kinds = {"text": Texts, "pairs": Aligned}
    chosen = {name: kinds[name](train=settings[name]) for name in kinds if name in settings}
    chosen["vocabulary"] = (
        Vocabulary(**settings["vocabulary"]) if "vocabulary" in settings else SMALL
    )
    rest = {n: v for n, v in settings.items() if n not in (*kinds, "vocabulary")}
    with pytest.raises((ConfigError, DataError), match=message) as caught:
        made(**chosen, **rest)
    assert "\n" not in str(caught.value)
    assert sorted(Path().iterdir()) == before


def test_bad_text_of_a_later_split_leaves_nothing_either() -> None:
    Path("bad.txt").write_bytes(b"a\n\xff\n")
    with pytest.raises(DataError, match=r"bad.txt:2: byte 0xff"):
        made(text=Texts(train={"en": "en.txt"}, valid={"en": "bad.txt"}))
    assert nothing_was_written()


# Folders.


def test_a_preparation_is_kept_unless_replaced() -> None:
    made(text=Texts(train={"en": "en.txt"}))
    before = Path("data/corpora.json").stat().st_mtime_ns
    with pytest.raises(ConfigError, match="data already holds a preparation: .* or set replace"):
        made(text=Texts(train={"ne": "ne.txt"}))
    assert Path("data/corpora.json").stat().st_mtime_ns == before
    assert made(text=Texts(train={"ne": "ne.txt"}), replace=True).names("train")["texts"] == ["ne"]
    assert not Path("data/train/en").exists()


def test_a_failed_replacement_leaves_what_was_there() -> None:
    made(text=Texts(train={"en": "en.txt"}))
    Path("bad.txt").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match="bad.txt:1"):
        made(text=Texts(train={"en": "en.txt"}, valid={"en": "bad.txt"}), replace=True)
    assert texts(Corpora.open("data"), "train", "en") == EN


def test_a_folder_of_other_things_is_never_replaced() -> None:
    Path("data").mkdir()
    Path("data/thesis.txt").write_text("years of work")
    for replace in (False, True):
        with pytest.raises(ConfigError, match="data holds files that are not a preparation"):
            made(text=Texts(train={"en": "en.txt"}), replace=replace)
    assert Path("data/thesis.txt").read_text() == "years of work"


def test_an_empty_folder_may_be_there() -> None:
    Path("data").mkdir()
    assert texts(made(text=Texts(train={"en": "en.txt"})), "train", "en") == EN


KILLED = """
import os, sys
from xlm import prepare as module
from xlm.prepare import Prepare, Texts, Vocabulary
real = module.binarize
def binarize(lines, path, language, *rest, **more):
    if language == "ne":
        os._exit(9)
    return real(lines, path, language, *rest, **more)
module.binarize = binarize
module.prepare(Prepare(folder="data", text=Texts(train={"en": "en.txt", "ne": "ne.txt"}),
                       vocabulary=Vocabulary(kind="fastbpe", size=9)))
"""


def test_leftovers_of_a_crash_are_cleared_by_the_next_one(root: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED], env=os.environ | {"PYTHONPATH": str(root)}, timeout=60
    )
    assert done.returncode == 9
    assert not Path("data").exists() and Path(".data.writing/train/en").exists()
    with pytest.raises(DataError, match="no corpora at data"):
        Corpora.open("data")
    found = made(text=Texts(train={"en": "en.txt", "ne": "ne.txt"}))
    assert texts(found, "train", "ne") == NE and not Path(".data.writing").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_one_line(here: Path) -> None:
    Path("locked").mkdir(mode=0o500)
    with pytest.raises(DataError, match="cannot write locked/data"):
        made(folder="locked/data", text=Texts(train={"en": "en.txt"}))


# As a recipe, a script and a program.


def test_a_language_called_no_needs_no_quotes() -> None:
    write("no.txt", ["katten satt på matten", "en hund bjeffet"])
    Path("p.yaml").write_text(
        "folder: data\ntext:\n  train: {no: no.txt, en: en.txt}\n"
        "pairs:\n  train: {en-no: [no.txt, no.txt]}\n"
        "max_sentences: {no: 1}\nvocabulary: {kind: fastbpe, size: 9}\nworkers: 1\n"
    )
    config = read(Prepare, Path("p.yaml"))
    found = prepare(config)
    assert found.languages == {"en": 0, "no": 1} and len(found.text("train", "no")) == 1
    Path("again.yaml").write_text(to_yaml(config))
    assert read(Prepare, Path("again.yaml")) == config
    assert "no: 1" not in to_yaml(config)  # in quotes, for other readers of YAML


def test_a_plain_script_prepares(root: Path) -> None:
    """No ``if __name__``, from standard input, and nothing shown but what was dropped."""
    write("en.txt", [*EN, ""])
    script = """
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
texts = Texts(train={"en": "en.txt"})
print(prepare(Prepare(folder="data", text=texts, vocabulary=Vocabulary(size=280))).languages)
"""
    done = subprocess.run(
        [sys.executable, "-"], input=script, env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == "{'en': 0}\n"
    assert done.stderr == "train en: 5 lines read, 4 kept; 1 dropped (empty; first at en.txt:5)\n"


def test_the_verb_shows_what_there_is(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "xlm"):
        module.main(
            ["--folder=data", "--text.train={en: en.txt}", "--vocabulary.size=280", "--workers=1"]
        )
    assert "train en: 4 lines read, 4 kept" in caplog.text
    assert "train en: 4 sentences, " in caplog.text
    assert capsys.readouterr().out == ""
    with pytest.raises(SystemExit) as caught:
        module.main(["--folder=data", "--text.train.en=gone.txt", "--replace=true"])
    assert caught.value.code == 2
    assert capsys.readouterr().err == (
        "xlm prepare: gone.txt does not exist: expected a text file\n"
    )


# Normalization by language.


def test_rules_are_applied_and_kept_with_the_tokenizer() -> None:
    rules = {"en": Rules(lowercase=True), "*": Rules(indic="canonical")}
    write("en.txt", ["The CAT", "A dog"])
    write("ne.txt", ["क\u200dख", "गर्\u200dयो"])
    both = Texts(train={"en": "en.txt", "ne": "ne.txt"})
    found = made(text=both, normalization=rules)
    assert texts(found, "train", "en") == ["the cat", "a dog"]
    assert texts(found, "train", "ne") == ["कख", "गर्\u200dयो"]
    again = Corpora.open("data")
    assert again.tokenizer.rules == rules
    assert again.tokenizer.normalize(" The CAT", "en") == "the cat"
    with pytest.raises(ConfigError, match="name the language"):
        again.tokenizer.normalize("x")
    # whoever takes the tokenizer takes its rules
    taken = made(folder="data2", text=both, vocabulary=Vocabulary(folder="data"))
    assert texts(taken, "train", "en") == ["the cat", "a dog"] and taken.tokenizer.rules == rules
    with pytest.raises(ConfigError, match="leave normalization out"):
        made(folder="data3", text=both, vocabulary=Vocabulary(folder="data"),
             normalization={"en": Rules(strip_accents=True)})  # fmt: skip
    plain = made(folder="data4", text=both)
    assert "normalization" not in json.loads(Path("data4/corpora.json").read_text())
    with pytest.raises(DataError, match="was made by tokenizer"):
        Corpora.open("data", plain.tokenizer)
    same_ids = Corpora.open("data").tokenizer
    same_ids.rules = {}
    with pytest.raises(DataError, match="data was normalized by the rules .*lowercase"):
        Corpora.open("data", same_ids)


def test_a_pair_that_a_rule_empties_is_counted() -> None:
    write("en.txt", ["a", "b"])
    write("ne.txt", ["\u200d", "ख"])
    rules = {"ne": Rules(indic="indic-nlp")}
    found = made(pairs=Aligned(train={"en-ne": ["en.txt", "ne.txt"]}), normalization=rules)
    assert len(found.pairs("train", "en-ne")) == 1


def test_rules_of_a_language_that_is_not_prepared() -> None:
    with pytest.raises(ConfigError, match="normalization names fr: expected some of en, or"):
        Prepare(folder="x", text=Texts(train={"en": "a"}), normalization={"fr": Rules()})


# Documents.


def test_empty_lines_are_borders_of_documents() -> None:
    write("one.txt", ["", EN[0], EN[1], "", "  ", EN[2]])
    write("two.txt", [EN[3], EN[0], "", EN[1]])
    corpora = made(text=Texts(train={"en": ["one.txt", "two.txt"]}))
    text = corpora.text("train", "en")
    assert len(text) == 6 and text.documents is not None
    assert text.documents.tolist() == [0, 2, 3, 5]
    header = json.loads(Path("data/train/en/header.json").read_text())
    assert header["documents"] == 4 and "documents.bin" in header["files"]
    assert verify_corpora("data").num_files > 0


def test_text_without_empty_lines_has_no_documents() -> None:
    write("padded.txt", ["", *EN, ""])
    corpora = made(text=Texts(train={"en": "en.txt", "ne": "ne.txt", "fr": "padded.txt"}))
    for language in ("en", "ne", "fr"):
        assert corpora.text("train", language).documents is None
        assert not Path(f"data/train/{language}/documents.bin").exists()
        assert "documents" not in json.loads(Path(f"data/train/{language}/header.json").read_text())


def test_a_limit_ends_the_documents_too() -> None:
    write("one.txt", [EN[0], EN[1], "", EN[2], "", EN[3]])
    text = made(text=Texts(train={"en": "one.txt"}), max_sentences={"en": 3}).text("train", "en")
    assert text.documents is not None and text.documents.tolist() == [0, 2]


def test_damaged_borders_of_documents_are_found() -> None:
    write("one.txt", [EN[0], EN[1], "", EN[2]])
    made(text=Texts(train={"en": "one.txt"}))
    path = Path("data/train/en/documents.bin")
    path.write_bytes(np.array([0, 9], dtype=np.int64).tobytes())
    with pytest.raises(DataError, match="documents.bin: the documents do not cover sentences"):
        Corpora.open("data").text("train", "en")
    with pytest.raises(DataError, match="documents.bin"):
        verify_corpora("data")
    path.write_bytes(b"")
    with pytest.raises(DataError, match="documents.bin"):
        Corpora.open("data").text("train", "en")


def test_a_wordpiece_vocabulary_is_learned() -> None:
    vocabulary = Vocabulary(kind="wordpiece", size=90)
    corpora = made(vocabulary=vocabulary, text=Texts(train={"en": "en.txt", "ne": "ne.txt"}))
    assert texts(corpora, "train", "en") == EN and texts(corpora, "train", "ne") == NE
    assert corpora.tokenizer.vocab_size == 90
    with pytest.raises(ConfigError, match="wordpiece always has BERT's symbols"):
        Vocabulary(kind="wordpiece", begins=True)

"""Sources of every kind: the same text out of each, and the one line that a wrong one gives."""

from __future__ import annotations

import bz2
import gzip
import json
from pathlib import Path
from xml.sax.saxutils import escape

import pyarrow
import pytest
from pyarrow import parquet

from xlm import sample
from xlm.errors import ConfigError, DataError
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.text.readers import ReadReport, open_lines, open_pairs
from xlm.text.sources import find_files, split_settings

EN = ['A "quoted" word, a comma', "x < y & z", "l'été, 3 %", "again"]
NE = ["क्षेत्र र ज्ञान", "गर्‍यो", "श्री, ५ %", "फेरि"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, content: str | bytes) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def text(lines: list[str]) -> str:
    return "".join(line + "\n" for line in lines)


def records(lines: list[str], others: list[str]) -> list[dict[str, object]]:
    return [
        {"id": k, "en": a, "translation": {"en": a, "ne": b}}
        for k, (a, b) in enumerate(zip(lines, others, strict=True))
    ]


def json_lines(lines: list[str], others: list[str]) -> str:
    return text(
        [json.dumps(r, ensure_ascii=k % 2 == 0) for k, r in enumerate(records(lines, others))]
    )


def write_parquet(name: str, lines: list[str], others: list[str]) -> str:
    table = pyarrow.Table.from_pylist(records(lines, others))
    parquet.write_table(table, name, row_group_size=2)
    return name


def quoted(cell: str) -> str:
    return '"' + cell.replace('"', '""') + '"'


def tmx(lines: list[str], others: list[str], names: tuple[str, str] = ("en", "ne")) -> str:
    units = "".join(
        f'<tu tuid="{k}"><prop>none</prop><tuv xml:lang="{names[0]}"><seg>{escape(a)}</seg></tuv>\n'
        f'<tuv xml:lang="{names[1]}"><seg>{escape(b)}</seg></tuv></tu>\n'
        for k, (a, b) in enumerate(zip(lines, others, strict=True))
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'
        f'<tmx version="1.4"><header srclang="{names[0]}"/><body>\n{units}</body></tmx>\n'
    )


def write_all_texts(lines: list[str], others: list[str]) -> list[str]:
    """The same text in every form; the source of each."""
    half = len(lines) // 2
    write("plain.txt", text(lines))
    write("packed.txt.gz", gzip.compress(text(lines).encode()))
    write("rows.jsonl", json_lines(lines, others))
    write("rows.jsonl.bz2", bz2.compress(json_lines(lines, others).encode()))
    write_parquet("rows.parquet", lines, others)
    write("table.tsv", text(["en\tne", *map("\t".join, zip(lines, others, strict=True))]))
    write("numbered.tsv", text([f"{k}\t{line}" for k, line in enumerate(lines)]))
    write("table.csv", text(["ne,en", *(f"{quoted(b)},{quoted(a)}"
                                        for a, b in zip(lines, others, strict=True))]))  # fmt: skip
    write("whole.tmx", tmx(lines, others, ("en-US", "ne")))
    write("folder/AA/wiki_00", text(lines[:half]))
    write("folder/AB/wiki_00", text(lines[half:]))
    write("folder/.hidden", "no text\n")
    write("shards/a.jsonl", json_lines(lines[:half], others[:half]))
    write("shards/b.jsonl", json_lines(lines[half:], others[half:]))
    write("shards/README.md", "about the shards\n")
    write("documents.jsonl", json.dumps({"text": "\n\n".join(lines)}) + "\n")
    return [
        "plain.txt", "packed.txt.gz", "rows.jsonl?column=en", "rows.jsonl?column=translation.en",
        "rows.jsonl.bz2?column=en", "rows.parquet?column=en", "rows.parquet?column=translation.en",
        "table.tsv?column=en", "numbered.tsv?column=2", "table.csv?column=en",
        "whole.tmx?language=en", "folder", "folder/**/wiki_*", "shards/*.jsonl?column=en",
        "documents.jsonl?column=text", "datasets:rows.jsonl?column=en", "datasets:plain.txt",
    ]  # fmt: skip


def write_all_pairs(lines: list[str], others: list[str]) -> list[list[str]]:
    """The same pairs in every form; the sources of each."""
    half = len(lines) // 2
    write_all_texts(lines, others)
    write("two.tsv", text([*map("\t".join, zip(lines, others, strict=True))]))
    write("en.txt", text(lines))
    write("ne.txt", text(others))
    write("Books/README", "Corpus: Books\n")
    write("Books/LICENSE", "CC0\n")
    write("Books/Books.en-ne.en", text(lines))
    write("Books/Books.en-ne.ne", text(others))
    write("Books/Books.en-ne.xml", "<cesAlign/>\n")
    write("moses/train.en", text(lines))
    write("moses/train.ne.gz", gzip.compress(text(others).encode()))
    write("moses/train.ui.en", "x\n")
    write("moses/train.ui.ne", "x\n")
    write("parts/1.en", text(lines[:half]))
    write("parts/1.ne", text(others[:half]))
    write("parts/2.en", text(lines[half:]))
    write("parts/2.ne", text(others[half:]))
    return [
        ["en.txt", "ne.txt"], ["two.tsv"], ["table.tsv?columns=en,ne"], ["table.csv?columns=en,ne"],
        ["rows.jsonl?columns=translation.en,translation.ne"], ["whole.tmx"],
        ["rows.parquet?columns=en,translation.ne"], ["Books"], ["Books/Books.en-ne"],
        ["moses/train"], ["parts/*"], ["parts/*.en", "parts/*.ne"],
        ["rows.jsonl?column=en", "ne.txt"], ["whole.tmx?language=en", "whole.tmx?language=ne"],
    ]  # fmt: skip


def read(source: str, **settings: str) -> tuple[list[str], ReadReport]:
    report = ReadReport()
    return list(open_lines(source, report, **settings)), report


def read_pairs(sources: list[str], report: ReadReport | None = None) -> list[tuple[str, str]]:
    report = ReadReport() if report is None else report
    return list(open_pairs(sources, ("en", "ne"), report))


def test_the_same_text_through_every_reader() -> None:
    for source in write_all_texts(EN, NE):
        assert read(source)[0] == EN, source


def test_the_same_pairs_through_every_reader() -> None:
    for sources in write_all_pairs(EN, NE):
        assert read_pairs(sources) == list(zip(EN, NE, strict=True)), sources


def test_the_sample_through_every_reader_gives_identical_ids() -> None:
    lines, others = (
        sample.path(f"train.{name}.txt").read_text(encoding="utf-8").splitlines()[:60]
        for name in ("en", "ne")
    )
    tokenizer = Vocabulary(kind="fastbpe", size=100)

    def ids(number: int, text: Texts, pairs: Aligned) -> list[list[int]]:
        found = prepare(
            Prepare(folder=f"data{number}", text=text, pairs=pairs, vocabulary=tokenizer, workers=1)
        )
        made = [found.text("train", "en")] if text.train else []
        made += found.pairs("train", "en-ne").sides if pairs.train else ()
        return [corpus.ids.tolist() for corpus in made]

    every = write_all_pairs(lines, others)
    wanted = ids(0, Texts(), Aligned(train={"en-ne": every[0]}))
    for number, sources in enumerate(every[1:], 1):
        assert ids(number, Texts(), Aligned(train={"en-ne": sources})) == wanted, sources
    texts = write_all_texts(lines, others)
    plain = ids(100, Texts(train={"en": texts[0]}), Aligned())
    for number, source in enumerate(texts[1:], 101):
        assert ids(number, Texts(train={"en": source}), Aligned()) == plain, source
    assert len(plain[0]) > 60


def test_several_sources_of_a_language_follow_each_other() -> None:
    write("a.txt", text(EN[:2]))
    write("b.jsonl", json_lines(EN[2:], NE[2:]))
    write("whole.txt", text(EN))
    small = Vocabulary(kind="fastbpe", size=20)
    several = Texts(train={"en": ["a.txt", "b.jsonl?column=en"]}, valid={"en": ["a.txt"]})
    one = Texts(train={"en": "whole.txt"}, valid={"en": "a.txt"})
    found, wanted = (
        prepare(Prepare(folder=folder, text=own, vocabulary=small, workers=1))
        for folder, own in (("data1", several), ("data2", one))
    )
    for split in ("train", "valid"):
        ids = (own.text(split, "en").ids.tolist() for own in (found, wanted))
        assert next(ids) == next(ids)
    with pytest.raises(ConfigError, match="text.train.en is empty: expected a source"):
        Prepare(folder="x", text=Texts(train={"en": []}))


def test_a_file_with_strange_signs_in_its_name_is_that_file() -> None:
    for name in ("a?column=b", "[a].txt", "b*.txt"):
        assert read(write(name, "one\n"))[0] == ["one"]
    assert split_settings("c.jsonl?column=x&language=y", ("column", "language")) == (
        "c.jsonl", {"column": "x", "language": "y"},
    )  # fmt: skip


def test_files_are_sorted_and_empty_ones_are_counted() -> None:
    for name, content in (("d/b.txt", "2\n"), ("d/a.txt", "1\n"), ("d/c.txt", ""), ("e/a.txt", "")):
        write(name, content)
    lines, report = read("d")
    assert lines == ["1", "2"] and report.dropped == {"empty file": 1}
    assert report.first["empty file"] == "d/c.txt"
    assert find_files("d/*") == ["d/a.txt", "d/b.txt", "d/c.txt"]
    with pytest.raises(DataError, match="e/a.txt is empty"):
        read("e")


def test_null_and_empty_cells_are_counted() -> None:
    write("a.jsonl", '{"t": null}\n\n{"t": "x"}\n{"t": ""}\n')
    lines, report = read("a.jsonl?column=t")
    assert lines == ["x"] and report.dropped == {"empty": 3}


def test_a_unit_without_one_side_is_counted_and_markup_is_left_out() -> None:
    units = (
        '<tu><tuv xml:lang="EN"><seg>a <bpt i="1">&lt;b&gt;</bpt>b\n   c</seg></tuv>'
        '<tuv lang="ne_NP"><seg>क</seg></tuv></tu>'
        '<tu><tuv xml:lang="en"><seg>alone</seg></tuv><tuv xml:lang="eng"><seg>x</seg></tuv></tu>'
    )
    write("a.tmx", f"<tmx><body>{units}</body></tmx>")
    report = ReadReport()
    assert read_pairs(["a.tmx"], report) == [("a <b>b c", "क")]
    assert report.dropped == {"empty": 1}


def test_tmx_in_utf_16() -> None:
    content = tmx(EN, NE).replace("UTF-8", "UTF-16").encode("utf-16")
    write("a.tmx", content)
    assert read_pairs(["a.tmx"]) == list(zip(EN, NE, strict=True))


def test_lines_that_are_not_utf_8_in_rows() -> None:
    write("a.jsonl", b'{"t": "x"}\n{"t": "\xff"}\n')
    with pytest.raises(DataError, match=r"a.jsonl:2: byte 0xff .*invalid: drop"):
        read("a.jsonl?column=t")
    lines, report = read("a.jsonl?column=t", invalid="drop")
    assert lines == ["x"] and report.dropped == {"invalid UTF-8": 1}


@pytest.mark.parametrize(
    ("source", "content", "expected"),
    [
        ("a.jsonl", "{}\n", r"a.jsonl: found no setting, expected a.jsonl\?column=NAME"),
        ("a.parquet", "", r"expected a.parquet\?column=NAME"),
        ("a.tmx", "", r"expected a.tmx\?language=NAME"),
        ("a.jsonl?column=t", "{]\n", "a.jsonl:1: found no JSON"),
        (
            "a.jsonl?column=t",
            '{"t": "x"}\n[1]\n',
            "a.jsonl:2: found JSON of list, expected an object",
        ),
        ("a.jsonl?column=t", '{"u": 1}\n', "a.jsonl:1: no column 't': expected one of u"),
        ("a.jsonl?column=t", '{"t": 1}\n', "a.jsonl:1: column 't' holds int, expected text"),
        ("a.jsonl?column=t", "[" * 100_000 + "\n", "a.jsonl:1: found no JSON"),
        ("a.jsonl?column=t", "", "a.jsonl is empty"),
        ("a.jsonl?field=t", '{"t": "x"}\n', "found the setting 'field' .* expected column=..."),
        ("a.parquet?column=t", "PAR1 and no more", "a.parquet:1: cannot be read"),
        ("a.tsv?column=3", "a\tb\n", "a.tsv:1: found 2 columns, expected at least 3"),
        ("a.tsv?column=x", "a\tb\n", "a.tsv:1: no column 'x': the first line has a, b"),
        ("a.tsv?column=a", "a\ta\n", "a.tsv:1: the column 'a' appears twice"),
        ("a.csv?column=1", 'a,"b\n', "a.csv:1: found no CSV"),
        ("a.txt?column=1", "a\n", "a.txt has no columns"),
        ("a.tmx?language=en", "<tmx><body><tu>", "a.tmx:1: is not TMX"),
        ("a.tmx?language=hi", tmx(EN, NE), "no unit has both hi .*the languages en, ne"),
        (
            "a.tmx?language=en",
            '<!DOCTYPE t [<!ENTITY a "b">]><tmx>&a;</tmx>',
            "a.tmx:1: is not TMX .*declares the entity a",
        ),
    ],
)
def test_a_wrong_source_is_one_line(source: str, content: str, expected: str) -> None:
    write(source.partition("?")[0], content)
    with pytest.raises((DataError, ConfigError), match=expected) as caught:
        read(source)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_folders_and_patterns_that_name_no_text() -> None:
    Path("none").mkdir()
    write("mixed/a.txt", "x\n")
    write("mixed/README", "x\n")
    for source, expected in (
        ("none", "is a folder without files"),
        ("mixed", r"different endings \(none, '.txt'\).*such as mixed/\*.txt"),
        ("none/*.txt", "no file matches none/"),
        ("gone.txt", "gone.txt does not exist"),
        ("gone.parquet?column=x", "gone.parquet does not exist"),
    ):
        with pytest.raises(DataError, match=expected):
            read(source)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (
            "opus",
            r"opus has no text in both languages: expected NAME.en and NAME.ne \(the folder",
        ),
        ("several", r"several holds 2 texts of en-ne \(several/dev, several/train\): choose one"),
        ("several/test", "several/test has no text in both"),
        ("gone/x", "there is no folder gone"),
        ("three.tsv", "three.tsv:1: found 3 columns, expected 2: fix the line, or name two with"),
        ("rows.jsonl", r"expected the columns of both sides, such as rows.jsonl\?columns="),
        ("rows.jsonl?columns=a", "expected the columns of both sides"),
        ("en.txt", "en.txt has no text in both languages"),
        ("alone.tmx", "no unit has both en and ne: found the languages en, hi"),
    ],
)
def test_a_source_without_both_sides_is_one_line(source: str, expected: str) -> None:
    write("opus/x.en", "x\n")
    for name in ("train.en", "train.ne", "dev.en", "dev.ne"):
        write(f"several/{name}", "x\n")
    write("three.tsv", "a\tb\tc\n")
    write("rows.jsonl", "{}\n")
    write("en.txt", "x\n")
    write("alone.tmx", tmx(EN, NE, ("en", "hi")))
    with pytest.raises((DataError, ConfigError), match=expected):
        read_pairs([source])


def test_files_of_pairs_are_aligned_one_by_one() -> None:
    """Two errors that cancel out over the files are noticed: one file is short, one is long."""
    for name, count in (("1.en", 2), ("1.ne", 3), ("2.en", 3), ("2.ne", 2)):
        write(f"p/{name}", "x\n" * count)
    with pytest.raises(DataError, match="p/1.en has 2 lines and p/1.ne has 3"):
        read_pairs(["p/*.en", "p/*.ne"])
    write("p/3.en", "x\n")
    with pytest.raises(DataError, match="has 3 files and .* has 2"):
        read_pairs(["p/*.en", "p/*.ne"])

"""Local files under ``datasets:`` are cut as they are by their path."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from backports import zstd

from xlm.errors import DataError
from xlm.tasks.readers.labeled import read_rows
from xlm.text.readers import ReadReport, open_lines

datasets = pytest.importorskip("datasets")

TABLE = (
    'label\ttext\n1\tRain fell.\n0\t"I left the gate open\n1\tNA\n0\tnull\n1\t"Done," she said.\n'
)
LINES = ['a "quoted', "b\rwith a return", "", "c\x85d\u2028e", 'f"']


@pytest.fixture(scope="module", autouse=True)
def alone(tmp_path_factory: pytest.TempPathFactory) -> None:
    datasets.config.HF_DATASETS_CACHE = tmp_path_factory.mktemp("cache")
    datasets.config.HF_HUB_OFFLINE = True


def lines(source: str) -> tuple[list[str], int]:
    report = ReadReport()
    return list(open_lines(source, report)), report.num_read


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz", "a.txt.zst", "A.TXT"])
def test_text_has_the_same_lines(tmp_path: Path, name: str) -> None:
    content = "".join(f"{line}\n" for line in LINES).encode()
    packed = {".gz": gzip.compress, ".zst": zstd.compress}.get(name[-4:].lstrip("t"), bytes)
    path = tmp_path / "texts" / name
    path.parent.mkdir()
    path.write_bytes(packed(content))
    expected = lines(str(path))
    assert expected[1] == 5
    assert lines(f"datasets:{path}") == expected
    if name == "a.txt":
        assert lines(f"datasets:{path.parent}") == expected  # a folder of text


def test_a_table_has_the_same_rows(tmp_path: Path) -> None:
    path = tmp_path / "tables" / "train.tsv"
    path.parent.mkdir()
    path.write_text(TABLE)
    expected = [(row.label, row.first) for row in read_rows(str(path), "label-text")]
    assert len(expected) == 5 and ("1", "NA") in expected
    for source in (path, path.parent):
        found = read_rows(f"datasets:{source}", "label-text")
        assert [(row.label, row.first) for row in found] == expected


def test_commas_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('label,text\n1,"a, b\nc"\n0,NA\n01,"say ""no"""\n')
    found = [(row.label, row.first) for row in read_rows(f"datasets:{path}", "label-text")]
    assert found == [("1", "a, b c"), ("0", "NA"), ("01", 'say "no"')]


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.ndjson"])
def test_compressed_objects(tmp_path: Path, name: str) -> None:
    content = "".join(json.dumps({"text": line, "id": 1}) + "\n" for line in ("x", "y")).encode()
    packed = {".gz": gzip.compress, ".zst": zstd.compress}.get(Path(name).suffix, bytes)
    (tmp_path / name).write_bytes(packed(content))
    assert lines(f"datasets:{tmp_path / name}") == (["x", "y"], 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tsv", "text\ttext\nx\ty\n", r"a\.tsv:1: the header has 'text' twice"),
        ("a.tsv", "text\tb\nx\n", r"a\.tsv:2: found 1 columns, expected 2"),
        ("a.csv", 'text\n"x\n', r"a\.csv:2: found no CSV"),
        ("a.jsonl", '{"text": "a"}\n{"text": }\n', r"a\.jsonl:2: found no JSON"),
        ("a.jsonl", '{"text": "a", "text": "b"}\n', r"a\.jsonl:1: found no JSON \(the key 'text'"),
        ("a.jsonl", "[1]\n", r"a\.jsonl:1: found JSON of list, expected an object"),
        ("a.txt", b"a\n\xff\n", r"a\.txt:2: byte 0xff at offset 0"),
        ("a.html", "<p>", r"files ending in .html are not supported: expected an ending of txt"),
    ],
)
def test_mistakes_have_their_place(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        list(open_lines(f"datasets:{path}", ReadReport()))

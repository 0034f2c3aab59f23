"""The report of a preparation against counts made by hand."""

from __future__ import annotations

import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from xlm import sample
from xlm.config.cli import read
from xlm.prepare import Aligned, Cleaning, Prepare, Texts, Vocabulary, prepare

EN = sample.path("train.en.txt").read_text(encoding="utf-8").splitlines()[:50]
NE = sample.path("train.ne.txt").read_text(encoding="utf-8").splitlines()[:50]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two languages, a pair, and held-out text with a sign that training text has not."""
    for name, lines in (
        ("en.txt", EN),
        ("ne.txt", [*NE, "<script>alert('x')</script>" * 2, NE[0]]),
        ("valid.txt", [EN[0], "a ☃ snowman", ""]),
        ("pair.ne", NE),
    ):
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    prepare(
        Prepare(
            folder=str(tmp_path / "data"),
            root=str(tmp_path),
            text=Texts(train={"en": "en.txt", "ne": "ne.txt"}, valid={"en": "valid.txt"}),
            pairs=Aligned(train={"en-ne": ["en.txt", "pair.ne"]}),
            vocabulary=Vocabulary(kind="unigram", size=600),
            cleaning=Cleaning(duplicates="exact", min_script=0.5),
            workers=1,
        )
    )
    return tmp_path / "data"


def test_figures(folder: Path) -> None:
    from xlm.data.corpora import Corpora

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    corpora = Corpora.open(folder)
    tokenizer = corpora.tokenizer
    texts = {(t["split"], t["name"], t["language"]): t for t in report["texts"]}
    assert set(texts) == {
        ("train", "en", "en"), ("train", "ne", "ne"), ("train", "en-ne", "en"),
        ("train", "en-ne", "ne"), ("valid", "en", "en"),
    }  # fmt: skip
    own = texts["train", "en", "en"]
    ids = [tokenizer.encode(line) for line in EN]
    num_pieces, num_words = sum(map(len, ids)), sum(len(line.split()) for line in EN)
    assert own["sentences"] == 50 and own["tokens"] == num_pieces + 50
    assert own["fertility"] == num_pieces / num_words
    assert own["characters_per_token"] == sum(map(len, EN)) / num_pieces
    assert own["unknown_rate"] == 0 and own["longest"] == max(map(len, ids))
    assert own["lengths"] == [
        sum(low <= len(row) < high for row in ids)
        for low, high in zip(
            (0, 4, 8, 16, 32, 64, 128, 256, 512), (4, 8, 16, 32, 64, 128, 256, 512, 10**9),
            strict=True,
        )
    ]  # fmt: skip
    assert own["percentiles"]["50"] == sorted(map(len, ids))[24]
    snowman = [tokenizer.encode(line) for line in (EN[0], "a ☃ snowman")]
    num_bytes = sum(tokenizer.pieces[at].startswith("<0x") for row in snowman for at in row)
    assert num_bytes >= 3
    assert texts["valid", "en", "en"]["byte_rate"] == num_bytes / sum(map(len, snowman))


def test_what_was_dropped(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    read = report["read"]["train ne"]
    assert (read["read"], read["kept"]) == (52, 50)
    assert read["dropped"] == {"another script": 1, "duplicate": 1}
    assert report["read"]["valid en"]["dropped"] == {"empty": 1}
    assert report["held_out"][0]["exact"] == 1


def test_shared_vocabulary(folder: Path) -> None:
    from xlm.data.corpora import Corpora

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))["overlap"]
    tokenizer = Corpora.open(folder).tokenizer
    pieces = {
        name: [at for line in lines for at in tokenizer.encode(line)]
        for name, lines in (("en", EN), ("ne", NE))
    }
    assert report["languages"] == ["en", "ne"]
    for row, one in enumerate(("en", "ne")):
        for column, two in enumerate(("en", "ne")):
            both = sum(at in set(pieces[two]) for at in pieces[one])
            assert report["shares"][row][column] == pytest.approx(both / len(pieces[one]))
        assert report["pieces"][one] == len(set(pieces[one]))


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_needs_nothing_else(folder: Path) -> None:
    page = (folder / "report.html").read_text(encoding="utf-8")
    tags = _Tags()
    tags.feed(page)
    assert tags.open == []
    assert not tags.seen & {"script", "link", "img", "iframe"}
    assert not re.search(r"https?://|src=|url\(", page)
    assert "&lt;script&gt;alert" in page  # an example of a dropped line
    for heading in ("Text", "What was dropped", "Held-out lines", "Shared vocab", "Lengths in"):
        assert f"<h2>{heading}" in page


def test_the_recipe_that_shows_it_all(root: Path, tmp_path: Path) -> None:
    recipe = read(Prepare, root / "recipes/text/prepare.yaml")
    corpora = prepare(dataclasses.replace(recipe, folder=str(tmp_path / "data"), workers=1))
    report = json.loads((tmp_path / "data/report.json").read_text(encoding="utf-8"))
    assert report["normalization"]["ne"] == {"indic": "canonical"}
    assert corpora.tokenizer.rules == recipe.normalization
    assert all(not own["dropped"] for own in report["read"].values())  # the sample is clean
    assert all(text["share"] == 0 for text in report["held_out"])

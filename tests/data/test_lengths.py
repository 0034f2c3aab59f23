"""Orders and histograms by length: computed, mapped, refused if damaged."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.fakes import WordTokenizer
from xlm.data import lengths
from xlm.data.binarize import binarize, binarize_pairs
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.data.verification import verify_corpora
from xlm.digests import sealed
from xlm.errors import DataError

TOKENIZER = WordTokenizer()
ROWS = [("a b c", "a"), ("a", "b"), ("a b", "a b c d"), ("c", "d e"), ("a b c d", "e")] * 3
MEASURES: dict[Any, Any] = {"joint": lambda a, b: a + b, "longer": max}


def made(path: Path) -> Pairs:
    return binarize_pairs(ROWS, path, ("en", "hi"), TOKENIZER)


def by_hand(measure: str) -> list[int]:
    """The length of each row, by words."""
    return [MEASURES[measure](len(a.split()), len(b.split())) for a, b in ROWS]


def without_index(path: Path) -> None:
    """Make a folder as an older version wrote it: no index but the order by joint length."""
    header = json.loads((path / "header.json").read_text())
    header = {k: v for k, v in header.items() if k not in ("longest", "digest", "files")}
    for name in ("longer.bin", "lengths.joint.bin", "lengths.longer.bin"):
        (path / name).unlink(missing_ok=True)
    (path / "header.json").write_text(json.dumps(header))


@pytest.mark.parametrize("measure", ["joint", "longer"])
def test_pairs_are_sorted_and_counted(tmp_path: Path, measure: Any) -> None:
    found, expected = made(tmp_path / "p"), by_hand(measure)
    order = found.order(measure)
    assert order.tolist() == sorted(range(len(ROWS)), key=lambda at: expected[at])
    assert not order.flags.writeable and not found.histogram(measure).flags.writeable
    assert found.histogram(measure).tolist() == np.bincount(expected).tolist()
    assert found.swapped().order(measure) is order
    without_index(tmp_path / "p")
    older = Pairs.open(tmp_path / "p", TOKENIZER)
    assert older.order(measure).tolist() == order.tolist()
    assert older.histogram(measure).tolist() == np.bincount(expected).tolist()


def test_sentences_are_sorted_and_counted(tmp_path: Path) -> None:
    texts = ["a b", "", "c", "a b c", "d"]
    found = binarize(texts, tmp_path / "en", "en", TOKENIZER)
    assert found.index.order("longer").tolist() == [1, 2, 4, 0, 3]
    assert found.index.histogram("longer").tolist() == [1, 2, 1, 1]
    assert not found.index.order("longer").flags.writeable
    without_index(tmp_path / "en")
    older = Corpus.open(tmp_path / "en", TOKENIZER)
    assert older.index.order("longer").tolist() == [1, 2, 4, 0, 3]
    assert older.index.histogram("longer").tolist() == [1, 2, 1, 1]


@pytest.mark.parametrize("name", ["longer.bin", "order.bin", "lengths.joint.bin"])
def test_a_damaged_index_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "train" / "en-hi"
    made(path)
    content = np.fromfile(path / name, dtype=np.int64)
    content[[0, -1]] = content[[-1, 0]] + (content[0] == content[-1])
    content.tofile(path / name)
    with pytest.raises(DataError, match="the file is damaged; prepare the text again"):
        Pairs.open(path)
    with pytest.raises(DataError, match="the file was damaged or replaced"):
        verify_corpora(tmp_path)
    content[:-1].tofile(path / name)
    with pytest.raises(DataError, match=f"{name} has .* bytes, but its header says"):
        Pairs.open(path)


def test_an_order_by_difference_is_kept_beside_the_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = made(tmp_path / "p")
    order, stretches = pairs.order("longer"), [(0, 6), (6, 11)]
    in_memory = pairs.index.by_difference(order, stretches, pairs.sides)
    difference = [len(a.split()) - len(b.split()) for a, b in ROWS]
    for start, end in stretches:
        own = order[start:end].tolist()
        assert in_memory[start:end].tolist() == sorted(own, key=lambda at: difference[at])
    assert in_memory[11:].tolist() == order[11:].tolist()
    monkeypatch.setattr(lengths, "KEPT_FROM", 1)
    other = pairs.swapped()
    for _ in range(2):
        kept = pairs.index.by_difference(order, stretches, pairs.sides)
        assert kept.tolist() == in_memory.tolist() and not kept.flags.writeable
        turned = pairs.index.by_difference(order, stretches, other.sides)
        assert turned.tolist() != kept.tolist()
    files = sorted((tmp_path / "p" / ".orders").iterdir())
    assert len(files) == 2 and all(path.suffix == ".bin" for path in files)
    again = made(tmp_path / "q")
    (tmp_path / "q" / ".orders").write_text("no folder")
    with caplog.at_level(logging.WARNING):
        found = again.index.by_difference(order, stretches, again.sides)
    assert found.tolist() == in_memory.tolist()
    assert "each process keeps an order of 15 rows in memory" in caplog.text


def test_sealing_again_keeps_the_index(tmp_path: Path) -> None:
    from xlm.data.corpora import write_header
    from xlm.data.verification import reseal_corpora

    path = tmp_path / "train" / "en-hi"
    made(path)
    binarize(["a b", "c"], tmp_path / "train" / "en", "en", TOKENIZER)
    write_header(tmp_path, TOKENIZER, ["en", "hi"])
    before = {header: header.read_bytes() for header in tmp_path.rglob("header.json")}
    assert reseal_corpora(tmp_path) == []
    assert before == {header: header.read_bytes() for header in before}
    for header, content in before.items():
        header.write_text(json.dumps(sealed({**json.loads(content), "files": {}})))
    assert reseal_corpora(tmp_path)
    for header, content in before.items():
        assert set(json.loads(header.read_bytes())["files"]) == set(json.loads(content)["files"])

import multiprocessing
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.data.fakes import WordTokenizer
from xlm.data import binarize as module
from xlm.data.binarize import binarize, binarize_pairs
from xlm.errors import DataError
from xlm.metrics.scores import TextSize

TOKENIZER = WordTokenizer()


class DyingTokenizer(WordTokenizer):
    def encode(self, text):
        if multiprocessing.parent_process() is not None:
            os._exit(9)
        return super().encode(text)


class OverflowingTokenizer(WordTokenizer):
    def encode(self, text):
        return [len(text)]


def lines(num):
    return [" ".join(f"w{(i * j) % 97}" for j in range(i % 7)) for i in range(num)]


def test_ids_and_sizes(tmp_path):
    found = binarize(["नेपाल राम्रो  छ", "", "a"], tmp_path / "ne", "ne", TOKENIZER)
    assert [found[i].tolist() for i in range(3)] == [
        TOKENIZER.encode(text) for text in ("नेपाल राम्रो छ", "", "a")
    ]
    text = "नेपाल राम्रो  छ\n\na\n"
    assert found.text_size == TextSize(
        sentences=3, tokens=4 + 3, words=4 + 3, characters=len(text), bytes=len(text.encode())
    )


def test_many_workers_write_what_one_does(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 50)
    monkeypatch.setattr(module, "CHUNKS_HERE", 3)
    done = []
    one = binarize(iter(lines(1234)), tmp_path / "1", "en", TOKENIZER, progress=done.append)
    assert done == [50] * 24 + [34]
    two = binarize(
        iter(lines(1234)), tmp_path / "2", "en", TOKENIZER, num_workers=2, progress=done.append
    )
    assert sum(done) == 2 * 1234
    for name in ("ids.bin", "offsets.bin", "counts.bin", "header.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()
    assert [row.tolist() for row in map(one.sentence, range(1234))] == [
        TOKENIZER.encode(line) for line in lines(1234)
    ]
    assert len(two) == 1234


def test_few_lines_are_read_ahead(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 10)
    num_read = num_done = most_ahead = 0

    def reading():
        nonlocal num_read, most_ahead
        for line in lines(500):
            num_read += 1
            most_ahead = max(most_ahead, num_read - num_done)
            yield line

    def progress(num):
        nonlocal num_done
        num_done += num

    binarize(reading(), tmp_path / "en", "en", TOKENIZER, progress=progress)
    assert num_done == 500 and most_ahead <= 10 * (module.CHUNKS_AHEAD + 1)


def test_long_lines_make_chunks_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_CHARACTERS", 100)
    done = []
    binarize(
        ["x" * 99, "y", "z" * 500, "a"], tmp_path / "en", "en", TOKENIZER, progress=done.append
    )
    assert done == [2, 1, 1]


def test_pairs_with_an_empty_side_are_left_out_and_counted(tmp_path):
    rows = [("a b", "c"), ("", "d"), ("e", " "), ("f", "g h i"), ("", "")]
    found = binarize_pairs(rows, tmp_path / "en-hi", ("en", "hi"), TOKENIZER)
    assert found.dropped == {"empty side": 3}
    assert [side[1].tolist() for side in found.sides] == [
        TOKENIZER.encode("f"), TOKENIZER.encode("g h i"),
    ]  # fmt: skip
    assert found.sides[0].text_size == TextSize(2, 5, 5, 6, 6)
    assert found.languages == ("en", "hi")


def test_pairs_by_workers(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_ROWS", 20)
    monkeypatch.setattr(module, "CHUNKS_HERE", 0)
    rows = list(zip(lines(200), reversed(lines(200)), strict=True))
    one = binarize_pairs(rows, tmp_path / "1", ("en", "hi"), TOKENIZER)
    two = binarize_pairs(rows, tmp_path / "2", ("en", "hi"), TOKENIZER, num_workers=2)
    for side in (0, 1):
        assert one.sides[side].ids.tolist() == two.sides[side].ids.tolist()
    assert one.order().tolist() == two.order().tolist() and one.dropped == two.dropped


def test_nothing_is_left_when_reading_fails(tmp_path):
    def failing():
        yield "a"
        raise DataError("text.txt, line 2: no UTF-8")

    with pytest.raises(DataError, match="line 2"):
        binarize(failing(), tmp_path / "en", "en", TOKENIZER)
    with pytest.raises(DataError, match="line 2"):
        binarize_pairs(((a, a) for a in failing()), tmp_path / "p", ("en", "hi"), TOKENIZER)
    assert not list(tmp_path.iterdir())


def test_a_worker_that_is_killed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNKS_HERE", 0)
    with pytest.raises(DataError, match="a tokenizing process was killed"):
        binarize(["a"], tmp_path / "en", "en", DyingTokenizer(), num_workers=2)
    assert not list(tmp_path.iterdir())


class CountingTokenizer(WordTokenizer):
    """Says by a text's id whether it was encoded in another process."""

    def encode(self, text):
        return [14 + (multiprocessing.parent_process() is not None)]


@pytest.mark.parametrize(("num_lines", "elsewhere"), [(8, False), (9, True)])
def test_little_text_starts_no_process(tmp_path, monkeypatch, num_lines, elsewhere):
    monkeypatch.setattr(module, "CHUNK_ROWS", 1)
    made = binarize(["a"] * num_lines, tmp_path / "en", "en", CountingTokenizer(), num_workers=2)
    assert set(made.ids.tolist()) == {14 + elsewhere, 1} and len(made) == num_lines


SCRIPT = """
from tests.data.fakes import WordTokenizer
from xlm.data import binarize
print("once")
binarize.CHUNKS_HERE = 0
made = binarize.binarize(["a b", "c"], {folder!r}, "en", WordTokenizer(), num_workers=2)
print(len(made))
"""


@pytest.mark.parametrize("how", ["script", "standard input"])
def test_a_plain_script_may_use_workers(root, tmp_path, how):
    """No ``if __name__``: a process that ran the script again would start processes itself."""
    text = SCRIPT.format(folder=str(tmp_path / "en"))
    (tmp_path / "plain.py").write_text(text)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "plain.py") if how == "script" else "-"],
        input="" if how == "script" else text,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout.split(), done.stderr) == (["once", "2"], "")


def test_a_tokenizer_that_contradicts_itself(tmp_path):
    with pytest.raises(DataError, match="ids from 1 to 300, but its vocabulary has 200 entries"):
        binarize(["a", "b" * 300], tmp_path / "en", "en", OverflowingTokenizer())


def test_an_existing_corpus_is_kept_unless_replaced(tmp_path):
    binarize(["a"], tmp_path / "en", "en", TOKENIZER)
    with pytest.raises(DataError, match="already exists"):
        binarize(["b c"], tmp_path / "en", "en", TOKENIZER)
    found = binarize(["b c"], tmp_path / "en", "en", TOKENIZER, replace=True)
    assert len(found[0]) == 2 and np.array_equal(found.ids[-1:], [1])

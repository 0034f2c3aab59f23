import dataclasses

import numpy as np
import pytest
import torch

from tests.data.fakes import WordTokenizer, corpora
from xlm.batch import IGNORED
from xlm.data.collate import TARGETS_MULTIPLE, Cells, pad, pad_pairs, pad_text
from xlm.data.sentence_streams import PairStream
from xlm.data.streams import TextStream

TOKENIZER = WordTokenizer()
END, PAD = TOKENIZER.end_id, TOKENIZER.pad_id


def ids(*tokens):
    return np.array(tokens, dtype=np.int64)


def test_pairs_are_padded_on_the_right():
    wrapped = [
        TOKENIZER.wrap(ids(20, 21), ids(30), "tlm"),
        TOKENIZER.wrap(ids(), ids(31, 32, 33), "tlm"),
    ]
    cells = pad(wrapped, [4, 9], 9, PAD)
    assert cells.tokens.tolist() == [
        [END, 20, 21, END, END, 30, END, PAD, PAD],
        [END, END, END, 31, 32, 33, END, PAD, PAD],
    ]
    assert cells.positions.tolist() == [[0, 1, 2, 3, 0, 1, 2, 0, 0], [0, 1, 0, 1, 2, 3, 4, 0, 0]]
    assert cells.langs.tolist() == [[4, 4, 4, 4, 9, 9, 9, 9, 9], [4, 4, 9, 9, 9, 9, 9, 9, 9]]
    assert cells.segments.tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1, 1, 1]]
    assert cells.lengths.tolist() == [7, 7]
    assert cells.real.tolist() == [[True] * 7 + [False] * 2] * 2


def test_a_row_longer_than_asked_for_is_kept_whole():
    cells = pad([TOKENIZER.wrap(ids(20, 21, 22))], [0], 4, PAD)
    assert cells.tokens.tolist() == [[END, 20, 21, 22, END]] and cells.lengths.tolist() == [5]


def test_shifting_drops_the_last_cell_of_each_row():
    cells = pad([TOKENIZER.wrap(ids(20, 21)), TOKENIZER.wrap(ids(22))], [0], 5, PAD)
    shifted = cells.shifted()
    assert shifted.tokens.tolist() == [[END, 20, 21, END], [END, 22, END, PAD]]
    assert shifted.lengths.tolist() == [3, 2]
    assert shifted.real.tolist() == [[True, True, True, False], [True, True, False, False]]
    assert shifted.tokens.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("num", [0, 1, 7, 8, 9, 16])
def test_predict_is_filled_up_to_a_multiple_of_8(num):
    cells = pad([TOKENIZER.wrap(ids(*range(20, 40)))], [0], 0, PAD)
    made = cells.batch(ids(3), np.arange(1, num + 1), np.arange(20, 20 + num))
    assert len(made.predict) == len(made.targets) == -(-num // 8) * 8
    assert made.count == num and (made.targets[num:] == IGNORED).all()
    assert made.predict[:num].tolist() == list(range(1, num + 1))
    assert (made.predict >= 0).all() and (made.predict < made.tokens.numel()).all()
    assert TARGETS_MULTIPLE == 8
    alone = cells.batch(ids(3), np.arange(1, num + 1), np.arange(20, 20 + num), multiple=1)
    assert len(alone.predict) == num == alone.count


def test_a_batch_holds_the_cells_and_the_rows():
    cells = pad([TOKENIZER.wrap(ids(20)), TOKENIZER.wrap(ids(21, 22))], [2], 0, PAD)
    source = cells.batch(ids(), ids(), ids())
    made = cells.batch(ids(7, 5), ids(1), ids(20), source=source)
    assert made.rows.tolist() == [7, 5] and made.source is source
    for name in ("tokens", "positions", "langs", "segments", "lengths"):
        assert getattr(made, name).tolist() == getattr(cells, name).tolist()
        assert getattr(made, name).dtype == torch.int64
    assert made.num_tokens == 2 * (3 + 4)


def test_text_gets_no_special_tokens_and_only_its_last_row_is_padded():
    own = corpora(en=[4, 6, 1], ne=[2])  # 11 + 3 tokens of en with end symbols
    stream = TextStream(own, "ne", objective="o", rows=2, length=2, shuffle=False)
    cells = pad_text(stream.examples(0))
    ne = own.text("train", "ne").ids.astype(np.int64)
    assert cells.tokens.tolist() == [[ne[0], ne[1]], [END, PAD]]
    assert cells.lengths.tolist() == [2, 1]
    assert cells.langs.tolist() == [[1, 1], [1, 1]]  # ids are alphabetical
    assert cells.positions.tolist() == [[0, 1], [0, 1]]
    assert not cells.segments.any()
    text = TextStream(own, "en", objective="o", rows=5, length=3, shuffle=False)
    real = [pad_text(text.examples(k)) for k in range(text.num_batches)]
    flat = np.concatenate([cells.tokens[cells.real] for cells in real])
    assert flat.tolist() == own.text("train", "en").ids.tolist()


def test_pairs_have_a_language_and_a_segment_for_each_token():
    own = corpora(en_hi=([2, 3], [4, 1]), fr=[1])
    stream = PairStream(
        own, "hi-en", objective="o", tokens_per_batch=100, num_specials=3, num_lengths=1,
        shuffle=False,
    )  # fmt: skip
    examples = stream.examples(0)
    cells = pad_pairs(examples, "merged")
    assert isinstance(cells, Cells)
    for row, (hi, en) in enumerate(zip(examples.first, examples.second, strict=True)):
        size = cells.lengths[row]
        expected = [END, *hi, END, *en, END]
        assert cells.tokens[row, :size].tolist() == expected
        assert cells.positions[row, :size].tolist() == list(range(len(expected)))
        second = len(hi) + 1  # the end symbol between them is of the second sentence
        assert cells.langs[row, :size].tolist() == [2] * second + [0] * (size - second)
        assert cells.segments[row, :size].tolist() == [0] * second + [1] * (size - second)
    single = [e.tolist() for e in examples.first]
    alone = pad_pairs(type(examples)(stream, examples.rows, examples.first, length=3), "xlm")
    assert [row[1 : len(s) + 1].tolist() for row, s in zip(alone.tokens, single, strict=True)] == (
        single
    )


@pytest.mark.parametrize("layout", ["tlm", "tlm-run-on", "merged", "xlm"])
@pytest.mark.parametrize("ids", [(1, 1, 1, False), (0, 1, 2, False), (4, 1, 1, True)])
def test_pairs_are_padded_as_each_row_is_wrapped(layout, ids):
    """All layouts, begin and end symbols that differ, separators, and a begin that comes again."""
    made = corpora(en_hi=([3, 0, 5, 1], [2, 4, 0, 7]))
    tokenizer = made.tokenizer
    names = ("begin_id", "end_id", "num_separators", "begins_again")
    tokenizer.__class__ = type("Own", (WordTokenizer,), dict(zip(names, ids, strict=True)))
    stream = PairStream(
        made, "en-hi", objective="tlm", tokens_per_batch=1000, num_specials=4, num_lengths=1
    )
    examples = stream.examples(0)
    second = None if layout == "xlm" else examples.second
    examples = dataclasses.replace(examples, second=second)
    rows = [
        tokenizer.wrap(first, None if second is None else second[at], layout)
        for at, first in enumerate(examples.first)
    ]
    expected = pad(rows, stream.language_ids, examples.length, tokenizer.pad_id)
    found = pad_pairs(examples, layout)
    for field in dataclasses.fields(Cells):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        assert one.dtype == other.dtype and one.tolist() == other.tolist(), field.name

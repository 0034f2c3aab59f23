import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.fakes import WordTokenizer, corpus
from xlm.data import lengths as module
from xlm.data.binarize import binarize_pairs
from xlm.data.pairs import Pairs
from xlm.errors import DataError

TOKENIZER = WordTokenizer()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40), st.integers(1, 10))
def test_order_is_a_stable_sort_whatever_the_chunks(lengths, chunk):
    first, second = (list(side) for side in zip(*lengths, strict=True)) if lengths else ([], [])
    pairs = Pairs(corpus(first), corpus(second, "hi"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", chunk)
        joint, longer = pairs.order("joint"), pairs.order("longer")
        histogram = pairs.histogram("longer")
    rows = range(len(lengths))
    assert joint.tolist() == sorted(rows, key=lambda row: first[row] + second[row])
    assert longer.tolist() == sorted(rows, key=lambda row: max(first[row], second[row]))
    assert histogram.sum() == len(lengths)


def test_very_long_rows_come_last_unsorted(monkeypatch):
    monkeypatch.setattr(module, "LONGEST_SORTED", 4)
    pairs = Pairs(corpus([9, 2, 7, 4, 1]), corpus([0] * 5, "hi"))
    assert pairs.order().tolist() == [4, 1, 0, 2, 3]


def test_unequal_sides_are_refused():
    with pytest.raises(DataError, match="3 sentences in en and 2 in hi"):
        Pairs(corpus([1, 2, 3]), corpus([1, 2], "hi"))


def test_swapped_pairs_exchange_the_sides_alone():
    pairs = Pairs(corpus([1, 5]), corpus([3, 0], "hi"))
    order = pairs.order()
    swapped = pairs.swapped()
    assert swapped.languages == ("hi", "en")
    assert swapped.sides[0] is pairs.sides[1]
    assert swapped.order() is order


def test_the_index_on_disk_is_the_one_in_memory(tmp_path):
    rows = [("a b c", "d"), ("a", "b"), ("x y", "z w v u"), ("q", "p r")]
    pairs = binarize_pairs(rows, tmp_path / "en-hi", ("en", "hi"), TOKENIZER)
    memory = Pairs(*pairs.sides)
    assert pairs.order().tolist() == memory.order().tolist() == [1, 3, 0, 2]
    assert not pairs.order().flags.writeable and memory.order().flags.writeable


def test_damaged_pairs_are_one_line(tmp_path):
    binarize_pairs([("a", "b")] * 3, tmp_path / "p", ("en", "hi"), TOKENIZER)
    with pytest.raises(DataError, match="was made by tokenizer words-200000"):
        Pairs.open(tmp_path / "p", WordTokenizer(name="other"))
    (tmp_path / "p" / "order.bin").write_bytes(bytes(8))
    with pytest.raises(DataError, match=r"order.bin has 8 bytes, but its header says 24"):
        Pairs.open(tmp_path / "p")
    with pytest.raises(DataError, match="no pairs at"):
        Pairs.open(tmp_path / "q")

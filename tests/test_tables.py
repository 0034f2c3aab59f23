import pytest

from xlm.tables import aligned, span


def test_names_stand_left_and_figures_right():
    rows = [["", "nats", "x"], ["mlm/ne", "1.5", "100"], ["é", "", "7"]]
    assert aligned(rows) == [
        "        nats    x",
        "mlm/ne   1.5  100",
        "é               7",
    ]
    assert aligned([["a", "bb", "c"], ["aaa", "b", "cc"]], num_names=2) == [
        "a    bb   c",
        "aaa  b   cc",
    ]
    assert aligned([]) == []


def test_rows_have_the_same_number_of_cells():
    with pytest.raises(ValueError):
        aligned([["a", "b"], ["a"]])


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (61, "1 min"), (7300, "2 h"), (200_000, "2 d")]
)
def test_spans_of_time(seconds, said):
    assert span(seconds) == said

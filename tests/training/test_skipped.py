"""Skipped updates: their number, their longest series, and when a run counts as stuck."""

import pytest
import torch

from xlm.errors import TrainingError
from xlm.training.skipped import SkippedUpdates

CPU = torch.device("cpu")


def counted(pattern: str, limit: int = 3) -> SkippedUpdates:
    """One update a character: x was skipped."""
    skipped = SkippedUpdates(CPU, limit)
    add(skipped, pattern)
    return skipped


def add(skipped: SkippedUpdates, pattern: str) -> None:
    for update in pattern:
        skipped.add(torch.tensor(float(update == "x")))


@pytest.mark.parametrize(
    ("pattern", "total", "in_a_row"), [("", 0, 0), ("x", 1, 1), ("x.xx", 3, 2), ("xxx..", 3, 0)]
)
def test_counts(pattern: str, total: int, in_a_row: int) -> None:
    skipped = counted(pattern)
    assert (skipped.total(), skipped.in_a_row()) == (total, in_a_row)


def test_a_series_as_long_as_the_limit_is_an_error_although_it_is_over() -> None:
    with pytest.raises(TrainingError) as caught:
        counted("xxxx.").raise_if_stuck(7, "objectives mlm")
    message = str(caught.value)
    assert message.startswith("step 7: the gradient was not finite for 4 updates in a row")
    assert "(objectives mlm)" in message and "\n" not in message


@pytest.mark.parametrize("pattern", ["xx.xx", "xx.", "x.x.x.x"])
def test_series_shorter_than_the_limit_are_not(pattern: str) -> None:
    counted(pattern).raise_if_stuck(7, "")


def test_a_series_goes_on_over_calls_and_after_loading() -> None:
    skipped = counted("xx")
    skipped.raise_if_stuck(2, "")
    again = SkippedUpdates(CPU, 3)
    again.load(skipped.total(), skipped.in_a_row())
    for each in (skipped, again):
        add(each, "x")
        with pytest.raises(TrainingError, match="for 3 updates in a row"):
            each.raise_if_stuck(3, "")
        assert (each.total(), each.in_a_row()) == (3, 3)


def test_a_series_that_was_told_of_is_forgotten() -> None:
    skipped = counted("xx.")
    skipped.raise_if_stuck(3, "")
    add(skipped, "x")
    skipped.raise_if_stuck(4, "")
    assert skipped.total() == 3

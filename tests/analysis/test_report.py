"""What a report says of a figure beside its nulls."""

from __future__ import annotations

from xlm.analysis.intervals import Estimate, Null, undefined
from xlm.analysis.report import leaves_in_words


def test_a_figure_leaves_a_null_or_differs_from_it_by_a_number() -> None:
    band = {"permuted": Null(0.0, -0.1, 0.1, p=0.005), "length": Null(0.5, 0.3, 0.7, p=0.2)}
    own = Estimate(0.6, nulls={**band, "untrained": Null(0.72), "lexical": Null(0.6)})
    assert leaves_in_words(own) == (
        "above permuted, within length, 0.12 below untrained (no interval), "
        "equal to lexical (no interval)"
    )
    assert leaves_in_words(Estimate(-0.2, nulls=band)) == "below permuted, below length"
    missing = Estimate(0.6, nulls={"length": Null(None, reason="not defined for any permutation")})
    assert leaves_in_words(missing) == "length: not defined for any permutation"
    assert leaves_in_words(undefined("one side does not vary").beside(**band)) == ""


def test_a_null_that_is_exact_needs_no_interval() -> None:
    own = Estimate(0.6, nulls={"chance": Null(0.5), "untrained": Null(0.4, 0.3, 0.5)})
    assert leaves_in_words(own) == "above chance, above untrained"

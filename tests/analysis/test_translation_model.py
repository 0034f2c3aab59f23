"""IBM model 1 against a plain implementation and a known case."""

from collections import defaultdict

import numpy as np
import pytest

from xlm.analysis.translation_model import translations
from xlm.errors import DataError


def plain(sources, targets, rounds):
    """Return p(target | source) by expectation-maximization in dictionaries."""
    table = defaultdict(lambda: 1.0)
    for _ in range(rounds):
        counts, totals = defaultdict(float), defaultdict(float)
        for source, target in zip(sources, targets, strict=True):
            made_by = [*source, None]
            for piece in target:
                norm = sum(table[other, piece] for other in made_by)
                for other in made_by:
                    counts[other, piece] += table[other, piece] / norm
                    totals[other] += table[other, piece] / norm
        table = defaultdict(float, {k: v / totals[k[0]] for k, v in counts.items()})
    return table


def test_products_are_those_of_the_textbook():
    random = np.random.RandomState(0)
    old = [random.randint(0, 9, random.randint(1, 6)) for _ in range(30)]
    new = [random.randint(0, 7, random.randint(1, 6)) for _ in range(30)]
    found = translations(new, old, rounds=4)
    forth, back = plain(old, new, 4), plain(new, old, 4)
    for n, o, product in zip(found.new, found.old, found.product, strict=True):
        assert product == pytest.approx(forth[o, n] * back[n, o], rel=1e-9)
    together = {(n, o) for one, other in zip(new, old, strict=True) for n in one for o in other}
    assert set(zip(found.new.tolist(), found.old.tolist(), strict=True)) == together
    assert (np.diff(found.new) >= 0).all()


def test_pairs_beyond_the_limit_are_left_out():
    rows = [np.array([1, 2, 3])] * 10
    assert translations(rows, rows, most_links=45).num_pairs == 3


def test_rows_that_are_no_pairs_are_refused():
    with pytest.raises(DataError, match="2 rows in one language and 1 in the other"):
        translations([np.array([1]), np.array([2])], [np.array([1])])
    with pytest.raises(DataError, match="no pair has pieces on both sides"):
        translations([np.array([], dtype=np.int64)], [np.array([1])])

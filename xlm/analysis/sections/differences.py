"""Differences of the analyzed model from each compared one, on the rows that both have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xlm.analysis import intervals
from xlm.analysis.report import Analysis
from xlm.analysis.sections.material import MODEL

Rows = NDArray[np.float64]
"""A value of each item ``[n]``; NaN for an item without one."""


def add_differences(
    found: Analysis,
    measure: str,
    rows: Mapping[str, Rows],
    seed: int,
    *,
    layer: int | None = None,
    of: str = "",
) -> None:
    """Add the mean of the analyzed model's rows minus that of each other model's.

    ``rows`` has those of the same items by the name of the model. Intervals are by the paired
    bootstrap over the items that have a value in both.
    """
    own = rows.get(MODEL)
    for name, theirs in rows.items():
        if own is None or name == MODEL:
            continue
        both = ~(np.isnan(own) | np.isnan(theirs))
        difference = intervals.paired(own[both], theirs[both], seed)
        found.add(
            {f"{measure}, difference": difference}, layer=layer, of=of, model=f"{MODEL} - {name}"
        )

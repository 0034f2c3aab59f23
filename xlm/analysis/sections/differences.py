"""Figures of models beside those of random weights, and differences on the rows that both have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xlm.analysis import intervals
from xlm.analysis.intervals import Estimate
from xlm.analysis.report import Analysis
from xlm.analysis.sections.material import MODEL, UNTRAINED, beside_untrained

Values = NDArray[np.float64]
"""A value of each item ``[n]``; NaN for an item without one."""


class BesideUntrained:
    """Adds figures to an analysis, each beside that of random weights, which come first."""

    def __init__(self, found: Analysis) -> None:
        self._found = found
        self._fresh: dict[tuple[str, int | None], dict[str, Estimate]] = {}

    def add(
        self,
        figures: Mapping[str, Estimate],
        *,
        layer: int,
        of: str = "",
        model: str,
        is_chosen: bool = False,
    ) -> None:
        """Add a model's figures of a layer; keep them as nulls if the model is random weights.

        ``is_chosen``: the layer is the best, and may be another one in random weights.
        """
        at = of, None if is_chosen else layer
        if model == UNTRAINED:
            self._fresh.setdefault(at, {}).update(figures)
            return
        figures = beside_untrained(figures, self._fresh.get(at))
        self._found.add(figures, layer=layer, of=of, model=model)


def add_differences(
    found: Analysis,
    measure: str,
    rows: Mapping[str, Values],
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


def add_correlation_differences(
    found: Analysis,
    measure: str,
    rows: Mapping[str, Values],
    gold: Sequence[float],
    seed: int,
    *,
    layer: int | None = None,
    of: str = "",
    ranks: bool,
) -> None:
    """Add the correlation of the analyzed model's rows with ``gold`` minus each other model's.

    ``ranks``: Spearman's correlation, not Pearson's.
    """
    own = rows.get(MODEL)
    for name, theirs in rows.items():
        if own is None or name == MODEL:
            continue
        difference = intervals.paired_correlations(own, theirs, gold, seed, ranks=ranks)
        found.add(
            {f"{measure}, difference": difference}, layer=layer, of=of, model=f"{MODEL} - {name}"
        )

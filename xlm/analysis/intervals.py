"""Figures: a value, its 95 % interval, the number of items behind it, and its nulls.

Shares have Wilson's interval, correlations Fisher's, other means the percentile bootstrap over
sentences. An undefined value is None and has a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xlm.metrics.agreement import pearson, spearman
from xlm.rng import Part, Random

Z95 = 1.959963984540054
"""The normal deviate that 2.5 % exceed."""
NUM_RESAMPLES = 1000
"""Number of resamples of a bootstrap."""
FEWEST_RESAMPLED = 10
"""Fewer items have no interval of a difference: their resamples are too much alike."""
_CELLS = 1 << 22
"""Number of indices that a bootstrap draws at a time."""


EXACT = ("chance", "commonest", "independent")
"""Nulls that are exact, not measured."""


@dataclass(frozen=True)
class Null:
    """The value of a figure for a model that learned nothing."""

    value: float | None
    """The mean over many draws; None if it is not defined."""
    low: float | None = None
    high: float | None = None
    """The ends of the range that holds 95 % of the draws."""
    p: float | None = None
    """Share of the permutations whose value is at least the observed one."""
    reason: str = ""
    """The reason if there is no value."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval and its nulls."""

    value: float | None
    """The value; None if it is not defined, never NaN."""
    low: float | None = None
    high: float | None = None
    """The ends of its 95 % interval; None if this kind of figure has none."""
    num: int = 0
    """Number of items that it is computed from."""
    nulls: Mapping[str, Null] = field(default_factory=dict)
    reason: str = ""
    """The reason if there is no value."""

    def beside(self, **nulls: Null) -> Estimate:
        """Return the same figure with further nulls."""
        return replace(self, nulls={**self.nulls, **nulls})

    def as_null(self) -> Null:
        """Return this figure, of a model that learned nothing, as another figure's null."""
        return Null(self.value, self.low, self.high, reason=self.reason)

    def leaves(self, name: str) -> bool | None:
        """Return whether the figure lies outside its null ``name``; None if that cannot be decided.

        A value leaves a permuted null if it lies outside the band: a test of 5 %, of both sides.
        Of another null, its range and the interval of the figure must not overlap. Two numbers
        without an interval decide nothing, unless the null is exact.
        """
        null = self.nulls.get(name)
        if null is None or null.value is None or self.value is None:
            return None
        low = null.value if null.low is None else null.low
        high = null.value if null.high is None else null.high
        if null.p is not None:
            return not low <= self.value <= high
        if self.low is None and null.low is None and name not in EXACT:
            return None
        own_low = self.value if self.low is None else self.low
        own_high = self.value if self.high is None else self.high
        return own_low > high or own_high < low

    def as_json(self) -> dict[str, Any]:
        """Return plain values for JSON, without missing ones; the value is always there."""
        nulls = {name: _given(vars(null)) for name, null in self.nulls.items()}
        return {**_given({k: v for k, v in vars(self).items() if k != "nulls"}), "nulls": nulls}


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if k == "value" or (v is not None and v != "")}


def undefined(reason: str, num: int = 0) -> Estimate:
    """Return an estimate without a value."""
    return Estimate(None, num=num, reason=reason)


def share(hits: float, num: int) -> Estimate:
    """Return ``hits`` of ``num`` with Wilson's interval; shared hits may be fractions."""
    if num < 1:
        return undefined("no items")
    low, high = wilson(hits / num, num)
    return Estimate(hits / num, low, high, num)


def wilson(value: float, num: int, z: float = Z95) -> tuple[float, float]:
    """Return Wilson's score interval of a share ``value`` of ``num`` items (Wilson 1927)."""
    middle = value + z * z / (2 * num)
    half = z * math.sqrt(value * (1 - value) / num + z * z / (4 * num * num))
    scale = 1 + z * z / num
    # at the ends rounding would leave a trace above 0, or below 1
    low = 0.0 if value <= 0 else max(0.0, (middle - half) / scale)
    return low, 1.0 if value >= 1 else min(1.0, (middle + half) / scale)


def correlation(value: float | None, num: int, *, ranks: bool = False) -> Estimate:
    """Return a correlation over ``num`` items with Fisher's interval.

    ``ranks``: for Spearman's, whose standard error is wider by √(1 + r²/2) (Bonett and Wright
    2000).
    """
    if value is None:
        return undefined("one side does not vary", num)
    if num < 4:
        return Estimate(value, num=num)
    if abs(value) >= 1:
        return Estimate(value, value, value, num)
    error = math.sqrt((1 + value * value / 2 if ranks else 1.0) / (num - 3))
    middle = math.atanh(value)
    return Estimate(value, math.tanh(middle - Z95 * error), math.tanh(middle + Z95 * error), num)


def correlated(one: ArrayLike, two: ArrayLike, *, ranks: bool = False) -> Estimate:
    """Return Pearson's correlation of two arrays ``[n]``, or Spearman's if ``ranks``."""
    left, right = np.asarray(one, np.float64), np.asarray(two, np.float64)
    if len(left) < 2 or len(np.unique(left)) < 2 or len(np.unique(right)) < 2:
        return correlation(None, len(left))
    return correlation((spearman if ranks else pearson)(left, right), len(left), ranks=ranks)


def mean(values: ArrayLike, *address: Part) -> Estimate:
    """Return the mean of ``[n]`` with a bootstrap interval drawn at ``address``."""
    own = np.asarray(values, dtype=np.float64)
    if not len(own):
        return undefined("no items")
    return ratio(own[:, None], lambda means: means[:, 0], *address)


def mean_of_hits(values: ArrayLike, *address: Part) -> Estimate:
    """Return ``mean`` of values from 0 to 1, with Wilson's interval if all rows are equal.

    The bootstrap over rows without a hit would never draw one.
    """
    own = np.asarray(values, dtype=np.float64)
    found = mean(own, *address)
    return share(float(own.sum()), len(own)) if len(own) and found.low == found.high else found


def ratio(
    values: ArrayLike,
    statistic: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    *address: Part,
) -> Estimate:
    """Return a statistic of the column means of ``[n, k]``, with a bootstrap interval over rows.

    ``statistic`` maps column means ``[R, k]`` to ``[R]``, with NaN for an undefined value.
    Resamples in which it is undefined are left out of the interval.
    """
    own = np.asarray(values, dtype=np.float64)
    if not len(own):
        return undefined("no items")
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(own.mean(0, keepdims=True))[0])
        if not math.isfinite(value):
            return undefined("its denominator is 0", len(own))
        drawn = statistic(resampled_means(own, *address))
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(value, float(low), float(high), len(own))


def resampled_means(
    values: NDArray[np.float64], *address: Part, num: int = NUM_RESAMPLES
) -> NDArray[np.float64]:
    """Return the column means of ``num`` resamples of the rows of ``[n, k]``: ``[num, k]``.

    They are drawn with replacement at ``address``: equal addresses and numbers of rows give the
    same rows.
    """
    size = len(values)
    return np.concatenate([own @ values / size for own in _resamples(size, address, num)])


def _resamples(
    size: int, address: tuple[Part, ...], num: int = NUM_RESAMPLES
) -> Iterator[NDArray[np.float64]]:
    """Yield how often each of ``size`` rows is in each of ``num`` resamples, some at a time."""
    if num * size <= _CELLS:
        yield _weights(size, num, address)
        return
    random = Random("bootstrap", *address)
    at_a_time = max(1, _CELLS // size)
    for start in range(0, num, at_a_time):
        yield _counts(random, size, min(at_a_time, num - start))


@lru_cache(maxsize=2)  # the figures of a report resample the same rows again and again
def _weights(size: int, num: int, address: tuple[Part, ...]) -> NDArray[np.float64]:
    return _counts(Random("bootstrap", *address), size, num)


def _counts(random: Random, size: int, num: int) -> NDArray[np.float64]:
    """Return the number of draws of each of ``size`` rows in each of ``num`` resamples."""
    rows = random.integers(num * size, size).reshape(num, size)
    rows += np.arange(num)[:, None] * size
    return np.bincount(rows.ravel(), minlength=num * size).reshape(num, size).astype(np.float64)


def paired(first: ArrayLike, second: ArrayLike, *address: Part) -> Estimate:
    """Return the mean of ``first`` minus ``second`` on the same items ``[n]``, by the bootstrap."""
    return of_enough(mean(np.asarray(first, np.float64) - np.asarray(second, np.float64), *address))


def of_enough(estimate: Estimate) -> Estimate:
    """Return an estimate by the bootstrap, without its interval if it is of fewer than 10 items."""
    if estimate.num >= FEWEST_RESAMPLED:
        return estimate
    return replace(estimate, low=None, high=None)


def paired_correlations(
    first: ArrayLike, second: ArrayLike, gold: ArrayLike, *address: Part, ranks: bool = False
) -> Estimate:
    """Return the correlation of ``first`` with ``gold`` minus that of ``second``, ``[n]`` each.

    The interval is the bootstrap's over the items, each resample of which gives both correlations;
    resamples in which one is not defined are left out. ``ranks``: Spearman's, not Pearson's.
    """
    sides = np.array([first, second, gold], dtype=np.float64)
    num = sides.shape[1]

    def difference(rows: NDArray[np.int64] | slice) -> float | None:
        one, two, true = sides[:, rows]
        ours, theirs = (correlated(own, true, ranks=ranks).value for own in (one, two))
        return None if ours is None or theirs is None else ours - theirs

    value = difference(slice(None))
    if value is None:
        return undefined("one side does not vary", num)
    drawn = [
        own
        for part in _resamples(num, address)
        for counts in part
        if (own := difference(np.repeat(np.arange(num), counts.astype(np.int64)))) is not None
    ]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return of_enough(Estimate(value, float(low), float(high), num))


EVEN, ODD = slice(0, None, 2), slice(1, None, 2)
"""The items that choose a layer, and those that its figure is computed from."""


def choose_layer(layers: Iterable[int], value: Callable[[int, slice], float | None]) -> int:
    """Return the layer with the best value on even items; its figure is then that on odd ones.

    ``value`` takes a layer and the items. Of equal layers the first is chosen.
    """

    def on_even(layer: int) -> float:
        own = value(layer, EVEN)
        return -math.inf if own is None else own

    return max(layers, key=on_even)


def in_best_layer(
    layers: Iterable[int], figure: Callable[[int, slice], Estimate]
) -> tuple[int, Estimate]:
    """Return the layer whose figure is the best on even items, and its figure on odd items.

    The figure is not defined if no layer has one on even items.
    """
    layer = choose_layer(layers, lambda at, items: figure(at, items).value)
    if figure(layer, EVEN).value is None:
        return layer, undefined("no layer has a figure on even rows, which choose it")
    return layer, figure(layer, ODD)


def mean_of(estimates: Sequence[Estimate]) -> float | None:
    """Return the mean of the defined values; None if there are none."""
    values = [own.value for own in estimates if own.value is not None]
    return sum(values) / len(values) if values else None

"""Linear centered kernel alignment (Kornblith et al. 2019) of two sets of states of the same rows.

    ‖Yᵀ X‖²_F / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F)

The centered form of independent rows is near D / (D + n), not 0; the debiased form, with the
unbiased HSIC of Song et al. (2012), is near 0, and so may be negative. Everything is float64, in
blocks of rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xlm.analysis.intervals import Estimate, Null, undefined
from xlm.analysis.nulls import of_draws, permutations
from xlm.errors import ConfigError, DataError

Kind = Literal["centered", "debiased", "uncentered"]
Array = NDArray[np.float64]
BOTH: tuple[Kind, ...] = ("debiased", "centered")
"""The kinds with nulls by permutation."""
FEWEST_ROWS = 4
MOST_PERMUTED = 1000
"""Number of rows for nulls by permutation, each of which needs products of all pairs of rows."""
_BLOCK = 4096
_PRODUCTS = 64
"""Number of multiplications that take as long as moving one cell of a matrix."""


class Side:
    """One set of states ``[n, D]`` with everything that its comparisons need; n is 4 or more."""

    def __init__(self, states: ArrayLike, kind: Kind):
        self.states = np.asarray(states)
        if self.states.ndim != 2 or len(self.states) < FEWEST_ROWS:
            raise DataError(
                f"states of shape {self.states.shape}: expected at least {FEWEST_ROWS} rows "
                "of vectors"
            )
        if kind not in ("centered", "debiased", "uncentered"):
            raise ConfigError(f"kind is {kind!r}: expected centered, debiased or uncentered")
        self.kind = kind
        self.mean: Array = np.zeros(self.states.shape[1])
        if kind != "uncentered":
            self.mean = self.states.mean(0, dtype=np.float64)
        self.lengths: Array = np.concatenate(
            [np.einsum("nd,nd->n", own, own) for own in self.blocks()]
        )
        """Squared length of each row, ``[n]``."""

    def blocks(self, rows: int = _BLOCK) -> Iterator[Array]:
        """Yield the rows minus their mean, in float64, a block at a time."""
        for start in range(0, len(self.states), rows):
            yield self.states[start : start + rows].astype(np.float64) - self.mean

    def gram(self) -> Array:
        """Return the inner products of all rows, ``[n, n]``; debiased, with a diagonal of 0."""
        rows = np.concatenate(list(self.blocks()))
        products: Array = rows @ rows.T
        if self.kind == "debiased":
            np.fill_diagonal(products, 0.0)
        return products


def similarity(x: Side, y: Side) -> float:
    """Return the numerator: tr(K L), or for the debiased kind the unbiased HSIC times n (n - 3)."""
    num = len(x.states)
    if num <= max(x.states.shape[1], y.states.shape[1]):
        one, two = x.gram(), y.gram()
        trace = float(np.vdot(one, two))
        if x.kind != "debiased":
            return trace
        return _unbiased(trace, one.sum(1), two.sum(1))
    product = np.zeros((x.states.shape[1], y.states.shape[1]))
    for one, two in zip(x.blocks(), y.blocks(), strict=True):
        product += one.T @ two
    trace = float(np.vdot(product, product))
    if x.kind != "debiased":
        return trace
    # with rows that sum to 0, the sum of a row of the Gram matrix without its diagonal is
    # minus the row's squared length
    return _unbiased(trace - float(x.lengths @ y.lengths), -x.lengths, -y.lengths)


def _unbiased(trace: float, x_sums: Array, y_sums: Array) -> float:
    num = len(x_sums)
    ends = float(x_sums.sum()) * float(y_sums.sum()) / ((num - 1) * (num - 2))
    return trace + ends - 2 * float(x_sums @ y_sums) / (num - 2)


def hsic(x: ArrayLike, y: ArrayLike) -> float:
    """Return the unbiased HSIC with linear kernels of rows ``[n, D]`` and ``[n, E]``."""
    one, two = _sides(x, y, "debiased")
    num = len(one.states)
    return similarity(one, two) / (num * (num - 3))


def cka(x: ArrayLike, y: ArrayLike, kind: Kind = "debiased") -> float | None:
    """Return the alignment of rows ``[n, D]`` and ``[n, E]``; None if one side is constant.

    ``kind``: centered; debiased, which is never clamped and may be negative; or uncentered, as
    printed in the paper. Raises DataError for fewer than 4 rows or different numbers of them.
    """
    one, two = _sides(x, y, kind)
    return _normalized(similarity(one, two), similarity(one, one), similarity(two, two))


def _sides(x: ArrayLike, y: ArrayLike, kind: Kind) -> tuple[Side, Side]:
    one, two = Side(x, kind), Side(y, kind)
    if len(one.states) != len(two.states):
        raise DataError(
            f"{len(one.states)} rows on one side and {len(two.states)} on the other: "
            "expected the same rows on both sides"
        )
    return one, two


def _normalized(cross: float, x_own: float, y_own: float) -> float | None:
    scale = math.sqrt(x_own * y_own) if min(x_own, y_own) > 0 else 0.0
    return cross / scale if scale > 0 else None


def cka_matrix(
    xs: Sequence[ArrayLike], ys: Sequence[ArrayLike], kind: Kind = "debiased"
) -> NDArray[np.float64]:
    """Return the alignment of every layer of one list with every layer of the other.

    ``[len(xs), len(ys)]``; NaN if one of two layers is constant. Each layer's own similarity is
    computed once.
    """
    rows, columns = ([Side(own, kind) for own in sides] for sides in (xs, ys))
    own_rows, own_columns = ([similarity(s, s) for s in sides] for sides in (rows, columns))
    found = np.full((len(rows), len(columns)), np.nan)
    for i, one in enumerate(rows):
        for j, two in enumerate(columns):
            value = _normalized(similarity(one, two), own_rows[i], own_columns[j])
            found[i, j] = np.nan if value is None else value
    return found


def kernel_alignment(
    x: ArrayLike,
    y: ArrayLike,
    sizes: Sequence[int] | None = None,
    *,
    seed: int = 0,
    kinds: Sequence[Kind] = ("debiased", "centered", "uncentered"),
) -> dict[str, Estimate]:
    """Return the kinds of CKA of rows ``[n, D]`` and ``[n, E]``, with their nulls.

    ``permuted``: the rows of y are permuted; ``length``: only among rows of the same ``sizes``
    (such as the number of pieces). Both are of the first 1,000 rows, and not of the uncentered
    kind. ``independent``, of the centered kind, is D / (D + n).
    """
    found: dict[str, Estimate] = {}
    drawn: dict[Kind, dict[str, Null]] | None = None
    for kind in kinds:
        value = cka(x, y, kind)
        num = len(np.asarray(x))
        if value is None:
            found[kind] = undefined("one side does not vary", num)
            continue
        if drawn is None and kind != "uncentered":
            drawn = _permuted(x, y, sizes, seed)
        nulls = {} if drawn is None else dict(drawn.get(kind, {}))
        if kind == "centered":
            width = max(np.asarray(x).shape[1], np.asarray(y).shape[1])
            nulls["independent"] = Null(width / (width + num))
        found[kind] = Estimate(value, num=num, nulls=nulls)
    return found


def _permuted(
    x: ArrayLike, y: ArrayLike, sizes: Sequence[int] | None, seed: int
) -> dict[Kind, dict[str, Null]]:
    """Return the nulls by permutation of the debiased and the centered kind, from one product."""
    first = [np.asarray(own)[:MOST_PERMUTED] for own in (x, y)]
    one, two = (Side(own, "debiased") for own in first)
    num = len(one.states)
    scales = {kind: [similarity(s, s) for s in (Side(own, kind) for own in first)] for kind in BOTH}
    trace = _trace_of_order(one, two)

    def values(order: NDArray[np.int64]) -> dict[Kind, float | None]:
        without, lengths = trace(order), two.lengths[order]
        # a row of a Gram matrix without its diagonal sums to minus the row's squared length
        numerators: dict[Kind, float] = {
            "debiased": _unbiased(without, -one.lengths, -lengths),
            "centered": without + float(one.lengths @ lengths),
        }
        return {kind: _normalized(own, *scales[kind]) for kind, own in numerators.items()}

    observed = values(np.arange(num))
    groups = {"permuted": None} if sizes is None else {"permuted": None, "length": sizes[:num]}
    nulls: dict[Kind, dict[str, Null]] = {kind: {} for kind in BOTH}
    for name, own_groups in groups.items():
        drawn = [values(order) for order in permutations(num, seed, "cka", groups=own_groups)]
        for kind in BOTH:
            own = [value for made in drawn if (value := made[kind]) is not None]
            nulls[kind][name] = of_draws(observed[kind], own)
    return nulls


def _trace_of_order(one: Side, two: Side) -> Callable[[NDArray[np.int64]], float]:
    """Return a function from an order of the second side's rows to tr(K L), without diagonals.

    It uses features or Gram matrices, whichever takes less time: products are faster than moving
    rows and columns.
    """
    x, y = (np.concatenate(list(side.blocks())) for side in (one, two))
    if x.shape[1] * y.shape[1] <= _PRODUCTS * len(x):

        def by_features(order: NDArray[np.int64]) -> float:
            product = x.T @ y[order]
            return float(np.vdot(product, product)) - float(one.lengths @ two.lengths[order])

        return by_features
    left, right = one.gram(), two.gram()
    return lambda order: float(np.vdot(left, right[np.ix_(order, order)]))

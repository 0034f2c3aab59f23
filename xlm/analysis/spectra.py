"""Singular values of a model's matrices, and their distances from another model's.

    |‖σ_a‖ - ‖σ_b‖| ≤ d = ‖σ_a - σ_b‖ ≤ ‖W_a - W_b‖_F        (Mirsky 1960)

d is the distance of the study of continued pretraining for translation (2024), Tables 2 and 5.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from xlm.analysis.intervals import Estimate, Null, undefined
from xlm.errors import ConfigError
from xlm.model.pretrained import PretrainedModel
from xlm.model.stack import Stack

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class Spectrum:
    """The singular values of one matrix, and figures of them."""

    values: Matrix
    """Singular values, descending."""

    @property
    def norm(self) -> float:
        """‖σ‖, which is the matrix's Frobenius norm."""
        return float(np.linalg.norm(self.values))

    @property
    def largest(self) -> float:
        """σ₁."""
        return float(self.values[0])

    @property
    def stable_rank(self) -> float | None:
        """‖σ‖² / σ₁²; None for a matrix of zeros."""
        return (self.norm / self.largest) ** 2 if self.largest > 0 else None


@dataclass(frozen=True)
class Drift:
    """Distances of a matrix from another of its shape."""

    norms: float
    """‖σ_a‖ - ‖σ_b‖."""
    spectra: float
    """d = ‖σ_a - σ_b‖."""
    weights: float
    """‖W_a - W_b‖_F."""


def spectrum(matrix: ArrayLike) -> Spectrum:
    """Return the singular values of a matrix, in float64."""
    values = np.linalg.svd(np.asarray(matrix, dtype=np.float64), compute_uv=False)
    return Spectrum(np.asarray(values))


def drift(a: ArrayLike, b: ArrayLike) -> Drift:
    """Return the distances of matrix ``a`` from ``b``. Raises ConfigError for another shape."""
    one, two = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if one.shape != two.shape:
        raise ConfigError(f"matrices of shape {one.shape} and {two.shape}: expected the same shape")
    left, right = spectrum(one), spectrum(two)
    return Drift(
        left.norm - right.norm,
        float(np.linalg.norm(left.values - right.values)),
        float(np.linalg.norm(one - two)),
    )


def matrices(model: PretrainedModel) -> dict[str, Matrix]:
    """Return the model's matrices by name, such as ``encoder 1 Q``; layers count from 1.

    K, Q and V are the blocks of the fused product, Out that of attention, FC1 and FC2 those of the
    feed-forward layer (with a gate, FC1 is both of its halves); cross-attention and tables follow.
    """
    found = _weights(model)
    return {name: own.detach().double().cpu().numpy() for name, own in found.items()}


def _weights(model: PretrainedModel) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    transformer = model.transformer
    for side, stack in (("encoder", transformer.encoder), ("decoder", transformer.decoder)):
        if stack is not None:
            found.update(_of_stack(side, stack))
    return found


def _of_stack(side: str, stack: Stack) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    weights = dict(stack.named_parameters())
    for number in range(len(stack.layers)):
        at, own = f"layers.{number}", f"{side} {number + 1}"
        blocks = weights[f"{at}.attention.query_key_value.weight"].chunk(3)
        found.update({f"{own} {n}": b for n, b in zip("QKV", blocks, strict=True)})
        found[f"{own} Out"] = weights[f"{at}.attention.output.weight"]
        found[f"{own} FC1"] = weights[f"{at}.feed_forward.expand.weight"]
        found[f"{own} FC2"] = weights[f"{at}.feed_forward.contract.weight"]
        if f"{at}.cross_attention.query.weight" in weights:
            found[f"{own} cross Q"] = weights[f"{at}.cross_attention.query.weight"]
            pair = weights[f"{at}.cross_attention.key_value.weight"].chunk(2)
            found.update({f"{own} cross {n}": b for n, b in zip("KV", pair, strict=True)})
            found[f"{own} cross Out"] = weights[f"{at}.cross_attention.output.weight"]
    for name in ("words", "positions", "languages", "segments"):
        if f"{name}.weight" in weights:
            found[f"{side} table of {name}"] = weights[f"{name}.weight"]
    if "output_weight" in weights:
        found[f"{side} output"] = weights["output_weight"]
    return found


def spectra(
    model: PretrainedModel,
    parent: PretrainedModel | None = None,
    fresh: PretrainedModel | None = None,
) -> dict[str, dict[str, Estimate]]:
    """Return for each matrix ‖σ‖, σ₁ and stable rank, and with a parent the distances from it.

    ``fresh`` has random weights of the same shape, for the null ``untrained``. Raises ConfigError
    if the parent has other matrices.
    """
    if parent is not None:
        check_parent(model, parent)
    own = matrices(model)
    before = None if parent is None else matrices(parent)
    first = {} if fresh is None else matrices(fresh)
    found = {}
    for name, matrix in own.items():
        figures = _figures(spectrum(matrix))
        if name in first:
            nulls = _figures(spectrum(first[name]))
            figures = {m: e.beside(untrained=nulls[m].as_null()) for m, e in figures.items()}
        if before is not None:
            figures.update(_distances(matrix, before[name], first.get(name)))
        found[name] = figures
    return found


def check_parent(model: PretrainedModel, parent: PretrainedModel) -> None:
    """Raise ConfigError if the parent has other matrices than the model."""
    shapes = [
        {name: tuple(weight.shape) for name, weight in _weights(own).items()}
        for own in (model, parent)
    ]
    for name in [*shapes[0], *shapes[1]]:
        one, two = shapes[0].get(name), shapes[1].get(name)
        if one != two:
            raise ConfigError(
                f"parent: {name} is {two or 'missing'} in the parent and {one or 'missing'} "
                "in the model: expected a parent of the same shape"
            )


def _figures(own: Spectrum) -> dict[str, Estimate]:
    num = len(own.values)
    rank = own.stable_rank
    return {
        "‖σ‖": Estimate(own.norm, num=num),
        "σ₁": Estimate(own.largest, num=num),
        "stable rank": (
            undefined("a matrix of zeros", num) if rank is None else Estimate(rank, num=num)
        ),
    }


def _distances(matrix: Matrix, parent: Matrix, fresh: Matrix | None) -> dict[str, Estimate]:
    own = drift(matrix, parent)
    values = {"Δ‖σ‖": own.norms, "d": own.spectra, "‖ΔW‖": own.weights}
    found = {name: Estimate(value, num=min(matrix.shape)) for name, value in values.items()}
    if fresh is not None:
        far = drift(fresh, parent)
        nulls = {"Δ‖σ‖": far.norms, "d": far.spectra, "‖ΔW‖": far.weights}
        found = {name: own.beside(untrained=Null(nulls[name])) for name, own in found.items()}
    return found


def within_bounds(own: Drift, tolerance: float = 1e-9) -> bool:
    """Return whether |Δ‖σ‖| ≤ d ≤ ‖ΔW‖ holds, as it must except for rounding."""
    scale = tolerance * max(1.0, own.weights)
    return math.fabs(own.norms) <= own.spectra + scale and own.spectra <= own.weights + scale

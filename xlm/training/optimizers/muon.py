"""Muon for the matrices of the layers, AdamW for everything else."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlm.training.optimizers.rows import RowsOfRanks
from xlm.training.optimizers.skippable import (
    ADAM_STATE,
    SkippableOptimizer,
    gradients_of,
    update_by_fused_adam,
)

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
"""The coefficients of the polynomial, chosen for a steep slope at 0 (Jordan et al. 2024)."""
_NUM_ITERATIONS = 5

MATRIX_LR = 0.02
"""The highest rate of the matrices if the recipe names none (Jordan et al. 2024)."""
MOMENTUM = 0.95
"""The momentum if the recipe names none (Jordan et al. 2024)."""


class Muon(SkippableOptimizer):
    """Muon (Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks").

    - momentum: ``b = momentum x b + (1 - momentum) x g``
    - Nesterov: ``d = momentum x b + (1 - momentum) x g``
    - decay: ``p -= lr x weight_decay x p``
    - update: ``p -= lr x sqrt(max(1, rows / columns)) x orthogonalize(d)``

    ``parts`` of a group is the number of matrices that lie one above the other in each of its
    parameters (3 for fused query, key and value), which are orthogonalized one by one. A group
    with ``parts`` 0 is updated by AdamW with ``betas`` and ``eps``. ``bf16``: matrices are
    orthogonalized in bfloat16, as the authors do, otherwise in the precision of the parameters;
    processors without instructions for bfloat16 are ten to twenty times slower in it. ``rows`` are
    those that this process has of the parameters; None if it has them whole.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = MOMENTUM,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        parts: int = 1,
        bf16: bool = True,
        rows: RowsOfRanks | None = None,
    ) -> None:
        self.rows = rows
        adam = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
        matrices = {"momentum": momentum, "parts": parts, "bf16": bf16}
        super().__init__(params, {"lr": lr, **matrices, **adam})

    def state_names(self, group: dict[str, Any], parameter: Tensor) -> tuple[str, ...]:
        """Return ``momentum`` for matrices, Adam's names for the others."""
        return ("momentum",) if group["parts"] else ADAM_STATE

    def update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Update ``parameters``, those of a group that have a gradient."""
        if group["parts"]:
            self._update_matrices(group, parameters)
            return
        steps, *moments = self.load_state(parameters, ADAM_STATE)
        torch._foreach_add_(steps, 1)
        settings = {name: group[name] for name in ("lr", "betas", "eps", "weight_decay")}
        update_by_fused_adam(
            parameters, (moments[0], moments[1]), steps, self.found_inf, **settings
        )
        if self.found_inf is not None:
            torch._foreach_sub_(steps, [self.found_inf] * len(steps))

    def _update_matrices(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        (momenta,) = self.load_state(parameters, ["momentum"])
        gradients = gradients_of(parameters)
        lr, momentum = group["lr"], group["momentum"]
        averages = torch._foreach_lerp(momenta, gradients, 1 - momentum)
        directions = torch._foreach_lerp(gradients, averages, momentum)
        values = torch._foreach_mul(parameters, 1 - lr * group["weight_decay"])
        if self.rows is None:
            _step_together(group, list(directions), list(values))
        else:
            _step_in_turn(group, self.rows, parameters, list(directions), list(values))
        self.assign([*momenta, *parameters], [*averages, *values])


def _step_together(group: dict[str, Any], directions: list[Tensor], values: list[Tensor]) -> None:
    """Add the steps to ``values``, those of matrices of one shape together."""
    by_shape: dict[torch.Size, list[int]] = {}
    for place, direction in enumerate(directions):
        by_shape.setdefault(direction.shape, []).append(place)
    for (rows, columns), places in by_shape.items():
        steps = _steps(group, torch.cat([directions[place] for place in places]), rows)
        for place, own in zip(places, steps.reshape(-1, rows, columns), strict=True):
            values[place].add_(own, alpha=-_size(group, rows, columns))


def _step_in_turn(
    group: dict[str, Any],
    ranks: RowsOfRanks,
    parameters: list[Tensor],
    directions: list[Tensor],
    values: list[Tensor],
) -> None:
    """Add the own rows of the steps to ``values``; one parameter at a time is gathered."""
    for parameter, direction, value in zip(parameters, directions, values, strict=True):
        own = ranks.of(parameter)
        if group["bf16"]:
            direction = direction.bfloat16()
        steps = _steps(group, ranks.whole(direction, own.total), own.total)
        steps = steps.reshape(own.total, -1)[own.first : own.first + own.num]
        value.add_(steps, alpha=-_size(group, own.total, steps.shape[1]))


def _steps(group: dict[str, Any], directions: Tensor, rows: int) -> Tensor:
    """Return the orthogonal steps of matrices, ``parts`` of which have ``rows`` rows together."""
    matrices = directions.bfloat16() if group["bf16"] else directions
    return orthogonalize(matrices.reshape(-1, rows // group["parts"], matrices.shape[-1]))


def _size(group: dict[str, Any], rows: int, columns: int) -> float:
    height: int = rows // group["parts"]
    return float(group["lr"] * max(1, height / columns) ** 0.5)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return ``matrices`` (number, rows, columns) with singular values near 1, in their dtype.

    Five Newton-Schulz iterations of a polynomial of the fifth degree bring each singular value to
    somewhere between 0.7 and 1.2, which is near enough (Jordan et al. 2024).
    """
    a, b, c = _NEWTON_SCHULZ
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = x / torch.linalg.vector_norm(x, dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(_NUM_ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x

"""LAMB: Adam whose step is measured by the size of the weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlm.training.optimizers.rows import RowsOfRanks
from xlm.training.optimizers.skippable import ADAM_STATE, SkippableOptimizer, gradients_of


class Lamb(SkippableOptimizer):
    """LAMB (You et al. 2020, algorithm 2, with the bias corrections of Adam).

    - ``r = m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)``, and ``u = r + weight_decay x p``
    - update: ``p -= lr x |p| / |u| x u``, with 2-norms over the parameter; 1 in place of the ratio
      if one of them is 0

    ``parts`` of a group is the number of matrices that lie one above the other in each of its
    parameters (3 for fused query, key and value), each with a ratio of its own. A group with
    ``parts`` 0 moves by ``lr x u``, as the authors' program moves norms and biases. ``rows`` are
    those that this process has of the parameters; None if it has them whole.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        parts: int = 1,
        rows: RowsOfRanks | None = None,
    ) -> None:
        self.rows = rows
        adam = {"betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {"lr": lr, "parts": parts, **adam})

    def update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Update ``parameters``, those of a group that have a gradient."""
        old = self.load_state(parameters, ADAM_STATE)
        gradients, (beta1, beta2) = gradients_of(parameters), group["betas"]
        steps = torch._foreach_add(old[0], 1)
        firsts = torch._foreach_lerp(old[1], gradients, 1 - beta1)
        seconds = torch._foreach_mul(old[2], beta2)
        torch._foreach_addcmul_(seconds, gradients, gradients, value=1 - beta2)
        # In float64: 1 - beta2^t cancels in float32.
        times = torch.stack(steps).double()
        roots = torch._foreach_sqrt(seconds)
        torch._foreach_div_(roots, list((1 - beta2**times).sqrt().unbind()))
        torch._foreach_add_(roots, group["eps"])
        updates = torch._foreach_div(firsts, roots)
        torch._foreach_div_(updates, list((1 - beta1**times).unbind()))
        torch._foreach_add_(updates, parameters, alpha=group["weight_decay"])
        if group["parts"]:
            _scale_by_ratios(parameters, list(updates), group["parts"], self.rows)
        values = torch._foreach_add(parameters, updates, alpha=-group["lr"])
        self.assign([*old[0], *old[1], *old[2], *parameters], [*steps, *firsts, *seconds, *values])


def _scale_by_ratios(
    parameters: list[Tensor], updates: list[Tensor], num_parts: int, rows: RowsOfRanks | None
) -> None:
    """Multiply each part of each update by the norm of its weights over its own norm."""
    if rows is None:
        of_weights, of_updates = (
            [part for tensor in tensors for part in tensor.chunk(num_parts)]
            for tensors in (parameters, updates)
        )
    else:
        parts = [rows.parts(parameter, num_parts) for parameter in parameters]
        of_weights, of_updates = (
            [tensor[own] for tensor, each in zip(tensors, parts, strict=True) for own in each]
            for tensors in (parameters, updates)
        )
    norms = [torch.stack(torch._foreach_norm(parts)) for parts in (of_weights, of_updates)]
    if rows is not None:
        norms = list(rows.add_(torch.stack(norms).square()).sqrt())
    sizes, lengths = norms
    ratios = torch.where((sizes > 0) & (lengths > 0), sizes / lengths, 1.0)
    torch._foreach_mul_(of_updates, list(ratios.unbind()))

"""The Adam of the original XLM."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from xlm.training.optimizers.skippable import (
    ADAM_STATE,
    SkippableOptimizer,
    update_by_fused_adam,
)

_ENDLESS = 1e18
"""A number of updates after which Adam's bias corrections are 1 to the last bit."""


class XlmAdam(SkippableOptimizer):
    """The original XLM's Adam (docs/fidelity.md, B7).

    - decay: ``p -= lr x weight_decay x p``, before the update
    - update: ``p -= lr x sqrt(1 - beta2^t) / (1 - beta1^t) x m / (sqrt(v) + eps)``

    Beside today's AdamW, ``eps`` is not divided by ``sqrt(1 - beta2^t)``, so that early steps
    differ. A step with the attribute ``found_inf`` set to 1 changes nothing.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)
        self._histories: dict[Tensor, int] = {}
        self._new_histories = itertools.count(1)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the result of ``state_dict``; wait for the device."""
        super().load_state_dict(state_dict)
        self._histories = {p: -int(own["step"]) for p, own in self.state.items() if own}

    def update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Update ``parameters``, those of a group that have a gradient."""
        for alike in self._by_history(parameters):
            self._update_alike(group, alike)

    def _update_alike(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Update parameters that have seen the same number of updates.

        Torch's kernel adds eps to the corrected root. For a number of updates without end it
        corrects nothing: the correction comes in through the rate, and eps stays outside.
        """
        steps, *moments = self.load_state(parameters, ADAM_STATE)
        torch._foreach_add_(steps, 1)
        lr, (beta1, beta2) = group["lr"], group["betas"]
        # In float64: 1 - beta2^t cancels in float32.
        num_updates = steps[0].double()
        rate = lr * (1 - beta2**num_updates).sqrt() / (1 - beta1**num_updates)
        if group["weight_decay"]:
            kept = torch.full_like(rate, 1 - lr * group["weight_decay"])
            if self.found_inf is not None:
                kept = torch.where(self.found_inf.ne(0), 1.0, kept)
            torch._foreach_mul_(parameters, kept.to(parameters[0].dtype))
        on_cpu = rate.device.type == "cpu"
        update_by_fused_adam(
            parameters,
            (moments[0], moments[1]),
            [torch.full_like(steps[0], _ENDLESS)] * len(parameters),
            self.found_inf,
            lr=float(rate) if on_cpu else rate.float(),
            betas=group["betas"],
            eps=group["eps"],
            weight_decay=0.0,
        )
        if self.found_inf is not None:
            torch._foreach_sub_(steps, [self.found_inf] * len(steps))

    def _by_history(self, parameters: list[Tensor]) -> list[list[Tensor]]:
        """Group parameters by the updates that they took part in, without asking the device.

        Their counters on the device are then equal, whichever of these updates were skipped.
        """
        groups: dict[int, list[Tensor]] = {}
        for p in parameters:
            groups.setdefault(self._histories.get(p, 0), []).append(p)
        for alike in groups.values():
            self._histories.update(dict.fromkeys(alike, next(self._new_histories)))
        return list(groups.values())

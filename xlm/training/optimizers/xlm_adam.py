"""The Adam of the original XLM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class XlmAdam(torch.optim.Optimizer):
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
        # capturable: torch then loads step counters as float32 onto the parameters' device.
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, {**defaults, "capturable": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self._update(group, parameters, getattr(self, "found_inf", None))
        return loss

    def _update(
        self, group: dict[str, Any], parameters: list[Tensor], found_inf: Tensor | None
    ) -> None:
        for p in parameters:
            if not self.state[p]:
                self.state[p]["step"] = torch.zeros((), device=p.device)
                self.state[p]["exp_avg"] = torch.zeros_like(p)
                self.state[p]["exp_avg_sq"] = torch.zeros_like(p)
        gradients = [p.grad for p in parameters if p.grad is not None]
        steps, firsts, seconds = (
            [self.state[p][name] for p in parameters] for name in ("step", "exp_avg", "exp_avg_sq")
        )
        old = [*steps, *firsts, *seconds, *parameters]
        kept = [tensor.clone() for tensor in old] if found_inf is not None else []
        beta1, beta2 = group["betas"]
        torch._foreach_add_(steps, 1)
        torch._foreach_mul_(firsts, beta1)
        torch._foreach_add_(firsts, gradients, alpha=1 - beta1)
        torch._foreach_mul_(seconds, beta2)
        torch._foreach_addcmul_(seconds, gradients, gradients, value=1 - beta2)
        # In float64: 1 - beta2^t cancels in float32.
        times = torch.stack(steps).double()
        sizes = -group["lr"] * (1 - beta2**times).sqrt() / (1 - beta1**times)
        if group["weight_decay"]:
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        denominators = torch._foreach_sqrt(seconds)
        torch._foreach_add_(denominators, group["eps"])
        updates = torch._foreach_div(firsts, denominators)
        torch._foreach_mul_(updates, list(sizes.unbind()))
        torch._foreach_add_(parameters, updates)
        if found_inf is not None:
            # A copy, not arithmetic: 0 x NaN is NaN. This optimizer is for comparisons, not speed.
            skip = found_inf.ne(0)
            for tensor, before in zip(old, kept, strict=True):
                tensor.copy_(torch.where(skip, before, tensor))

"""Optimizers whose update can be skipped by a flag that stays on the device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

ADAM_STATE = ("step", "exp_avg", "exp_avg_sq")
"""The names under which Adam and its kin keep the counter and the two moments of a parameter."""


class SkippableOptimizer(torch.optim.Optimizer):
    """The base of the optimizers of this package: one `update` for each group of parameters.

    A step with the attribute ``found_inf`` (a float32 scalar on the device, as
    ``torch.amp.GradScaler`` sets it) equal to 1 must leave parameters and state as they are, bit
    for bit, and must not wait for the device.
    """

    found_inf: Tensor | None = None

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        # capturable: torch then loads step counters as float32 onto the parameters' device.
        super().__init__(params, {**defaults, "capturable": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if parameters:
                self.update(group, parameters)
        return loss

    def update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Update ``parameters``, those of a group that have a gradient."""
        raise NotImplementedError

    def state_names(self, group: dict[str, Any], parameter: Tensor) -> tuple[str, ...]:
        """Return the names of the tensors that ``parameter`` of ``group`` keeps between updates."""
        return ADAM_STATE

    def load_state(self, parameters: Sequence[Tensor], names: Sequence[str]) -> list[list[Tensor]]:
        """Return the state of ``parameters``, one list a name, all zero before the first update.

        ``step`` is a scalar; everything else has the parameter's shape.
        """
        for p in parameters:
            if not self.state[p]:
                for name in names:
                    like = p.new_zeros((), dtype=torch.float32) if name == "step" else p
                    self.state[p][name] = torch.zeros_like(like)
        return [[self.state[p][name] for p in parameters] for name in names]

    def assign(self, tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        """Copy ``values`` into ``tensors``, unless this update is skipped.

        The old values are selected, not multiplied by 0: 0 x NaN is NaN.
        """
        if self.found_inf is None:
            torch._foreach_copy_(list(tensors), list(values))
            return
        skip = self.found_inf.ne(0)
        for tensor, value in zip(tensors, values, strict=True):
            torch.where(skip, tensor, value, out=tensor)


def gradients_of(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradients of parameters, all of which have one."""
    return [p.grad for p in parameters if p.grad is not None]


def update_by_fused_adam(
    parameters: Sequence[Tensor],
    moments: tuple[Sequence[Tensor], Sequence[Tensor]],
    steps: Sequence[Tensor],
    found_inf: Tensor | None,
    *,
    lr: float | Tensor,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
) -> None:
    """Update parameters and moments by torch's kernel of AdamW (Loshchilov and Hutter 2019).

    ``steps`` counts the updates of each parameter, this one included. The kernel does nothing if
    ``found_inf`` is 1.
    """
    torch._fused_adamw_(
        list(parameters),
        gradients_of(parameters),
        list(moments[0]),
        list(moments[1]),
        [],
        list(steps),
        lr=lr,
        beta1=betas[0],
        beta2=betas[1],
        weight_decay=weight_decay,
        eps=eps,
        amsgrad=False,
        maximize=False,
        found_inf=found_inf,
    )

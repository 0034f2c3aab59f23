"""Adafactor as Lingvo trains translation models by it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from xlm.training.optimizers.skippable import SkippableOptimizer

_OF_SQUARES = 1e-30
"""Added to squared gradients (Shazeer and Stern 2018, algorithm 6: the first epsilon)."""
_SMALLEST_SCALE = 1e-3
"""A tensor counts as at least this large (algorithm 6: the second epsilon)."""
_DECAY = 0.8
"""Second moments decay by 1 - t^-0.8 at update t (algorithm 6)."""

SMALLEST_FACTORED = 128
UPDATE_CLIP = 1.0


class LingvoAdafactor(SkippableOptimizer):
    """Adafactor (Shazeer and Stern 2018) with the settings that Lingvo gives it.

    Each tensor by itself, at its update ``t`` from 1 on, with rate ``lr``:

    - gradient: ``g = g x min(1, max_tensor_grad_norm / |g|)``; no clipping if it is 0
    - decay of second moments: ``beta = 1 - t^-0.8``
    - both of the last two axes have ``smallest_factored`` or more:
      ``R = beta x R + (1 - beta) x mean(g^2 + 1e-30)`` over the last axis,
      ``C`` likewise over the one before, ``u = g / sqrt(R / mean(R)) / sqrt(C)``
    - else ``V = beta x V + (1 - beta) x (g^2 + 1e-30)``, ``u = g / sqrt(V)``
    - ``u = u / max(1, rms(u) / update_clip)``
    - ``s = lr x max(1e-3, rms(p))``, or ``lr`` without ``scale_by_parameter``
    - ``M = momentum x M + (1 - momentum) x s x u`` in place of ``s x u`` if momentum is above 0
    - ``p = p - lr x weight_decay x p - s x u``

    State and arithmetic are float32 (float64 for parameters in float64). A tensor is as the model
    holds it: fused query, key and value are one.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
        max_tensor_grad_norm: float = 0.0,
        smallest_factored: int = SMALLEST_FACTORED,
        update_clip: float = UPDATE_CLIP,
        scale_by_parameter: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "weight_decay": weight_decay,
            "max_tensor_grad_norm": max_tensor_grad_norm,
            "smallest_factored": smallest_factored,
            "update_clip": update_clip,
            "scale_by_parameter": scale_by_parameter,
        }
        super().__init__(params, defaults)

    def state_names(self, group: dict[str, Any], parameter: Tensor) -> tuple[str, ...]:
        """Return the counter, the factors or squares, and the momentum if there is one."""
        is_factored = min(parameter.shape[-2:], default=0) >= group["smallest_factored"]
        squares = ("rows", "columns") if is_factored and parameter.ndim > 1 else ("squares",)
        return ("step", *squares, *(["average"] if group["momentum"] else []))

    def update(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        """Update ``parameters``, those of a group that have a gradient."""
        for p in parameters:
            self._make_state(group, p)
        skip = None if self.found_inf is None else self.found_inf.ne(0)
        if skip is not None and parameters[0].device.type == "cpu":
            # To read a flag costs nothing there, and spares a copy of every tensor.
            if bool(skip):
                return
            skip = None
        states = [self.state[p] for p in parameters]
        steps = torch._foreach_add([state["step"] for state in states], 1)
        # In float64: t^-0.8 is the share of the new squares, and small after many updates.
        shares = torch.stack(steps).double().pow(-_DECAY).unbind()
        # One after the other: the directions of all would be as large as the parameters.
        for p, state, share in zip(parameters, states, shares, strict=True):
            take_in = _factored if "rows" in state else _plain
            update, factor, size = take_in(group, p, state, share, skip)
            _move(group, p, state, (update, factor * _rate(group, p, size)), skip)
        _keep([state["step"] for state in states], list(steps), skip)

    def _make_state(self, group: dict[str, Any], p: Tensor) -> None:
        if self.state[p]:
            return
        shapes = {
            "step": (),
            "rows": (*p.shape[:-1], 1),
            "columns": (*p.shape[:-2], 1, *p.shape[-1:]),
        }
        dtype = torch.promote_types(p.dtype, torch.float32)
        for name in self.state_names(group, p):
            own = torch.float32 if name == "step" else dtype
            self.state[p][name] = p.new_zeros(shapes.get(name, p.shape), dtype=own)


Way = tuple[Tensor, Tensor, Tensor]
"""A direction as the product of two tensors, of which the second broadcasts, and its size: the root
of its mean square."""


def _factored(
    group: dict[str, Any], p: Tensor, state: dict[str, Tensor], share: Tensor, skip: Tensor | None
) -> Way:
    """Take in the gradient of a matrix, which is read three times and never divided by roots."""
    gradient = _gradient(p)
    share = share.to(gradient.dtype)
    squares = gradient.square()
    of_rows, of_columns = squares.sum(-1, keepdim=True), squares.sum(-2, keepdim=True)
    clip = _clip(group, of_rows.sum().sqrt())
    rows = _blend(state["rows"], of_rows * clip**2 / p.shape[-1], share)
    columns = _blend(state["columns"], of_columns * clip**2 / p.shape[-2], share)
    _keep([state["rows"], state["columns"]], [rows, columns], skip)
    factor = (rows / rows.mean(-2, keepdim=True)).rsqrt() * clip
    total = (squares @ columns.reciprocal().mT * factor**2).sum()
    update = torch.mul(gradient, columns.rsqrt(), out=squares)
    return update, factor, (total / p.numel()).sqrt()


def _plain(
    group: dict[str, Any], p: Tensor, state: dict[str, Tensor], share: Tensor, skip: Tensor | None
) -> Way:
    """Take in the gradient of a tensor that keeps all squares."""
    gradient = _gradient(p)
    clip = _clip(group, torch.linalg.vector_norm(gradient))
    squares = (gradient * clip).square_()
    squares = _blend(state["squares"], squares, share.to(gradient.dtype))
    _keep([state["squares"]], [squares], skip)
    update = gradient * squares.rsqrt()
    return update, clip, torch.linalg.vector_norm(update) * clip / max(p.numel(), 1) ** 0.5


def _rate(group: dict[str, Any], p: Tensor, size: Tensor) -> Tensor:
    """Return the length of a parameter's step over that of its direction of ``size``."""
    rate: Tensor = group["lr"] / (size / group["update_clip"]).clamp(min=1.0)
    if group["scale_by_parameter"]:
        own = torch.linalg.vector_norm(p, dtype=size.dtype) / max(p.numel(), 1) ** 0.5
        rate = rate * own.clamp(min=_SMALLEST_SCALE)
    return rate


def _move(
    group: dict[str, Any],
    p: Tensor,
    state: dict[str, Tensor],
    step: tuple[Tensor, Tensor],
    skip: Tensor | None,
) -> None:
    """Take a step, the product of two tensors of which the second broadcasts."""
    momentum = group["momentum"]
    value = p if skip is None else p.clone()
    if group["weight_decay"]:
        value.mul_(1 - group["lr"] * group["weight_decay"])
    if momentum:
        average = state["average"] if skip is None else state["average"].clone()
        average.mul_(momentum).addcmul_(*step, value=1 - momentum)
        value.sub_(average)
        _keep([state["average"]], [average], skip)
    elif value.dtype == step[0].dtype:
        value.addcmul_(*step, value=-1)
    else:
        value.sub_(step[0] * step[1])
    _keep([p], [value], skip)


def _gradient(p: Tensor) -> Tensor:
    assert p.grad is not None
    return p.grad.to(torch.promote_types(p.dtype, torch.float32))


def _clip(group: dict[str, Any], norm: Tensor) -> Tensor:
    limit = group["max_tensor_grad_norm"]
    return (limit / norm).clamp(max=1.0) if limit else torch.ones_like(norm)


def _blend(old: Tensor, squares: Tensor, share: Tensor) -> Tensor:
    return old * (1 - share) + (squares + _OF_SQUARES) * share


def _keep(old: list[Tensor], new: list[Tensor], skip: Tensor | None) -> None:
    """Copy ``new`` to ``old``, unless the update is skipped."""
    for own, value in zip(old, new, strict=True):
        if skip is not None:
            torch.where(skip, own, value, out=own)
        elif value is not own:
            own.copy_(value)

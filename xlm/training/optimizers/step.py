"""The rate, the clipping and the guarded step of an update, none of which waits for the device.

Gradients are clipped, and an update whose gradient is not finite is skipped, by tensors that stay
on the device: the step never asks the GPU a question.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from xlm.training.optimizers.skippable import SkippableOptimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group: ``lr`` times its ``rate`` (1 if it has none)."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("rate", 1.0)


def clip_(
    parameters: Iterable[Tensor],
    max_norm: float,
    sum_squares: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Scale the gradients in place to a joint 2-norm of at most ``max_norm``; 0 leaves them.

    ``sum_squares`` adds the squared norms (a scalar) of ranks that have other rows of them.
    Returns the norm before, a scalar on the gradients' device, without waiting for it. It is not
    finite exactly if some gradient is not (or its square overflows): derive ``found_inf`` from it.
    """
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.zeros((), device=parameters[0].device if parameters else None)
    if gradients:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if sum_squares is not None:
        norm = sum_squares(norm.double().square()).sqrt().to(norm.dtype)
    if not gradients:
        return norm
    if max_norm > 0:
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


@torch.no_grad()
def guarded_step(optimizer: torch.optim.Optimizer, found_inf: Tensor) -> None:
    """Call ``optimizer.step()``, or change nothing if ``found_inf`` (a scalar) is not 0.

    Parameters, moments and step counters stay as they are, bit for bit. The fused optimizers of
    torch and those of this package decide on the device; for the others (apex, ``fused=False``)
    the flag is read here, which costs nothing on a CPU and one wait per update on a GPU.
    """
    if not _skips_on_device(optimizer):
        if not bool(found_inf):
            optimizer.step()
        return
    # torch.amp.GradScaler sets these on an optimizer whose kernel takes the flag; the kernel
    # compares it with 1 in float32.
    guarded: Any = optimizer
    guarded.grad_scale, guarded.found_inf = None, found_inf.ne(0).float()
    try:
        optimizer.step()
    finally:
        del guarded.grad_scale, guarded.found_inf


def _skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    if isinstance(optimizer, SkippableOptimizer):
        return True
    known = isinstance(optimizer, torch.optim.Adam)  # AdamW is a subclass
    return known and all(group["fused"] for group in optimizer.param_groups)

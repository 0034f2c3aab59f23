"""Optimizers, and the two things the loop does to them without waiting for the device.

Gradients are clipped, and an update whose gradient is not finite is skipped, by tensors that stay
on the device: the step never asks the GPU a question.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from xlm.errors import ConfigError

OptimizerKind = Literal["adam", "adamw", "xlm-adam", "apex-adam", "adafactor"]


@dataclass(frozen=True)
class Optimizer:
    """Which optimizer, and its settings; the learning rate is the schedule's."""

    kind: OptimizerKind = "adamw"
    """adam (weight decay as L2 in the gradient), adamw (decoupled; Loshchilov and Hutter 2019),
    xlm-adam (the original XLM's: decoupled decay, eps outside the bias correction),
    apex-adam (NVIDIA apex's FusedAdam, decoupled decay), adafactor (torch's, Shazeer and Stern
    2018: relative steps of at most the learning rate; betas and eps are not looked at)."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay of the first and the second moment (the XLM paper's commands: 0.9 and 0.98)."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 0.0
    """Per update, times the learning rate."""
    decay_norms_and_biases: bool = True
    """Whether tensors of one dimension (norms, biases) decay too, as they do in the original."""
    fused: bool = True
    """adam, adamw: one kernel for all tensors, which also skips an update on the device."""
    head_rate: float = 1.0
    """The learning rate of heads is this times that of the model (XLM's XNLI has two rates)."""
    max_grad_norm: float = 5.0
    """Gradients are clipped to this 2-norm; 0: they are not."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(OptimizerKind):
            kinds = ", ".join(get_args(OptimizerKind))
            raise ConfigError(f"optimizer kind {self.kind!r}: choose one of {kinds}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer betas {self.betas}: expected two numbers in [0, 1)")
        for name in ("eps", "weight_decay", "max_grad_norm", "head_rate"):
            value = getattr(self, name)
            if not (0 <= value < math.inf):
                raise ConfigError(f"optimizer {name} {value}: expected a number that is 0 or more")


def build_optimizer(
    config: Optimizer, named_parameters: Iterable[tuple[str, nn.Parameter]]
) -> torch.optim.Optimizer:
    """The optimizer over the trainable parameters, each once, in up to four groups.

    Names that begin with ``heads.`` are those of heads. The learning rate is 0 until
    :func:`set_lr` sets it. Raises ConfigError if no parameter is
    trainable, or if apex is asked for and is not there.
    """
    trainable = {id(p): (name, p) for name, p in named_parameters if p.requires_grad}
    if not trainable:
        raise ConfigError("no parameter is trainable: nothing to optimize; unfreeze some")
    groups: list[dict[str, Any]] = []
    for rate, of_heads in ((1.0, False), (config.head_rate, True)):
        own = [p for name, p in trainable.values() if name.startswith("heads.") == of_heads]
        decayed = [p for p in own if config.decay_norms_and_biases or p.ndim > 1]
        others = [p for p in own if not config.decay_norms_and_biases and p.ndim <= 1]
        groups.append({"params": decayed, "weight_decay": config.weight_decay, "rate": rate})
        groups.append({"params": others, "weight_decay": 0.0, "rate": rate})
    groups = _joined([group for group in groups if group["params"]])
    settings: dict[str, Any] = {"lr": 0.0, "betas": tuple(config.betas), "eps": config.eps}
    if config.kind == "xlm-adam":
        return XlmAdam(groups, **settings)
    if config.kind == "apex-adam":
        optimizer: torch.optim.Optimizer = _apex_adam()(groups, adam_w_mode=True, **settings)
        return optimizer
    if config.kind == "adafactor":
        return torch.optim.Adafactor(groups, lr=0.0)
    kind = torch.optim.AdamW if config.kind == "adamw" else torch.optim.Adam
    return kind(groups, fused=config.fused, **settings)


def _apex_adam() -> Callable[..., torch.optim.Optimizer]:
    try:
        from apex.optimizers import FusedAdam  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ConfigError(
            f"optimizer apex-adam: NVIDIA apex is not installed ({error}); build it from "
            "github.com/NVIDIA/apex (`pip install apex` fetches a stranger's package of the same "
            "name), or choose adamw, whose fused kernel does the same"
        ) from error
    return FusedAdam  # type: ignore[no-any-return, unused-ignore]


def _joined(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Groups of equal settings as one: kernels over many tensors are faster."""
    joined: list[dict[str, Any]] = []
    for group in groups:
        same = [
            g for g in joined
            if (g["rate"], g["weight_decay"]) == (group["rate"], group["weight_decay"])
        ]  # fmt: skip
        if same:
            same[0]["params"] = same[0]["params"] + group["params"]
        else:
            joined.append(group)
    return joined


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group: ``lr`` times its ``rate`` (1 where it has none)."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("rate", 1.0)


def clip_(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale the gradients in place to a joint 2-norm of at most ``max_norm``; 0 leaves them.

    Returns the norm before, a scalar on the gradients' device, without waiting for it. It is not
    finite exactly if some gradient is not (or its square overflows): derive ``found_inf`` from it.
    """
    parameters = list(parameters)
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros((), device=parameters[0].device if parameters else None)
    norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    if max_norm > 0:
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0))
    return norm


@torch.no_grad()
def guarded_step(optimizer: torch.optim.Optimizer, found_inf: Tensor) -> None:
    """``optimizer.step()``, unless ``found_inf`` (a scalar) is not 0: then nothing changes.

    Parameters, moments and step counters stay as they are, bit for bit. The fused optimizers of
    torch and ``XlmAdam`` decide on the device; for the others (apex, ``fused=False``) the flag is
    read here, which costs nothing on a CPU and one wait per update on a GPU.
    """
    if not _skips_on_device(optimizer):
        if not bool(found_inf):
            optimizer.step()
        return
    # What torch.amp.GradScaler sets on an optimizer whose kernel takes the flag, and compares
    # with 1 in float32.
    guarded: Any = optimizer
    guarded.grad_scale, guarded.found_inf = None, found_inf.ne(0).float()
    try:
        optimizer.step()
    finally:
        del guarded.grad_scale, guarded.found_inf


def _skips_on_device(optimizer: torch.optim.Optimizer) -> bool:
    if isinstance(optimizer, XlmAdam):
        return True
    known = isinstance(optimizer, torch.optim.Adam)  # AdamW is a subclass
    return known and all(group["fused"] for group in optimizer.param_groups)


class XlmAdam(torch.optim.Optimizer):
    """The original XLM's Adam (algorithms B7).

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

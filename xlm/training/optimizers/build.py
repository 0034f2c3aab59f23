"""From the settings of an optimizer and a model's parameters to the optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from xlm.errors import ConfigError
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.xlm_adam import XlmAdam


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

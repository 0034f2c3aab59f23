"""Build the optimizer of each kind that a recipe can name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from xlm.errors import ConfigError
from xlm.training.optimizers.config import ONLY_LINGVO_ADAFACTOR, Optimizer
from xlm.training.optimizers.groups import parameter_groups, trainable_parameters
from xlm.training.optimizers.lamb import Lamb
from xlm.training.optimizers.lingvo_adafactor import LingvoAdafactor
from xlm.training.optimizers.muon import MOMENTUM, Muon
from xlm.training.optimizers.rows import RowsOfRanks
from xlm.training.optimizers.xlm_adam import XlmAdam


def build_optimizer(
    config: Optimizer,
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    peak_lr: float | None = None,
    precision: str = "fp32",
    rows: RowsOfRanks | None = None,
) -> torch.optim.Optimizer:
    """Return the optimizer over the trainable parameters, each once.

    Names that begin with ``heads.`` are those of heads. Only Muon looks at ``peak_lr``, the
    schedule's highest rate, and at ``precision``, that of the forward passes. The learning rate is
    0 until ``set_lr`` sets it. ``rows`` are those that this process has of parameters that are
    sharded. Raises ConfigError if no parameter is trainable, or if apex is asked for and is not
    there.
    """
    groups = parameter_groups(config, trainable_parameters(named_parameters), peak_lr)
    settings: dict[str, Any] = {"lr": 0.0, "betas": tuple(config.betas), "eps": config.eps}
    match config.kind:
        case "adamw":
            return torch.optim.AdamW(groups, fused=config.fused, **settings)
        case "adam":
            return torch.optim.Adam(groups, fused=config.fused, **settings)
        case "xlm-adam":
            return XlmAdam(groups, **settings)
        case "apex-adam":
            optimizer: torch.optim.Optimizer = _apex_adam()(groups, adam_w_mode=True, **settings)
            return optimizer
        case "adafactor":
            return torch.optim.Adafactor(groups, lr=0.0)
        case "lingvo-adafactor":
            return LingvoAdafactor(groups, lr=0.0, **_lingvo_settings(config))
        case "lamb":
            return Lamb(groups, rows=rows, **settings)
        case "muon":
            momentum = MOMENTUM if config.momentum is None else config.momentum
            bf16 = precision == "bf16"
            return Muon(groups, momentum=momentum, bf16=bf16, rows=rows, **settings)


def _lingvo_settings(config: Optimizer) -> dict[str, Any]:
    names = ("momentum", *ONLY_LINGVO_ADAFACTOR)
    given = {name: getattr(config, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _apex_adam() -> Callable[..., torch.optim.Optimizer]:
    try:
        from apex.optimizers import FusedAdam  # type: ignore[import-not-found, unused-ignore]
    except ImportError as error:
        raise ConfigError(
            f"optimizer apex-adam: NVIDIA apex is not installed ({error}); build it from "
            "github.com/NVIDIA/apex (`pip install apex` fetches an unrelated package of the "
            "same name), or choose adamw, whose fused kernel does the same"
        ) from error
    return FusedAdam  # type: ignore[no-any-return, unused-ignore]

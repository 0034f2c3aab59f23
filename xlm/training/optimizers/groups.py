"""Groups of parameters that share their settings, by name, shape and kind of optimizer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from xlm.errors import ConfigError
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.muon import MATRIX_LR

_OF_HEADS = re.compile(r"^heads\.")
_OF_LAYERS = re.compile(r"^(?!heads\.)(.*\.)?layers\.\d+\.")
_FUSED = ((re.compile(r"\.query_key_value\."), 3), (re.compile(r"\.key_value\."), 2))
"""Names of parameters that hold several matrices (or biases) one above the other, and how many."""


def parameter_groups(
    config: Optimizer, named: Mapping[str, nn.Parameter], peak_lr: float | None
) -> list[dict[str, Any]]:
    """Return torch's parameter groups: equal settings in one, which makes kernels faster.

    ``rate`` of a group is its learning rate over the schedule's. Muon and LAMB also have
    ``parts``, see there. ``peak_lr`` is the schedule's highest rate, which Muon needs. Raises
    ConfigError if it is 0 or absent then, and if a pattern of ``rates`` is found in no name.
    """
    for pattern in config.rates:
        if not any(re.search(pattern, name) for name in named):
            raise ConfigError(
                f"optimizer rates {pattern!r} matches the name of no trainable parameter: "
                f"names are such as {', '.join(list(named)[:3])}"
            )
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    settings = {name: _settings(config, name, p, peak_lr) for name, p in named.items()}
    order = sorted(named, key=lambda name: (_is_of_head(name), not settings[name]["decays"]))
    for name in order:
        own = {key: value for key, value in settings[name].items() if key != "decays"}
        group = groups.setdefault(tuple(own.values()), {"params": [], **own})
        group["params"].append(named[name])
    return list(groups.values())


def _settings(
    config: Optimizer, name: str, parameter: nn.Parameter, peak_lr: float | None
) -> dict[str, Any]:
    decays = config.decay_norms_and_biases or parameter.ndim > 1
    settings = {
        "decays": decays,
        "weight_decay": config.weight_decay if decays else 0.0,
        "rate": config.head_rate if _is_of_head(name) else 1.0,
    }
    if config.kind == "lamb":
        settings["parts"] = _num_parts(name) if decays else 0
    if config.kind == "muon":
        settings["parts"] = 0
        if _OF_LAYERS.search(name) and parameter.ndim == 2:
            settings["parts"] = _num_parts(name)
            settings["rate"] = _matrix_rate(config, peak_lr)
    settings["rate"] *= next((r for p, r in config.rates.items() if re.search(p, name)), 1.0)
    return settings


def _is_of_head(name: str) -> bool:
    return _OF_HEADS.search(name) is not None


def _num_parts(name: str) -> int:
    return next((number for pattern, number in _FUSED if pattern.search(name)), 1)


def _matrix_rate(config: Optimizer, peak_lr: float | None) -> float:
    if not peak_lr:
        raise ConfigError(
            f"optimizer muon with schedule.peak_lr {peak_lr}: the rate of the matrices is "
            "matrix_lr times the schedule's rate divided by its peak; set peak_lr above 0"
        )
    return (MATRIX_LR if config.matrix_lr is None else config.matrix_lr) / peak_lr


def trainable_parameters(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
) -> dict[str, nn.Parameter]:
    """Return the parameters that require a gradient by name, each once, under its last name.

    Raises ConfigError if there is none.
    """
    trainable = {id(p): (name, p) for name, p in named_parameters if p.requires_grad}
    if not trainable:
        raise ConfigError(
            "no parameter is trainable, so there is nothing to optimize; unfreeze some"
        )
    return dict(trainable.values())

"""An optimizer's state by parameter name, so that it is saved and restored without pickle."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from xlm.errors import CheckpointError
from xlm.training.optimizers.skippable import ADAM_STATE, SkippableOptimizer


def flatten_optimizer(
    optimizer: torch.optim.Optimizer, named_parameters: Iterable[tuple[str, Tensor]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the optimizer's state by parameter name: tensors (``exp_avg/NAME``) and JSON values.

    The tensors are not copied.
    """
    names = {id(p): name for name, p in reversed(list(named_parameters))}
    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    groups = []
    for group in optimizer.param_groups:
        here = [names[id(p)] for p in group["params"]]
        groups.append({"names": here, "extra": _group_state(optimizer, group)})
        for name, p in zip(here, group["params"], strict=True):
            for key, value in optimizer.state.get(p, {}).items():
                if isinstance(value, Tensor):
                    tensors[f"{key}/{name}"] = value.detach()
                else:
                    numbers.setdefault(name, {})[key] = value
    return tensors, {"groups": groups, "numbers": numbers}


def _group_state(optimizer: torch.optim.Optimizer, group: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a group that are not settings of the recipe (apex: the step counter)."""
    settings = {*optimizer.defaults, "params", "param_names", "rate"}
    extra = {key: value for key, value in group.items() if key not in settings}
    return {k: v.tolist() if isinstance(v, Tensor) else v for k, v in extra.items()}


def restore_optimizer(
    optimizer: torch.optim.Optimizer,
    named_parameters: Iterable[tuple[str, Tensor]],
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
) -> None:
    """Restore what :func:`flatten_optimizer` returned, bit for bit; settings stay as they are.

    Raises CheckpointError if the parameters, or the kind of optimizer, are not those of the state.
    """
    names = {id(p): name for name, p in reversed(list(named_parameters))}
    ordered = [(names[id(p)], p) for group in optimizer.param_groups for p in group["params"]]
    saved_extra = {n: g["extra"] for g in numbers["groups"] for n in g["names"]}
    _check_names({name for name, _ in ordered}, set(saved_extra))
    by_name: dict[str, dict[str, Any]] = {n: dict(v) for n, v in numbers["numbers"].items()}
    for full_name, tensor in tensors.items():
        key, _, name = full_name.partition("/")
        by_name.setdefault(name, {})[key] = tensor
    _check_kind(optimizer, by_name, names)
    state: dict[int, dict[str, Any]] = {}
    for index, (name, p) in enumerate(ordered):
        for key, value in by_name.get(name, {}).items():
            if isinstance(value, Tensor):
                if not _fits(value, p):
                    raise CheckpointError(
                        f"optimizer: {key} of {name} is {list(value.shape)} in the "
                        f"checkpoint, but the parameter is {list(p.shape)}; resume with the "
                        "recipe that wrote it"
                    )
                # torch puts the step counter on the device that this kind of optimizer wants.
                value = value.clone() if key == "step" else value.to(p.device, copy=True)
            state.setdefault(index, {})[key] = value
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    for group in optimizer.param_groups:
        group.update(saved_extra[names[id(group["params"][0])]])


def _fits(value: Tensor, parameter: Tensor) -> bool:
    """Return whether ``value`` can be state: a scalar, of the parameter's shape, or means of it.

    Adafactor keeps means over the last axis and over the one before it, each of size 1 then.
    """
    if not value.ndim:
        return True
    return value.ndim == parameter.ndim and all(
        own in (1, size) for own, size in zip(value.shape, parameter.shape, strict=True)
    )


def _check_kind(
    optimizer: torch.optim.Optimizer,
    saved: Mapping[str, Mapping[str, Any]],
    names: Mapping[int, str],
) -> None:
    """Raise CheckpointError if another kind of optimizer wrote the state (Adam's kin agree)."""
    for group in optimizer.param_groups:
        for p in group["params"]:
            if isinstance(optimizer, SkippableOptimizer):
                expected = optimizer.state_names(group, p)
            elif isinstance(optimizer, torch.optim.Adam):  # AdamW is a subclass
                expected = ADAM_STATE
            else:
                return
            name = names[id(p)]
            if saved.get(name) and set(saved[name]) != set(expected):
                raise CheckpointError(
                    f"optimizer: {name} has {', '.join(sorted(saved[name]))} in the "
                    "checkpoint, but this kind of optimizer keeps "
                    f"{', '.join(sorted(expected))}; resume with the optimizer.kind that "
                    "wrote it"
                )


def _check_names(own: set[str], saved: set[str]) -> None:
    if own != saved:
        different = sorted(own ^ saved)
        whose = "the model" if different[0] in own else "the checkpoint"
        raise CheckpointError(
            f"optimizer: {len(different)} parameters are missing in either the checkpoint or "
            f"the model, the first is {different[0]} (only in {whose}); resume with the "
            "recipe that wrote it"
        )

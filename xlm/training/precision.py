"""Mixed precision: autocast, and the dynamic loss scale that fp16 needs.

Parameters and moments stay in float32; only the forward pass runs in half precision.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from torch import Tensor

from xlm.errors import CheckpointError, ConfigError

Precision = Literal["fp32", "bf16", "fp16"]
PrecisionSetting = Literal["auto", "fp32", "bf16", "fp16"]
"""A precision, or the best one of the device (``xlm.training.speed.best_precision``)."""

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context of the forward pass; for fp32 (and so float64 in tests) an empty one.

    Raises ConfigError for an unknown precision.
    """
    if precision not in get_args(Precision):
        choices = ", ".join(get_args(Precision))
        raise ConfigError(f"precision {precision!r}: choose one of {choices}")
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=_DTYPES[precision])


def shared_casts(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return a context in which forward passes share the casts of the weights: those of an update.

    Nothing may change a weight inside. Backward passes belong in ``outside_autocast``.
    """
    return autocast(device, precision) if _casts_keep_gradients() else nullcontext()


def outside_autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Return the context of a backward pass inside ``shared_casts``."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, enabled=False)


@functools.cache
def _casts_keep_gradients() -> bool:
    """Return whether a weight that was cast without gradients is cast again with them.

    Older versions of torch kept the first cast for both: after a pass without gradients, as of a
    translation that is generated, the weights would not learn from the other micro-batches.
    """
    weight = torch.zeros(1, 1, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        with torch.no_grad():
            torch.nn.functional.linear(weight.detach(), weight)
        return torch.nn.functional.linear(weight.detach(), weight).requires_grad


class LossScaler:
    """The dynamic loss scale of fp16 (Micikevicius et al. 2018, section 3.2), all on the device.

    It halves when an update was skipped and doubles after ``growth_interval`` good ones. It is
    alike on all ranks because ``found_inf`` is: derive it from the gradient after the all-reduce.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
    ) -> None:
        self._growth_factor = growth_factor
        self._backoff_factor = backoff_factor
        self._growth_interval = growth_interval
        self._scale = torch.full((), init_scale, dtype=torch.float32, device=device)
        self._good = torch.zeros((), dtype=torch.int32, device=device)
        self.skipped = torch.zeros((), dtype=torch.int64, device=device)
        """Number of skipped updates, int64 scalar on the device."""

    def scale(self, loss: Tensor) -> Tensor:
        """Return the loss (a scalar) to run backward from, in float32 or wider."""
        return loss * self._scale

    def unscale_(self, parameters: Iterable[Tensor], found_inf: Tensor | None = None) -> Tensor:
        """Divide the gradients by the scale, in place.

        Returns ``found_inf`` (float32 scalar, made here if not given), set to 1 in place if some
        gradient is not finite.
        """
        if found_inf is None:
            found_inf = torch.zeros((), dtype=torch.float32, device=self._scale.device)
        by_dtype: dict[torch.dtype, list[Tensor]] = {}
        for p in parameters:
            if p.grad is not None:
                by_dtype.setdefault(p.grad.dtype, []).append(p.grad)
        # In float64, as torch.amp.GradScaler: the reciprocal of a large scale is exact either way.
        inverse = self._scale.double().reciprocal().float()
        for gradients in by_dtype.values():
            torch._amp_foreach_non_finite_check_and_unscale_(gradients, found_inf, inverse)
        return found_inf

    def update(self, found_inf: Tensor) -> None:
        """Update the scale after each step, skipped (``found_inf`` not 0) or not."""
        found = found_inf.ne(0)
        torch._amp_update_scale_(
            self._scale,
            self._good,
            found.float(),
            self._growth_factor,
            self._backoff_factor,
            self._growth_interval,
        )
        self.skipped += found

    def state_dict(self) -> dict[str, float]:
        """Return plain numbers (waits for the device)."""
        scale, good, skipped = float(self._scale), int(self._good), int(self.skipped)
        return {"scale": scale, "good_updates": good, "skipped": skipped}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore the result of ``state_dict``; raise CheckpointError if a number is missing."""
        missing = sorted({"scale", "good_updates", "skipped"} - set(state))
        if missing:
            raise CheckpointError(
                f"the loss scaler's state lacks {', '.join(missing)}: it was saved by a run "
                "in another precision; start from its weights instead of resuming"
            )
        self._scale.fill_(state["scale"])
        self._good.fill_(int(state["good_updates"]))
        self.skipped.fill_(int(state["skipped"]))

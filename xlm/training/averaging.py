"""Exponentially averaged weights, which are evaluated in place of the last ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from xlm.errors import CheckpointError, ConfigError


class AveragedWeights:
    """``average = decay x average + (1 - decay) x parameters`` after each update.

    With ``warmup`` the decay of the first updates is (1 + n) / (10 + n) if that is less, so that
    the initial weights are soon forgotten; n counts the updates that were not skipped.
    """

    def __init__(
        self,
        named_parameters: Iterable[tuple[str, nn.Parameter]],
        decay: float = 0.99,
        *,
        warmup: bool = True,
    ) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(
                f"decay of averaged weights {decay}: expected a number in [0, 1), such as 0.99"
            )
        named = {id(p): (name, p) for name, p in named_parameters if p.requires_grad}
        if not named:
            raise ConfigError(
                "no parameter is trainable, so there is nothing to average; unfreeze some"
            )
        self.decay = decay
        self._warmup = warmup
        self._names = [name for name, _ in named.values()]
        self._parameters = [p for _, p in named.values()]
        self._averages = [p.detach().clone() for p in self._parameters]
        self._num_updates = torch.zeros((), dtype=torch.float64, device=self._parameters[0].device)

    @torch.no_grad()
    def update(self, found_inf: Tensor | None = None) -> None:
        """Average after a step of the optimizer; a skipped one (``found_inf`` not 0) moves nothing.

        Nothing here waits for the device.
        """
        done = torch.ones_like(self._num_updates)
        if found_inf is not None:
            done = done - found_inf.ne(0).to(done)
        self._num_updates += done
        keep = torch.full_like(done, self.decay)
        if self._warmup:
            keep = torch.minimum(keep, self._num_updates / (9 + self._num_updates))
        # A lerp whose weight is a tensor on the device; a weight of 0 leaves every value equal.
        weight = ((1 - keep) * done).to(self._averages[0].dtype)
        steps = torch._foreach_sub(list(self._parameters), self._averages)
        torch._foreach_mul_(steps, weight)
        torch._foreach_add_(self._averages, steps)

    @torch.no_grad()
    def reset(self) -> None:
        """Start again from the parameters as they are now (weights loaded from elsewhere)."""
        torch._foreach_copy_(self._averages, list(self._parameters))
        self._num_updates.zero_()

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Hold the averages in the parameters inside the context; restore their own values after.

        Values are copied, so that the parameters keep their addresses; one copy of them is held.
        """
        with torch.no_grad():
            own = [p.detach().clone() for p in self._parameters]
            torch._foreach_copy_(list(self._parameters), self._averages)
        try:
            yield
        finally:
            with torch.no_grad():
                torch._foreach_copy_(list(self._parameters), own)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averages by parameter name (not copied), and ``num_updates``."""
        return {**dict(zip(self._names, self._averages, strict=True)), _COUNT: self._num_updates}

    @torch.no_grad()
    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore the result of ``state_dict``; raise CheckpointError if names or shapes differ."""
        own = self.state_dict()
        if own.keys() != tensors.keys():
            names = ", ".join(sorted(own.keys() ^ tensors.keys())[:3])
            raise CheckpointError(
                f"averaged weights: {names}, ... are missing in either the checkpoint or the "
                "model; resume with the recipe that wrote the checkpoint"
            )
        for name, tensor in own.items():
            if tensors[name].shape != tensor.shape:
                raise CheckpointError(
                    f"averaged weights: {name} is {list(tensors[name].shape)} in the checkpoint "
                    f"and {list(tensor.shape)} in the model; resume with the recipe that wrote it"
                )
            tensor.copy_(tensors[name])


_COUNT = "num_updates"

"""The tensors of one micro-batch.

Axes: ``B`` rows, ``T`` positions, ``N`` predicted cells. A batch belongs to exactly one objective.
Packing is up to the model (from ``lengths``), and causality is an argument of the model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

IGNORED = -100
"""The target of a cell that only pads ``predict`` to a static size."""


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch; ``count`` and ``num_tokens`` are computed once, on the CPU, when it is made.

    ``predict`` may be padded to a static size with target ``IGNORED``.
    """

    tokens: Tensor
    """int64 ``[B, T]``."""
    positions: Tensor
    """int64 ``[B, T]``; restart at 0 at the second sentence of a TLM pair."""
    langs: Tensor
    """int64 ``[B, T]``; a language id per token."""
    segments: Tensor
    """int64 ``[B, T]``; 0 in the first sentence, 1 in the second."""
    lengths: Tensor
    """int64 ``[B]``: tokens of each row, the only information about padding."""
    rows: Tensor
    """int64 ``[B]``: the example that each row comes from."""
    predict: Tensor
    """int64 ``[N]``: flat cells (``row * T + position``) to predict; rows for a row task."""
    targets: Tensor
    """``[N]``, ``[N, 2]``, ``[B]`` or ``[B, 2]``, int64 or float32, aligned with ``predict``."""
    table: str = ""
    """The table whose ids these are; "" is the model's own. Stamped by the code that asks an
    objective for a batch, never by the objective."""
    source: Batch | None = None
    """The encoder's side of an encoder-decoder batch; of such a side, rows without padding that the
    encoder reads apart, one for all rows or one for each (``Transformer.remember``)."""
    labels: Tensor | None = None
    """int64 ``[B]``: a class of each row, beside the cells to predict."""
    parts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """Number of targets of each named part of a loss that has several; empty if it has one."""
    count: int = -1
    """Number of real targets: those that are not ``IGNORED`` (for floats: not NaN)."""
    num_tokens: int = -1
    """Number of real (not padded) tokens, including those of the source."""

    def __post_init__(self) -> None:
        if self.count < 0:
            real = (
                ~self.targets.isnan()
                if self.targets.is_floating_point()
                else self.targets.ne(IGNORED)
            )
            real = real.flatten(1).any(1) if real.ndim > 1 else real
            object.__setattr__(self, "count", int(real.sum()))
        if self.num_tokens < 0:
            num_tokens = int(self.lengths.sum()) + (self.source.num_tokens if self.source else 0)
            object.__setattr__(self, "num_tokens", num_tokens)

    def of_table(self, table: str) -> Batch:
        """Return the same batch as one of a table."""
        return self if table == self.table else dataclasses.replace(self, table=table)

    def _map(self, change: Any) -> Batch:
        changed = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                changed[field.name] = change(value)
            elif isinstance(value, Batch):
                changed[field.name] = value._map(change)
        return dataclasses.replace(self, **changed)

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on ``device``, copied asynchronously if its memory is pinned."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the same batch in page-locked memory, from which a GPU copies without the CPU."""
        return self._map(lambda tensor: tensor.pin_memory())


@dataclass(frozen=True, slots=True)
class Loss:
    """The result of an objective on a batch: sums only, so that only the loop ever divides."""

    total: Tensor
    """float scalar, the *sum* over targets (of all parts); it carries the gradient."""
    count: int
    """Number of targets in ``total``."""
    scores: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Further sums (scalars on the device, without gradient)."""
    parts: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    """Sums of the named parts of the loss, which carry the gradient; each is divided by its
    count in ``Batch.parts``. Empty if ``total`` is the only sum."""
    outputs: Tensor | None = None
    """The model's predictions in evaluation, in the objective's own form; None if it
    returns sums only."""

"""The parts of one training run, which the loop works with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import nn

from xlm.batch import Batch
from xlm.data.mixture import Mixture
from xlm.training.averaging import AveragedWeights
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.sharding import Shards
from xlm.training.forgetting import Forgetting
from xlm.training.learner import Learner
from xlm.training.precision import LossScaler
from xlm.training.saving import Saver
from xlm.training.schedule import Schedule
from xlm.training.skipped import SkippedUpdates
from xlm.training.spikes import Spikes
from xlm.training.state import TrainState


@dataclass
class Trainer:
    """The parts of one training run, which :func:`xlm.training.loop.train` works with."""

    learner: Learner
    wrapped: nn.Module
    """The learner itself, or DDP around it."""
    mixture: Mixture
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    parallel: Parallel
    state: TrainState
    seed: int
    steps: int
    precision: str = "fp32"
    max_grad_norm: float = 0.0
    """Gradients are clipped to this 2-norm; 0: they are not."""
    scaler: LossScaler | None = None
    averaged: AveragedWeights | None = None
    forgetting: Forgetting | None = None
    spikes: Spikes | None = None
    """Finds updates to skip by their gradient's norm; None: only those that are not finite."""
    max_skipped_in_a_row: int = 50
    report_every: int = 50
    evaluate_every: int = 0
    save_every: int = 0
    flops: Callable[[str, Batch], float] = lambda objective, batch: 0.0
    """The arithmetic that a batch of an objective needs."""

    saver: Saver = field(init=False)
    """The saves of the run, which may be under way during updates."""
    save_in_background: bool = False
    shards: Shards | None = None
    """The rows of the parameters on this rank; None if it has them whole."""

    def __post_init__(self) -> None:
        self.saver = Saver(self.parallel, background=self.save_in_background)
        own = self.learner.named_parameters() if self.shards is None else self.shards.own.items()
        self.named_parameters = dict(own)
        """What is updated here: the learner's parameters, or this rank's rows of them."""
        self.parameters = [p for p in self.named_parameters.values() if p.requires_grad]
        self.skipped = SkippedUpdates(self.parallel.device, self.max_skipped_in_a_row)
        self.restore_counters()

    @property
    def labels(self) -> dict[str, dict[str, str]]:
        """For each objective, the name in sums of each part; of a single one its own."""
        return {
            name: {part: f"{name}.{part}" for part in objective.parts} or {"": name}
            for name, objective in self.learner.objectives.items()
        }

    def restore_counters(self) -> None:
        """Set the counters of updates and of their gradients to the numbers in ``state``."""
        state = self.state
        self.skipped.load(state.skipped, state.skipped_in_a_row, state.spikes_in_a_row)
        if self.spikes is not None:
            self.spikes.load(self.state.norms)

    @contextmanager
    def whole(self) -> Iterator[Learner]:
        """Hold the learner with all its values on every rank, for anything but training.

        Collective if parameters are sharded: see ``Shards.whole``.
        """
        if self.shards is None:
            yield self.learner
        else:
            with self.shards.whole() as learner:
                yield learner

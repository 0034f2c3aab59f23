"""The only mutable thing of a run, and all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import Any

from xlm.errors import CheckpointError


@dataclass
class TrainState:
    """The progress of a run, beside the tensors (model and heads, optimizer, averaged weights).

    A skipped update still advances ``cursors`` and ``step``.
    """

    step: int = 0
    """Updates tried so far, skipped ones included."""
    cursors: dict[str, int] = field(default_factory=dict)
    """Micro-batches consumed, per stream id."""
    tokens: dict[str, int] = field(default_factory=dict)
    """Real tokens seen, per stream id, over all ranks."""
    skipped: int = 0
    """Updates skipped because their gradient was not finite, or a spike."""
    skipped_in_a_row: int = 0
    """Number of the last updates that were skipped without a break."""
    spikes_in_a_row: int = 0
    """Those of them that were skipped for a spike."""
    norms: dict[str, float] = field(default_factory=dict)
    """The level of the gradient's norm (only if spikes are skipped)."""
    scaler: dict[str, float] = field(default_factory=dict)
    """The loss scaler's numbers (fp16 only)."""
    best: float | None = None
    """The lowest stopping score so far."""
    best_step: int | None = None
    """The step at which it was reached."""
    bests: dict[str, dict[str, float]] = field(default_factory=dict)
    """The best value so far of each further figure that is watched, and its step."""
    rate: float = 1.0
    """Factor of the schedule's learning rate (halved on plateaus)."""
    patience_used: int = 0
    """Evaluations since the best one; those that do not count are left out."""
    unreported: list[dict[str, Any]] = field(default_factory=list)
    """Sums of each rank since the last report, so that a resumed run reports the same."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainState:
        """Restore the result of ``to_json``; raise CheckpointError for a name it does not know."""
        if unknown := sorted(set(values) - {each.name for each in fields(cls)}):
            raise CheckpointError(
                f"the training state has {', '.join(unknown)}, which this version of xlm does not "
                "know: install the version that wrote the checkpoint"
            )
        return cls(**values)

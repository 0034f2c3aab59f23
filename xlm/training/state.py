"""The only mutable thing of a run, and all that a checkpoint holds."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class TrainState:
    """Where a run stands, beside the tensors (model and heads, optimizer, averaged weights).

    A skipped update still advances ``cursors`` and ``step``.
    """

    step: int = 0
    """Updates tried so far, skipped ones included."""
    cursors: dict[str, int] = field(default_factory=dict)
    """Micro-batches consumed, per stream id."""
    tokens: dict[str, int] = field(default_factory=dict)
    """Real tokens seen, per stream id, over all ranks."""
    skipped: int = 0
    """Updates skipped because their gradient was not finite."""
    skipped_in_a_row: int = 0
    """How many of the last updates were skipped without a break."""
    scaler: dict[str, float] = field(default_factory=dict)
    """The loss scaler's numbers (fp16 only)."""
    best: float | None = None
    """The lowest stopping score so far."""
    best_step: int | None = None
    """The step at which it was reached."""
    patience_used: int = 0
    """Evaluations since then."""
    history: dict[str, float] = field(default_factory=dict)
    """The last evaluation's stopping score and the like, for the report of a resumed run."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainState:
        """The inverse of ``to_json``; a name it does not know is an error of the file's version."""
        return cls(**values)

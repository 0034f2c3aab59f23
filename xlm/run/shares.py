"""The share of draws of each stream, beside its intended share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from xlm.data.mixture import Mixture
from xlm.errors import CheckpointError
from xlm.run.build import build_mixture, training_streams
from xlm.run.config import Run
from xlm.run.text import open_corpora
from xlm.tables import aligned
from xlm.training import checkpoint
from xlm.training.restore import CHECKPOINTS
from xlm.training.state import TrainState


@dataclass(frozen=True)
class Share:
    """One stream's part of its objective so far."""

    objective: str
    stream: str
    intended: float
    """Expected share of the objective's micro-batches."""
    realized: float
    """Share of those that were drawn."""
    tokens: float
    """Share of the objective's tokens."""
    epochs: float
    """Passes over the stream so far."""


def realized_shares(mixture: Mixture, state: TrainState) -> list[Share]:
    """Return the shares of every stream after ``state.step`` updates; none before the first."""
    if not state.step:
        return []
    rows = []
    expected = mixture.expected_micro_batches(state.step)
    for name, streams in mixture.streams.items():
        drawn = [state.cursors.get(stream.id, 0) for stream in streams]
        tokens = [state.tokens.get(stream.id, 0) for stream in streams]
        for at, stream in enumerate(streams):
            rows.append(
                Share(
                    name,
                    stream.name,
                    _part(float(expected[name][at]), float(expected[name].sum())),
                    _part(drawn[at], sum(drawn)),
                    _part(tokens[at], sum(tokens)),
                    drawn[at] / stream.batches_per_epoch,
                )
            )
    return rows


def _part(part: float, whole: float) -> float:
    return part / whole if whole else 0.0


def as_record(rows: Iterable[Share]) -> list[dict[str, Any]]:
    """Return the shares as written to the metrics."""
    return [asdict(row) for row in rows]


def share_lines(rows: Iterable[Share]) -> Iterator[str]:
    """Return the shares as an aligned table."""
    cells = [("objective", "stream", "intended", "realized", "of tokens", "epochs")]
    cells += [
        (
            row.objective,
            row.stream,
            f"{row.intended:.4f}",
            f"{row.realized:.4f}",
            f"{row.tokens:.4f}",
            f"{row.epochs:.2f}",
        )
        for row in rows
    ]
    yield from aligned(cells, num_names=2)


def describe_shares(folder: Path, run: Run) -> list[str]:
    """Return lines about the draws of a run at its newest checkpoint.

    Raises CheckpointError if there is none, DataError if the run's text is not there.
    """
    found = checkpoint.latest(folder / CHECKPOINTS).loaded
    if found is None:
        raise CheckpointError(f"{folder} has no checkpoint yet: describe its recipe instead")
    state = TrainState.from_json(found.state["train_state"])
    corpora = open_corpora(run, found)
    rows = realized_shares(build_mixture(run, training_streams(run, corpora)), state)
    return [f"{folder}: step {state.step:,} of {run.steps:,}", *share_lines(rows)]

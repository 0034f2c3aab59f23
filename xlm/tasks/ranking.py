"""Ranking of pages by how well they answer a query (XGLUE's WPR; Ji et al. 2023, section 2.3).

The model names one of the levels of relevance; the expected level ranks the pages of a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.data.row_streams import RowStream
from xlm.data.streams import Stream
from xlm.errors import ConfigError, DataError
from xlm.metrics.ranking import consecutive, rank_figures, rank_scores
from xlm.model.transformer import Transformer
from xlm.objective import cross_entropy_loss
from xlm.tasks.classification import Classification
from xlm.tasks.readers.labeled import SentenceRow


@dataclass(frozen=True, kw_only=True)
class Ranking(Classification):
    """Ranking of the rows of a query, which are together in the file; labels are numbers from 0."""

    format: str = "xglue-wpr"
    """Format of the files; see Classification."""

    def __post_init__(self) -> None:
        Classification.__post_init__(self)
        if strange := [label for label in self.labels if not _is_level(label)]:
            raise ConfigError(f"labels has {strange[0]!r}: expected levels such as 0 or 4")

    def read(self, path: str, language: str, split: str = "train") -> Sequence[SentenceRow]:
        """Read the rows of a file; raise DataError, with its line, for a label without a level."""
        rows = Classification.read(self, path, language, split)
        for row in rows:
            if not _is_level(row.label):
                raise DataError(
                    f"{row.place}: found the label {row.label!r}, expected a level such as 0 or 4"
                )
        return rows

    @property
    def metric(self) -> str:
        """nDCG."""
        return "ndcg"

    def resolved(self) -> Ranking:
        """Return the same task with ``labels`` as in the training files, the lowest level first."""
        if self.labels:
            return self
        resolved = Classification.resolved(self)
        assert isinstance(resolved, Ranking)
        return replace(resolved, labels=sorted(resolved.labels, key=float))

    def grouped(self, examples: Sequence[Any]) -> list[int]:
        """Return the query of each row: a run of rows with the same one."""
        return consecutive([example.first for example in examples])

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy of the levels; rows are ranked by the expected level."""
        assert head is not None
        scores = head(model, batch)
        loss = cross_entropy_loss(scores, batch, with_scores=not model.training)
        levels = torch.tensor([float(label) for label in self.labels], device=scores.device)
        expected = (scores.float().softmax(-1) * levels).sum(-1)
        return loss if model.training else replace(loss, outputs=expected)

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        """Return each row's expected level."""
        return dict(zip(batch.rows.tolist(), outputs.to(torch.float64).tolist(), strict=True))

    def rendered(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[int, str]:
        """Return each row's expected level."""
        return {row: f"{level:.6g}" for row, level in predictions.items()}

    def grouped_figures(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
        """Return nDCG, mean reciprocal rank and precision at 1, over queries with several rows."""
        assert isinstance(stream, RowStream)
        rows = sorted(predictions)
        queries = [stream.items[row].group for row in rows]
        gains = [float(self.labels[stream.items[row].answer]) for row in rows]
        return rank_figures(rank_scores(queries, gains, [predictions[row] for row in rows]))


def _is_level(label: str) -> bool:
    return label.replace(".", "", 1).isdecimal()

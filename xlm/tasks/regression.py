"""Numbers for sentences and pairs, such as how alike two sentences are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.data.row_streams import RowStream
from xlm.data.streams import Stream
from xlm.errors import DataError
from xlm.metrics.agreement import pearson, spearman
from xlm.metrics.scores import Scores
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.tasks.classification import Sentences
from xlm.tasks.heads import SentenceHead
from xlm.tasks.readers.labeled import SentenceRow


@dataclass(frozen=True, kw_only=True)
class Regression(Sentences):
    """Predict a number, which the files have in place of a label, by least squares.

    The original truncates such numbers to integers (docs/fidelity.md, B10); here they keep their
    fractions.
    """

    def answer(self, example: SentenceRow) -> np.float32:
        """Return the number; raise DataError, with its line, for text that is not a number."""
        try:
            number = float(example.label)
        except ValueError:
            number = np.nan
        if not abs(number) <= float(np.finfo(np.float32).max):
            raise DataError(f"{example.place}: found {example.label!r}, expected a number")
        return np.float32(number)

    @property
    def metric(self) -> str:
        """Spearman's correlation."""
        return "spearman"

    def head(self, config: ModelConfig) -> nn.Module:
        """Return a head with one number a row."""
        return SentenceHead(self.readout, config, 1)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed squared error."""
        assert head is not None
        found = head(model, batch)[:, 0].float()
        total = (found - batch.targets).square().sum()
        if model.training:
            return Loss(total, batch.count)
        return Loss(total, batch.count, {"squares": total.detach()}, outputs=found)

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        """Return each row's number."""
        return dict(zip(batch.rows.tolist(), outputs.to(torch.float64).tolist(), strict=True))

    def unlabeled(self, line: str, place: str) -> SentenceRow:
        """Parse a line of ``xlm predict``: a sentence, or two separated by a tab."""
        return replace(Sentences.unlabeled(self, line, place), label="0")

    def rendered(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[int, str]:
        """Return each row's number."""
        return {row: f"{number:.6g}" for row, number in predictions.items()}

    def grouped_figures(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
        """Return the correlation with the true numbers: Pearson's, and Spearman's of their ranks.

        Both are 0 for a single row, as they are for rows that do not vary.
        """
        assert isinstance(stream, RowStream)
        rows = sorted(predictions)
        if len(rows) < 2:
            return {"pearson": 0.0, "spearman": 0.0}
        gold = [float(stream.items[row].answer) for row in rows]
        found = [predictions[row] for row in rows]
        return {"pearson": pearson(gold, found), "spearman": spearman(gold, found)}

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return the mean squared error."""
        rows = scores["targets"]
        return {"squared_error": scores["squares"] / rows, "targets": rows}

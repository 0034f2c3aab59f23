"""A task in one file, outside the package: a number for each pair of sentences (regression)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.data.streams import Stream
from xlm.metrics.scores import Scores
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.tasks.classification import Sentences
from xlm.tasks.heads import SentenceHead
from xlm.tasks.readers.labeled import SentenceRow


@dataclass(frozen=True, kw_only=True)
class Similarity(Sentences):
    """Predict the number that is the label of each pair."""

    format: str = "plain-pair"
    """How the files are written."""

    @property
    def metric(self) -> str:
        return "squared_error"

    def answer(self, example: SentenceRow) -> np.float32:
        return np.float32(example.label or "nan")  # of a line to predict nobody knows it

    def head(self, config: ModelConfig) -> nn.Module:
        return SentenceHead(self.readout, config, 1)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        assert head is not None
        found = head(model, batch)[:, 0]
        error = (found - batch.targets).square().nansum()
        return Loss(error, batch.count, {"squares": error.detach()}, outputs=found)

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        return {"squared_error": scores["squares"] / scores["targets"]}

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        return dict(zip(batch.rows.tolist(), outputs.tolist(), strict=True))

    def rendered(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[int, str]:
        return {row: f"{number:.3f}" for row, number in predictions.items()}

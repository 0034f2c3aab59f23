"""A task in one file, outside the package: a number for each pair of sentences (regression)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from xlm.addressed import Random
from xlm.batch import Batch, Loss
from xlm.data.collate import pad_pairs
from xlm.data.corpora import Corpora
from xlm.data.streams import Examples, LabeledStream, Stream
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.scores import Scores


@dataclass(frozen=True, kw_only=True)
class Similarity(Objective):
    """Predict the number that is the label of each pair."""

    name: str
    """The labeled data set; its labels are numbers."""
    languages: list[str]
    """Languages that are trained on and evaluated."""

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        return [
            LabeledStream(
                corpora, f"{self.name}.{language}", objective=name, split=split,
                tokens_per_batch=512, num_specials=3, max_length=128, seed=seed,
                shuffle=split == "train",
            )
            for language in self.languages
        ]  # fmt: skip

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        assert isinstance(examples.stream, LabeledStream)
        numbers = np.array([float(name) for name in examples.stream.label_names], dtype=np.float32)
        rows = np.arange(len(examples.rows))
        targets = numbers[examples.labels]
        return pad_pairs(examples, "merged").batch(examples.rows, rows, targets, multiple=1)

    def head(self, config: ModelConfig) -> nn.Module:
        return nn.Linear(config.dim, 1)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        assert head is not None
        hidden = model.encode(batch.tokens, batch.lengths, batch.positions, batch.langs)
        error = (head(hidden[:, 0]).squeeze(1) - batch.targets).square().sum()
        return Loss(error, batch.count, {"squares": error.detach()})

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        return {"squared_error": scores["squares"] / scores["targets"]}

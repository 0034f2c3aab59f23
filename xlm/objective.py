"""What an objective is: it turns corpora into batches, and batches into losses.

The loop knows nothing else of MLM, CLM, TLM, translation or a fine-tuning task. Adding one is one
new file with one subclass; a recipe names the class, or a dotted path outside the package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn

from xlm.addressed import Random
from xlm.batch import Batch, Loss
from xlm.data.corpora import Corpora
from xlm.data.mixture import Sampling
from xlm.data.streams import Examples, Stream
from xlm.scores import Scores

if TYPE_CHECKING:
    from xlm.model.config import ModelConfig


@dataclass(frozen=True, kw_only=True)
class Objective(ABC):
    """A frozen dataclass whose fields are its configuration."""

    weight: float | list[list[float]] = 1.0
    """Weight in the update: a number, or points [[step, weight], ...] joined by straight lines."""
    sampling: Sampling = field(default_factory=Sampling)
    """How often each language or pair is drawn."""

    @abstractmethod
    def streams(self, name: str, corpora: Corpora, *, train: bool) -> list[Stream]:
        """The streams this objective draws from; ``name`` is its key in the recipe.

        ``train=False`` asks for the held-out text, served once and in order.
        """

    @abstractmethod
    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """One micro-batch, on the CPU. Everything random comes from ``random``."""

    def head(self, config: ModelConfig) -> nn.Module | None:
        """The module that this objective adds to the model, kept under its name in the recipe."""
        return None

    @abstractmethod
    def loss(self, model: nn.Module, head: nn.Module | None, batch: Batch) -> Loss:
        """The summed loss over the batch's targets, and further sums under ``scores``."""

    def evaluation_batches(self, stream: Stream, seed: int) -> Iterable[Batch]:
        """Every batch of one pass over a held-out stream, with randomness fixed by ``seed``."""
        for k in range(stream.num_batches):
            yield self.collate(stream.examples(k), Random(seed, "evaluate", stream.id, k), train=False)

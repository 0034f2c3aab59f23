"""An objective in one file, outside the package: which tokens were replaced? (Clark et al. 2020)"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from xlm.batch import Batch, Loss
from xlm.data.collate import pad_text
from xlm.data.corpora import Corpora
from xlm.data.streams import Examples, Stream, TextStream
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective, cross_entropy_loss, present
from xlm.rng import Random


@dataclass(frozen=True, kw_only=True)
class ReplacedToken(Objective):
    """Say of every token of a text whether another one stood there."""

    languages: list[str]
    """Languages whose text is read."""
    rate: float = 0.15
    """Share of the tokens that are replaced."""

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        return [
            TextStream(
                corpora, language, objective=name, split=split, rows=4, length=32, seed=seed,
                shuffle=split == "train",
            )
            for language in present(corpora, split, self.languages, "texts")
        ]  # fmt: skip

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        cells = pad_text(examples)
        real = np.flatnonzero(cells.real)
        chosen = real[random.uniform(len(real)) < self.rate]
        tokens = cells.tokens.copy()
        tokens.flat[chosen] = random.integers(len(chosen), examples.stream.tokenizer.vocab_size)
        changed = (tokens != cells.tokens).ravel()[real].astype(np.int64)
        return replace(cells, tokens=tokens).batch(examples.rows, real, changed)

    def head(self, config: ModelConfig) -> nn.Module:
        return nn.Linear(config.dim, 2)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        assert head is not None
        hidden = model.encode(batch.tokens, batch.lengths, batch.positions, batch.langs)
        logits = head(hidden.flatten(0, 1)[batch.predict])
        return cross_entropy_loss(logits, batch, with_scores=not model.training)

"""Translation with teacher forcing (algorithms A1, B9): the simplest encoder-decoder objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from xlm.addressed import Random
from xlm.batch import Batch, Loss
from xlm.data.bucketed import PairStream
from xlm.data.collate import pad
from xlm.data.corpora import Corpora
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.model.transformer import Transformer
from xlm.objective import Objective, cross_entropy_loss, present
from xlm.scores import Scores, language_model_figures


@dataclass(frozen=True, kw_only=True)
class Translation(Objective):
    """Predict the second sentence of each pair from the first: ``en-ne`` translates en into ne.

    The decoder reads ``</s> t`` and predicts ``t </s>``.
    """

    pairs: list[str]
    """Directions, such as [en-ne, ne-en]."""
    tokens: int = 2000
    """Cells of the longer side (padding included) in a micro-batch."""
    length: int = 256
    """Tokens of the longest side that is used, special ones included; longer pairs are left out."""
    num_lengths: int = 24
    """How many padded lengths there may be."""
    label_smoothing: float = 0.0
    """Share of the target's probability that is spread over the vocabulary."""

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ConfigError("Translation needs at least one direction in pairs, such as [en-ne]")
        for name in ("tokens", "length", "num_lengths"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        if not 0 <= self.label_smoothing < 1:
            raise ConfigError(f"label_smoothing must be in [0, 1): found {self.label_smoothing}")

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """A stream per direction."""
        return [
            PairStream(
                corpora,
                pair,
                objective=name,
                split=split,
                sides="longer",
                tokens_per_batch=self.tokens,
                num_specials=2,
                num_lengths=self.num_lengths,
                max_length=self.length,
                seed=seed,
                shuffle=split == "train",
            )
            for pair in present(corpora, split, self.pairs, "pairs")
        ]

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Source and target rows; nothing is random."""
        assert examples.second is not None
        tokenizer = examples.stream.tokenizer
        source_language, target_language = examples.stream.language_ids
        source = pad(
            [tokenizer.wrap(ids) for ids in examples.first],
            [source_language],
            examples.length,
            tokenizer.pad_id,
        )
        target = pad(
            [tokenizer.wrap(ids) for ids in examples.second],
            [target_language],
            examples.length,
            tokenizer.pad_id,
        )
        nothing = np.zeros(0, dtype=np.int64)
        inputs = target.shifted()
        predict = np.flatnonzero(inputs.real)
        targets = np.ascontiguousarray(target.tokens[:, 1:]).ravel()[predict]
        return inputs.batch(
            examples.rows,
            predict,
            targets,
            source=source.batch(examples.rows, nothing, nothing),
        )

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Summed cross-entropy of the target tokens, the final end symbol included."""
        source = batch.source
        if source is None or model.decoder is None:
            raise ConfigError("Translation needs a decoder: set model.num_decoder_layers above 0")
        memory = model.encode(
            source.tokens, source.lengths, source.positions, source.langs, source.segments
        )
        hidden = model.decode(
            batch.tokens, batch.lengths, memory, source.lengths, batch.positions, batch.langs
        )
        logits = model.predict(hidden, batch.predict, side="decoder")
        return cross_entropy_loss(
            logits, batch, with_scores=not model.training, label_smoothing=self.label_smoothing
        )

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Every unit of ``xlm.scores.language_model_figures``, of the target side's text."""
        return language_model_figures(scores, stream.side_sizes[1])

"""Translation with teacher forcing (docs/fidelity.md, A1, B9)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.config.hints import check_types
from xlm.data.buckets import common_lengths
from xlm.data.corpora import Corpora
from xlm.data.sentence_streams import PairStream, fitting_histogram
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.languages import LanguagePair, Languages
from xlm.metrics.scores import Scores, language_model_figures
from xlm.model.config import ModelConfig
from xlm.model.generate import Generation
from xlm.model.transformer import Transformer
from xlm.objective import check_length, held_out
from xlm.objectives.decoding import decode, hypotheses, translation_figures
from xlm.objectives.directions import Rule, check_rule, directed
from xlm.objectives.teacher_forcing import (
    TeacherForced,
    check_sizes,
    source_batch,
    teacher_forced,
    teacher_forced_loss,
)
from xlm.rng import Random

NUM_SPECIALS = 2
"""Special tokens of a row, whatever the layout, beside those that are forced."""


@dataclass(frozen=True, kw_only=True)
class Translation(TeacherForced):
    """Predict the second sentence of each pair from the first: ``en-ne`` translates en into ne.

    The decoder reads ``</s> t`` and predicts ``t </s>``; see ``layout``.
    """

    pairs: list[str]
    """Directions, such as [en-ne, ne-en]; with ``directions``, pairs in either order."""
    directions: Rule | None = None
    """Directions of the pairs to train: m2m (both), m2o (into the center), o2m (out of it); null:
    each pair is a direction."""
    center: str | None = None
    """With directions m2o or o2m: the language that all pairs share."""
    evaluate: list[str] | None = None
    """Directions to measure on held-out pairs, also some that are not trained; null: those of
    training."""
    tokens: int = 2000
    """Cells of the longer side (padding included) in a micro-batch."""
    length: int = 256
    """Longest side that is used, in tokens with special ones; longer pairs are left out."""
    num_lengths: int = 24
    """Largest number of padded lengths."""
    shared_lengths: bool = False
    """Use one set of padded lengths for all directions, so that compile sees few shapes; false: a
    separate set for each, with less padding."""
    bucket_parts: int = 1
    """Split the rows of one padded length into this many parts by how much longer the source is
    than the target, and pad each side of a batch to its longest row: less padding, but more shapes
    (4 is a good number; not with compile)."""
    label_smoothing: float = 0.0
    """Share of the target's probability that is spread over the vocabulary."""

    decode: Generation | None = None
    """Translate held-out pairs with these settings at each evaluation, to measure BLEU, chrF and
    the shares of copied and empty translations; null: measure perplexity only."""

    def __post_init__(self) -> None:
        check_types(self)
        if not self.pairs:
            name = type(self).__name__
            raise ConfigError(f"{name} needs at least one direction in pairs, such as [en-ne]")
        for field, pairs in (("pairs", self.pairs), ("evaluate", self.evaluate or [])):
            for pair in pairs:
                if not LanguagePair.readings(pair):
                    raise ConfigError(
                        f"{field} names {pair!r}: expected two languages as FROM-INTO, such as "
                        "en-ne"
                    )
        check_rule(self.directions, self.center)
        check_sizes(
            {
                "tokens": self.tokens,
                "length": self.length,
                "num_lengths": self.num_lengths,
                "bucket_parts": self.bucket_parts,
            },
            self.label_smoothing,
        )

    def check(self, model: ModelConfig | None, *, compiled: bool) -> None:
        """Raise ConfigError for rows that do not fit the model."""
        check_length(self.length, model)

    def ways(self, languages: Languages) -> list[LanguagePair]:
        """Return the directions that are trained; ConfigError for pairs that do not fit them."""
        pairs = [languages.pair(name) for name in self.pairs]
        return directed(pairs, self.directions, self.center)

    def in_evaluation(self, tokens: int) -> Self:
        """Return the objective with other ``tokens`` of a micro-batch."""
        return replace(self, tokens=tokens)

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """Return a stream for each direction; ConfigError for a language without a token."""
        ways = [str(way) for way in self.ways(corpora.languages)]
        found = held_out(corpora, split, ways, self.evaluate, "pairs")
        self.check_tokens(name, corpora, map(corpora.languages.pair, found))
        lengths = self._shared_lengths(corpora, split, found) if self.shared_lengths else None
        return [
            PairStream(
                corpora,
                pair,
                objective=name,
                split=split,
                sides="longer",
                tokens_per_batch=self.tokens,
                num_specials=NUM_SPECIALS,
                num_lengths=self.num_lengths,
                max_length=self.length,
                lengths=lengths,
                parts=self.bucket_parts,
                seed=seed,
                shuffle=split == "train",
            )
            for pair in found
        ]

    def _shared_lengths(self, corpora: Corpora, split: str, names: list[str]) -> list[int] | None:
        """Return padded lengths for all directions, by histograms that are weighted by share."""
        histograms = {
            name: fitting_histogram(
                corpora.pairs(split, name).histogram("longer"), NUM_SPECIALS, self.length
            )
            for name in names
        }
        sizes = {name: int(own.sum()) for name, own in histograms.items()}
        if not any(sizes.values()):
            return None  # each stream says that no row fits
        shares = dict.fromkeys(sizes, 1.0)
        if self.sampling.rule != "unimax" and self.sampling.by == "sentences":
            shares = self.sampling.probabilities(sizes)
        return common_lengths(
            [(shares[name], own) for name, own in histograms.items()], self.num_lengths
        )

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return source and target rows; nothing is random."""
        assert examples.second is not None
        source, target = examples.stream.languages
        read = source_batch(self.arrangement, examples.first, source, target, examples)
        return teacher_forced(self.arrangement, examples.second, target, examples, read)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy of the target tokens, the final end symbol included."""
        loss = teacher_forced_loss(model, batch, label_smoothing=self.label_smoothing)
        if self.decode is not None and not model.training:
            loss = dataclasses.replace(
                loss, outputs=decode(model, batch, self.decode, self.arrangement)
            )
        return loss

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        """Return the translation of each pair."""
        return hypotheses(stream, batch, outputs)

    def grouped_figures(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
        """Return BLEU and its companions: see ``xlm.objectives.decoding.translation_figures``."""
        return translation_figures(stream, predictions)

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return every unit of ``language_model_figures`` for the target side's text."""
        return language_model_figures(scores, stream.side_sizes[1])

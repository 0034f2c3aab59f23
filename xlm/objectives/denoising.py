"""Denoising auto-encoding (Lample et al. 2018; XLM section 5.2; docs/fidelity.md, A1, A4, B9).

sentence s --noise--> the encoder reads </s> noisy s </s>, the decoder writes s
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from torch import nn

from xlm.batch import Batch, Loss
from xlm.config.hints import check_types
from xlm.data.corpora import Corpora
from xlm.data.sentence_noise import SentenceNoise
from xlm.data.sentence_streams import SentenceStream
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.languages import LanguagePair
from xlm.metrics.scores import Scores, language_model_figures
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import check_length, present
from xlm.objectives.teacher_forcing import (
    TeacherForced,
    check_sizes,
    source_batch,
    teacher_forced,
    teacher_forced_loss,
)
from xlm.rng import Random


@dataclass(frozen=True, kw_only=True)
class Denoising(TeacherForced):
    """Write each sentence from a noisy copy of it, in its own language.

    The decoder reads ``</s> s`` and predicts ``s </s>``; see ``layout``. Held-out sentences always
    get the same noise.
    """

    languages: list[str]
    """Languages to read text of, such as [en, ne]."""
    tokens: int = 2000
    """Cells of the sentences (padding included) in a micro-batch."""
    length: int = 100
    """Longest sentence that is used, in tokens with special ones; longer ones are left out. The
    original's max_len is 100 too: few sentences are longer, and the cost of attention grows with
    the square."""
    num_lengths: int = 24
    """Rows are padded to at most this many different lengths."""
    shuffle: float = 3.0
    """Tokens are sorted by position + U[0, shuffle), so that each moves by fewer than ``shuffle``
    places (0: no token moves; else above 1)."""
    drop: float = 0.1
    """Share of the tokens that are left out of the noisy copy; at least one stays."""
    blank: float = 0.1
    """Share of the remaining tokens that become the mask symbol."""
    label_smoothing: float = 0.0
    """Share of the target's probability that is spread over the vocabulary."""

    def __post_init__(self) -> None:
        check_types(self)
        if not self.languages:
            raise ConfigError("Denoising needs at least one language in languages, such as [en]")
        check_sizes(
            {"tokens": self.tokens, "length": self.length, "num_lengths": self.num_lengths},
            self.label_smoothing,
        )
        _ = self.noise

    def check(self, model: ModelConfig | None, *, compiled: bool) -> None:
        """Raise ConfigError for rows that do not fit the model."""
        check_length(self.length, model)

    @property
    def noise(self) -> SentenceNoise:
        """Return the maker of noisy copies; raise ConfigError for invalid amounts."""
        return SentenceNoise(self.shuffle, self.drop, self.blank)

    def in_evaluation(self, tokens: int) -> Self:
        """Return the objective with other ``tokens`` of a micro-batch."""
        return replace(self, tokens=tokens)

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """Return a stream of sentences for each language; ConfigError for one without a token."""
        self.check_tokens(name, corpora, (LanguagePair(own, own) for own in self.languages))
        return [
            SentenceStream(
                corpora,
                language,
                objective=name,
                split=split,
                tokens_per_batch=self.tokens,
                num_specials=2,
                num_lengths=self.num_lengths,
                max_length=self.length,
                seed=seed,
                shuffle=split == "train",
            )
            for language in present(corpora, split, self.languages, "texts")
        ]

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return noisy sentences as the source, and the same without noise as the target."""
        stream = examples.stream
        (language,) = stream.languages
        noisy = self.noise.apply(examples.first, stream.tokenizer.mask_id, random)
        read = source_batch(self.arrangement, noisy, language, language, examples)
        return teacher_forced(self.arrangement, examples.first, language, examples, read)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy of the sentences' tokens, final end symbols included."""
        return teacher_forced_loss(model, batch, label_smoothing=self.label_smoothing)

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return every unit of ``language_model_figures`` for the text without noise."""
        return language_model_figures(scores, stream.text_size)

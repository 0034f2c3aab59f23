"""Denoising of whole texts (mBART: Liu et al. 2020, section 2.1; docs/fidelity.md, "Infilling").

block of sentences --noise--> the encoder reads </s> noisy block </s>, the decoder writes the block
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from xlm.batch import IGNORED, Batch, Loss
from xlm.config.hints import check_types
from xlm.data.block_streams import BlockStream
from xlm.data.corpora import Corpora
from xlm.data.span_noise import SpanNoise
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
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer
from xlm.text.tokenizers.word_marks import word_marks


@dataclass(frozen=True, kw_only=True)
class Infilling(TeacherForced):
    """Write blocks of whole sentences from copies in which spans of words are hidden.

    The sentences of a copy are in another order; see ``layout``. Held-out blocks always get the
    same noise.
    """

    languages: list[str]
    """Languages to read text of, such as [en, ne]."""
    tokens: int = 4096
    """Cells of the blocks (padding included) in a micro-batch."""
    length: int = 512
    """Tokens of the longest block, special ones included; longer sentences are left out."""
    num_lengths: int = 8
    """Largest number of padded lengths."""
    permute: float = 1.0
    """Probability of putting the sentences of a block into a random order."""
    share: float = 0.35
    """Share of a block's words that are hidden."""
    mean_length: float = 3.5
    """Mean number of words that one mask stands for, drawn from a Poisson distribution; a mask may
    also stand for none."""
    pieces_in: list[str] = field(default_factory=list)
    """Languages written without spaces between words, such as [th, zh]: there, pieces are hidden
    instead of words."""
    label_smoothing: float = 0.0
    """Share of the target's probability that is spread over the vocabulary."""

    def __post_init__(self) -> None:
        check_types(self)
        if not self.languages:
            raise ConfigError("Infilling needs at least one language in languages, such as [en]")
        for language in self.pieces_in:
            if language not in self.languages:
                raise ConfigError(
                    f"pieces_in names {language!r}, which is not in languages "
                    f"({', '.join(self.languages)}): add it there, or leave it out"
                )
        check_sizes(
            {"tokens": self.tokens, "length": self.length, "num_lengths": self.num_lengths},
            self.label_smoothing,
        )
        _ = self.noise

    def check(self, model: ModelConfig | None, *, compiled: bool) -> None:
        """Raise ConfigError for rows that do not fit the model."""
        check_length(self.length, model)

    @property
    def noise(self) -> SpanNoise:
        """Return the maker of noisy copies; raise ConfigError for invalid amounts."""
        return SpanNoise(self.permute, self.share, self.mean_length)

    def in_evaluation(self, tokens: int) -> Self:
        """Return the objective with other ``tokens`` of a micro-batch."""
        return replace(self, tokens=tokens)

    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """Return a stream of blocks for each language.

        Raises ConfigError if words are to be hidden and the tokenizer does not mark them, and for
        a language without a token that the layout needs.
        """
        self.check_tokens(name, corpora, (LanguagePair(own, own) for own in self.languages))
        languages = present(corpora, split, self.languages, "texts")
        of_words = [language for language in languages if language not in self.pieces_in]
        if of_words and not word_marks(corpora.tokenizer).parts_words:
            raise ConfigError(
                f"{name}: the tokenizer's pieces do not mark where words begin or end, but "
                f"whole words are to be hidden in {', '.join(of_words)}: list these "
                "languages in pieces_in"
            )
        return [
            BlockStream(
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
            for language in languages
        ]

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return noisy blocks as the source, and the same without noise as the target."""
        stream = examples.stream
        (language,) = stream.languages
        noisy = [self._noisy(block, stream, random) for block in examples.first]
        read = source_batch(self.arrangement, noisy, language, language, examples)
        return teacher_forced(self.arrangement, examples.first, language, examples, read)

    def _noisy(self, block: Ids, stream: Stream, random: Random) -> Ids:
        tokenizer, noise = stream.tokenizer, self.noise
        block = noise.permuted(block, tokenizer.end_id, random)
        begins = first_pieces(block, tokenizer, whole_words=stream.name not in self.pieces_in)
        return noise.hidden(block, begins, tokenizer.end_id, tokenizer.mask_id, random)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy of the blocks' tokens, final end symbols included."""
        return teacher_forced_loss(model, batch, label_smoothing=self.label_smoothing)

    def baseline(self, stream: Stream, batch: Batch) -> dict[str, float]:
        """Return the nats of the text's add-one unigram model."""
        if stream.unigram is None:
            return {}
        targets = batch.targets[batch.targets != IGNORED].numpy()
        return {"unigram_nats": float(stream.unigram[0][targets].sum())}

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return every unit of ``language_model_figures`` for the text without noise."""
        return language_model_figures(scores, stream.text_size)


def first_pieces(block: Ids, tokenizer: Tokenizer, *, whole_words: bool) -> NDArray[np.bool_]:
    """Return whether each token is the first piece of a word, bool of the block's shape.

    End symbols are not. If not ``whole_words``, each piece is a word.
    """
    is_end = np.asarray(block == tokenizer.end_id)
    begins = np.append(True, is_end[:-1])
    begins |= word_marks(tokenizer).begins(block) if whole_words else True
    return np.asarray(begins & ~is_end)

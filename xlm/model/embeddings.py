"""The first part of a stack: tables of words, positions, languages and segments, summed.

words + positions + languages + segments -> norm -> dropout
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.layers import layer_norm


class Embeddings(nn.Module):
    """The tables of one side of a model.

    ``Stack`` derives from it rather than holding one, so that the tables keep the names that they
    have in every checkpoint (``encoder.words.weight``).
    """

    def __init__(self, config: ModelConfig, *, vocab_size: int, num_languages: int, pad_id: int):
        super().__init__()
        self.dropout, self.noise = config.dropout, config.embedding_noise
        # no gradient reaches the row of padding through the lookup (but it does when tied, B6)
        self.words = nn.Embedding(vocab_size, config.dim, padding_idx=pad_id)
        self.positions = nn.Embedding(config.max_positions, config.dim)
        with_languages = config.language_embeddings and num_languages > 1
        self.languages = nn.Embedding(num_languages, config.dim) if with_languages else None
        self.segments = (
            nn.Embedding(config.num_segments, config.dim) if config.num_segments else None
        )
        self.embedding_norm = layer_norm(config)

    def embed(
        self,
        tokens: Tensor,
        positions: Tensor | None,
        langs: Tensor | None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Return the embeddings ``[B, T, D]`` of int64 ``[B, T]`` each; padding is not zeroed."""
        length = tokens.shape[1]
        if positions is None:
            if length > self.positions.num_embeddings:
                raise ConfigError(
                    f"a row of {length} tokens does not fit model.max_positions "
                    f"{self.positions.num_embeddings}: shorten the rows or raise it"
                )
            x = self.words(tokens) + self.positions.weight[:length]
        else:
            x = self.words(tokens) + self.positions(positions)
        if self.languages is not None and langs is not None:
            x = x + self.languages(langs)
        if self.segments is not None:
            if segments is None or self.segments.num_embeddings == 1:
                x = x + self.segments.weight[0]
            else:
                x = x + self.segments(segments)
        if self.noise and self.training:
            # independent noise on each of the tables' rows is one noise on their sum
            num_tables = 2 + (self.segments is not None)
            x = x + torch.randn_like(x) * (self.noise * num_tables**0.5)
        return F.dropout(self.embedding_norm(x), self.dropout, self.training)

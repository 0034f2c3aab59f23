"""The first part of a stack: tables of words, positions, languages and segments, summed.

words + positions + languages + segments -> norm -> dropout
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.dropout import dropout
from xlm.model.language_tables import Symbols
from xlm.model.norms import build_norm
from xlm.model.positions import Rotation, rotation, sinusoids


class Embeddings(nn.Module):
    """The tables of one side of a model.

    ``Stack`` derives from it rather than holding one, so that the tables keep the names that they
    have in every checkpoint (``encoder.words.weight``). Only learned positions are a table.
    """

    words: nn.Embedding
    """The table of words, the other side's if it is given."""
    symbols: nn.Parameter | None
    """Rows of the symbols that several tables share, float ``[S, D]``; see ``language_tables``."""
    shared: Symbols | None = None
    """The place of the shared symbols in this table; None if none are shared."""
    words_in: nn.Linear | None
    """From the width of words to that of the model; None if they are equal."""
    begin_id = -1
    """The opening symbol, for ``plain_first``."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        vocab_size: int,
        num_languages: int,
        pad_id: int,
        words: nn.Embedding | None = None,
    ):
        super().__init__()
        self.config = config
        self.dropout, self.noise = config.dropout, config.embedding_noise
        self.register_parameter("symbols", None)
        if words is None:
            # no gradient reaches the row of padding through the lookup (but it does when tied)
            self.words = nn.Embedding(vocab_size, config.word_width, padding_idx=pad_id)
        else:
            # no part of this module: a shared table has one name, and is stored once
            object.__setattr__(self, "words", words)
        narrow = config.word_size
        self.words_in = None if narrow is None else nn.Linear(narrow, config.dim)
        learned = config.positions == "learned"
        self.positions = nn.Embedding(config.max_positions, config.dim) if learned else None
        with_languages = config.language_embeddings and num_languages > 1
        self.languages = nn.Embedding(num_languages, config.dim) if with_languages else None
        self.segments = (
            nn.Embedding(config.num_segments, config.dim) if config.num_segments else None
        )
        self.embedding_norm = build_norm(config) if config.embedding_norm else None

    def embed(
        self,
        tokens: Tensor,
        positions: Tensor | None,
        langs: Tensor | None,
        segments: Tensor | None = None,
    ) -> Tensor:
        """Return the embeddings ``[B, T, D]`` of int64 ``[B, T]`` each; padding is not zeroed.

        Raises ConfigError if rows without positions are longer than ``max_positions``.
        """
        length, most = tokens.shape[1], self.config.max_positions
        if positions is None and length > most:
            raise ConfigError(
                f"a row of {length} tokens does not fit model.max_positions {most}: shorten the "
                "rows or raise it"
            )
        x = self._look_up(tokens)
        if self.config.embedding_scale:
            x = x * self.config.dim**0.5
        plain = self._plain(tokens) if self.config.plain_first else None
        if self.positions is not None:
            x = x + _kept(
                self.positions.weight[:length] if positions is None else self.positions(positions),
                plain,
            )
        elif self.config.positions == "sinusoidal":
            x = x + sinusoids(_running(tokens, positions), self.config.dim, x.dtype)
        if self.languages is not None and langs is not None:
            x = x + self.languages(langs)
        if self.segments is not None:
            if segments is None or self.segments.num_embeddings == 1:
                x = x + _kept(self.segments.weight[0], plain)
            else:
                x = x + _kept(self.segments(segments), plain)
        if self.noise and self.training:
            # independent noise on each of the tables' rows is one noise on their sum
            num_tables = 1 + (self.positions is not None) + (self.segments is not None)
            noise = torch.randn_like(x) * (self.noise * num_tables**0.5)
            x = x + (noise if plain is None else noise.where(~plain, noise / num_tables**0.5))
        if self.embedding_norm is not None:
            x = self.embedding_norm(x)
        return dropout(x, self.dropout, self.training)

    def _look_up(self, tokens: Tensor) -> Tensor:
        """Return the vectors of words; shared symbols have theirs in a parameter of the stack."""
        x: Tensor = self.words(tokens)
        if self.symbols is not None:
            assert self.shared is not None
            place = self.shared.place[tokens]
            x = torch.where((place < 0)[..., None], x, self.symbols[place.clamp(min=0)])
        return x if self.words_in is None else self.words_in(x)

    def _plain(self, tokens: Tensor) -> Tensor:
        """Return bool ``[B, T, 1]``, True at an opening symbol, which has no position."""
        first = torch.zeros_like(tokens, dtype=torch.bool)
        first[:, 0] = tokens[:, 0] == self.begin_id
        return first[..., None]

    def rotation(
        self, tokens: Tensor, positions: Tensor | None, *, local: bool = False
    ) -> Rotation | None:
        """Return the turns of queries and keys at int64 ``[B, T]``; None unless rotary.

        ``local`` layers may have a base of their own.
        """
        config = self.config
        if config.positions != "rotary":
            return None
        base = config.rotary_base
        if local and config.local_rotary_base is not None:
            base = config.local_rotary_base
        width = config.dim // config.num_heads
        return rotation(_running(tokens, positions), width, base, self.words.weight.dtype)


def _kept(added: Tensor, plain: Tensor | None) -> Tensor:
    """Return what is added to each cell: nothing at plain ones."""
    return added if plain is None else added.masked_fill(plain, 0.0)


def _running(tokens: Tensor, positions: Tensor | None) -> Tensor:
    """Return ``positions``, or 0 .. T-1 as ``[1, T]`` if there are none."""
    if positions is not None:
        return positions
    return torch.arange(tokens.shape[1], device=tokens.device)[None]

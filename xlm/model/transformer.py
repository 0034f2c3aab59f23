"""XLM's transformer (section 5.1; docs/fidelity.md, B5, B6): an encoder, and perhaps a decoder.

    tokens + positions + languages -> norm -> dropout -> layers -> hidden --cells--> logits

Everything is batch-first and free of data-dependent shapes. Causality is an argument: one encoder
serves masked and causal language models.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.model.adapters import AdapterConfig
from xlm.model.cells import at_cells
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.first_values import draw_as_xlm, draw_normal
from xlm.model.language_tables import Table
from xlm.model.stack import Stack, shallow
from xlm.rng import key

Side = Literal["encoder", "decoder"]


class Transformer(nn.Module):
    """An encoder, or an encoder and a decoder with its own tables (docs/fidelity.md, A5).

    With ``shared_words`` the decoder's table of words is the encoder's: one parameter, of one name.

    ``vocab_size``, ``num_languages`` and ``pad_id`` are the data's. The encoder of an
    encoder-decoder keeps its output too, so that one model also learns MLM; an objective that does
    not use a part leaves its parameters without a gradient.
    """

    def __init__(self, config: ModelConfig, *, vocab_size: int, num_languages: int, pad_id: int):
        super().__init__()
        if not 0 <= pad_id < vocab_size:
            raise ConfigError(
                f"the padding id {pad_id} is outside the vocabulary of {vocab_size} ids"
            )
        if num_languages < 1:
            raise ConfigError(f"a model of {num_languages} languages: expected at least 1")
        self.config = config
        self.vocab_size = vocab_size
        self.num_languages = num_languages
        self.pad_id = pad_id
        self.summed: Callable[..., Tensor] = sum_cross_entropy
        """The loss of scores, compiled by ``compile_layers``."""

        def stack(cross: bool, words: nn.Embedding | None = None) -> Stack:
            return Stack(
                config,
                vocab_size=vocab_size,
                num_languages=num_languages,
                pad_id=pad_id,
                cross=cross,
                words=words,
            )

        self.roles: tuple[int, ...] = ()
        self.encoder = stack(cross=False)
        shared = self.encoder.words if config.shared_words else None
        self.decoder = stack(cross=True, words=shared) if config.num_decoder_layers else None
        self.initialize()

    def initialize(self) -> None:
        """Draw every first value from torch's default generator, as ``initialization`` says."""
        for stack in (self.encoder, self.decoder):
            if stack is not None:
                self._draw(stack, self.config.dim)

    @property
    def _draw(self) -> Callable[[nn.Module, int], None]:
        return draw_normal if self.config.initialization == "normal" else draw_as_xlm

    def add_table(
        self,
        name: str,
        *,
        vocab_size: int,
        roles: Sequence[int],
        own_positions: bool,
        seed: int,
        adapters: AdapterConfig | None = None,
    ) -> Table:
        """Add a further language's table, with first values that depend on seed and name alone.

        ``roles`` are the ids of ``language_tables.ROLES`` in its vocabulary. Raises ConfigError
        for a model with a decoder, and for a name that is taken.
        """
        if self.decoder is not None:
            raise ConfigError(
                f"the table {name}: a model with a decoder cannot have further tables; give "
                "an encoder alone"
            )
        if name in self.encoder.tables:
            raise ConfigError(f"the model already has a table {name}: give another name")
        with torch.random.fork_rng([]):
            table = Table(
                self.config,
                vocab_size=vocab_size,
                roles=roles,
                with_language=self.encoder.languages is not None,
                own_positions=own_positions,
                adapters=adapters,
            )
            if not table.words.weight.is_meta:
                torch.manual_seed(key(seed, "table", name))
                self._draw(table, self.config.dim)
                if table.adapters is not None:
                    table.adapters.initialize()
        self.encoder.tables._modules[name] = table  # add_module refuses to, which is Tongan
        return table

    def share_symbols(self, roles: Sequence[int]) -> None:
        """Make the symbols one parameter of all tables; ``roles`` are their ids in its own."""
        self.roles = tuple(roles)
        self.encoder.share_symbols(roles)

    def reading(self, table: str) -> Transformer:
        """Return the model as it reads a table; "" is its own. No value is copied.

        Raises ConfigError for a table that the model does not have.
        """
        if not table:
            return self
        if table not in self.encoder.tables:
            known = ", ".join(self.encoder.tables) or "none"
            raise ConfigError(f"the model has no table {table}: it has {known}")
        same = shallow(self)
        same._modules["encoder"] = self.encoder.reading(table, self.roles)
        same.vocab_size = len(same.encoder.words.weight)
        same.pad_id = int(same.encoder.words.padding_idx or 0)
        return same

    def with_own_tables(self) -> Transformer:
        """Return a transformer that shares everything but its list of tables."""
        same, encoder = copy.copy(self), copy.copy(self.encoder)
        same.__dict__["_modules"] = self._modules | {"encoder": encoder}
        tables = copy.copy(self.encoder.tables)
        tables.__dict__["_modules"] = dict(self.encoder.tables._modules)
        encoder.__dict__["_modules"] = self.encoder._modules | {"tables": tables}
        return same

    def encode(
        self,
        tokens: Tensor,
        lengths: Tensor,
        positions: Tensor | None = None,
        langs: Tensor | None = None,
        segments: Tensor | None = None,
        *,
        causal: bool = False,
        padded: bool = True,
        cells: Tensor | None = None,
    ) -> Tensor:
        """Return the encoder's hidden states ``[B, T, D]``, zero at padding.

        With flat ``cells`` (int64 ``[N]``, row * T + position) only theirs, ``[N, D]``: inference
        mode, and an update with dropout, then compute most of the last layer at them alone.

        ``tokens``, ``positions``, ``langs``, ``segments`` int64 ``[B, T]``, ``lengths`` int64
        ``[B]``. Without positions they are 0..T-1; without langs, or with a model of one language,
        no language vector is added; segments are 0 if none are given, and only used by a model with
        two rows of them or more. ``padded=False`` promises that every row is full and skips the
        masks. Raises ConfigError if T exceeds ``max_positions`` and no positions are given.
        """
        hidden: Tensor = self.encoder(
            tokens, lengths, positions, langs, causal, padded, segments=segments, cells=cells
        )
        return hidden

    def encode_layers(
        self,
        tokens: Tensor,
        lengths: Tensor,
        positions: Tensor | None = None,
        langs: Tensor | None = None,
        segments: Tensor | None = None,
        *,
        causal: bool = False,
    ) -> list[Tensor]:
        """Return the embeddings and each layer's states, ``[B, T, D]`` each; see ``encode``."""
        outputs: list[Tensor] = []
        self.encoder(
            tokens, lengths, positions, langs, causal, True, segments=segments, every_layer=outputs
        )
        return outputs

    def remember(self, source: Batch) -> tuple[Tensor, Tensor]:
        """Return what a decoder attends to, ``[B, S, D]``, and the length of each row of it.

        It is the encoder's output for ``source``; if that has a ``source`` of its own, a row that
        is read apart (of each of its rows, or one for all), the output for that one stands before
        it. Both are attended in one softmax.
        """
        memory = self.encode(
            source.tokens, source.lengths, source.positions, source.langs, source.segments
        )
        apart = source.source
        if apart is None:
            return memory, source.lengths
        before = self.encode(
            apart.tokens, apart.lengths, apart.positions, apart.langs, apart.segments, padded=False
        )
        before = before.expand(len(memory), -1, -1)
        return torch.cat([before, memory], dim=1), source.lengths + apart.tokens.shape[1]

    def decode(
        self,
        tokens: Tensor,
        lengths: Tensor,
        source_hidden: Tensor | None,
        source_lengths: Tensor | None,
        positions: Tensor | None = None,
        langs: Tensor | None = None,
        *,
        padded: bool = True,
    ) -> Tensor:
        """Return the decoder's hidden states ``[B, T, D]`` under teacher forcing, zero at padding.

        ``source_hidden`` ``[B, S, D]`` and ``source_lengths`` (int64 ``[B]``) are what ``remember``
        returned; with neither, the decoder is a causal language model, its cross-attention
        and the norm after it left out as in the original. The rest as in ``encode``, ``padded``
        meaning both sides. Raises ConfigError if the model has no decoder.
        """
        hidden: Tensor = self._side("decoder")(
            tokens, lengths, positions, langs, True, padded, source_hidden, source_lengths
        )
        return hidden

    def predict(self, hidden: Tensor, cells: Tensor, *, side: Side = "encoder") -> Tensor:
        """Return logits ``[N, V]`` of the flat ``cells`` (int64 ``[N]``, row * T + position) alone.

        ``hidden`` ``[B, T, D]`` as that side returned it. Cells are gathered before the projection:
        with 15 % of them predicted, the vocabulary would otherwise be most of the work.
        """
        return self._side(side).project(at_cells(hidden, cells))

    def cross_entropy(
        self,
        hidden: Tensor,
        cells: Tensor | None,
        targets: Tensor,
        *,
        side: Side = "encoder",
        label_smoothing: float = 0.0,
    ) -> Tensor:
        """Return the summed cross-entropy (nats) of int64 ``targets`` ``[N]`` at flat ``cells``.

        It is that of ``predict``, without all of its scores in memory at once if they are many.
        ``cells`` is None if ``hidden`` is that of the cells already, ``[N, D]``.
        """
        stack = self._side(side)
        gathered = at_cells(hidden, cells)
        return stack.cross_entropy(gathered, targets, label_smoothing, self.summed)

    def compile_layers(self, **options: Any) -> None:
        """Compile the layers of both sides and the loss; ``options`` are ``torch.compile``'s.

        All layers of a kind share their graphs, whose sizes may vary: a model in training and
        evaluation, with masks and without, has a handful.
        """
        for stack in (self.encoder, self.decoder):
            if stack is not None:
                stack.compile_layers(**options)
        self.summed = torch.compile(sum_cross_entropy, dynamic=True, **options)

    def recompute_layers(self) -> None:
        """Make the activations of each layer again in the backward pass instead of keeping them.

        Dropout draws the same again, so that gradients stay as they are.
        """
        for stack in (self.encoder, self.decoder):
            if stack is not None:
                stack.recomputes = True

    def _side(self, side: Side) -> Stack:
        if side == "encoder":
            return self.encoder
        if self.decoder is None:
            raise ConfigError(
                "the model has no decoder, but a part of this run decodes: set "
                "model.num_decoder_layers above 0"
            )
        return self.decoder

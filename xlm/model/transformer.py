"""XLM's transformer (section 5.1; docs/fidelity.md, B5, B6): an encoder, and perhaps a decoder.

    tokens + positions + languages -> norm -> dropout -> layers -> hidden --cells--> logits

Everything is batch-first and free of data-dependent shapes. Causality is an argument: one encoder
serves masked and causal language models.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.model.adapters import Adapters
from xlm.model.config import ModelConfig
from xlm.model.embeddings import Embeddings
from xlm.model.first_values import draw_as_xlm, draw_normal
from xlm.model.layers import Layer, OutputTransform
from xlm.model.norms import build_norm
from xlm.model.positions import Rotation
from xlm.model.windows import Sight, sight

Side = Literal["encoder", "decoder"]


class Stack(Embeddings):
    """One side: its embeddings, its layers, and its output onto the vocabulary."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        vocab_size: int,
        num_languages: int,
        pad_id: int,
        cross: bool,
        words: nn.Embedding | None = None,
    ):
        super().__init__(
            config, vocab_size=vocab_size, num_languages=num_languages, pad_id=pad_id, words=words
        )
        num_layers = config.num_decoder_layers if cross else config.num_layers
        self.layers = nn.ModuleList(
            Layer(config, cross=cross, first=layer == 0) for layer in range(num_layers)
        )
        self.final_norm = build_norm(config) if config.norm == "pre" else None
        self.output_transform = OutputTransform(config) if config.output_transform else None
        self.output_bias = nn.Parameter(torch.empty(vocab_size))
        self.output_weight = None
        if not config.tied_output:
            self.output_weight = nn.Parameter(torch.empty(vocab_size, config.dim))

    def forward(
        self,
        tokens: Tensor,
        lengths: Tensor,
        positions: Tensor | None,
        langs: Tensor | None,
        causal: bool,
        padded: bool,
        source: Tensor | None = None,
        source_lengths: Tensor | None = None,
        segments: Tensor | None = None,
        every_layer: list[Tensor] | None = None,
        adapters: Adapters | None = None,
    ) -> Tensor:
        """Return the hidden states ``[B, T, D]``, zero at padding.

        ``every_layer``, if a list is given, gets the embeddings and each layer's output, the last
        one as it is returned.
        """
        blank = _padding(lengths, tokens.shape[1])[:, :, None] if padded else None
        # on the right, padding is out of a causal row's sight
        mask = visible(lengths, tokens.shape[1]) if padded and not causal else None
        source_mask = None
        if padded and source is not None and source_lengths is not None:
            source_mask = visible(source_lengths, source.shape[1])
        x = self.embed(tokens, positions, langs, segments)
        if adapters is not None and adapters.invertible is not None:
            x = adapters.invertible(x)
        x = _blanked(x, blank)
        everywhere = (mask, causal, self.rotation(tokens, positions))
        nearby: tuple[Sight | None, bool, Rotation | None] = everywhere
        if self.config.window is not None:
            near = sight(self.config.window, lengths if padded else None, tokens, causal)
            nearby = (near, False, self.rotation(tokens, positions, local=True))
        if every_layer is not None:
            every_layer.append(x)
        for number, layer in enumerate(self.layers):
            seen, one_way, rotation = nearby if self.config.is_local(number) else everywhere
            own = None if adapters is None else adapters.of_layer(number)
            x = _blanked(layer(x, seen, one_way, source, source_mask, rotation, own), blank)
            if every_layer is not None:
                every_layer.append(x)
        if self.final_norm is not None:
            x = _blanked(self.finish(x), blank)
            if every_layer is not None:
                every_layer[-1] = x
        return x

    def finish(self, x: Tensor) -> Tensor:
        """Return the last layer's output as hidden states: normalized once more if pre-norm."""
        return x if self.final_norm is None else self.final_norm(x)

    def project(self, x: Tensor, adapters: Adapters | None = None) -> Tensor:
        """Project ``[N, D] -> [N, V]``."""
        if self.output_transform is not None:
            x = self.output_transform(x)
        if adapters is not None and adapters.invertible is not None:
            x = adapters.invertible.inverse(x)
        weight = self.words.weight if self.output_weight is None else self.output_weight
        return F.linear(x, weight, self.output_bias)


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

        def stack(cross: bool, words: nn.Embedding | None = None) -> Stack:
            return Stack(
                config,
                vocab_size=vocab_size,
                num_languages=num_languages,
                pad_id=pad_id,
                cross=cross,
                words=words,
            )

        self.encoder = stack(cross=False)
        shared = self.encoder.words if config.shared_words else None
        self.decoder = stack(cross=True, words=shared) if config.num_decoder_layers else None
        self.initialize()

    def initialize(self) -> None:
        """Draw every first value from torch's default generator, as ``initialization`` says."""
        draw = draw_normal if self.config.initialization == "normal" else draw_as_xlm
        for stack in (self.encoder, self.decoder):
            if stack is not None:
                draw(stack, self.config.dim)

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
    ) -> Tensor:
        """Return the encoder's hidden states ``[B, T, D]``, zero at padding.

        ``tokens``, ``positions``, ``langs``, ``segments`` int64 ``[B, T]``, ``lengths`` int64
        ``[B]``. Without positions they are 0..T-1; without langs, or with a model of one language,
        no language vector is added; segments are 0 if none are given, and only used by a model with
        two rows of them or more. ``padded=False`` promises that every row is full and skips the
        masks. Raises ConfigError if T exceeds ``max_positions`` and no positions are given.
        """
        hidden: Tensor = self.encoder(
            tokens, lengths, positions, langs, causal, padded, segments=segments
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
        gathered = hidden.flatten(0, 1).index_select(0, cells)
        return self._side(side).project(gathered)

    def _side(self, side: Side) -> Stack:
        if side == "encoder":
            return self.encoder
        if self.decoder is None:
            raise ConfigError(
                "the model has no decoder, but a part of this run decodes: set "
                "model.num_decoder_layers above 0"
            )
        return self.decoder


def _padding(lengths: Tensor, size: int) -> Tensor:
    """Return bool ``[B, T]``, True at the padding."""
    return torch.arange(size, device=lengths.device) >= lengths[:, None]


def visible(lengths: Tensor, size: int) -> Tensor:
    """Return bool ``[B, 1, 1, T]``, True at the keys that may be attended.

    The first always may: a softmax over no key at all is not a number, even in an empty row.
    """
    return ~_padding(lengths.clamp(min=1), size)[:, None, None, :]


def _blanked(x: Tensor, blank: Tensor | None) -> Tensor:
    return x if blank is None else x.masked_fill(blank, 0.0)

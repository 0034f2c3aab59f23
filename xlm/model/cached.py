"""A causal stack that is given tokens step by step and keeps keys and values of those before.

first tokens together, then one token a row and step --> logits of the next token
"""

from __future__ import annotations

import torch
from torch import Tensor

from xlm.model.adapters import Adapters
from xlm.model.layers import Layer
from xlm.model.stack import Stack, visible
from xlm.model.transformer import Transformer
from xlm.model.windows import within

GROWTH = 16
"""Room for keys and values is made for so many positions at a time."""


class CachedStack:
    """An encoder that is read as a causal model, or a decoder with its sources.

    ``R = B x W`` rows: ``W`` hypotheses of each of ``B`` texts, next to each other. ``langs`` are
    the languages ``[B]``, ``sources`` the keys and values of each layer's sources with their mask,
    ``adapters`` those of the rows' table. ``offsets`` (int64 ``[B]``) are the columns of padding
    before each text, so that texts of several lengths end together: positions are counted from
    there, and nothing before is seen.
    """

    def __init__(
        self,
        stack: Stack,
        langs: Tensor,
        *,
        width: int = 1,
        sources: list[tuple[Tensor, Tensor]] | None = None,
        mask: Tensor | None = None,
        adapters: Adapters | None = None,
        offsets: Tensor | None = None,
    ) -> None:
        self.pad_id = int(stack.words.padding_idx or 0)
        self._stack, self._width, self._langs = stack, width, langs
        self._layers = [layer for layer in stack.layers if isinstance(layer, Layer)]
        self._sources, self._mask = sources, mask
        self._adapters = stack.adapters if adapters is None else adapters
        self._offsets = offsets
        self._kept: Tensor | None = None
        self._spare: Tensor | None = None
        self._length = 0

    def step(self, tokens: Tensor) -> Tensor:
        """Return the logits ``[R, V]`` of the tokens after ``tokens`` (int64 ``[R]``).

        At first ``tokens`` may be ``[R, T]``, the first ``T`` of each row.
        """
        tokens = tokens[:, None] if tokens.ndim == 1 else tokens
        num = tokens.shape[1]
        columns = torch.arange(self._length, self._length + num, device=tokens.device)
        at = self._positions(columns)
        langs = self._langs.repeat_interleave(self._width)[:, None].expand_as(tokens)
        x = self._stack.embed(tokens, at.expand_as(tokens), langs)
        adapters = self._adapters
        if adapters is not None and adapters.invertible is not None:
            x = adapters.invertible(x)
        config = self._stack.config
        rotations = [self._stack.rotation(tokens, at, local=local) for local in (False, True)]
        firsts = [0, max(0, self._length - (config.window or 0) // 2)]
        masks = [
            self._sight(tokens, columns, firsts[local], local=local) for local in (False, True)
        ]
        kept = self._with_room(x, num)
        for number, layer in enumerate(self._layers):
            local = config.is_local(number)
            source = self._sources[number] if self._sources is not None else None
            x = layer.step(
                x, kept[number], self._length, source, self._mask, rotations[local],
                firsts[local], masks[local], adapters.of_layer(number) if adapters else None,
            )  # fmt: skip
        self._length += num
        logits = self._stack.project(self._stack.finish(x)[:, -1], adapters)
        # sums of many log-probabilities are compared: not in bfloat16
        return logits if logits.dtype == torch.float64 else logits.float()

    def _positions(self, columns: Tensor) -> Tensor:
        """Return the positions ``[R or 1, T]`` of ``columns`` ``[T]``; in padding they are 0."""
        if self._offsets is None:
            return columns[None]
        return (columns - self._offsets.repeat_interleave(self._width)[:, None]).clamp(min=0)

    def _sight(self, tokens: Tensor, columns: Tensor, first: int, *, local: bool) -> Tensor | None:
        """Return bool ``[R or 1, 1, T, columns from first on]``, True for keys in sight.

        None if that is each column before and the query's own. Padding sees itself, as a softmax
        over no key is not a number.
        """
        window = self._stack.config.window if local else None
        if self._offsets is None:
            if window is None or tokens.shape[1] == 1:
                return None
            return within(window, None, tokens, True)
        keys = torch.arange(first, self._length + len(columns), device=columns.device)
        distances = columns[:, None] - keys
        near = distances >= 0
        if window is not None:
            near &= distances <= window // 2
        offsets = self._offsets.repeat_interleave(self._width)[:, None, None, None]
        return near & (keys >= offsets) | (distances == 0)

    def _with_room(self, x: Tensor, num: int) -> Tensor:
        """Return keys and values, ``[layers, 2, R, H, L, D/H]``, with room for ``num`` more."""
        if self._kept is None or self._kept.shape[4] < self._length + num:
            config, device = self._stack.config, x.device
            dtype = x.dtype
            if torch.is_autocast_enabled(device.type):
                dtype = torch.get_autocast_dtype(device.type)
            num_heads = config.num_heads
            size = (
                len(self._layers), 2, len(x), num_heads, self._length + num - 1 + GROWTH,
                config.dim // num_heads,
            )  # fmt: skip
            grown = torch.empty(size, dtype=dtype, device=device)
            if self._kept is not None:
                grown[:, :, :, :, : self._length] = self._kept[:, :, :, :, : self._length]
            self._kept = grown
        return self._kept

    def follow(self, rows: Tensor, sources: Tensor | None = None) -> None:
        """Go on from what was kept of ``rows`` (int64 ``[R']``, indices of rows), in that order.

        ``sources`` (int64, ascending) are the only texts that are left, if some are done.
        """
        kept = self._kept
        if kept is not None:
            size = (*kept.shape[:2], len(rows), *kept.shape[3:])
            if self._spare is None or self._spare.shape != size:
                self._spare = kept.new_empty(size)
            # in turn into two buffers: memory that is new at each step costs more than the copy
            torch.index_select(kept, 2, rows, out=self._spare)
            self._kept, self._spare = self._spare, kept
        if sources is not None:
            self._langs = self._langs[sources]
            if self._offsets is not None:
                self._offsets = self._offsets[sources]
            if self._sources is not None and self._mask is not None:
                self._sources = [
                    (key.index_select(0, sources), value.index_select(0, sources))
                    for key, value in self._sources
                ]
                self._mask = self._mask[sources]

    def widen(self, width: int) -> None:
        """Follow ``width`` hypotheses of each text from here on, all alike so far."""
        rows = torch.arange(len(self._langs), device=self._langs.device)
        self.follow(rows.repeat_interleave(width))
        self._width = width


def decoder_of(
    model: Transformer, memory: Tensor, lengths: Tensor, langs: Tensor, width: int
) -> CachedStack:
    """Return a model's decoder with its sources.

    ``memory`` ``[B, S, D]`` as ``encode`` returned it, ``lengths`` and ``langs`` ``[B]``, ``width``
    hypotheses of each source.
    """
    assert model.decoder is not None
    sources = [
        layer.cross_attention.key_and_value(memory)
        for layer in model.decoder.layers
        if isinstance(layer, Layer) and layer.cross_attention is not None
    ]
    mask = visible(lengths, memory.shape[1])
    return CachedStack(model.decoder, langs, width=width, sources=sources, mask=mask)

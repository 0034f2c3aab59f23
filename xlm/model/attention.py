"""Attention of a row to itself, and of a decoder's row to its source (section 3.2 of
"Attention Is All You Need").

Axes: ``B`` rows, ``T`` positions (``S`` those of a source), ``D`` width, ``H`` heads. A boolean
attention mask is True for the keys that may be attended.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlm.model.cells import ByRow, at_cells, by_row
from xlm.model.config import ModelConfig
from xlm.model.dropout import dropout
from xlm.model.norms import build_norm
from xlm.model.positions import Rotation, rotate
from xlm.model.windows import Blocks, Sight, in_blocks, in_rows, with_neighbors

_LOW_PRECISION = (torch.bfloat16, torch.float16)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    rate: float = 0.0,
) -> Tensor:
    """Apply scaled dot-product attention by whichever implementation is faster here.

    ``query`` ``[B, H, T, D/H]``, ``key`` and ``value`` ``[B, H, S, D/H]``, ``mask`` bool,
    broadcast to ``[B, H, T, S]``; ``causal`` and a mask exclude each other; ``rate`` is that of
    dropout on the weights. Returns ``[B, H, T, D/H]``.
    """
    if prefers_plain(query, rate):
        return plain_attention(query, key, value, mask, causal, rate)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=rate, is_causal=causal
    )


def prefers_plain(query: Tensor, rate: float = 0.0) -> bool:
    """Return whether matrix products and a softmax beat torch's own attention.

    ``rate`` is that of dropout, which torch's own has no faster way for on a CPU.

    On CPUs they do in low precision: forward and backward of 8 x 256 tokens with 8 heads of 64 in
    bfloat16 took 8 ms against 23, with dropout 28 against 50. In float32 the two differ by less
    than 5 %, and torch's keeps no T x T weights without dropout.
    """
    return query.device.type == "cpu" and (rate > 0 or query.dtype in _LOW_PRECISION)


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    rate: float = 0.0,
) -> Tensor:
    """Compute ``attention`` as written in the paper; the softmax is at least in float32."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if causal:
        size = scores.shape[-2:]
        mask = torch.ones(size, dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    wide = torch.float32 if scores.dtype in _LOW_PRECISION else scores.dtype
    weights = scores.softmax(-1, dtype=wide).to(value.dtype)
    return dropout(weights, rate) @ value


def block_attention(
    query: Tensor, key: Tensor, value: Tensor, blocks: Blocks, rate: float = 0.0
) -> Tensor:
    """Compute ``attention`` of each block to itself and its neighbors, ``[B, H, T, D/H]`` each."""
    rows, _, length, _ = query.shape
    mask = blocks.mask.expand(rows, -1, -1, -1).flatten(0, 1)[:, None]
    seen = attention(
        in_blocks(query, blocks.size),
        with_neighbors(key, blocks.size),
        with_neighbors(value, blocks.size),
        mask,
        rate=rate,
    )
    return in_rows(seen, rows, length)


class SelfAttention(nn.Module):
    """Attention of a row to itself; query, key and value come from one product."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.query_key_value = nn.Linear(config.dim, 3 * config.dim, bias=config.biases)
        self.output = nn.Linear(config.dim, config.dim, bias=config.biases)
        self.query_norm, self.key_norm = _head_norms(config)

    def forward(
        self,
        x: Tensor,
        mask: Sight | None,
        causal: bool,
        rotation: Rotation | None = None,
        cells: Tensor | None = None,
    ) -> Tensor:
        """Map ``x`` ``[B, T, D]``, ``mask`` bool ``[B, 1, 1, T]``, blocks or None -> ``[B, T, D]``.

        ``rotation`` is that of each position, of a model whose positions are rotary. With flat
        ``cells`` (int64 ``[N]``) the output is that of those alone, ``[N, D]``.
        """
        rate = self.dropout if self.training else 0.0
        if cells is not None and not isinstance(mask, Blocks):
            asked = by_row(cells, x.shape[0], x.shape[1])
            if asked is not None:
                seen = self._attend_at(x, asked, mask, causal, rotation, rate)
                return self.output(at_cells(_joined(seen), asked.places))  # type: ignore[no-any-return]
        query, key, value = self._project(x, rotation)
        if isinstance(mask, Blocks):
            seen = block_attention(query, key, value, mask, rate)
        else:
            seen = attention(query, key, value, mask, causal, rate)
        return self.output(at_cells(_joined(seen), cells))  # type: ignore[no-any-return]

    def step(
        self,
        x: Tensor,
        kept: Tensor,
        at: int,
        rotation: Rotation | None = None,
        first: int = 0,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Compute the next position alone: ``x`` ``[B, 1, D]`` at position ``at`` -> ``[B, 1, D]``.

        ``kept`` ``[2, B, H, L, D/H]`` holds key and value of the positions before, keys turned by
        their own position; those of this one are written into it. ``rotation`` is that of ``at``,
        ``first`` the first position in sight. In evaluation only: nothing is dropped. At position
        0, ``x`` may be ``[B, T, D]``, the first ``T`` positions together, each of which sees those
        before it, of local layers as ``mask`` says.
        """
        query, key, value = self._project(x, rotation)
        end = at + x.shape[1]
        kept[0, :, :, at:end], kept[1, :, :, at:end] = key, value
        seen = kept[:, :, :, first:end]
        causal = x.shape[1] > 1 and mask is None
        return self.output(_joined(attention(query, seen[0], seen[1], mask, causal)))  # type: ignore[no-any-return]

    def _attend_at(
        self,
        x: Tensor,
        asked: ByRow,
        mask: Tensor | None,
        causal: bool,
        rotation: Rotation | None,
        rate: float,
    ) -> Tensor:
        """Attend from some cells of each row alone: ``x`` ``[B, T, D]`` -> ``[B, H, M, D/H]``."""
        rows, length, width = x.shape
        weight, bias = self.query_key_value.weight, self.query_key_value.bias
        of_query, of_others = (None, None) if bias is None else (bias[:width], bias[width:])
        own = F.linear(asked.of_rows(x), weight[:width], of_query)
        (query,) = _heads(own, 1, self.num_heads)
        key, value = _heads(F.linear(x, weight[width:], of_others), 2, self.num_heads)
        query, key = _normed(self.query_norm, query), _normed(self.key_norm, key)
        if rotation is not None:
            turns = (asked.of_rows(by.expand(rows, -1, -1, -1)[:, 0])[:, None] for by in rotation)
            query, key = rotate(query, Rotation(*turns)), rotate(key, rotation)
        if causal:
            mask = (torch.arange(length) <= asked.positions[:, :, None])[:, None]
        elif mask is not None and mask.shape[-2] > 1:
            mask = asked.of_rows(mask.expand(rows, -1, -1, -1)[:, 0])[:, None]
        return attention(query, key, value, mask, rate=rate)

    def _project(self, x: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value, ``[B, H, T, D/H]`` each, normalized before they turn."""
        query, key, value = _heads(self.query_key_value(x), 3, self.num_heads)
        query, key = _normed(self.query_norm, query), _normed(self.key_norm, key)
        if rotation is not None:
            # both at once: on CPUs such small products cost more by their number than their size
            query, key = rotate(torch.stack([query, key]), rotation).unbind(0)
        return query, key, value


class CrossAttention(nn.Module):
    """Attention of a decoder's row to its source; rotary positions do not turn it.

    The positions of words in two languages cannot be compared.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(config.dim, config.dim, bias=config.biases)
        self.key_value = nn.Linear(config.dim, 2 * config.dim, bias=config.biases)
        self.output = nn.Linear(config.dim, config.dim, bias=config.biases)
        self.query_norm, self.key_norm = _head_norms(config)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from ``x`` ``[B, T, D]`` to ``source`` ``[B, S, D]``, ``mask`` bool
        ``[B, 1, 1, S]``."""
        return self.attend(x, *self.key_and_value(source), mask)

    def key_and_value(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return a source's keys and values, ``[B, H, S, D/H]`` each: equal at every position."""
        key, value = _heads(self.key_value(source), 2, self.num_heads)
        return _normed(self.key_norm, key), value

    def attend(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """Apply ``forward`` with the source as ``key_and_value`` returned it."""
        (query,) = _heads(self.query(x), 1, self.num_heads)
        query = _normed(self.query_norm, query)
        rate = self.dropout if self.training else 0.0
        return self.output(_joined(attention(query, key, value, mask, False, rate)))  # type: ignore[no-any-return]


def _head_norms(config: ModelConfig) -> tuple[nn.Module | None, nn.Module | None]:
    """Return the normalizations of a head's queries and keys, None unless ``qk_norm``."""
    if not config.qk_norm:
        return None, None
    width = config.dim // config.num_heads
    return build_norm(config, width), build_norm(config, width)


def _normed(norm: nn.Module | None, x: Tensor) -> Tensor:
    """Return ``x``, normalized in the norm's type whatever autocast says, in its own type."""
    if norm is None:
        return x
    return norm(x.to(norm.weight.dtype)).to(x.dtype)  # type: ignore[no-any-return, arg-type]


def _heads(x: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """Split ``[B, T, parts x D]`` into ``parts`` of ``[B, H, T, D/H]``."""
    rows, length, width = x.shape
    x = x.view(rows, length, parts, num_heads, width // (parts * num_heads))
    return x.permute(2, 0, 3, 1, 4).unbind(0)


def _joined(x: Tensor) -> Tensor:
    """Join the heads: ``[B, H, T, D/H] -> [B, T, D]``."""
    return x.transpose(1, 2).flatten(2)

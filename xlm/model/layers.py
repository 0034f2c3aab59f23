"""The parts of XLM's transformer (algorithms B5): post-norm layers over batch-first tensors.

Axes: ``B`` rows, ``T`` positions (``S`` those of a source), ``D`` width, ``H`` heads, ``N``
predicted cells, ``V`` vocabulary. A boolean attention mask is True where a key may be attended.
"""

from __future__ import annotations

import importlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from xlm.batch import IGNORED
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig

_LOW_PRECISION = (torch.bfloat16, torch.float16)


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """Scaled dot-product attention by whichever implementation is the faster one here.

    ``query`` ``[B, H, T, D/H]``, ``key`` and ``value`` ``[B, H, S, D/H]``, ``mask`` bool,
    broadcast to ``[B, H, T, S]``; ``causal`` and a mask exclude each other. Returns
    ``[B, H, T, D/H]``.
    """
    if prefers_plain(query):
        return plain_attention(query, key, value, mask, causal, dropout)
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout, is_causal=causal
    )


def prefers_plain(query: Tensor) -> bool:
    """Whether matrix products and a softmax beat torch's own attention.

    On CPUs they do in low precision: forward and backward of 8 x 256 tokens with 8 heads of 64 in
    bfloat16 took 8 ms against 23, with dropout 28 against 50. In float32 the two differ by less
    than 5 %, and torch's keeps no T x T weights where there is no dropout.
    """
    return query.device.type == "cpu" and query.dtype in _LOW_PRECISION


def plain_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    causal: bool = False,
    dropout: float = 0.0,
) -> Tensor:
    """``attention`` as written in the paper; the softmax is at least in float32."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    if causal:
        size = scores.shape[-2:]
        mask = torch.ones(size, dtype=torch.bool, device=scores.device).tril()
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    wide = torch.float32 if scores.dtype in _LOW_PRECISION else scores.dtype
    weights = scores.softmax(-1, dtype=wide).to(value.dtype)
    return F.dropout(weights, dropout) @ value


def sum_cross_entropy(
    logits: Tensor, targets: Tensor, ignore: int = IGNORED, label_smoothing: float = 0.0
) -> Tensor:
    """The summed cross-entropy in nats, a scalar of at least float32.

    ``logits`` ``[N, V]``, ``targets`` int64 ``[N]``; those equal to ``ignore`` count nothing.
    """
    if logits.dtype in _LOW_PRECISION:
        logits = logits.float()
    return F.cross_entropy(
        logits, targets, ignore_index=ignore, reduction="sum", label_smoothing=label_smoothing
    )


def layer_norm(config: ModelConfig) -> nn.Module:
    """Layer normalization over the width; raises ConfigError where apex is asked for and absent."""
    if not config.fused_layer_norm:
        return nn.LayerNorm(config.dim, eps=config.layer_norm_eps)
    try:
        # apex looks for its compiled kernel only when a norm is made
        fused = importlib.import_module("apex.normalization").FusedLayerNorm
        made: nn.Module = fused(config.dim, eps=config.layer_norm_eps)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"model.fused_layer_norm needs NVIDIA apex with its CUDA kernels ({error}): build it "
            f"from github.com/NVIDIA/apex (the package that pip calls apex is another project), "
            f"or set model.fused_layer_norm to false"
        ) from error
    return made


class SelfAttention(nn.Module):
    """Attention of a row to itself; query, key and value come from one product."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.query_key_value = nn.Linear(config.dim, 3 * config.dim)
        self.output = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        """``x`` ``[B, T, D]``, ``mask`` bool ``[B, 1, 1, T]`` or None -> ``[B, T, D]``."""
        query, key, value = _heads(self.query_key_value(x), 3, self.num_heads)
        dropout = self.dropout if self.training else 0.0
        return self.output(_joined(attention(query, key, value, mask, causal, dropout)))  # type: ignore[no-any-return]

    def step(self, x: Tensor, kept: Tensor, at: int) -> Tensor:
        """The next position alone: ``x`` ``[B, 1, D]`` at position ``at`` -> ``[B, 1, D]``.

        ``kept`` ``[2, B, H, L, D/H]`` holds key and value of the positions before; those of this
        one are written into it. In evaluation only: nothing is dropped.
        """
        query, key, value = _heads(self.query_key_value(x), 3, self.num_heads)
        kept[0, :, :, at], kept[1, :, :, at] = key[:, :, 0], value[:, :, 0]
        seen = kept[:, :, :, : at + 1]
        return self.output(_joined(attention(query, seen[0], seen[1])))  # type: ignore[no-any-return]


class CrossAttention(nn.Module):
    """Attention of a decoder's row to its source."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.num_heads = config.num_heads
        self.dropout = config.attention_dropout
        self.query = nn.Linear(config.dim, config.dim)
        self.key_value = nn.Linear(config.dim, 2 * config.dim)
        self.output = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, source: Tensor, mask: Tensor | None) -> Tensor:
        """``x`` ``[B, T, D]``, ``source`` ``[B, S, D]``, ``mask`` bool ``[B, 1, 1, S]`` or None."""
        return self.attend(x, *self.key_and_value(source), mask)

    def key_and_value(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """What a source is seen by, ``[B, H, S, D/H]`` each: the same at every position."""
        key, value = _heads(self.key_value(source), 2, self.num_heads)
        return key, value

    def attend(self, x: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        """``forward`` with the source as ``key_and_value`` gave it."""
        (query,) = _heads(self.query(x), 1, self.num_heads)
        dropout = self.dropout if self.training else 0.0
        return self.output(_joined(attention(query, key, value, mask, False, dropout)))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two linear layers with an activation, and no dropout, between them."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.expand = nn.Linear(config.dim, config.inner_dim)
        self.contract = nn.Linear(config.inner_dim, config.dim)
        self.activation = F.gelu if config.activation == "gelu" else F.relu

    def forward(self, x: Tensor) -> Tensor:
        """``[B, T, D] -> [B, T, D]``."""
        return self.contract(self.activation(self.expand(x)))  # type: ignore[no-any-return]


class OutputTransform(nn.Module):
    """What BERT and XLM-R put between the last layer and the projection onto the vocabulary."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.dim, config.dim)
        self.activation = F.gelu if config.activation == "gelu" else F.relu
        self.norm = layer_norm(config)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, D] -> [N, D]``."""
        return self.norm(self.activation(self.dense(x)))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """One post-norm layer: each sub-layer's output is added, then the sum normalized."""

    def __init__(self, config: ModelConfig, *, cross: bool):
        super().__init__()
        self.dropout = config.dropout
        self.attention = SelfAttention(config)
        self.attention_norm = layer_norm(config)
        self.cross_attention = CrossAttention(config) if cross else None
        self.cross_attention_norm = layer_norm(config) if cross else None
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = layer_norm(config)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        causal: bool,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
    ) -> Tensor:
        """``x`` ``[B, T, D]``, masks as in the attentions; padded cells are not zeroed here.

        Without ``source`` a decoder's layer is as if it had no cross-attention.
        """
        x = self.attention_norm(x + self._dropped(self.attention(x, mask, causal)))
        if source is not None:
            assert self.cross_attention is not None and self.cross_attention_norm is not None
            seen = self.cross_attention(x, source, source_mask)
            x = self.cross_attention_norm(x + self._dropped(seen))
        x = self.feed_forward_norm(x + self._dropped(self.feed_forward(x)))
        return x

    def step(
        self, x: Tensor, kept: Tensor, at: int, source: tuple[Tensor, Tensor], mask: Tensor
    ) -> Tensor:
        """The next position of a decoder alone, in evaluation: ``[B x W, 1, D]``, the same back.

        ``kept`` and ``at`` as in ``SelfAttention.step``; ``source`` is what
        ``CrossAttention.key_and_value`` gave for ``B`` sources, each that of ``W`` rows in a row.
        """
        assert self.cross_attention is not None and self.cross_attention_norm is not None
        x = self.attention_norm(x + self.attention.step(x, kept, at))
        # the rows of a source look at it together: it is neither copied nor masked for each
        together = x.view(len(mask), -1, x.shape[-1])
        seen = self.cross_attention.attend(together, *source, mask).view_as(x)
        x = self.cross_attention_norm(x + seen)
        return self.feed_forward_norm(x + self.feed_forward(x))  # type: ignore[no-any-return]

    def _dropped(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.dropout, self.training)


def _heads(x: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """``[B, T, parts x D]`` -> ``parts`` of ``[B, H, T, D/H]``."""
    rows, length, width = x.shape
    x = x.view(rows, length, parts, num_heads, width // (parts * num_heads))
    return x.permute(2, 0, 3, 1, 4).unbind(0)


def _joined(x: Tensor) -> Tensor:
    """``[B, H, T, D/H] -> [B, T, D]``."""
    return x.transpose(1, 2).flatten(2)

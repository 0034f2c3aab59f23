"""The layers of XLM's transformer (algorithms B5): post-norm, over batch-first tensors.

Axes: ``B`` rows, ``T`` positions (``S`` those of a source), ``D`` width, ``N`` predicted cells.
"""

from __future__ import annotations

import importlib

import torch.nn.functional as F
from torch import Tensor, nn

from xlm.errors import ConfigError
from xlm.model.attention import CrossAttention, SelfAttention
from xlm.model.config import ModelConfig


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

"""The layers of a transformer (XLM section 5.1; docs/fidelity.md, B5), over batch-first tensors.

    x --norm--> part --> dropout --> + x     (norm: pre)
    x --> part --> dropout --> + x --norm-->  (norm: post, the original's)

Axes: ``B`` rows, ``T`` positions (``S`` those of a source), ``D`` width, ``N`` predicted cells.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from xlm.model.activations import ACTIVATIONS
from xlm.model.adapters import Bottleneck, LayerAdapters
from xlm.model.attention import CrossAttention, SelfAttention
from xlm.model.cells import at_cells
from xlm.model.config import ModelConfig
from xlm.model.dropout import dropout
from xlm.model.norms import build_norm
from xlm.model.positions import Rotation
from xlm.model.windows import Sight


class FeedForward(nn.Module):
    """Two linear layers with an activation, and no dropout, between them."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.activation, self.gated = ACTIVATIONS[config.activation], config.gated
        inner = config.inner_dim * (2 if self.gated else 1)
        self.expand = nn.Linear(config.dim, inner, bias=config.biases)
        self.contract = nn.Linear(config.inner_dim, config.dim, bias=config.biases)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[B, T, D] -> [B, T, D]``."""
        inner = self.expand(x)
        if self.gated:
            inner, gate = inner.chunk(2, dim=-1)
            return self.contract(self.activation(inner) * gate)  # type: ignore[no-any-return]
        return self.contract(self.activation(inner))  # type: ignore[no-any-return]


class OutputTransform(nn.Module):
    """The layer of BERT and XLM-R between the last layer and the projection onto the vocabulary."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = nn.Linear(config.dim, config.dim, bias=config.biases)
        self.activation = ACTIVATIONS[config.activation]
        self.norm = build_norm(config)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[N, D] -> [N, D]``."""
        return self.norm(self.activation(self.dense(x)))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """Self-attention, attention to a source if ``cross``, and a feed-forward part."""

    def __init__(self, config: ModelConfig, *, cross: bool, first: bool = False):
        super().__init__()
        self.dropout = config.dropout
        self.normalizes_input = config.norm == "pre"
        self.attention = SelfAttention(config)
        normalizes = config.first_norm or not first
        self.attention_norm = build_norm(config) if normalizes else nn.Identity()
        self.cross_attention = CrossAttention(config) if cross else None
        self.cross_attention_norm = build_norm(config) if cross else None
        self.feed_forward = FeedForward(config)
        self.feed_forward_norm = build_norm(config)

    def forward(
        self,
        x: Tensor,
        mask: Sight | None,
        causal: bool,
        source: Tensor | None = None,
        source_mask: Tensor | None = None,
        rotation: Rotation | None = None,
        adapters: LayerAdapters | None = None,
        cells: Tensor | None = None,
    ) -> Tensor:
        """Map ``x`` ``[B, T, D]``, masks as in the attentions; padded cells are not zeroed here.

        Without ``source`` a decoder's layer is as if it had no cross-attention. With flat ``cells``
        (int64 ``[N]``) all that follows the attention is computed at those alone: ``[N, D]``.
        """
        x = self._residual(
            x,
            self.attention_norm,
            lambda x: self.attention(x, mask, causal, rotation, cells),
            None if adapters is None else adapters.attention,
            cells,
        )
        if source is not None:
            assert self.cross_attention is not None and self.cross_attention_norm is not None
            look = self.cross_attention
            x = self._residual(x, self.cross_attention_norm, lambda x: look(x, source, source_mask))
        return self._feed_forward(x, adapters)

    def step(
        self,
        x: Tensor,
        kept: Tensor,
        at: int,
        source: tuple[Tensor, Tensor] | None = None,
        source_mask: Tensor | None = None,
        rotation: Rotation | None = None,
        first: int = 0,
        mask: Tensor | None = None,
        adapters: LayerAdapters | None = None,
    ) -> Tensor:
        """Compute a causal row's next position, in evaluation: ``[B x W, 1, D]`` to the same.

        ``kept``, ``at``, ``first`` and ``mask`` as in ``SelfAttention.step``; ``source`` is what
        ``CrossAttention.key_and_value`` gave for ``B`` sources, each that of ``W`` rows in a row;
        without one there is no cross-attention.
        """
        x = self._residual(
            x,
            self.attention_norm,
            lambda x: self.attention.step(x, kept, at, rotation, first, mask),
            None if adapters is None else adapters.attention,
        )
        if source is not None:
            assert source_mask is not None
            assert self.cross_attention is not None and self.cross_attention_norm is not None
            look, rows = self.cross_attention, len(source_mask)

            def look_together(x: Tensor) -> Tensor:
                # the rows of a source look at it together: it is neither copied nor masked for each
                return look.attend(x.view(rows, -1, x.shape[-1]), *source, source_mask).view_as(x)

            x = self._residual(x, self.cross_attention_norm, look_together)
        return self._feed_forward(x, adapters)

    def _feed_forward(self, x: Tensor, adapters: LayerAdapters | None) -> Tensor:
        """Add the feed-forward part, with the adapters that follow it."""
        norm, part = self.feed_forward_norm, self.feed_forward
        if adapters is None:
            return self._residual(x, norm, part)
        if adapters.normalized is None:
            return self._residual(x, norm, part, adapters.feed_forward)
        if self.normalizes_input:
            x = x + self._dropped(part(norm(x)))
            return x + adapters.normalized(x)  # type: ignore[no-any-return]
        x = x + self._dropped(part(x))
        return norm(x + adapters.normalized(norm(x)))  # type: ignore[no-any-return]

    def _residual(
        self,
        x: Tensor,
        norm: nn.Module,
        part: Callable[[Tensor], Tensor],
        adapter: Bottleneck | None = None,
        cells: Tensor | None = None,
    ) -> Tensor:
        """Add a part's output to its input; ``norm`` acts on the sum (post) or the input (pre).

        With ``cells`` the part returns those alone, and so does this.
        """
        own = at_cells(x, cells)
        if self.normalizes_input:
            return own + self._adapted(self._dropped(part(norm(x))), adapter)
        return norm(own + self._adapted(self._dropped(part(x)), adapter))  # type: ignore[no-any-return]

    @staticmethod
    def _adapted(x: Tensor, adapter: Bottleneck | None) -> Tensor:
        return x if adapter is None else x + adapter(x)

    def _dropped(self, x: Tensor) -> Tensor:
        return dropout(x, self.dropout, self.training)

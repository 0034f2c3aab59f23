"""One side of a transformer: embeddings, the padding mask, layers, the output onto the vocabulary.

tokens + positions + languages -> norm -> dropout -> layers -> hidden --> logits
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from xlm.model.adapters import Adapters
from xlm.model.cells import at_cells
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import linear_cross_entropy, sum_cross_entropy
from xlm.model.embeddings import Embeddings
from xlm.model.language_tables import ROLES, Symbols, Table
from xlm.model.layers import Layer, OutputTransform
from xlm.model.norms import build_norm
from xlm.model.positions import Rotation
from xlm.model.windows import Sight, sight

_M = TypeVar("_M", bound=nn.Module)

_Seen = tuple[Sight | None, bool, Rotation | None]
"""A mask or blocks, whether rows are causal, and the rotation of each position."""


class Stack(Embeddings):
    """One side: its embeddings, its layers, and its output onto the vocabulary."""

    output_symbols: nn.Parameter | None
    """The shared symbols' rows of an output matrix that is not tied, float ``[S, D]``."""
    adapters: Adapters | None
    """Those of the table that the stack reads; the model's own has none."""

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
        narrow = config.word_size
        self.words_out = None if narrow is None else nn.Linear(config.dim, narrow)
        self.output_bias = nn.Parameter(torch.empty(vocab_size))
        self.output_weight = None
        if not config.tied_output:
            self.output_weight = nn.Parameter(torch.empty(vocab_size, config.dim))
        self.register_parameter("output_symbols", None)
        self.register_module("adapters", None)
        self.tables = nn.ModuleDict()
        self.compiled = False
        """True once the layers are compiled."""
        self.recomputes = False
        """True if a layer's activations are made again in the backward pass, not kept."""

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
        cells: Tensor | None = None,
    ) -> Tensor:
        """Return the hidden states ``[B, T, D]``, zero at padding, or ``[N, D]`` of flat ``cells``.

        ``every_layer``, if a list is given, gets the embeddings and each layer's output, the last
        one as it is returned.
        """
        early = cells if self._narrows else None
        adapters = self.adapters if adapters is None else adapters
        # attention never looks at padding: it is zeroed for those who get it back
        zeroed = padded and (early is None or torch.is_grad_enabled())
        blank = _padding(lengths, tokens.shape[1])[:, :, None] if zeroed else None
        source_mask = None
        if padded and source is not None and source_lengths is not None:
            source_mask = visible(source_lengths, source.shape[1])
        x = self.embed(tokens, positions, langs, segments)
        if adapters is not None and adapters.invertible is not None:
            x = adapters.invertible(x)
        x = _blanked(x, blank)
        everywhere, nearby = self._sights(tokens, lengths, positions, causal, padded)
        if every_layer is not None:
            every_layer.append(x)
        for number, layer in enumerate(self.layers):
            seen, one_way, rotation = nearby if self.config.is_local(number) else everywhere
            own = None if adapters is None else adapters.of_layer(number)
            # a single row would make a graph of its own
            call: Any = layer._call_impl if self.compiled and len(x) == 1 else layer
            inputs = [x, seen, one_way, source, source_mask, rotation, own]
            if early is not None and number == len(self.layers) - 1:
                inputs.append(early)
                blank = None if blank is None else at_cells(blank, early)
            if self.recomputes and self.training and torch.is_grad_enabled():
                x = _blanked(checkpoint(call, *inputs, use_reentrant=False), blank)
            else:
                x = _blanked(call(*inputs), blank)
            if every_layer is not None:
                every_layer.append(x)
        if self.final_norm is not None:
            x = _blanked(self.finish(x), blank)
            if every_layer is not None:
                every_layer[-1] = x
        return x if early is not None else at_cells(x, cells)

    def _sights(
        self, tokens: Tensor, lengths: Tensor, positions: Tensor | None, causal: bool, padded: bool
    ) -> tuple[_Seen, _Seen]:
        """Return what layers see that look everywhere, and those that look nearby."""
        # on the right, padding is out of a causal row's sight
        mask = visible(lengths, tokens.shape[1]) if padded and not causal else None
        everywhere = (mask, causal, self.rotation(tokens, positions))
        if self.config.window is None:
            return everywhere, everywhere
        near = sight(self.config.window, lengths if padded else None, tokens, causal)
        return everywhere, (near, False, self.rotation(tokens, positions, local=True))

    @property
    def _narrows(self) -> bool:
        """Return whether the last layer leaves out cells after its attention, most of its work.

        It does in inference mode and while something is dropped. Elsewhere products and gradients
        of fewer cells would round otherwise; compiled layers would need more graphs.
        """
        if self.compiled or torch.compiler.is_compiling():
            return False
        return torch.is_inference_mode_enabled() or (self.training and self.dropout > 0)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Hold the weights of layers that are sharded over processes, for calls of their parts.

        Collective then, at its beginning alone.
        """
        sharded: list[Any] = [layer for layer in self.layers if hasattr(layer, "unshard")]
        for layer in sharded:
            layer.unshard()
        try:
            yield
        finally:
            for layer in sharded:
                layer.reshard()

    def finish(self, x: Tensor) -> Tensor:
        """Return the last layer's output as hidden states: normalized once more if pre-norm."""
        return x if self.final_norm is None else self.final_norm(x)

    def compile_layers(self, **options: Any) -> None:
        """Compile each layer; all of a kind share their graphs, whose sizes may vary.

        ``options`` are those of ``torch.compile``.
        """
        self.compiled = True
        for layer in self.layers:
            layer.compile(**options)

    def project(self, x: Tensor, adapters: Adapters | None = None) -> Tensor:
        """Project ``[N, D] -> [N, V]``."""
        x, weight = self._before_output(x, adapters)
        return F.linear(x, weight, self.output_bias)

    def cross_entropy(
        self,
        x: Tensor,
        targets: Tensor,
        label_smoothing: float = 0.0,
        summed: Callable[..., Tensor] = sum_cross_entropy,
    ) -> Tensor:
        """Return the summed cross-entropy of ``project(x)``; see ``linear_cross_entropy``."""
        x, weight = self._before_output(x)
        return linear_cross_entropy(
            x, weight, self.output_bias, targets, label_smoothing=label_smoothing, summed=summed
        )

    def _before_output(self, x: Tensor, adapters: Adapters | None = None) -> tuple[Tensor, Tensor]:
        """Return the vectors ``[N, D]`` that are projected, and the matrix ``[V, D]``."""
        if self.output_transform is not None:
            x = self.output_transform(x)
        adapters = self.adapters if adapters is None else adapters
        if adapters is not None and adapters.invertible is not None:
            x = adapters.invertible.inverse(x)
        if self.words_out is not None:
            x = self.words_out(x)
        weight, symbols = self.words.weight, self.symbols
        if self.output_weight is not None:
            weight, symbols = self.output_weight, self.output_symbols
        if symbols is not None:
            assert self.shared is not None
            weight = weight.index_copy(0, self.shared.ids, symbols[self.shared.rows])
        return x, weight

    def table(self, name: str) -> Table:
        """Return the further table of that name."""
        table = self.tables[name]
        assert isinstance(table, Table)
        return table

    @torch.no_grad()
    def share_symbols(self, roles: Sequence[int]) -> None:
        """Make the symbols, of which ``roles`` are the ids, a parameter of all tables."""
        at = list(dict.fromkeys(roles))
        self.shared = Symbols(roles, roles, len(self.words.weight))
        self.symbols = nn.Parameter(self.words.weight[at].clone())
        if self.output_weight is not None:
            self.output_symbols = nn.Parameter(self.output_weight[at].clone())
        self.clear_symbol_rows(roles)

    @torch.no_grad()
    def clear_symbol_rows(self, roles: Sequence[int]) -> None:
        """Set the rows of shared symbols, which nothing reads, to zero in every table."""
        tables = [self.table(name) for name in self.tables]
        parts: list[tuple[Stack | Table, Sequence[int]]] = [(self, roles)]
        for part, own in [*parts, *((table, table.roles) for table in tables)]:
            part.words.weight[list(own)] = 0.0
            if part.output_weight is not None:
                part.output_weight[list(own)] = 0.0

    @contextmanager
    def symbols_in_rows(self, roles: Sequence[int]) -> Iterator[None]:
        """Hold the symbols in the rows of the own table while values from elsewhere are put in."""
        at = list(dict.fromkeys(roles))
        both = [(self.words.weight, self.symbols), (self.output_weight, self.output_symbols)]
        with torch.no_grad():
            for weight, symbols in both:
                if weight is not None and symbols is not None:
                    weight[at] = symbols
        yield
        with torch.no_grad():
            for weight, symbols in both:
                if weight is not None and symbols is not None:
                    symbols.copy_(weight[at])
            if self.symbols is not None:
                self.clear_symbol_rows(roles)

    def reading(self, name: str, roles: Sequence[int]) -> Stack:
        """Return this stack with a further table in place of its own; the parameters are shared.

        ``roles`` are the ids of the symbols in its own table.
        """
        table, same = self.table(name), shallow(self)
        same._modules |= {
            "words": table.words, "tables": nn.ModuleDict(), "adapters": table.adapters,
        }  # fmt: skip
        same._parameters |= {
            "output_bias": table.output_bias, "output_weight": table.output_weight,
        }  # fmt: skip
        if table.positions is not None:
            same._modules["positions"] = table.positions
        if table.language is not None:
            same._modules["languages"] = table.language
        same.begin_id = table.roles[ROLES.index("begin_id")]
        if self.symbols is not None:
            shared = Symbols(table.roles, roles, len(table.words.weight))
            same.shared = shared.to(table.words.weight.device)
        return same

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Stack:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.shared is not None:
            self.shared = self.shared.to(self.words.weight.device)
        return self


def shallow(module: _M) -> _M:
    """Return a module that shares its parts with another, each of which may be exchanged."""
    same = object.__new__(type(module))
    same.__dict__.update(module.__dict__)
    same.__dict__.pop("_compiled_call_impl", None)
    for part in ("_modules", "_parameters", "_buffers"):
        same.__dict__[part] = dict(module.__dict__[part])
    return same


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

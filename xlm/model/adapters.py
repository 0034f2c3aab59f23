"""Bottleneck adapters and an invertible one: a few parameters inside a body that stays as it is.

    houlsby:   r = dropout(part(x));  x + (r + B(r))               after both parts of a layer
    pfeiffer:  r = dropout(part(x));  norm(x + r + B(norm(x + r)))   after the feed-forward part
    B(x) = up(activation(down(x)))

Houlsby et al. 2019 ("Parameter-Efficient Transfer Learning for NLP", section 2.1) and Pfeiffer et
al. 2020 ("MAD-X", section 5.1). The invertible adapter (MAD-X, section 5.2) is NICE's additive
coupling (Dinh et al. 2015): it acts on the embeddings, and its inverse before the projection onto
the vocabulary. A model without adapters runs none of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xlm.config.hints import check_types
from xlm.errors import ConfigError
from xlm.model.activations import ACTIVATIONS

FIRST_STD = 1e-3
"""Standard deviation of the first weights, cut at two of it: nearly the identity (the code of
Houlsby et al.; MonoTrans says no more than that its adapters are theirs)."""


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """The shape of a table's adapters."""

    size: int = 64
    """Width between the two linear layers of an adapter (Houlsby et al.: 64)."""
    place: Literal["houlsby", "pfeiffer"] = "houlsby"
    """houlsby: two adapters in each layer, on the output of attention and of the feed-forward part,
    before the sum with their input (Houlsby et al. 2019; MonoTrans). pfeiffer: one, after the
    feed-forward part's normalization, which acts once more (MAD-X)."""
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    """The function between the two linear layers (MAD-X: relu)."""
    last_layer: bool = True
    """Put adapters into the last layer too; MAD-X 2.0 (Pfeiffer et al. 2021) leaves it out."""
    invertible: bool = False
    """Add the invertible adapter of MAD-X: it acts on the embeddings, and its inverse before the
    output."""

    def __post_init__(self) -> None:
        try:
            check_types(self)
        except ConfigError as error:
            raise ConfigError(f"adapters.{error}") from None
        if self.size < 1:
            raise ConfigError(f"adapters.size is {self.size}: expected at least 1")


class Bottleneck(nn.Module):
    """Two linear layers with an activation between them, without a sum of its own."""

    def __init__(self, inputs: int, size: int, outputs: int, activation: str):
        super().__init__()
        self.down = nn.Linear(inputs, size)
        self.up = nn.Linear(size, outputs)
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., inputs] -> [..., outputs]``."""
        return self.up(self.activation(self.down(x)))  # type: ignore[no-any-return]


class LayerAdapters(nn.Module):
    """The adapters of one layer; a place without one is None."""

    def __init__(self, dim: int, config: AdapterConfig):
        super().__init__()

        def adapter() -> Bottleneck:
            return Bottleneck(dim, config.size, dim, config.activation)

        houlsby = config.place == "houlsby"
        self.attention = adapter() if houlsby else None
        self.feed_forward = adapter() if houlsby else None
        self.normalized = None if houlsby else adapter()


class Coupling(nn.Module):
    """NICE's additive coupling: halves of a state that are added to each other's functions.

        y1 = x1 + F(x2);  y2 = x2 + G(y1)

    Each function is half as wide inside as its input is (MAD-X's code).
    """

    def __init__(self, dim: int, config: AdapterConfig):
        super().__init__()
        first, second = dim // 2, dim - dim // 2
        self.size = first
        activation = config.activation
        self.to_first = Bottleneck(second, max(second // 2, 1), first, activation)
        self.to_second = Bottleneck(first, max(first // 2, 1), second, activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``[..., D] -> [..., D]``."""
        first, second = x[..., : self.size], x[..., self.size :]
        first = first + self.to_first(second)
        return torch.cat([first, second + self.to_second(first)], dim=-1)

    def inverse(self, y: Tensor) -> Tensor:
        """Return the ``x`` that ``forward`` maps to ``y``, up to rounding."""
        first, second = y[..., : self.size], y[..., self.size :]
        second = second - self.to_second(first)
        return torch.cat([first - self.to_first(second), second], dim=-1)


class Adapters(nn.Module):
    """The adapters of a stack of ``num_layers`` layers of width ``dim``.

    Raises ConfigError if no layer would get one, or if a state has no two halves.
    """

    def __init__(self, dim: int, num_layers: int, config: AdapterConfig):
        super().__init__()
        self.config = config
        num_adapted = num_layers if config.last_layer else num_layers - 1
        if num_adapted < 1:
            raise ConfigError(
                f"adapters.last_layer is false, but the model has only {num_layers} layer, "
                "so no layer would get an adapter; set it to true"
            )
        if config.invertible and dim < 2:
            raise ConfigError(
                "adapters.invertible couples two halves of a state, but the model's width "
                f"is {dim}, which is odd: set it to false"
            )
        self.layers = nn.ModuleList(LayerAdapters(dim, config) for _ in range(num_adapted))
        self.invertible = Coupling(dim, config) if config.invertible else None
        self.initialize()

    @torch.no_grad()
    def initialize(self, generator: torch.Generator | None = None) -> None:
        """Draw every first value: truncated normal weights, biases 0."""
        for linear in self._linears():
            nn.init.trunc_normal_(
                linear.weight,
                std=FIRST_STD,
                a=-2 * FIRST_STD,
                b=2 * FIRST_STD,
                generator=generator,
            )
            nn.init.zeros_(linear.bias)

    def _linears(self) -> Iterator[nn.Linear]:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                yield module

    def of_layer(self, number: int) -> LayerAdapters | None:
        """Return the adapters of the layer of that number, from 0; None if it has none."""
        if number >= len(self.layers):
            return None
        adapters = self.layers[number]
        assert isinstance(adapters, LayerAdapters)
        return adapters


def num_adapter_parameters(dim: int, num_layers: int, config: AdapterConfig) -> int:
    """Return the number of parameters of the adapters of such a stack, by formula."""
    bottleneck = 2 * dim * config.size + config.size + dim
    adapted = num_layers if config.last_layer else num_layers - 1
    total = adapted * bottleneck * (2 if config.place == "houlsby" else 1)
    if config.invertible:
        for inputs, outputs in ((dim - dim // 2, dim // 2), (dim // 2, dim - dim // 2)):
            inner = max(inputs // 2, 1)
            total += inputs * inner + inner + inner * outputs + outputs
    return total

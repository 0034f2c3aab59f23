"""The values that a stack's parameters have before training, from torch's default generator."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

TABLE_STD = 0.02
"""Standard deviation of the tables' first values under ``initialization: normal`` (BERT's)."""
_OUTPUTS = ("attention.output", "feed_forward.contract")
"""The linear layers whose output is added to a residual stream."""


@torch.no_grad()
def draw_as_xlm(stack: nn.Module, dim: int) -> None:
    """Draw the original's first values (docs/fidelity.md, B6).

    - word, position, language and segment tables: normal(0, D^-1/2); the row of padding: 0
    - weight and bias of each linear: uniform(+-1/sqrt(inputs)); a fused one is thereby the
      same as its parts drawn apart
    - output bias, and the output matrix if it is not tied: the same, with D inputs
    - normalizations: weight 1, bias 0
    """
    for module in stack.modules():
        if module is stack:
            for parameter in _output(stack):
                nn.init.uniform_(parameter, -(dim**-0.5), dim**-0.5)
        elif isinstance(module, nn.Embedding):
            _draw_table(module, dim**-0.5)
        elif isinstance(module, nn.Linear):
            bound = module.in_features**-0.5
            nn.init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -bound, bound)
        elif type(module).__name__.endswith("Norm"):
            _reset_norm(module)


@torch.no_grad()
def draw_normal(stack: nn.Module, dim: int) -> None:
    """Draw small normal first values ("small init", Nguyen and Salazar 2019, section 2.2).

    - tables, and the output matrix if it is not tied: normal(0, 0.02); the row of padding: 0
    - weight of each linear: normal(0, sqrt(2 / 5D)), which is 0.02 at D = 1,000; of those that end
      a part of a layer, divided by the root of the number of parts (GPT-2, Radford et al. 2019)
    - matrix of the output transform: the identity, so that hidden states still lie among the word
      vectors that they are compared with
    - every bias: 0; normalizations: weight 1, bias 0
    """
    linears = {n: m for n, m in stack.named_modules() if isinstance(m, nn.Linear)}
    num_parts = sum(name.endswith(_OUTPUTS) for name in linears)
    for name, module in stack.named_modules():
        if module is stack:
            for parameter in _output(stack):
                if parameter.dim() == 1:
                    nn.init.zeros_(parameter)
                else:
                    nn.init.normal_(parameter, std=TABLE_STD)
        elif isinstance(module, nn.Embedding):
            _draw_table(module, TABLE_STD)
        elif isinstance(module, nn.Linear):
            if name == "output_transform.dense":
                nn.init.eye_(module.weight)
            else:
                scale = num_parts**-0.5 if name.endswith(_OUTPUTS) else 1.0
                nn.init.normal_(module.weight, std=scale * (2 / (5 * dim)) ** 0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif type(module).__name__.endswith("Norm"):
            _reset_norm(module)


def _output(stack: nn.Module) -> Iterator[Tensor]:
    """Yield the parameters of a stack's own: the bias and the matrix of its output."""
    for name in ("output_bias", "output_weight"):
        parameter = getattr(stack, name)
        if parameter is not None:
            yield parameter


def _draw_table(table: nn.Embedding, std: float) -> None:
    nn.init.normal_(table.weight, std=std)
    if table.padding_idx is not None:
        table.weight[table.padding_idx].zero_()


def _reset_norm(norm: nn.Module) -> None:
    nn.init.ones_(norm.weight)  # type: ignore[arg-type]
    if getattr(norm, "bias", None) is not None:
        nn.init.zeros_(norm.bias)  # type: ignore[arg-type]

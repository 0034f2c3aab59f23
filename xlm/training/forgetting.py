"""Active forgetting: word vectors that start anew every so many updates (Chen et al. 2023).

"Improving Language Plasticity via Pretraining with Active Forgetting", section 3: the body learns
to work with words that are new, so that a further language's table is learned faster later on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.first_values import TABLE_STD
from xlm.model.language_tables import Table
from xlm.model.transformer import Transformer
from xlm.rng import key


@dataclass(frozen=True)
class Forgetting:
    """Draws the words of tables anew before every update whose number ``every`` divides.

    Symbols keep their vectors: they belong to all languages. The optimizer's moments of the whole
    table start anew. A draw depends on seed, table and step alone, so that a resumed run, and every
    process, draws the same.
    """

    words: dict[str, tuple[Tensor, Sequence[int]]]
    """The words of each table, by its name ("" for the model's own), and ids of its symbols."""
    every: int
    seed: int
    std: float

    @torch.no_grad()
    def __call__(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Forget, if it is time, before update ``step`` (from 0)."""
        if step == 0 or step % self.every:
            return
        for name, (parameter, symbols) in self.words.items():
            generator = torch.Generator().manual_seed(key(self.seed, "forget", name, step))
            drawn = torch.randn(parameter.shape, generator=generator) * self.std
            kept = torch.tensor(sorted(set(symbols)), device=parameter.device)
            before = parameter[kept].clone()
            parameter.copy_(drawn.to(parameter))
            parameter[kept] = before
            optimizer.state.pop(parameter, None)


def build_forgetting(
    model: Transformer, config: ModelConfig, symbols: Sequence[int], every: int, seed: int
) -> Forgetting:
    """Return the forgetting of the trained words; ``symbols`` are ids of the model's own table.

    Raises ConfigError if none are trained, and for a model with a decoder.
    """
    if model.decoder is not None:
        raise ConfigError(
            f"forget_every is {every}, but the model has a decoder: expected an encoder "
            "alone, whose words are later replaced by another language's"
        )
    encoder = model.encoder
    words: dict[str, tuple[Tensor, Sequence[int]]] = {"": (encoder.words.weight, symbols)}
    for name, table in encoder.tables.items():
        assert isinstance(table, Table)
        words[name] = (table.words.weight, table.roles)
    trained = {name: own for name, own in words.items() if own[0].requires_grad}
    if not trained:
        raise ConfigError(
            f"forget_every is {every}, but all words are frozen: leave one of the two out"
        )
    std = TABLE_STD if config.initialization == "normal" else config.dim**-0.5
    return Forgetting(trained, every, seed, std)

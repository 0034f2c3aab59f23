"""Causal language modeling, on text (CLM, XLM section 3.2) and on pairs (causal TLM)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xlm.addressed import Random
from xlm.batch import Batch
from xlm.data.collate import Cells, pad_pairs, pad_text
from xlm.data.streams import Examples
from xlm.errors import ConfigError
from xlm.objectives.language_model import LanguageModel


@dataclass(frozen=True, kw_only=True)
class CausalLM(LanguageModel):
    """Predict each token of a row from those before it; no state is carried between rows.

    A row's input is the token before it and all of its own but the last: over an epoch every token
    is once an input and once a target.
    """

    def __post_init__(self) -> None:
        LanguageModel.__post_init__(self)
        if self.pairs:
            raise ConfigError(
                f"CausalLM reads text, found pairs={self.pairs}: CausalTLM is the objective on "
                "pairs"
            )

    @property
    def causal(self) -> bool:
        """True: a position sees only those before it."""
        return True

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Rows shifted by one; nothing is random."""
        assert examples.before is not None
        cells = pad_text(examples)
        predict = np.flatnonzero(cells.real)
        inputs = np.concatenate([examples.before[:, None], cells.tokens[:, :-1]], axis=1)
        shifted = Cells(inputs, cells.positions, cells.langs, cells.segments, cells.lengths)
        return shifted.batch(examples.rows, predict, cells.tokens.ravel()[predict])


@dataclass(frozen=True, kw_only=True)
class CausalTLM(LanguageModel):
    """The TLM layout read from left to right: the second sentence is predicted given the first.

    Positions restart with the second sentence in training and in evaluation alike (the original
    restarts them in evaluation only; algorithms A1).
    """

    def __post_init__(self) -> None:
        LanguageModel.__post_init__(self)
        if self.languages:
            raise ConfigError(
                f"CausalTLM reads pairs, found languages={self.languages}: CausalLM is the "
                "objective on text"
            )

    @property
    def causal(self) -> bool:
        """True: a position sees only those before it."""
        return True

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Pairs shifted by one; nothing is random."""
        cells = pad_pairs(examples, self.layout)
        inputs = cells.shifted()
        predict = np.flatnonzero(inputs.real)
        targets = np.ascontiguousarray(cells.tokens[:, 1:]).ravel()[predict]
        return inputs.batch(examples.rows, predict, targets)

"""Causal language modeling, on text (CLM, XLM section 3.2) and on pairs (causal TLM)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from xlm.batch import Batch
from xlm.data.collate import Cells
from xlm.data.streams import Examples
from xlm.errors import ConfigError
from xlm.model.cells import at_cells
from xlm.model.transformer import Side, Transformer
from xlm.objectives.language_model import LanguageModel
from xlm.rng import Random


@dataclass(frozen=True, kw_only=True)
class CausalModel(LanguageModel):
    """The base of both: each token is predicted from those before it in its row."""

    part: Literal["encoder", "decoder"] = "encoder"
    """Part of the model to train; decoder: the decoder of an encoder-decoder, without a source, as
    the original does (docs/fidelity.md, A1)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_choice("part", "encoder", "decoder")

    @property
    def causal(self) -> bool:
        """True: a position sees only those before it."""
        return True

    @property
    def side(self) -> Side:
        """The half of the model that predicts."""
        return self.part

    def hidden(self, model: Transformer, batch: Batch, cells: Tensor | None = None) -> Tensor:
        """Return the states of that half, ``[B, T, D]``, or of flat ``cells`` alone, ``[N, D]``."""
        if self.part == "encoder":
            return super().hidden(model, batch, cells)
        hidden = model.decode(batch.tokens, batch.lengths, None, None, batch.positions, batch.langs)
        return at_cells(hidden, cells)

    def _shifted(self, examples: Examples, cells: Cells, train: bool) -> Batch:
        """Return the batch that predicts every token of a row except its first."""
        inputs = cells.shifted()
        predict = self._predicted(inputs, train)
        return inputs.batch(examples.rows, predict, cells.tokens[:, 1:].ravel()[predict])

    def _predicted(self, inputs: Cells, train: bool) -> NDArray[np.int64]:
        """Return the flat cells of ``inputs`` whose next token is predicted, ascending."""
        return np.flatnonzero(inputs.real)


@dataclass(frozen=True, kw_only=True)
class CausalLM(CausalModel):
    """Predict each token of a row from those before it; no state is carried between rows.

    A row's input is the token before it and all of its own except the last: over an epoch every
    token is an input once and a target once.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pairs:
            raise ConfigError(
                f"{type(self).__name__} reads text, but pairs is {self.pairs}: use "
                f"{type(self).__name__.replace('LM', 'TLM')} for pairs"
            )

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return rows shifted by one; nothing is random."""
        cells = self._cells(examples, train=train)
        assert examples.before is not None
        tokens = np.concatenate([examples.before[:, None], cells.tokens[:, :-1]], axis=1)
        inputs = dataclasses.replace(cells, tokens=tokens)
        predict = self._predicted(inputs, train)
        return inputs.batch(examples.rows, predict, cells.tokens.ravel()[predict])


@dataclass(frozen=True, kw_only=True)
class CausalTLM(CausalModel):
    """The TLM layout read from left to right: the second sentence is predicted given the first.

    Positions restart with the second sentence in training and in evaluation; the original restarts
    them in evaluation only (docs/fidelity.md, A1), which is ``OriginalCausalTLM`` with ``layout:
    tlm-run-on`` and ``evaluation_layout: tlm``.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.languages:
            raise ConfigError(
                f"{type(self).__name__} reads pairs, but languages is {self.languages}: use "
                f"{type(self).__name__.replace('TLM', 'LM')} for text"
            )

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return pairs shifted by one; nothing is random."""
        return self._shifted(examples, self._cells(examples, train=train), train)

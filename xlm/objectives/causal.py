"""Causal language modeling, on text (CLM, XLM section 3.2) and on pairs (causal TLM)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from xlm.batch import Batch, Loss
from xlm.data.collate import Cells, pad_pairs, pad_text
from xlm.data.streams import Examples
from xlm.errors import ConfigError
from xlm.model.transformer import Transformer
from xlm.objective import cross_entropy_loss
from xlm.objectives.language_model import LanguageModel
from xlm.rng import Random


@dataclass(frozen=True, kw_only=True)
class CausalModel(LanguageModel):
    """What both share: each token is predicted from those before it in its row."""

    num_context: int = 0
    """In training no loss is taken at the first so many cells of a row, which are only read (the
    original's context_size)."""
    part: Literal["encoder", "decoder"] = "encoder"
    """Which half of the model it is; decoder: that of an encoder-decoder, without a source, as the
    original trains its own there (algorithms A1)."""

    def __post_init__(self) -> None:
        LanguageModel.__post_init__(self)
        self._check_choice("part", "encoder", "decoder")
        if not 0 <= self.num_context < self.length:
            raise ConfigError(
                f"num_context must be at least 0 and below length ({self.length}): found "
                f"{self.num_context}"
            )

    @property
    def causal(self) -> bool:
        """True: a position sees only those before it."""
        return True

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Summed cross-entropy over the predicted cells; only these meet the vocabulary."""
        if self.part == "encoder":
            return LanguageModel.loss(self, model, head, batch)
        hidden = model.decode(batch.tokens, batch.lengths, None, None, batch.positions, batch.langs)
        logits = model.predict(hidden, batch.predict, side="decoder")
        return cross_entropy_loss(logits, batch, with_scores=not model.training)

    def _predicted(self, inputs: Cells, train: bool) -> NDArray[np.int64]:
        """The flat cells of ``inputs`` whose next token is predicted, ascending (int64)."""
        first = self.num_context if train else 0
        return np.flatnonzero(inputs.real & (np.arange(inputs.tokens.shape[1]) >= first))


@dataclass(frozen=True, kw_only=True)
class CausalLM(CausalModel):
    """Predict each token of a row from those before it; no state is carried between rows.

    A row's input is the token before it and all of its own but the last: over an epoch every token
    is once an input and once a target.
    """

    predict_first: bool = True
    """The first token of a row is predicted, from the one before it; false: it is only read, as in
    the original, so that a row of ``length`` tokens has one target fewer. With evaluation code it
    is never predicted there."""

    def __post_init__(self) -> None:
        CausalModel.__post_init__(self)
        if self.pairs:
            raise ConfigError(
                f"CausalLM reads text, found pairs={self.pairs}: CausalTLM is the objective on "
                "pairs"
            )
        if self.length < 2 and not (self.predict_first and self.evaluation == "whole"):
            raise ConfigError(
                f"rows of {self.length} token have nothing to predict but their first: raise length"
            )
        if not self.predict_first and self.num_context >= self.length - 1:
            raise ConfigError(
                f"num_context {self.num_context}: rows of length {self.length} have "
                f"{self.length - 1} cells to predict from; lower it"
            )

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Rows shifted by one; nothing is random."""
        cells = pad_text(examples)
        if self.predict_first if train else self.evaluation == "whole":
            assert examples.before is not None
            tokens = np.concatenate([examples.before[:, None], cells.tokens[:, :-1]], axis=1)
            inputs = Cells(tokens, cells.positions, cells.langs, cells.segments, cells.lengths)
            targets = cells.tokens
        else:
            inputs, targets = cells.shifted(), cells.tokens[:, 1:]
        predict = self._predicted(inputs, train)
        return inputs.batch(examples.rows, predict, targets.ravel()[predict])


@dataclass(frozen=True, kw_only=True)
class CausalTLM(CausalModel):
    """The TLM layout read from left to right: the second sentence is predicted given the first.

    Positions restart with the second sentence in training and in evaluation alike; the original
    restarts them in evaluation only (algorithms A1), which is ``layout: tlm-run-on`` with
    ``evaluation_layout: tlm``.
    """

    def __post_init__(self) -> None:
        CausalModel.__post_init__(self)
        if self.languages:
            raise ConfigError(
                f"CausalTLM reads pairs, found languages={self.languages}: CausalLM is the "
                "objective on text"
            )

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Pairs shifted by one; nothing is random."""
        cells = pad_pairs(examples, self._layout(train))
        inputs = cells.shifted()
        predict = self._predicted(inputs, train)
        return inputs.batch(examples.rows, predict, cells.tokens[:, 1:].ravel()[predict])

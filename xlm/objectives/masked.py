"""Masked language modeling, and translation language modeling if a row is a pair.

MLM: XLM section 3.3. TLM: section 3.4, the same objective on ``</s> a </s> </s> b </s>`` with masks
in both sentences, positions that restart with the second, and a language id per token.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from torch import nn

from xlm.batch import Batch, Loss
from xlm.data.collate import Cells
from xlm.data.masking import (
    choose_targets,
    end_weight,
    frequency_weights,
    partition_cells,
    replace_targets,
)
from xlm.data.sampling import check_piecewise, piecewise
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.model.transformer import Transformer
from xlm.objective import predicted_loss
from xlm.objectives.language_model import LanguageModel
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer

DEFAULT_RATE = 0.15
MOST_MASKED = 0.8


@dataclass(frozen=True, kw_only=True)
class MaskedLM(LanguageModel):
    """MLM on ``languages``, TLM on ``pairs``: predict a share of the tokens, hidden in the input.

    In training the targets are drawn without replacement, with weights that fall with a token's
    frequency, and replaced 80/10/10. In evaluation the cells are split into
    ``round(1 / rate)`` disjoint sets fixed by the seed, each hidden in turn by the mask
    symbol: all of them predict every held-out token exactly once, ``evaluation_folds`` of them a
    share. ``OriginalMaskedLM`` draws either as the original XLM does.
    """

    mask_rate: float | list[list[float]] = 0.15
    """Share of the tokens (in a pair: of the masked sides) that are predicted: a number up to 0.8
    (Wettig et al. 2023: 0.4 for large models), or points [[step, rate], ...] with linear
    interpolation (GPT-BERT: from 0.3 down to 0.15)."""
    frequency_exponent: float = 0.5
    """Draw targets with weight count**-exponent (paper: 0.5); 0: uniformly."""
    mask: float = 0.8
    """Share of the targets that are replaced by the mask symbol."""
    keep: float = 0.1
    """Share of the targets that are left unchanged."""
    random: float = 0.1
    """Share of the targets that are replaced by a random token."""
    masked_side: Literal["both", "first", "second"] = "both"
    """The sentences of a pair that are masked in training."""
    evaluation_side: Literal["both", "first", "second"] = "both"
    """The sentences of a pair that are masked in evaluation."""
    evaluation_mask_rate: float | None = None
    """Share of the tokens that each evaluation mask hides; null: mask_rate if that is a single
    number of at most 0.5, else 0.15."""
    evaluation_folds: int | None = None
    """Number of disjoint evaluation masks that are used; null: all, so that each token counts
    once."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_rates()
        shares = (self.mask, self.keep, self.random)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise ConfigError(f"mask, keep and random must be shares that sum to 1: found {shares}")
        if self.evaluation_folds is not None and not 1 <= self.evaluation_folds <= self.num_folds:
            raise ConfigError(
                f"evaluation_folds must be between 1 and {self.num_folds}, since each mask "
                f"hides {self.evaluation_rate:g} of the tokens: found {self.evaluation_folds}"
            )

    def _check_rates(self) -> None:
        check_piecewise(self.mask_rate, "mask_rate")
        points = self.mask_rate if isinstance(self.mask_rate, list) else [[0, self.mask_rate]]
        for _, rate in points:
            if not 0 < rate <= MOST_MASKED:
                raise ConfigError(f"mask_rate must be in (0, {MOST_MASKED}]: found {rate}")
        if self.evaluation_mask_rate is not None and not 0 < self.evaluation_mask_rate <= 0.5:
            raise ConfigError(
                f"evaluation_mask_rate must be in (0, 0.5]: found {self.evaluation_mask_rate}"
            )

    def at_step(self, step: int) -> Self:
        """Return the objective with the mask rate of ``step``."""
        if not isinstance(self.mask_rate, list):
            return self
        return dataclasses.replace(self, mask_rate=piecewise(self.mask_rate, step))

    @property
    def rate(self) -> float:
        """The mask rate, at step 0 if it is staged (see ``at_step``)."""
        return piecewise(self.mask_rate, 0)

    @property
    def evaluation_rate(self) -> float:
        """The share of the tokens that each evaluation mask hides."""
        if self.evaluation_mask_rate is not None:
            return self.evaluation_mask_rate
        given = self.mask_rate
        return given if not isinstance(given, list) and given <= 0.5 else DEFAULT_RATE

    @property
    def num_folds(self) -> int:
        """The number of disjoint masks that held-out cells are split into."""
        return round(1 / self.evaluation_rate)

    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed cross-entropy over the predicted cells; only these are finished."""
        cells = batch.predict if model.training else None
        return predicted_loss(model, self.hidden(model, batch, cells), batch)

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return one masked micro-batch; ``train=False`` gives the first evaluation mask."""
        if not train:
            return self._fold(self._folds(examples, random), 0)
        cells = self._cells(examples, train=True)
        chosen = self._choose(cells, examples.stream, random)
        inputs = self._replace(cells, chosen, examples.stream.tokenizer, random)
        return _batch(examples, cells, chosen, inputs)

    def evaluation_makers(self, stream: Stream, seed: int) -> Iterable[Callable[[], Batch]]:
        """Yield a function for each fold of each held-out batch, which makes it."""
        for k in range(stream.num_batches):
            folds = functools.cache(functools.partial(self._folds_of, stream, seed, k))
            for fold in range(self.num_folds)[: self.evaluation_folds]:
                yield functools.partial(self._made, folds, fold)

    def _folds_of(self, stream: Stream, seed: int, k: int) -> _Folds:
        return self._folds(stream.examples(k), Random(seed, "evaluate", stream.id, k))

    def _folds(self, examples: Examples, random: Random) -> _Folds:
        cells = self._cells(examples, train=False)
        eligible = self._eligible(cells, self.evaluation_side, examples.stream.tokenizer)
        folds = partition_cells(np.flatnonzero(eligible), self.num_folds, random)
        return _Folds(examples, cells, folds)

    def _made(self, folds: Callable[[], _Folds], fold: int) -> Batch:
        return self._fold(folds(), fold)

    def _fold(self, folds: _Folds, fold: int) -> Batch:
        return self._held_out(folds.examples, folds.cells, np.sort(folds.chosen[fold]))

    def _held_out(self, examples: Examples, cells: Cells, chosen: NDArray[np.int64]) -> Batch:
        """Return the batch of an evaluation mask, which hides the ``chosen`` flat cells."""
        return masked_batch(examples, cells, chosen)

    def _choose(self, cells: Cells, stream: Stream, random: Random) -> NDArray[np.int64]:
        """Draw the targets of training: exactly ``rate`` of the real cells, ascending."""
        eligible = self._eligible(cells, self.masked_side, stream.tokenizer)
        scores = self._kept_weights(stream)[cells.tokens.ravel()] * eligible
        num_cells = np.count_nonzero(_of_side(cells, self.masked_side))
        num_targets = int(np.ceil(self.rate * num_cells))
        return np.sort(choose_targets(scores, num_targets, random))

    def _kept_weights(self, stream: Stream) -> NDArray[np.float64]:
        """Return ``_weights``, which depend on the stream alone: they are computed once."""
        key = (type(self), *self._weighed_by)
        if key not in stream.kept:
            stream.kept[key] = self._weights(stream)
        weights: NDArray[np.float64] = stream.kept[key]
        return weights

    @property
    def _weighed_by(self) -> tuple[Any, ...]:
        """The settings that ``_weights`` depends on."""
        return self.frequency_exponent, bool(self.pairs)

    def _weights(self, stream: Stream) -> NDArray[np.float64]:
        """Return float64 ``[V]``: the weight of each id in the choice of targets."""
        weights = frequency_weights(stream.counts, self.frequency_exponent, stream.tokenizer)
        if not self.pairs:  # in a text the end symbols are tokens like others
            end = stream.tokenizer.end_id
            weights[end] = end_weight(stream.counts, self.frequency_exponent, end)
        return weights

    def _eligible(self, cells: Cells, side: str, tokenizer: Tokenizer) -> NDArray[np.bool_]:
        """Return bool ``[B * T]``: the cells that may be predicted.

        In text every real cell is eligible; in pairs those of the masked sides, except the end
        symbols that the layout puts around the sentences.
        """
        eligible = _of_side(cells, side)
        if self.pairs:
            eligible &= cells.tokens != tokenizer.begin_id
            eligible &= cells.tokens != tokenizer.end_id
        return eligible.ravel()

    def _replace(
        self, cells: Cells, chosen: NDArray[np.int64], tokenizer: Tokenizer, random: Random
    ) -> NDArray[np.int64]:
        """Return the flat tokens that the model sees: the chosen ones replaced 80/10/10."""
        return replace_targets(
            cells.tokens.ravel(),
            chosen,
            tokenizer,
            random,
            mask=self.mask,
            keep=self.keep,
            rand=self.random,
        )


class _Folds(NamedTuple):
    """Held-out rows, and the flat cells that each evaluation mask hides (int64)."""

    examples: Examples
    cells: Cells
    chosen: list[NDArray[np.int64]]


def masked_batch(examples: Examples, cells: Cells, chosen: NDArray[np.int64]) -> Batch:
    """Return the batch that predicts the ``chosen`` flat cells, each hidden by the mask symbol."""
    inputs = cells.tokens.ravel().copy()
    inputs[chosen] = examples.stream.tokenizer.mask_id
    return _batch(examples, cells, chosen, inputs)


def _batch(
    examples: Examples, cells: Cells, chosen: NDArray[np.int64], inputs: NDArray[np.int64]
) -> Batch:
    masked = dataclasses.replace(cells, tokens=inputs.reshape(cells.tokens.shape))
    return masked.batch(examples.rows, chosen, cells.tokens.ravel()[chosen])


def _of_side(cells: Cells, side: str) -> NDArray[np.bool_]:
    """Return bool ``[B, T]``: the real cells of one sentence of each pair, or of both."""
    if side == "both":
        return cells.real
    of_side: NDArray[np.bool_] = cells.segments == ("first", "second").index(side)
    return cells.real & of_side

"""Masked language modeling; translation language modeling when a row is a pair.

MLM: XLM section 3.3. TLM: section 3.4, the same objective on ``</s> a </s> </s> b </s>`` with masks
in both sentences, positions that restart with the second, and a language id per token.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xlm.addressed import Random
from xlm.batch import Batch
from xlm.data.collate import Cells, pad_pairs, pad_text
from xlm.data.noise import choose_targets, frequency_weights, partition_cells, replace_targets
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.objectives.language_model import LanguageModel
from xlm.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class MaskedLM(LanguageModel):
    """MLM on ``languages``, TLM on ``pairs``: predict a share of the tokens, hidden in the input.

    In training the targets are drawn without replacement, by weights that fall with a token's
    frequency, and replaced 80/10/10. In evaluation the cells are parted into
    ``round(1 / mask_rate)`` disjoint sets fixed by the seed, each hidden in turn behind the mask
    symbol: all of them predict every held-out token exactly once, ``evaluation_folds`` of them a
    share.
    """

    mask_rate: float = 0.15
    """Share of the tokens (of a pair: of the masked sides) that are predicted."""
    frequency_exponent: float = 0.5
    """Targets are drawn with weight count**-exponent (paper: 0.5); 0 draws them uniformly."""
    predict_end: bool = True
    """The end symbols between the sentences of a text may be targets (the original: only where the
    exponent is 0)."""
    mask: float = 0.8
    """Share of the targets that the mask symbol replaces."""
    keep: float = 0.1
    """Share of the targets that stay as they are."""
    random: float = 0.1
    """Share of the targets that a random token replaces."""
    random_from_all: bool = False
    """Draw random tokens from special symbols too, as the original does."""
    masked_side: Literal["both", "first", "second"] = "both"
    """Which sentence of a pair is masked in training."""
    evaluation_side: Literal["both", "first", "second"] = "both"
    """Which sentence of a pair is masked in evaluation."""
    evaluation_folds: int | None = None
    """How many of the disjoint evaluation masks are used; null: all, so that each token counts."""

    def __post_init__(self) -> None:
        LanguageModel.__post_init__(self)
        if not 0 < self.mask_rate <= 0.5:
            raise ConfigError(f"mask_rate must be in (0, 0.5]: found {self.mask_rate}")
        shares = (self.mask, self.keep, self.random)
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-9:
            raise ConfigError(f"mask, keep and random must be shares that sum to 1: found {shares}")
        if self.evaluation_folds is not None and not 1 <= self.evaluation_folds <= self.num_folds:
            raise ConfigError(
                f"evaluation_folds must be between 1 and round(1 / mask_rate) = {self.num_folds}: "
                f"found {self.evaluation_folds}"
            )

    @property
    def causal(self) -> bool:
        """False: every position sees the whole row."""
        return False

    @property
    def num_folds(self) -> int:
        """Into how many disjoint masks held-out cells are parted."""
        return round(1 / self.mask_rate)

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """One masked micro-batch; ``train=False`` gives the first evaluation mask."""
        if not train:
            return next(iter(self._folds(examples, random)))
        stream = examples.stream
        cells = self._cells(examples)
        weights = self._weights(stream)
        scores = weights[cells.tokens.ravel()] * self._eligible(
            cells, self.masked_side, stream.tokenizer
        )
        num_cells = np.count_nonzero(_of_side(cells, self.masked_side))
        num_targets = int(np.ceil(self.mask_rate * num_cells))
        chosen = np.sort(choose_targets(scores, num_targets, random))
        inputs = replace_targets(
            cells.tokens.ravel(),
            chosen,
            stream.tokenizer,
            random,
            mask=self.mask,
            keep=self.keep,
            rand=self.random,
            from_all=self.random_from_all,
        )
        return self._batch(examples, cells, chosen, inputs)

    def evaluation_batches(self, stream: Stream, seed: int) -> Iterable[Batch]:
        """Each held-out batch once a fold."""
        for k in range(stream.num_batches):
            yield from self._folds(stream.examples(k), Random(seed, "evaluate", stream.id, k))

    def _folds(self, examples: Examples, random: Random) -> Iterable[Batch]:
        cells = self._cells(examples)
        eligible = np.flatnonzero(
            self._eligible(cells, self.evaluation_side, examples.stream.tokenizer)
        )
        for chosen in partition_cells(eligible, self.num_folds, random)[: self.evaluation_folds]:
            inputs = cells.tokens.ravel().copy()
            inputs[chosen] = examples.stream.tokenizer.mask_id
            yield self._batch(examples, cells, np.sort(chosen), inputs)

    def _weights(self, stream: Stream) -> NDArray[np.float64]:
        """float64 ``[V]``: the weight of each id in the choice of targets."""
        weights = frequency_weights(stream.counts, self.frequency_exponent, stream.tokenizer)
        if self.predict_end and not self.pairs:
            end = stream.tokenizer.end_id
            weights[end] = max(int(stream.counts[end]), 1) ** -self.frequency_exponent
        return weights

    def _cells(self, examples: Examples) -> Cells:
        return pad_pairs(examples, self.layout) if self.pairs else pad_text(examples)

    def _eligible(self, cells: Cells, side: str, tokenizer: Tokenizer) -> NDArray[np.bool_]:
        """bool ``[B * T]``: the cells that may be predicted.

        In text every real cell; in pairs those of the masked sides, but not the end symbols that
        the layout puts around the sentences.
        """
        eligible = _of_side(cells, side)
        if self.pairs:
            eligible &= ~np.isin(cells.tokens, (tokenizer.begin_id, tokenizer.end_id))
        return eligible.ravel()

    def _batch(
        self,
        examples: Examples,
        cells: Cells,
        chosen: NDArray[np.int64],
        inputs: NDArray[np.int64],
    ) -> Batch:
        targets = cells.tokens.ravel()[chosen]
        masked = Cells(
            inputs.reshape(cells.tokens.shape),
            cells.positions,
            cells.langs,
            cells.segments,
            cells.lengths,
        )
        return masked.batch(examples.rows, chosen, targets)


def _of_side(cells: Cells, side: str) -> NDArray[np.bool_]:
    """bool ``[B, T]``: the real cells of one sentence of each pair, or of both."""
    if side == "both":
        return cells.real
    of_side: NDArray[np.bool_] = cells.segments == ("first", "second").index(side)
    return cells.real & of_side

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

from xlm.batch import Batch
from xlm.data.collate import Cells, pad_pairs, pad_text
from xlm.data.masking import (
    choose_targets,
    choose_targets_as_original,
    frequency_weights,
    original_evaluation_mask,
    partition_cells,
    replace_targets,
)
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError
from xlm.objectives.language_model import LanguageModel
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True)
class MaskedLM(LanguageModel):
    """MLM on ``languages``, TLM on ``pairs``: predict a share of the tokens, hidden in the input.

    In training the targets are drawn without replacement, by weights that fall with a token's
    frequency, and replaced 80/10/10. In evaluation the cells are parted into
    ``round(1 / mask_rate)`` disjoint sets fixed by the seed, each hidden in turn behind the mask
    symbol: all of them predict every held-out token exactly once, ``evaluation_folds`` of them a
    share. ``masks`` and ``evaluation`` have the original's way of either (algorithms B2, B8).
    """

    mask_rate: float = 0.15
    """Share of the tokens (of a pair: of the masked sides) that are predicted."""
    frequency_exponent: float = 0.5
    """Targets are drawn with weight count**-exponent (paper: 0.5); 0 draws them uniformly."""
    counts: Literal["corpora", "vocabulary"] = "corpora"
    """Whose frequencies: the prepared training text's, or those that the tokenizer's vocabulary
    file lists, as in the original (fastBPE alone has them)."""
    masks: Literal["exact", "code"] = "exact"
    """exact: a share of the real tokens. code: as the original draws them, a share of all cells,
    padding too (by chance, where the exponent is 0), of which padding and the first of each row
    are taken back."""
    predict_end: bool = True
    """The end symbols between the sentences of a text (with masks code: all of them) may be
    targets; in the original, and with counts vocabulary, which has none of theirs, only where the
    exponent is 0."""
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
        self._check_choices_of_masks()

    def _check_choices_of_masks(self) -> None:
        self._check_choice("counts", "corpora", "vocabulary")
        self._check_choice("masks", "exact", "code")
        if self.masks == "code" and self.masked_side != "both":
            raise ConfigError(f"masks code hides both sides: found masked_side {self.masked_side}")
        if self.evaluation == "code":
            if self.evaluation_side != "both" or self.evaluation_folds is not None:
                raise ConfigError(
                    "evaluation code has one mask, of both sides: found evaluation_side "
                    f"{self.evaluation_side}, evaluation_folds {self.evaluation_folds}; leave them "
                    "out"
                )
            if self.length < 3:
                raise ConfigError(
                    "evaluation code masks neither the first token of a row nor the last: length "
                    f"must be at least 3, found {self.length}"
                )

    @property
    def num_folds(self) -> int:
        """Into how many disjoint masks held-out cells are parted."""
        return round(1 / self.mask_rate)

    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """One masked micro-batch; ``train=False`` gives the first evaluation mask."""
        if not train and self.evaluation == "code":
            return self._masked_as_original(examples, np.random.RandomState(0))
        if not train:
            return next(iter(self._folds(examples, random)))
        tokenizer = examples.stream.tokenizer
        cells = self._cells(examples, train=True)
        draw = self._draw_as_original if self.masks == "code" else self._draw
        chosen = draw(cells, examples.stream, random)
        inputs = replace_targets(
            cells.tokens.ravel(),
            chosen,
            tokenizer,
            random,
            mask=self.mask,
            keep=self.keep,
            rand=self.random,
            from_all=self.random_from_all,
        )
        return self._batch(examples, cells, chosen, inputs)

    def _draw(self, cells: Cells, stream: Stream, random: Random) -> NDArray[np.int64]:
        """The targets of training, ascending cells: exactly the share of the real ones."""
        eligible = self._eligible(cells, self.masked_side, stream.tokenizer)
        scores = self._weights(stream)[cells.tokens.ravel()] * eligible
        num_cells = np.count_nonzero(_of_side(cells, self.masked_side))
        num_targets = int(np.ceil(self.mask_rate * num_cells))
        return np.sort(choose_targets(scores, num_targets, random))

    def _draw_as_original(self, cells: Cells, stream: Stream, random: Random) -> NDArray[np.int64]:
        """The targets of training as the original draws them, ascending cells; perhaps none."""
        allowed = cells.real & (np.arange(cells.tokens.shape[1]) > 0)
        if not self.predict_end:
            allowed &= cells.tokens != stream.tokenizer.end_id
        weights = self._weights(stream) if self.frequency_exponent else None
        return choose_targets_as_original(cells.tokens, allowed, weights, self.mask_rate, random)

    def evaluation_batches(self, stream: Stream, seed: int) -> Iterable[Batch]:
        """Each held-out batch once a fold; with ``evaluation: code`` once.

        That one's masks are the original's for any ``seed``: one generator that starts anew with
        each stream goes on from batch to batch.
        """
        if self.evaluation == "code":
            generator = np.random.RandomState(0)
            for k in range(stream.num_batches):
                yield self._masked_as_original(stream.examples(k), generator)
            return
        for k in range(stream.num_batches):
            yield from self._folds(stream.examples(k), Random(seed, "evaluate", stream.id, k))

    def _masked_as_original(self, examples: Examples, generator: np.random.RandomState) -> Batch:
        cells = self._cells(examples, train=False)
        mask = original_evaluation_mask(cells.lengths, self.mask_rate, generator)
        chosen = np.flatnonzero(mask)
        inputs = cells.tokens.ravel().copy()
        inputs[chosen] = examples.stream.tokenizer.mask_id
        return self._batch(examples, cells, chosen, inputs)

    def _folds(self, examples: Examples, random: Random) -> Iterable[Batch]:
        cells = self._cells(examples, train=False)
        eligible = np.flatnonzero(
            self._eligible(cells, self.evaluation_side, examples.stream.tokenizer)
        )
        for chosen in partition_cells(eligible, self.num_folds, random)[: self.evaluation_folds]:
            inputs = cells.tokens.ravel().copy()
            inputs[chosen] = examples.stream.tokenizer.mask_id
            yield self._batch(examples, cells, np.sort(chosen), inputs)

    def _weights(self, stream: Stream) -> NDArray[np.float64]:
        """float64 ``[V]``: the weight of each id in the choice of targets."""
        counts = self._counts(stream)
        weights = frequency_weights(counts, self.frequency_exponent, stream.tokenizer)
        if self.predict_end and (self.masks == "code" or not self.pairs):
            end = stream.tokenizer.end_id
            # never counted, as in a vocabulary file: a weight that no count falls to is not made up
            if counts[end] or not self.frequency_exponent:
                weights[end] = max(int(counts[end]), 1) ** -self.frequency_exponent
        return weights

    def _counts(self, stream: Stream) -> NDArray[np.int64]:
        """int64 ``[V]``: how often each id occurs, by ``counts``."""
        if self.counts == "corpora":
            return stream.counts
        if stream.tokenizer.counts is None:
            raise ConfigError(
                f"{stream.id}: counts vocabulary, but this {type(stream.tokenizer).__name__} lists "
                "no counts; take counts: corpora, or fastBPE"
            )
        return np.array(stream.tokenizer.counts, dtype=np.int64)

    def _cells(self, examples: Examples, *, train: bool) -> Cells:
        return pad_pairs(examples, self._layout(train)) if self.pairs else pad_text(examples)

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

"""Streams of rows that differ in length, in batches of one padded length each: pairs, sentences."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xlm.data.buckets import Buckets, best_lengths
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.lengths import LONGEST_SORTED, Measure
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError


class BucketedStream(Stream):
    """Rows sorted by length and cut into buckets of one padded length each.

    There are at most ``num_lengths`` buckets, whose padded lengths give the fewest padded cells,
    or those of ``lengths``; each is cut into ``parts`` of equal size in the order of the rows. An
    epoch permutes the batches of all buckets, and the rows inside each bucket; a bucket's last
    batch is shorter. ``shuffle=False`` serves them once, in order of length.

    ``histogram`` gives the number of rows of each length, special tokens apart (int64). A batch
    holds ``tokens_per_batch`` cells, padding included, and at most ``rows`` rows. Rows longer than
    ``max_length``, ``num_specials`` included, are left out and counted in ``num_dropped``.

    Raises ConfigError for invalid sizes, DataError if no row is left.
    """

    _order: NDArray[np.int64]
    """The rows that ``histogram`` counts, sorted by length; the subclass sets it."""

    def __init__(
        self,
        corpora: Corpora,
        name: str,
        sides: tuple[Corpus, ...],
        *,
        histogram: NDArray[np.int64],
        objective: str,
        split: str,
        tokens_per_batch: int,
        num_specials: int,
        num_lengths: int,
        max_length: int,
        rows: int | None,
        lengths: list[int] | None = None,
        parts: int = 1,
        seed: int,
        shuffle: bool,
    ):
        super().__init__(corpora, name, sides, objective=objective, seed=seed, shuffle=shuffle)
        if min(tokens_per_batch, num_lengths, max_length, 1 if rows is None else rows) < 1:
            raise ConfigError(
                f"{self.id}: tokens_per_batch {tokens_per_batch}, num_lengths {num_lengths}, "
                f"max_length {max_length}, rows {rows}: expected at least 1"
            )
        if max_length >= LONGEST_SORTED:
            raise ConfigError(f"{self.id}: max_length {max_length}: expected < {LONGEST_SORTED}")
        fitting = fitting_histogram(histogram, num_specials, max_length)
        num_all = int(histogram.sum())
        self.num_dropped = num_all - int(fitting.sum())
        """Number of rows left out because they are longer than ``max_length``."""
        if not fitting.any():
            raise DataError(
                f"{self.id}: none of the {num_all} rows of the {split} split fits in "
                f"{max_length} tokens, special ones included: raise length, or prepare other "
                "text"
            )
        self.buckets = Buckets(
            fitting,
            best_lengths(fitting, num_lengths) if lengths is None else lengths,
            tokens_per_batch=tokens_per_batch,
            most_rows=rows,
            parts=parts,
        )
        self.num_rows = self.buckets.num_rows
        self.batches_per_epoch = float(self.buckets.num_slots)
        self._num_real = int(fitting @ np.arange(len(fitting)))

    @property
    def num_sentences(self) -> int:
        """Number of rows that are not left out, which sampling uses (docs/fidelity.md, B4)."""
        return self.num_rows

    @property
    def padding(self) -> float:
        """Share of an epoch's cells that is padding, each row as long as its bucket."""
        return 1 - self._num_real / self.buckets.num_cells

    def _rows(self, k: int) -> tuple[NDArray[np.int64], int]:
        """Return the rows of micro-batch ``k`` (int64), and their padded length."""
        if self.shuffle:
            slot = self.buckets.shuffled(k, self.seed, self.id)
        else:
            slot = self.buckets.in_order(k)
        return self._order[slot.positions], slot.length


class PairStream(BucketedStream):
    """A stream of aligned sentences.

    ``sides`` names the measured length: ``joint`` (both sentences in one row, as in TLM) or
    ``longer`` (a row each, both padded to one length, as in translation). With ``parts`` above 1
    the rows of a bucket are sorted by how much longer the first side is, so that each part of it
    has pairs alike in that too, and ``Examples.length`` is 0: each side is padded to its own
    longest row. The rest is as in ``BucketedStream``.
    """

    is_pair = True

    def __init__(
        self,
        corpora: Corpora,
        pair: str,
        *,
        objective: str,
        split: str = "train",
        tokens_per_batch: int,
        num_specials: int,
        sides: Measure = "joint",
        num_lengths: int = 24,
        max_length: int = 512,
        rows: int | None = None,
        lengths: list[int] | None = None,
        parts: int = 1,
        seed: int = 0,
        shuffle: bool = True,
    ):
        self.pairs = corpora.pairs(split, pair)
        super().__init__(
            corpora,
            pair,
            self.pairs.sides,
            histogram=self.pairs.histogram(sides),
            objective=objective,
            split=split,
            tokens_per_batch=tokens_per_batch,
            num_specials=num_specials,
            num_lengths=num_lengths,
            max_length=max_length,
            rows=rows,
            lengths=lengths,
            parts=parts,
            seed=seed,
            shuffle=shuffle,
        )
        self._parts, self._sides = parts, sides

    @cached_property
    def _order(self) -> NDArray[np.int64]:  # type: ignore[override]
        """The rows sorted by length: found when the first micro-batch is asked for."""
        order = self.pairs.order(self._sides)
        if self.shuffle:
            self.pairs.index.expect_random_access(self._sides)
        if self._parts == 1:
            return order
        return self.pairs.index.by_difference(order, list(self.buckets.whole()), self.pairs.sides)

    def _examples(self, k: int) -> Examples:
        rows, length = self._rows(k)
        if self._parts > 1:
            length = 0  # each side has its own
        first, second = (side.sentences(rows) for side in self.pairs.sides)
        return Examples(self, rows, first, second=second, length=length)


class SentenceStream(BucketedStream):
    """A stream of the sentences of one language, each a row of its own.

    Empty ones are left out, as in the original (docs/fidelity.md, A2), and counted in
    ``num_dropped``. ``name`` (default: the language) becomes part of the id: back-translation of en
    into ne reads sentences of en, but trains ``ne-en``. The rest is as in ``BucketedStream``.
    """

    def __init__(
        self,
        corpora: Corpora,
        language: str,
        *,
        objective: str,
        split: str = "train",
        tokens_per_batch: int,
        num_specials: int,
        num_lengths: int = 24,
        max_length: int = 512,
        rows: int | None = None,
        seed: int = 0,
        shuffle: bool = True,
        name: str | None = None,
    ):
        self._corpus = corpora.text(split, language)
        name = language if name is None else name
        histogram = self._corpus.index.histogram("longer").copy()
        num_empty = int(histogram[0])
        histogram[0] = 0
        if not histogram.any():
            raise DataError(
                f"{objective}/{name}: all {num_empty} sentences of the {split} text of "
                f"{language} are empty; prepare other text"
            )
        super().__init__(
            corpora,
            name,
            (self._corpus,),
            histogram=histogram,
            objective=objective,
            split=split,
            tokens_per_batch=tokens_per_batch,
            num_specials=num_specials,
            num_lengths=num_lengths,
            max_length=max_length,
            rows=rows,
            seed=seed,
            shuffle=shuffle,
        )
        self.num_dropped += num_empty
        if num_empty:
            self.why_dropped = f"are empty ({num_empty:,}) or longer than the objective's length"
        self._num_empty = num_empty

    @cached_property
    def _order(self) -> NDArray[np.int64]:  # type: ignore[override]
        """The sentences sorted by length, without the empty ones."""
        if self.shuffle:
            self._corpus.index.expect_random_access("longer")
        return self._corpus.index.order("longer")[self._num_empty :]

    def _examples(self, k: int) -> Examples:
        rows, length = self._rows(k)
        return Examples(self, rows, self._corpus.sentences(rows), length=length)


def fitting_histogram(
    histogram: NDArray[np.int64], num_specials: int, max_length: int
) -> NDArray[np.int64]:
    """Return the number of rows of each length with special tokens.

    int64 ``[max_length + 1]``; longer rows are left out.
    """
    lengths = histogram[: max(0, max_length + 1 - num_specials)]
    return np.concatenate([np.zeros(num_specials, dtype=np.int64), lengths])

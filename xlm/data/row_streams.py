"""Rows of a task in memory, in batches of one padded length each.

    file --task--> Row, Row, ... --RowStream--> Examples --Task.collate--> Batch

Fine-tuning sets are small beside what a model is pretrained on: they are read and tokenized when a
run starts, and nothing is prepared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm.data.buckets import Buckets, best_lengths
from xlm.data.corpora import Corpora
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.languages import match_languages
from xlm.metrics.scores import TextSize
from xlm.text.tokenizers.tokenizer import Wrapped

BATCHES_PER_LENGTH = 4
"""Fewest batches for which a padded length of its own pays: below, batches would be cut short."""


@dataclass(frozen=True)
class Row:
    """An input of the model: a sentence, a pair, or one window of a longer text."""

    wrapped: Wrapped
    """Tokens, special ones included, with positions and segments."""
    answer: Any = None
    """The answer to predict, in the task's own form; None if it is unknown."""
    example: int = 0
    """The example that the row belongs to, in the order of the file."""
    group: int = 0
    """The group of rows that are scored together, such as the pages of a query."""


class RowStream(Stream):
    """The rows of one file: ``name`` is the language that figures are reported under.

    ``languages`` are the model's languages of segment 0 and, for pairs, of segment 1. Rows of
    similar length share a batch of ``rows_per_batch``; the last of each length is shorter.
    ``upsampled_to`` is the number of rows that the stream counts as when languages are sampled (0:
    its own). Raises ConfigError for sizes below 1, DataError if there is no row.
    """

    def __init__(
        self,
        corpora: Corpora,
        name: str,
        rows: Sequence[Row],
        *,
        languages: Sequence[str],
        objective: str,
        rows_per_batch: int,
        num_lengths: int = 24,
        upsampled_to: int = 0,
        seed: int = 0,
        shuffle: bool = True,
    ):
        super().__init__(corpora, name, (), objective=objective, seed=seed, shuffle=shuffle)
        if min(rows_per_batch, num_lengths) < 1:
            raise ConfigError(
                f"{self.id}: rows {rows_per_batch}, num_lengths {num_lengths}: expected at least 1"
            )
        if not rows:
            raise DataError(f"{self.id}: there are no rows to read: give another file")
        self.items = rows
        self.languages = tuple(languages)
        ids = match_languages(
            corpora.languages, dict.fromkeys(languages), where=f"{self.id}: the model",
            otherwise="name one of them for it in stand_in, or start from a model that has it",
        )  # fmt: skip
        self.language_ids = tuple(ids[own] for own in languages)
        lengths = np.array([len(row.wrapped.tokens) for row in rows], dtype=np.int64)
        self._order = np.argsort(lengths, kind="stable")
        histogram = np.bincount(lengths).astype(np.int64)
        most_lengths = max(1, len(rows) // (BATCHES_PER_LENGTH * rows_per_batch))
        padded = best_lengths(histogram, min(num_lengths, most_lengths))
        most_cells = rows_per_batch * int(lengths.max())
        self.buckets = Buckets(
            histogram, padded, tokens_per_batch=most_cells, most_rows=rows_per_batch
        )
        self.num_rows = len(rows)
        self.batches_per_epoch = float(self.buckets.num_slots)
        self._upsampled_to = upsampled_to
        self._num_tokens = int(lengths.sum())
        self.side_sizes = (TextSize(len(rows), self._num_tokens, 0, 0, 0),)

    @property
    def num_sentences(self) -> int:
        """Number that languages are sampled by: the rows, or their upsampled number."""
        return self._upsampled_to or self.num_rows

    @property
    def padding(self) -> float:
        """Share of an epoch's cells that is padding."""
        return 1 - self._num_tokens / self.buckets.num_cells

    @property
    def unigram(self) -> tuple[NDArray[np.float64], ...] | None:
        """None: there is no language model to compare with."""
        return None

    def _examples(self, k: int) -> Examples:
        if self.shuffle:
            slot = self.buckets.shuffled(k, self.seed, self.id)
        else:
            slot = self.buckets.in_order(k)
        rows = self._order[slot.positions]
        first = [self.items[row].wrapped.tokens for row in rows.tolist()]
        return Examples(self, rows, first, length=slot.length)

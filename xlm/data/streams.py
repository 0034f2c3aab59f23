"""Streams, which give micro-batch k of a language or pair for any k at once.

    Corpus, Pairs --> Stream.examples(k) --> Examples --> Objective.collate

A stream is a pure function of its text, its settings, the seed and k: it has no position, so that
resuming costs nothing and every rank may ask for any k. This module has the base of all streams and
running text; pairs and single sentences, whose lengths differ, are in
``xlm.data.sentence_streams``.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.errors import ConfigError, DataError
from xlm.languages import match_languages
from xlm.metrics.scores import TextSize
from xlm.rng import BlockedPermutation
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer

log = logging.getLogger("xlm")


@dataclass(frozen=True)
class Examples:
    """The material of one micro-batch; ``B`` rows."""

    stream: Stream
    rows: NDArray[np.int64]
    """int64 ``[B]``: the row of the text, or the pair, of each example."""
    first: list[Ids]
    """Token ids of each row: for text all of them, for pairs without special tokens."""
    second: list[Ids] | None = None
    """The second sentence of each pair, without special tokens."""
    before: NDArray[np.int64] | None = None
    """int64 ``[B]``, text only: the token that precedes each row (an end symbol at the start)."""
    length: int = 0
    """The padded length, special tokens included."""
    labels: NDArray[np.int64] | None = None
    """int64 ``[B]``: a class of each row, from streams that know one."""


class Stream(ABC):
    """Micro-batches of one language or pair for one objective.

    The order is drawn from (seed, ``id``, epoch). With ``shuffle=False`` there is one pass in
    order, and k ends at ``num_batches``.
    """

    def __init__(
        self,
        corpora: Corpora,
        name: str,
        sides: tuple[Corpus, ...],
        *,
        objective: str,
        seed: int,
        shuffle: bool,
    ):
        self._corpora = corpora
        self.name = name
        """Language or pair of the stream: ``en`` or ``en-hi``."""
        self.id = f"{objective}/{name}"
        """The key of its cursor and its randomness."""
        self.languages = tuple(side.language for side in sides)
        ids = match_languages(
            corpora.languages, self.languages, where=f"{self.id}: the corpora's table of languages",
            otherwise="list it there",
        )  # fmt: skip
        self.language_ids = tuple(ids[name] for name in self.languages)
        self.side_sizes: tuple[TextSize, ...] = tuple(side.text_size for side in sides)
        """Size of each side's whole text, rows left out included."""
        self.seed = seed
        self.shuffle = shuffle
        if shuffle:
            for side in sides:
                side.expect_random_access()
        self._permutation: BlockedPermutation | None = None
        self.kept: dict[Any, Any] = {}
        """Values that an objective computes once for the whole stream, by a key of its own."""

    is_pair = False
    """True if the stream is named after a pair of languages."""
    num_rows: int
    """Number of rows or pairs in an epoch."""
    num_dropped = 0
    """Number of rows left out."""
    why_dropped = "are longer than the objective's length"
    """The reason why rows are left out, as the end of a sentence about them."""
    batches_per_epoch: float
    """Number of micro-batches in an epoch; a fraction if batches straddle epochs."""

    @property
    def num_batches(self) -> int:
        """Number of micro-batches of one pass; the last may be shorter."""
        return int(np.ceil(self.batches_per_epoch))

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that made the ids."""
        return self._corpora.tokenizer_of(self.languages[0])

    @property
    def table(self) -> str:
        """The table whose ids these are, "" for the model's own."""
        return self._corpora.table_of(self.languages[0])

    def id_of(self, language: str) -> int:
        """Return the id of a language of the corpora."""
        return self._corpora.languages[language]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of times each id occurs in all training text (int64 ``[V]``)."""
        return self._corpora.counts(self.table)

    @property
    def unigram(self) -> tuple[NDArray[np.float64], ...] | None:
        """Unigram nats of each side (float64 ``[V]``); None if one has no training text."""
        try:
            return tuple(self._corpora.unigram(language) for language in self.languages)
        except DataError:
            return None

    @property
    def unigrams(self) -> dict[str, NDArray[np.float64]]:
        """Unigram nats (float64 ``[V]``) of every language of the corpora with training text."""
        found = {}
        for language in self._corpora.languages:
            with suppress(DataError):
                found[language] = self._corpora.unigram(language)
        return found

    @property
    def text_size(self) -> TextSize:
        """Size of all sides together."""
        return sum(self.side_sizes[1:], self.side_sizes[0])

    @property
    def num_sentences(self) -> int:
        """Number of sentences, or pairs, by which languages are sampled."""
        return self.side_sizes[0].sentences

    def examples(self, k: int) -> Examples:
        """Return micro-batch ``k >= 0``, below ``num_batches`` if there is one pass only."""
        if k < 0 or (not self.shuffle and k >= self.num_batches):
            raise IndexError(
                f"{self.id}: found micro-batch {k}, expected one below {self.num_batches}"
            )
        return self._examples(k)

    @abstractmethod
    def _examples(self, k: int) -> Examples: ...

    def _rows_in_turn(self, k: int, rows: int) -> NDArray[np.int64]:
        """Return epoch and row of each example of micro-batch ``k``, int64 ``[B, 2]``.

        Batches of ``rows`` go on from one permuted epoch to the next.
        """
        if not self.shuffle:
            own = np.arange(k * rows, min((k + 1) * rows, self.num_rows))
            return np.stack([np.zeros_like(own), own], axis=1)
        positions = np.arange(k * rows, (k + 1) * rows)
        epochs, places = np.divmod(positions, self.num_rows)
        parts = [
            self._permuted(epoch, self.num_rows, places[epochs == epoch])
            for epoch in range(int(epochs[0]), int(epochs[-1]) + 1)
        ]
        return np.stack([epochs, np.concatenate(parts)], axis=1)

    def _permuted(self, epoch: int, size: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
        if not self.shuffle:
            return places
        if self._permutation is None or self._permutation.size != size:
            self._permutation = BlockedPermutation(size, self.seed, self.id, "order")
        return self._permutation(epoch, places)


class TextStream(Stream):
    """Rows of ``length`` tokens cut from the text of one language, sentence borders ignored.

    - ``paper``: row i is tokens[i * length : (i + 1) * length], the last one shorter. An epoch is a
      permutation of the rows; batches of ``rows`` go on from one epoch to the next, so that each
      has the same shape and each epoch serves each row once.
    - ``original``: as the original XLM cuts it (docs/fidelity.md, B1). The text, right-aligned
      behind end symbols, lies in ``rows`` parallel streams behind one more column of end symbols;
      chunks of ``length`` columns are permuted. The last token of each stream is never served. With
      ``one_in`` only the first ``1 / one_in`` of the chunks are, as when the original evaluates
      many languages (A9).

    Text that is short beside ``rows`` x ``length`` is mostly filler in ``original``, which logs a
    warning.
    Raises ConfigError for sizes below 1, DataError for a corpus without tokens or chunks.
    """

    def __init__(
        self,
        corpora: Corpora,
        language: str,
        *,
        objective: str,
        split: str = "train",
        rows: int,
        length: int,
        layout: str = "paper",
        one_in: int = 1,
        seed: int = 0,
        shuffle: bool = True,
    ):
        self._corpus = corpora.text(split, language)
        super().__init__(
            corpora, language, (self._corpus,), objective=objective, seed=seed, shuffle=shuffle
        )
        if rows < 1 or length < 1:
            raise ConfigError(
                f"{self.id}: rows is {rows} and length is {length}: expected at least 1 each"
            )
        if layout not in ("paper", "original"):
            raise ConfigError(f"{self.id}: text layout {layout!r}: expected paper or original")
        if one_in < 1 or (one_in > 1 and layout == "paper"):
            raise ConfigError(
                f"{self.id}: one_in is {one_in} with layout {layout}: expected 1, or more "
                "with layout original"
            )
        self._num_tokens = len(self._corpus.ids)
        if not self._num_tokens:
            raise DataError(f"{self.id}: the {split} text of {language} is empty; prepare some")
        self.rows, self.length, self.layout = rows, length, layout
        if layout == "paper":
            self.num_rows = -(-self._num_tokens // length)
            self.batches_per_epoch = self.num_rows / rows
        else:
            self._lay_out_as_original(one_in)

    def _lay_out_as_original(self, one_in: int) -> None:
        self._stream_chunks = -(-self._num_tokens // (self.rows * self.length))
        num_cells = self._stream_chunks * self.rows * self.length
        self._filler = num_cells - self._num_tokens
        if 2 * self._filler > num_cells:
            log.warning(
                "%s: %d of the %d cells that layout original makes are filler, for only %d "
                "tokens of text: lower rows (%d) or length (%d), or use layout paper",
                self.id, self._filler, num_cells, self._num_tokens, self.rows, self.length,
            )  # fmt: skip
        self._num_chunks = self._stream_chunks // one_in
        if not self._num_chunks:
            raise DataError(
                f"{self.id}: {self._num_tokens} tokens make {self._stream_chunks} chunk(s) "
                f"of {self.length}, of which the original evaluates one in {one_in}, so "
                "none: give more text, a smaller length, or evaluation: whole"
            )
        if one_in > 1:
            log.info(
                "%s: the first %d of %d chunks are read, as the original does of so many languages",
                self.id, self._num_chunks, self._stream_chunks,
            )  # fmt: skip
        self.num_rows = self._num_chunks * self.rows
        self.batches_per_epoch = float(self._num_chunks)

    def _examples(self, k: int) -> Examples:
        if self.layout == "original":
            return self._original_examples(k)
        rows = self._rows_in_turn(k, self.rows)[:, 1]
        starts = rows * self.length
        tokens = self._corpus.runs(starts - 1, self.length + 1)
        sizes = np.minimum(self.length, self._num_tokens - starts)
        first = [row[1 : size + 1] for row, size in zip(tokens, sizes.tolist(), strict=True)]
        return Examples(self, rows, first, before=tokens[:, 0].copy(), length=self.length)

    def _original_examples(self, k: int) -> Examples:
        epoch, place = divmod(k, self._num_chunks)
        chunk = int(self._permuted(epoch, self._num_chunks, np.array([place]))[0])
        streams = np.arange(self.rows)
        # The filler lies before the text (negative cells), and column 0 of every stream is one more
        # end symbol, so that cell c of a stream is served in column c + 1.
        starts = (streams * self._stream_chunks + chunk) * self.length - 1 - self._filler
        tokens = self._corpus.runs(starts - 1, self.length + 1)
        if chunk == 0:
            tokens[:, :2] = self.tokenizer.end_id
        return Examples(
            self,
            chunk * self.rows + streams,
            list(tokens[:, 1:]),
            before=tokens[:, 0].copy(),
            length=self.length,
        )

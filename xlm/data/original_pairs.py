"""Pairs in the original's batches (docs/fidelity.md, A2, A9): equal if unshuffled, else its rule.

Each epoch sorts and cuts all pairs anew, so that 20 bytes a pair are kept in memory; ``PairStream``
needs none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpora import Corpora
from xlm.data.lengths import Measure
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.rng import Permutation

NUM_DELIMITERS = 4
"""Delimiters of a pair, two around each sentence, in every measure of its length."""

UNCUT_LANGUAGES = frozenset("ar bg de el en es fr hi ru sw th tr ur vi zh".split())
"""Languages that the original validates on more text if there are more than 30: the 15 of XNLI."""


class Cut(NamedTuple):
    """The part of a held-out text that the original evaluates."""

    one_in: int
    """Only the first 1/``one_in`` of a text's chunks are read."""
    most_pairs: int | None
    """Number of pairs that are read, from the first on; None: all."""


def evaluation_cut(split: str, language: str, num_languages: int) -> Cut:
    """Return the original's cut of ``split`` for ``language`` (of a pair: its first).

    There is no cut for up to 5 languages. With more, the first fifth of the chunks and 1,500 pairs
    are read in ``valid``, a tenth and 300 (with more than 30 languages: 600) in ``test``; with more
    than 30 languages, all but ``UNCUT_LANGUAGES`` are cut in ``valid`` as in ``test``. See
    docs/fidelity.md, A9.
    """
    if num_languages <= 5:
        return Cut(1, None)
    many = num_languages > 30
    if split == "test" or (many and language not in UNCUT_LANGUAGES):
        return Cut(10, 600 if many else 300)
    return Cut(5, 1500)


class OriginalPairStream(Stream):
    """Aligned sentences in the original's batches, each padded to its longest row.

    An epoch permutes the pairs, sorts them stably by length (the two sentences' and four
    delimiters; not with ``sort=False``), cuts them into batches and permutes these. A batch has
    ``rows`` pairs, or almost: batches are as equal as they can be. With ``tokens`` a batch ends
    instead when the running sum of lengths crosses a multiple of it. ``shuffle=False`` permutes
    nothing.

    Left out, and counted in ``num_dropped``, are pairs with an empty side, with a side of more than
    ``longest_side`` tokens (delimiters apart), those that with ``num_specials`` do not fit
    ``max_length`` by the measure ``sides`` (see ``PairStream``), and those after the first
    ``most_pairs`` that are left.

    Raises ConfigError for invalid sizes, DataError if no pair is left.
    """

    is_pair = True

    def __init__(
        self,
        corpora: Corpora,
        pair: str,
        *,
        objective: str,
        split: str = "train",
        rows: int,
        tokens: int | None = None,
        num_specials: int,
        sides: Measure = "joint",
        max_length: int = 512,
        longest_side: int | None = None,
        most_pairs: int | None = None,
        sort: bool = True,
        seed: int = 0,
        shuffle: bool = True,
    ):
        self.pairs = corpora.pairs(split, pair)
        super().__init__(
            corpora, pair, self.pairs.sides, objective=objective, seed=seed, shuffle=shuffle
        )
        for name, size in (("rows", rows), ("tokens", tokens), ("max_length", max_length)):
            if size is not None and size < 1:
                raise ConfigError(f"{self.id}: {name} is {size}, expected at least 1")
        lengths = np.stack([side.lengths().astype(np.int32) for side in self.pairs.sides])
        measured = (lengths.sum(0) if sides == "joint" else lengths.max(0)) + num_specials
        keep = (lengths.min(0) > 0) & (measured <= max_length)
        if longest_side is not None:
            keep &= lengths.max(0) <= longest_side
        self._kept = np.flatnonzero(keep)[:most_pairs]
        self._measured = measured[self._kept]
        self._lengths = lengths.sum(0)[self._kept] + np.int32(NUM_DELIMITERS)
        self.num_rows = len(self._kept)
        self.num_dropped = len(self.pairs) - self.num_rows
        """Number of pairs left out."""
        self.why_dropped = "have an empty side, or are longer than length or longest_side"
        if most_pairs is not None:
            self.why_dropped += f", or come after the first {most_pairs:,} that the original reads"
        if not self.num_rows:
            raise DataError(
                f"{self.id}: none of {len(self.pairs)} pairs of the {split} split has two "
                f"sides that fit in max_length {max_length} and longest_side {longest_side}: "
                "raise them, or prepare other text"
            )
        self._rows, self._tokens, self._sort = rows, tokens, sort
        self.batches_per_epoch = float(self._count_batches())
        self._epoch: tuple[int, NDArray[np.int64], NDArray[np.int64]] | None = None

    @property
    def num_sentences(self) -> int:
        """Number of pairs that are not left out, which sampling uses (docs/fidelity.md, B4)."""
        return self.num_rows

    def _count_batches(self) -> int:
        """Return the number of batches, which any epoch has: sorted lengths do not change."""
        if self._tokens is None:
            return -(-self.num_rows // self._rows)
        if self._sort:
            return len(_borders(np.sort(self._lengths), self._rows, self._tokens)) - 1
        longest = int(self._lengths.max())
        if longest >= self._tokens:
            raise ConfigError(
                f"{self.id}: unsorted batches hold {self._tokens} tokens, but the longest "
                f"pair has {longest} with its delimiters: raise tokens, or lower longest_side"
            )
        return int(self._lengths.sum(dtype=np.int64)) // self._tokens + 1

    def _arranged(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the places in ``_kept`` in the order of ``epoch``, and the bounds of its batches.

        The latest result is cached.
        """
        if self._epoch is None or self._epoch[0] != epoch:
            order = np.arange(self.num_rows)
            if self.shuffle:
                order = Permutation(self.num_rows, self.seed, self.id, "order", epoch)(order)
            if self._sort:
                order = order[np.argsort(self._lengths[order], kind="stable")]
            self._epoch = epoch, order, _borders(self._lengths[order], self._rows, self._tokens)
        return self._epoch[1:]

    def _examples(self, k: int) -> Examples:
        epoch, batch = divmod(k, self.num_batches)
        order, borders = self._arranged(epoch)
        if self.shuffle:
            batches = Permutation(self.num_batches, self.seed, self.id, "batches", epoch)
            batch = int(batches(np.array([batch]))[0])
        places = order[borders[batch] : borders[batch + 1]]
        rows = self._kept[places]
        first, second = (side.sentences(rows) for side in self.pairs.sides)
        return Examples(self, rows, first, second=second, length=int(self._measured[places].max()))


def _borders(lengths: NDArray[np.int32], rows: int, tokens: int | None) -> NDArray[np.int64]:
    """Return the starts of batches of pairs of these ``lengths``, and the end of the last one."""
    num = len(lengths)
    if tokens is None:
        num_batches = -(-num // rows)
        sizes = np.full(num_batches, num // num_batches)
        sizes[: num % num_batches] += 1
        return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    crossed = np.cumsum(lengths, dtype=np.int64) // tokens
    starts = np.flatnonzero(np.diff(crossed, prepend=crossed[0] - 1))
    return np.append(starts, num).astype(np.int64)

"""A stream of blocks: whole sentences that follow each other in the text of one language."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpora import Corpora
from xlm.data.sentence_streams import BucketedStream
from xlm.data.streams import Examples
from xlm.errors import DataError
from xlm.text.tokenizers.tokenizer import Ids


class BlockStream(BucketedStream):
    """A stream of blocks of one language, each as many whole sentences as fit in ``max_length``.

    A block ends before the sentence that no longer fits, and before one that is longer than any
    block, which is left out and counted in ``num_dropped``. End symbols separate its
    sentences; empty ones are left out of it. The rest is as in ``BucketedStream``. Raises DataError
    if no sentence fits.
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
    ):
        self._corpus = corpora.text(split, language)
        longest = max_length - num_specials
        self._firsts, self._ends, num_long = cut_blocks(self._corpus.offsets, longest)
        if not len(self._firsts):
            raise DataError(
                f"{objective}/{language}: none of the {len(self._corpus)} sentences of the "
                f"{split} text fits in length {max_length}, special tokens included: raise "
                "length, or prepare text with shorter lines"
            )
        lengths = self._corpus.offsets[self._ends] - self._corpus.offsets[self._firsts] - 1
        super().__init__(
            corpora,
            language,
            (self._corpus,),
            histogram=np.bincount(lengths).astype(np.int64),
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
        self._order = np.argsort(lengths, kind="stable")
        self.num_dropped = num_long
        self.why_dropped = "of one sentence each are longer than the objective's length"

    @property
    def num_sentences(self) -> int:
        """Number of sentences that are not left out, which sampling uses."""
        return len(self._corpus) - self.num_dropped

    def _examples(self, k: int) -> Examples:
        rows, length = self._rows(k)
        return Examples(self, rows, [self._block(row) for row in rows.tolist()], length=length)

    def _block(self, row: int) -> Ids:
        first, end = (int(self._corpus.offsets[own[row]]) for own in (self._firsts, self._ends))
        ids = self._corpus.tokens(slice(first, end))
        is_end = ids == self.tokenizer.end_id
        closes = is_end & ~np.concatenate([[True], is_end[:-1]])
        return np.asarray(ids[~is_end | closes][:-1])


def cut_blocks(
    offsets: NDArray[np.int64], longest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return the first sentences of blocks, those after their last ones, and how many fit nowhere.

    int64 ``[blocks]`` each. ``offsets`` are a corpus's; a block has at most ``longest`` tokens,
    end symbols between sentences included. Sentences without a token make no block.
    """
    too_long = np.flatnonzero(np.diff(offsets) - 1 > longest).tolist()
    firsts: list[int] = []
    ends: list[int] = []
    start = 0
    for border in [*too_long, len(offsets) - 1]:
        while start < border:
            end = int(np.searchsorted(offsets, offsets[start] + longest + 1, side="right")) - 1
            end = min(end, border)
            if offsets[end] - offsets[start] > end - start:
                firsts.append(start)
                ends.append(end)
            start = end
        start = border + 1
    return np.array(firsts, dtype=np.int64), np.array(ends, dtype=np.int64), len(too_long)

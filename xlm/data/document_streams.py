"""Rows of two parts of whole sentences, of one document or of two (BERT; Devlin et al. 2019, A.2).

    documents --cut once--> chunks of whole sentences --epoch, row--> A, B, whether B follows A

BERT's data are cut so that a part that is not used is tried again; here each epoch divides the same
chunks anew, so that any row can be made at any time.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpora import Corpora
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.rng import Random, uniform_at
from xlm.text.tokenizers.tokenizer import Ids

FOLLOWS, RANDOM = 0, 1
"""Labels of a row, as BERT has them: B follows A; B is of another document."""


class DocumentStream(Stream):
    """Pairs of parts of one language's documents, in batches of ``rows``.

    A chunk has as many whole sentences of one document as fit ``length`` tokens with
    ``num_specials``, in a share ``short`` of them up to a random shorter length, and two sentences
    if the document has them. A is its first sentences, as many as each epoch draws; B the rest, or,
    in one half of all rows, sentences of another document. Parts that are too long lose their outer
    ends.

    Raises ConfigError for sizes out of range, DataError for text without borders of documents.
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
        num_specials: int,
        short: float = 0.1,
        seed: int = 0,
        shuffle: bool = True,
    ):
        self._corpus = corpora.text(split, language)
        super().__init__(
            corpora, language, (self._corpus,), objective=objective, seed=seed, shuffle=shuffle
        )
        self._room = length - num_specials
        if rows < 1 or self._room < 2:
            raise ConfigError(
                f"{self.id}: rows {rows}, length {length}: expected at least 1 row and at "
                f"least {num_specials + 2} tokens, {num_specials} of them special"
            )
        documents = self._corpus.documents
        if documents is None or len(documents) < 2:
            raise DataError(
                f"{self.id}: the {split} text of {language} has no document boundaries, "
                "which next-sentence prediction needs: put an empty line between documents "
                "and prepare the text again"
            )
        self.rows, self.length = rows, length
        self._documents = documents
        self._chunks, self._rooms = self._cut(short)
        self.num_rows = len(self._chunks)
        self.batches_per_epoch = self.num_rows / rows
        several = float((self._chunks[:, 1] - self._chunks[:, 0] > 1).mean())
        self._share_following = min(1.0, 0.5 / several) if several else 0.0

    def _cut(self, short: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return first and end sentence of each chunk (``[N, 2]``), and the tokens it may have.

        All documents are cut at once, a chunk of each a round.
        """
        ends = np.append(self._documents[1:], len(self._corpus))
        at, chunks, rooms = np.array(self._documents), [], []
        while len(at):
            room = np.full(len(at), self._room)
            drawn = uniform_at(at, self.seed, self.id, "short")
            shorter = 2 + (drawn / max(short, 1e-9) * (self._room - 1)).astype(np.int64)
            room = np.where(drawn < short, np.minimum(shorter, self._room), room)
            end = np.minimum(np.maximum(self._fitting(at, room), at + 2), ends)
            chunks.append(np.stack([at, end], axis=1))
            rooms.append(room)
            going = end < ends
            at, ends = end[going], ends[going]
        cut, room = np.concatenate(chunks), np.concatenate(rooms)
        order = np.argsort(cut[:, 0])
        return cut[order], room[order]

    def _fitting(self, first: NDArray[np.int64], room: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the end of the most sentences from each first one that fit, end symbols apart."""
        offsets, end = self._corpus.offsets, first
        while True:
            # each sentence found leaves room for its end symbol, which is not in a row
            limit = offsets[first] + room + (end - first) + 1
            further = np.maximum(np.searchsorted(offsets, limit, side="right") - 1, end)
            if (further == end).all():
                return end
            end = further

    def _examples(self, k: int) -> Examples:
        first, second, labels = [], [], []
        places = self._rows_in_turn(k, self.rows)
        for epoch, row in places.tolist():
            one, two, label = self._row(epoch, row)
            first.append(one)
            second.append(two)
            labels.append(label)
        return Examples(
            self, places[:, 1], first, second, length=self.length, labels=np.array(labels)
        )

    def _row(self, epoch: int, row: int) -> tuple[Ids, Ids, int]:
        start, end = (int(border) for border in self._chunks[row])
        random = Random(self.seed, self.id, "row", epoch, row)
        coin, split, document, sentence = random.uniform(4)
        several = end - start > 1
        middle = start + 1 + int(split * (end - start - 1)) if several else end
        room = int(self._rooms[row])
        first = self._text(start, middle)
        if several and coin < self._share_following:
            return (*_fitted(first, self._text(middle, end), room), FOLLOWS)
        own = int(np.searchsorted(self._documents, start, side="right")) - 1
        other = (own + 1 + int(document * (len(self._documents) - 1))) % len(self._documents)
        begins = int(self._documents[other])
        ends = np.append(self._documents, len(self._corpus))[other + 1]
        begins += int(sentence * (ends - begins))
        left = np.array([max(room - len(first), 1)])
        reached = int(self._fitting(np.array([begins]), left)[0])
        second = self._text(begins, min(max(reached, begins + 1), int(ends)))
        return (*_fitted(first, second, room), RANDOM)

    def _text(self, start: int, end: int) -> Ids:
        """Return the tokens of some sentences, without end symbols."""
        return np.concatenate(self._corpus.sentences(np.arange(start, end)))


def _fitted(first: Ids, second: Ids, room: int) -> tuple[Ids, Ids]:
    """Cut the beginning of A and the end of B until both fit, the longer one first."""
    of_first = min(len(first), max(room - len(second), room // 2))
    of_second = min(len(second), room - of_first)
    return first[len(first) - of_first :], second[:of_second]

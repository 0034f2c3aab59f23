"""The pieces that begin or end a word, by the marks of the tokenizer's kind.

``▁the``, ``Ġthe``   the mark opens a word (SentencePiece, bytes): pieces without it continue it
``##s``              the mark continues a word (WordPiece)
``th@@``             the word continues after the piece (fastBPE); ``the</w>``: it ends there
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xlm.text.tokenizers.tokenizer import Ids, Tokenizer

_OPENING = ("▁", "Ġ")
_GOING_ON = "##"
_OPEN_ENDED, _CLOSING = "@@", "</w>"


@dataclass(frozen=True)
class WordMarks:
    """For each id, True if a word may begin or end with it; bool ``[V]`` each."""

    side: Literal["front", "back"]
    """The side of a piece that tells: of its back nothing is known if it is the front."""
    marked: NDArray[np.bool_]
    """Pieces that begin a word (front), or that end one (back)."""
    text: NDArray[np.bool_]
    """Pieces that are not special tokens."""

    def allowed(
        self, at: int, length: int, *, after_letters: bool, before_letters: bool
    ) -> NDArray[np.bool_]:
        """Return the ids that may be piece ``at`` of ``length`` pieces of a word, bool ``[V]``.

        Letters right before the first piece or right after the last belong to the same word.
        """
        if self.side == "front":
            begins = at == 0 and not after_letters
            return self.text & (self.marked if begins else ~self.marked)
        ends = at == length - 1 and not before_letters
        return self.text & (self.marked if ends else ~self.marked)

    @property
    def parts_words(self) -> bool:
        """Return whether words can be told from each other: some pieces are marked, some not."""
        return bool(self.marked.any() and not self.marked.all())

    def begins(self, ids: Ids) -> NDArray[np.bool_]:
        """Return whether a word begins at each of the pieces of a text, bool of their shape."""
        if self.side == "front":
            return np.asarray(self.marked[ids], dtype=bool)
        return np.append(True, self.marked[ids[:-1]])[: len(ids)]


@functools.lru_cache(maxsize=4)
def word_marks(tokenizer: Tokenizer) -> WordMarks:
    """Return the marks of a tokenizer: of the kinds above the one that most pieces have."""
    pieces = tokenizer.pieces
    text = np.ones(tokenizer.vocab_size, dtype=bool)
    text[sorted(tokenizer.special_ids)] = False

    def having(mark: str, *, front: bool) -> NDArray[np.bool_]:
        return np.array([p.startswith(mark) if front else p.endswith(mark) for p in pieces])

    kinds = [
        *(("front", having(mark, front=True)) for mark in _OPENING),
        ("front", ~having(_GOING_ON, front=True)),
        ("back", ~having(_OPEN_ENDED, front=False)),
        ("back", having(_CLOSING, front=False)),
    ]
    # the pieces that bear the mark, on whichever side it is
    counts = [
        int((text & (~own if at in (2, 3) else own)).sum()) for at, (_, own) in enumerate(kinds)
    ]
    side, marked = kinds[int(np.argmax(counts))]
    if not max(counts):  # no marks at all: each piece is a word
        return WordMarks("front", np.ones_like(text), text)
    return WordMarks("front" if side == "front" else "back", marked, text)

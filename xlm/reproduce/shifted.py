"""A language whose ids lie in a range of their own: the same text, no subword shared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpus import Corpus, id_type
from xlm.text.tokenizers.tokenizer import Tokenizer


class ShiftedTokenizer(Tokenizer):
    """``base`` for ids below its vocabulary, the same shifted for those above."""

    def __init__(self, base: Tokenizer):
        self.base = base
        self.first_ordinary = max(base.special_ids) + 1
        self.shift = base.vocab_size - self.first_ordinary
        self.vocab_size = base.vocab_size + self.shift
        self.end_id, self.pad_id = base.end_id, base.pad_id
        self.unk_id, self.mask_id = base.unk_id, base.mask_id
        self.special_ids = base.special_ids

    @property
    def digest(self) -> str:
        """The base's digest and the shift, hashed."""
        return hashlib.sha256(f"shifted {self.base.digest}".encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Return the ids of a line in the first language."""
        return self.base.encode(text)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids of either language."""
        return self.base.decode([i if i < self.base.vocab_size else i - self.shift for i in ids])

    def save(self, folder: Path) -> None:
        """Write the base: the shift is not kept."""
        self.base.save(folder)

    def shifted(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the same text in the second language (int64, of the same shape)."""
        return np.where(ids >= self.first_ordinary, ids + self.shift, ids)


def moved(corpus: Corpus, tokenizer: ShiftedTokenizer, *, shift: bool) -> Corpus:
    """Return ``corpus``, made by the base, as one of ``tokenizer``; shifted if asked for."""
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    places = np.arange(tokenizer.base.vocab_size)
    counts[tokenizer.shifted(places) if shift else places] = corpus.counts
    ids = corpus.tokens(slice(None))
    return Corpus(
        (tokenizer.shifted(ids) if shift else ids).astype(id_type(tokenizer.vocab_size)),
        corpus.offsets,
        counts,
        language=corpus.language,
        tokenizer_digest=tokenizer.digest,
        text_size=corpus.text_size,
        documents=corpus.documents,
    )

"""A tokenizer of hashed words, and corpora in memory, for tests that need no real text."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.text.tokenizers.tokenizer import Tokenizer


class WordTokenizer(Tokenizer):
    """A word's id is its checksum; the first 14 ids are special, as in the original."""

    def __init__(self, vocab_size: int = 200, name: str = "words"):
        self.vocab_size, self.name = vocab_size, name
        self.end_id, self.pad_id, self.unk_id, self.mask_id = 1, 2, 3, 5
        self.special_ids = frozenset(range(14))
        self.pieces = tuple(f"word-{at}" for at in range(vocab_size))

    @property
    def digest(self) -> str:
        return f"{self.name}-{self.vocab_size}".ljust(64, "0")

    def encode(self, text: str) -> list[int]:
        return [14 + zlib.crc32(w.encode()) % (self.vocab_size - 14) for w in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def save(self, folder: Path) -> None:
        folder.mkdir()


def random_sentences(lengths: Sequence[int], seed: int = 0, vocab_size: int = 200) -> list:
    """Random ordinary ids in sentences of these lengths."""
    random = np.random.default_rng(seed)
    return [random.integers(14, vocab_size, length) for length in lengths]


def corpus(lengths: Sequence[int], language: str = "en", seed: int = 0) -> Corpus:
    return Corpus.from_sentences(
        random_sentences(lengths, seed), language=language, tokenizer=WordTokenizer()
    )


def corpora(**lengths: Sequence[int]) -> Corpora:
    """``en=[3, 4]`` makes training text; ``en_hi=([3, 4], [5, 6])`` makes training pairs."""
    texts, pairs, languages = {}, {}, set()
    for name, sizes in lengths.items():
        parts = name.split("_")
        languages.update(parts)
        if len(parts) == 1:
            texts["train", name] = corpus(sizes, name, seed=len(name))
        else:
            sides = [corpus(s, lang, seed=len(lang)) for s, lang in zip(sizes, parts, strict=True)]
            pairs["train", "-".join(parts)] = Pairs(*sides)
    return Corpora(WordTokenizer(), languages, texts=texts, pairs=pairs)

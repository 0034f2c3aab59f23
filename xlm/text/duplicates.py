"""Lines that were there before, exactly or nearly.

Nearly: by MinHash over sets of character 5-grams with locality-sensitive hashing (the package
rensa, in the extra clean). Two lines are near if the estimated share of 5-grams that they have in
common, of all that either has (Jaccard), reaches a threshold.
"""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Any

from xlm.errors import ConfigError
from xlm.text.words import missing_package

NUM_HASHES = 128
"""Hashes of a line; the estimate's standard error is at most 0.045."""
_NGRAM = 5
_RECALL = 0.99
"""Probability that a pair at the threshold shares a band, at least."""


def fingerprint(text: str) -> int:
    """Return 64 bits of a text; two different ones share them once in 10**19."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def letters(text: str) -> str:
    """Return the letters, digits and marks of a text in lower case: one key of small edits."""
    return text.casefold().translate(_KEPT)


class _Kept(dict[int, int | None]):
    """Every character's own code if it is a letter, a digit or a mark, filled in when it is met."""

    def __missing__(self, code: int) -> int | None:
        kept = unicodedata.category(chr(code))[0] in "LMN"
        self[code] = code if kept else None
        return self[code]


_KEPT = _Kept()


class NearLines:
    """Lines that were added, and which of them a text is near to.

    Memory is about 2 KiB a line. Raises ConfigError for a threshold outside (0, 1], and if rensa is
    not installed.
    """

    def __init__(self, threshold: float, setting: str) -> None:
        if not 0 < threshold <= 1:
            raise ConfigError(f"{setting} must be above 0 and at most 1: found {threshold}")
        try:
            import rensa
        except ImportError:
            raise missing_package(setting, "rensa", "clean") from None
        self._make = rensa.RMinHash
        self._threshold = threshold
        self._index = rensa.RMinHashLSH(threshold, NUM_HASHES, num_bands(threshold))
        self._hashes: list[Any] = []

    def __len__(self) -> int:
        return len(self._hashes)

    def find(self, text: str) -> int | None:
        """Return the number of the most similar line that is near ``text``; None if none is."""
        return self._nearest(self._hash(text))

    def add(self, text: str) -> int:
        """Add a line, and return its number."""
        return self._insert(self._hash(text))

    def find_or_add(self, text: str) -> int | None:
        """Return the number of a line near ``text``; add it, and return None, if there is none."""
        hashes = self._hash(text)
        found = self._nearest(hashes)
        if found is None:
            self._insert(hashes)
        return found

    def _hash(self, text: str) -> Any:
        hashes = self._make(num_perm=NUM_HASHES, seed=0)
        hashes.update(sorted(ngrams(text)))
        return hashes

    def _insert(self, hashes: Any) -> int:
        number = len(self._hashes)
        self._index.insert(number, hashes)
        self._hashes.append(hashes)
        return number

    def _nearest(self, hashes: Any) -> int | None:
        found = [(self._hashes[at].jaccard(hashes), -at) for at in self._index.query(hashes)]
        similarity, at = max(found, default=(0.0, 0))
        return -at if similarity >= self._threshold else None


def ngrams(text: str) -> set[str]:
    """Return the character 5-grams of a text; a shorter one is its own."""
    return {text[at : at + _NGRAM] for at in range(max(1, len(text) - _NGRAM + 1))}


def num_bands(threshold: float) -> int:
    """Return the fewest bands by which pairs at the threshold are hardly ever missed."""
    for rows in (32, 16, 8, 4, 2):
        bands = NUM_HASHES // rows
        if 1 - (1 - threshold**rows) ** bands >= _RECALL:
            return bands
    return NUM_HASHES

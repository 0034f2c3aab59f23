"""Write ids that another program made as corpora of this library.

    flat ids, each sentence with its end symbol --without the empty ones--> Corpus, Pairs

No text is segmented again: words, characters and bytes are counted from the pieces, and those of
unknown words from the other program's own table of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from xlm.data.corpus_writer import CorpusWriter
from xlm.data.pairs import SIDES, write_index
from xlm.errors import DataError
from xlm.metrics.scores import TextSize
from xlm.storage import CHUNK
from xlm.text.tokenizers.fastbpe import INSIDE
from xlm.text.tokenizers.tokenizer import Tokenizer

EMPTY, EMPTY_SIDE = "empty", "empty side"


class Ids(Protocol):
    """Interface of a file of ids."""

    @property
    def ids(self) -> NDArray[Any]:
        """Unsigned ids of all sentences in a row, each sentence with its end symbol."""

    @property
    def lengths(self) -> NDArray[np.int64]:
        """int64 ``[sentences]``: number of tokens of each, including the end symbol."""

    @property
    def unknown_words(self) -> Mapping[str, int]:
        """Count of each piece of the text that has no id."""


@dataclass
class CorpusCounts:
    """Counts of the text written in one language, for comparison with the source."""

    sentences: int = 0
    tokens: int = 0
    """Number of tokens, including end symbols."""
    unknown: int = 0
    """Number of tokens without an id."""
    dropped: int = 0
    """Number of sentences, or pairs, that were left out because they are empty."""
    sized: bool = True
    """True if the files list their unknown words; otherwise the size of the text is unknown."""

    def describe(self, name: str, what: str) -> str:
        """Return one line for a person to read."""
        line = f"{name}: {self.sentences:,} {what}, {self.tokens:,} tokens"
        if self.unknown:
            line += f", {self.unknown:,} of them unknown"
        if not self.sized:
            line += " and told nowhere, so that no figure is per word, character or byte"
        return line + (f"; {self.dropped:,} dropped ({EMPTY})" if self.dropped else "")


def _new_counts(parts: Sequence[Ids], tokenizer: Tokenizer) -> CorpusCounts:
    told = all(p.unknown_words or not bool((p.ids == tokenizer.unk_id).any()) for p in parts)
    return CorpusCounts(sized=told)


def write_text(
    parts: Sequence[Ids], path: Path | str, language: str, tokenizer: Tokenizer
) -> CorpusCounts:
    """Write the sentences of ``parts``, one part after the other, as a corpus in folder ``path``.

    Empty sentences are dropped and counted, as ``xlm prepare`` drops empty lines. Raises DataError
    as ``CorpusWriter`` does.
    """
    counts = _new_counts(parts, tokenizer)
    with CorpusWriter(path, language=language, tokenizer=tokenizer, index=True) as writer:
        for part in parts:
            _add(part, part.lengths > 1, writer, tokenizer, counts)
        writer.dropped = {EMPTY: counts.dropped} if counts.dropped else {}
    return counts


def write_pairs(
    sides: Sequence[Sequence[Ids]], path: Path | str, languages: Sequence[str], tokenizer: Tokenizer
) -> tuple[CorpusCounts, CorpusCounts]:
    """Write two aligned languages, each given as its parts, as pairs in folder ``path``.

    Pairs with an empty side are dropped and counted, as the original and ``xlm prepare`` do. Raises
    DataError if the sides have different numbers of sentences.
    """
    kept = []
    for number, (one, other) in enumerate(zip(*sides, strict=True)):
        left, right = one.lengths, other.lengths
        if len(left) != len(right):
            raise DataError(
                f"{path}: part {number} has {len(left):,} sentences in {languages[0]} and "
                f"{len(right):,} in {languages[1]}: expected aligned files; check where they "
                "diverge"
            )
        kept.append((left > 1) & (right > 1))
    counts = _new_counts(sides[0], tokenizer), _new_counts(sides[1], tokenizer)
    for name, language, parts, own in zip(SIDES, languages, sides, counts, strict=True):
        with CorpusWriter(Path(path) / name, language=language, tokenizer=tokenizer) as writer:
            for part, mask in zip(parts, kept, strict=True):
                _add(part, mask, writer, tokenizer, own)
    dropped = counts[0].dropped
    write_index(Path(path), tokenizer, dropped={EMPTY_SIDE: dropped} if dropped else {})
    return counts


def _add(
    part: Ids,
    kept: NDArray[np.bool_],
    writer: CorpusWriter,
    tokenizer: Tokenizer,
    counts: CorpusCounts,
) -> None:
    """Add the sentences of ``part`` that are ``kept`` (bool ``[sentences]``)."""
    sized = counts.sized
    sizes = _Sizes(part, tokenizer)
    end = 0
    for start in range(0, len(kept), CHUNK):
        mask, lengths = kept[start : start + CHUNK], part.lengths[start : start + CHUNK]
        begin, end = end, end + int(lengths.sum())
        ids = part.ids[begin:end][np.repeat(mask, lengths)]
        writer.add(ids, lengths[mask], sizes.of(ids) if sized else TextSize(0, 0, 0, 0, 0))
        counts.sentences += int(mask.sum())
        counts.tokens += len(ids)
        counts.unknown += int((ids == tokenizer.unk_id).sum())
        counts.dropped += int((~mask).sum())


class _Sizes:
    """Words, characters and bytes of fastBPE pieces, with line ends and spaces between words."""

    def __init__(self, part: Ids, tokenizer: Tokenizer):
        self._unk_id = tokenizer.unk_id
        measured = [
            (0, 0, 0) if at in tokenizer.special_ids else _measure(piece)
            for at, piece in enumerate(tokenizer.pieces)
        ]
        self._table = np.array(measured, dtype=np.int64)
        # a line end replaces the last word's space: it counts as a word but adds no character
        self._table[tokenizer.end_id] = (1, 0, 0)
        counts = np.array([*part.unknown_words.values()], dtype=np.float64)
        sizes = np.array([_measure(word) for word in part.unknown_words], dtype=np.float64)
        self._mean = counts @ sizes / counts.sum() if len(counts) else None
        self._num_unknown = 0
        self._given = np.zeros(3, dtype=np.int64)

    def of(self, ids: NDArray[Any]) -> TextSize:
        """Return the size of some more sentences, none of them empty.

        Unknown words count with the mean size of those in the table, so that the sum over a whole
        file is exact.
        """
        total = self._table[ids].sum(axis=0)
        self._num_unknown += int((ids == self._unk_id).sum())
        if self._mean is not None:
            so_far = np.rint(self._mean * self._num_unknown).astype(np.int64)
            total += so_far - self._given
            self._given = so_far
        return TextSize(0, len(ids), *map(int, total))


def _measure(piece: str) -> tuple[int, int, int]:
    """Return words, characters and bytes of a piece; a word's last piece includes its space."""
    text = piece.removesuffix(INSIDE)
    last = int(not piece.endswith(INSIDE))
    return last, len(text) + last, len(text.encode()) + last

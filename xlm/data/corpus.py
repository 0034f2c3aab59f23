"""A corpus: the sentences of one language of one split, as ids in memory-mapped files.

ids.bin      uint16 (vocabulary of at most 65,536) or uint32, every sentence followed by the
             end symbol
offsets.bin  int64 [sentences + 1]: sentence i is ids[offsets[i] : offsets[i + 1] - 1]
counts.bin   int64 [vocab_size]: how often each id occurs
longer.bin, lengths.longer.bin   the sentences sorted by length, and the number of each length: see
             ``xlm.data.lengths``; not of a side of pairs
documents.bin  int64 [documents]: the first sentence of each document; only if the text had empty
             lines between them
header.json  format version, language, tokenizer's digest, sizes, what was dropped, the SHA-256
             of each file and of itself
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm import disk
from xlm.data.lengths import LengthIndex
from xlm.errors import DataError
from xlm.metrics.scores import TextSize
from xlm.storage import CHUNK, HEADER, map_array, read_header
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer

FORMAT_VERSION = 1
FILES = ("ids.bin", "offsets.bin", "counts.bin")
DOCUMENTS = "documents.bin"
CHECKED_AT_OPENING = 1 << 22
"""Number of tokens up to which opening a corpus checks its structure; see
``xlm.data.verification``."""
_SIZES = ("sentences", "tokens", "words", "characters", "bytes")
_KEYS = ("language", "dtype", "vocab_size", "tokenizer", "dropped", *_SIZES)


def id_type(vocab_size: int) -> np.dtype[Any]:
    """Return the smallest type that holds every id."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


class Corpus:
    """The sentences of one language; ``corpus[i]`` is sentence i without its end symbol."""

    def __init__(
        self,
        ids: NDArray[Any],
        offsets: NDArray[np.int64],
        counts: NDArray[np.int64],
        *,
        language: str,
        tokenizer_digest: str,
        text_size: TextSize,
        dropped: Mapping[str, int] | None = None,
        where: Path | None = None,
        documents: NDArray[np.int64] | None = None,
        longest: Mapping[str, Any] | None = None,
    ):
        self.ids = ids
        """uint16 or uint32 ``[tokens]``, read-only; the end symbols included."""
        self.offsets = offsets
        """int64 ``[sentences + 1]``."""
        self.counts = counts
        """int64 ``[vocab_size]``: the number of times each id occurs."""
        self.language = language
        self.tokenizer_digest = tokenizer_digest
        self.text_size = text_size
        self.dropped = dict(dropped or {})
        """Number of lines left out in preparation, by reason."""
        self.documents = documents
        """int64 ``[documents]``: the first sentence of each; None if the text did not say."""
        self.index = (
            LengthIndex((self,))
            if where is None
            else LengthIndex.open((self,), where.parent, longest or {})
        )
        """Orders and numbers of the sentences by length."""
        self._is_mapped = where is not None
        self._where = f"the text of {language}" if where is None else str(where)

    @classmethod
    def open(cls, path: Path | str, tokenizer: Tokenizer | None = None) -> Corpus:
        """Map the corpus in folder ``path``; for a large one only the header is read.

        Raises DataError if a file is missing, truncated, damaged or of another format, or if
        ``tokenizer`` is given and is not the one that made the ids.
        """
        path = Path(path)
        header = read_header(path / HEADER, "corpus", _KEYS, FORMAT_VERSION)
        if tokenizer is not None:
            check_digest(path, header["tokenizer"], tokenizer)
        size = TextSize(*(int(header[key]) for key in _SIZES))
        dtype = id_type(header["vocab_size"])
        if header["dtype"] != dtype.name:
            raise DataError(
                f"{path / HEADER} has dtype {header['dtype']} for {header['vocab_size']} ids, "
                f"expected {dtype.name}: prepare it again"
            )
        offsets = map_array(path / "offsets.bin", np.int64, size.sentences + 1)
        if offsets[0] != 0 or offsets[-1] != size.tokens:
            raise DataError(
                f"{path / 'offsets.bin'} runs from {offsets[0]} to {offsets[-1]}, expected 0 "
                f"to {size.tokens}: prepare it again"
            )
        corpus = cls(
            map_array(path / "ids.bin", dtype, size.tokens),
            offsets,
            map_array(path / "counts.bin", np.int64, header["vocab_size"]),
            language=header["language"],
            tokenizer_digest=header["tokenizer"],
            text_size=size,
            dropped=header["dropped"],
            where=path / "ids.bin",
            documents=_map_documents(path, header.get("documents")),
            longest=header.get("longest"),
        )
        if size.tokens <= CHECKED_AT_OPENING:
            corpus.check_structure()
        return corpus

    def expect_random_access(self) -> None:
        """Say that sentences or rows will be read in random order: the system reads no more ahead.

        Text that lies in no file, or in an empty one, is left alone.
        """
        if self._is_mapped and len(self.ids):
            for array in (self.ids, self.offsets):
                disk.expect_random_access(array.ctypes.data, array.nbytes)

    def check_structure(self, tick: Callable[[], None] = lambda: None) -> None:
        """Raise DataError unless the arrays fit each other, which needs no hashes.

        Sentences must follow each other and end with one symbol, and the counts must be those of
        the ids. Reads everything; ``tick`` is called now and then.
        """
        folder = Path(self._where).parent
        self._check_documents(folder / DOCUMENTS)
        for start in range(0, len(self.offsets) - 1, CHUNK):
            part = self.offsets[start : start + CHUNK + 1]
            if (np.diff(part) < 1).any():
                raise DataError(
                    f"{folder / 'offsets.bin'}: the sentences from {start} on are not in "
                    "order: the file is damaged; prepare the text again"
                )
            ends = self.ids[part[1:] - 1]
            if (ends != self.ids[self.offsets[1] - 1]).any():
                raise DataError(
                    f"{self._where}: a sentence from {start} on has no end symbol: the file "
                    "or offsets.bin is damaged; prepare the text again"
                )
            tick()
        counts = np.zeros_like(self.counts)
        for start in range(0, len(self.ids), 1 << 22):
            counts += count_ids(self.tokens(slice(start, start + (1 << 22))), len(counts))
            tick()
        if wrong := np.flatnonzero(counts != self.counts).tolist():
            raise DataError(
                f"{self._where} has the id {wrong[0]} {counts[wrong[0]]} times, but "
                f"counts.bin says {self.counts[wrong[0]]}: one of the two is damaged; "
                "prepare the text again"
            )
        self.index.check()

    def _check_documents(self, path: Path) -> None:
        """Raise DataError unless documents begin with the first sentence and follow each other."""
        starts = self.documents
        if starts is not None and (
            not len(starts) or starts[0] or starts[-1] >= len(self) or (np.diff(starts) < 1).any()
        ):
            raise DataError(
                f"{path}: the documents do not cover sentences 0 to {len(self) - 1} in "
                "order: the file is damaged; prepare the text again"
            )

    @classmethod
    def from_sentences(
        cls,
        sentences: Iterable[Sequence[int] | Ids],
        *,
        language: str,
        tokenizer: Tokenizer,
        words: int | None = None,
        characters: int | None = None,
        bytes: int | None = None,
        documents: NDArray[np.int64] | None = None,
    ) -> Corpus:
        """Return a corpus in memory from ids without end symbols.

        Sizes that are not given are unknown (0): no figure is per word, character or byte.
        """
        rows = [np.asarray(sentence, dtype=np.int64) for sentence in sentences]
        lengths = np.array([len(row) + 1 for row in rows], dtype=np.int64)
        offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths)])
        flat = np.full(offsets[-1], tokenizer.end_id, dtype=np.int64)
        flat[~_marks(offsets[1:] - 1, len(flat))] = np.concatenate([*rows, flat[:0]])
        num = len(flat)
        counts = count_ids(flat, tokenizer.vocab_size)
        sizes = [size or 0 for size in (words, characters, bytes)]
        return cls(
            flat.astype(id_type(tokenizer.vocab_size)),
            offsets,
            counts,
            language=language,
            tokenizer_digest=tokenizer.digest,
            text_size=TextSize(len(rows), num, *sizes),
            documents=documents,
        )

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ids:
        return self.sentence(index)

    def sentence(self, index: int) -> Ids:
        """Return sentence ``index`` (int64 ``[length]``, without its end symbol)."""
        if not 0 <= index < len(self):
            raise IndexError(f"found sentence {index}, expected one below {len(self)}")
        return self.tokens(slice(self.offsets[index], self.offsets[index + 1] - 1))

    def tokens(self, cells: slice | NDArray[np.int64]) -> Ids:
        """Return the ids at ``cells`` (int64, of the same shape), end symbols included.

        Raises DataError for an id that is not in the vocabulary: the file is damaged, which its
        size does not show.
        """
        ids = self.ids[cells].astype(np.int64)
        self._check(ids)
        return ids

    def _check(self, ids: Ids) -> None:
        if ids.size and int(ids.max()) >= len(self.counts):
            raise DataError(
                f"{self._where} holds the id {ids.max()}, but its vocabulary ends with "
                f"{len(self.counts) - 1}: the file is damaged; prepare the text again"
            )

    def runs(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Return ``length`` ids from each of ``starts`` on (int64 ``[rows, length]``).

        Outside the text stand end symbols. Raises DataError as ``tokens`` does.
        """
        end = int(self.ids[-1]) if len(self.ids) else 0
        found = np.empty((len(starts), length), dtype=np.int64)
        for row, start in enumerate(starts.tolist()):
            first = max(start, 0)
            last = max(min(start + length, len(self.ids)), first)
            if last - first < length:
                found[row] = end
            found[row, first - start : last - start] = self.ids[first:last]
        self._check(found)
        return found

    def sentences(self, indices: NDArray[np.int64]) -> list[Ids]:
        """Return several sentences (int64 arrays without end symbols) by one gather."""
        starts = self.offsets[indices]
        lengths = self.offsets[indices + 1] - starts - 1
        ends = np.cumsum(lengths)
        cells = np.arange(int(ends[-1]) if len(ends) else 0)
        flat = self.tokens(cells + np.repeat(starts - ends + lengths, lengths))
        borders = [0, *ends.tolist()]
        return [flat[a:b] for a, b in zip(borders[:-1], borders[1:], strict=True)]

    def lengths(self, start: int = 0, end: int | None = None) -> NDArray[np.int64]:
        """Return the lengths of sentences ``start`` to ``end``, without end symbols (int64)."""
        end = len(self) if end is None else end
        return np.diff(self.offsets[start : end + 1]) - 1

    def lengths_of(self, indices: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the lengths of some sentences, without end symbols (int64)."""
        found: NDArray[np.int64] = self.offsets[indices + 1] - self.offsets[indices] - 1
        return found


def _map_documents(path: Path, num: object) -> NDArray[np.int64] | None:
    """Map the borders of documents; None if the header has none."""
    if num is None:
        return None
    if not isinstance(num, int) or num < 1:
        raise DataError(
            f"{path / HEADER} has documents {num!r}: expected a number of at least 1; "
            "prepare the text again"
        )
    return map_array(path / DOCUMENTS, np.int64, num)


def check_digest(path: Path, found: str, tokenizer: Tokenizer) -> None:
    """Raise DataError unless ``found`` is the digest of ``tokenizer``."""
    if found != tokenizer.digest:
        raise DataError(
            f"{path} was made by tokenizer {found[:12]}, but the given one is "
            f"{tokenizer.digest[:12]}: give that one, or prepare the text again"
        )


def count_ids(ids: NDArray[Any], vocab_size: int) -> NDArray[np.int64]:
    """Return the count of each id (int64 ``[vocab_size]``); raise DataError for an id outside."""
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise DataError(
            f"the text has ids from {ids.min()} to {ids.max()}, but the tokenizer's are 0 to "
            f"{vocab_size - 1}: give the tokenizer that made the ids, with all its files "
            "from one place"
        )
    return np.bincount(ids, minlength=vocab_size).astype(np.int64)


def _marks(positions: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
    marks = np.zeros(size, dtype=bool)
    marks[positions] = True
    return marks

"""Binarized text of the original XLM: the files that its preprocess.py writes, ``train.en.pth``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm.errors import CheckpointError, DataError
from xlm.interchange.original.vocabulary import read_dictionary
from xlm.interchange.safe_torch.files import read_torch_file
from xlm.interchange.safe_torch.values import Record
from xlm.text.tokenizers.tokenizer import Ids

END = 1
"""Id of the end symbol after each sentence."""
_KEYS = ("dico", "sentences", "positions", "unk_words")


@dataclass(frozen=True)
class Binarized:
    """One language of one split, as ids; an empty line of the text is an empty sentence."""

    ids: NDArray[Any]
    """uint16 or int32 ``[tokens]``: each sentence, followed by the end symbol (1)."""
    lengths: NDArray[np.int64]
    """int64 ``[sentences]``: number of tokens of each, including the end symbol."""
    pieces: tuple[str, ...]
    """String of every id."""
    counts: tuple[int, ...]
    """Count of each piece in the vocabulary file; 0 for special tokens."""
    unknown_words: dict[str, int]
    """Count of each word of the text that the vocabulary lacks; the ids have 3 in their place."""

    def __len__(self) -> int:
        """Return the number of sentences."""
        return len(self.lengths)

    @property
    def num_empty(self) -> int:
        """Number of sentences without a token."""
        return int((self.lengths == 1).sum())

    def sentences(self) -> Iterator[Ids]:
        """Yield each sentence in turn (int64 ``[length]``, without its end symbol)."""
        ends = np.cumsum(self.lengths)
        for start, end in zip(ends - self.lengths, ends, strict=True):
            yield self.ids[start : end - 1].astype(np.int64)


def read_binarized(path: str | Path) -> Binarized:
    """Read the original XLM's ``SPLIT.LANGUAGE.pth`` or ``SPLIT.L1-L2.LANGUAGE.pth``.

    Raises DataError for a file that cannot be read safely or has another format, and for a file
    whose parts contradict each other: sentences that overlap or leave gaps, ends without the end
    symbol, end symbols inside a sentence, ids outside the dictionary.
    """
    path = Path(path)
    try:
        content = read_torch_file(path)
        if not isinstance(content, dict) or set(content) != set(_KEYS):
            found = type(content).__name__
            if isinstance(content, dict):
                found = ", ".join(ascii(key)[:30] for key in list(content)[:10]) or "nothing"
            raise DataError(
                f"{path} holds {found}, expected {', '.join(_KEYS)} as the original's "
                "preprocess.py writes (a checkpoint is read by read_original)"
            )
        dictionary = read_dictionary(path, _tables(path, content["dico"]), prefix="")
    except CheckpointError as error:
        raise DataError(str(error)) from None
    ids, positions = _arrays(path, content)
    lengths = _check_positions(path, ids, positions)
    _check_ids(path, ids, lengths, len(dictionary.pieces))
    unknown = content["unk_words"]
    if not isinstance(unknown, dict) or not all(
        type(word) is str and type(count) is int for word, count in unknown.items()
    ):
        raise DataError(f"{path}: unk_words does not map words to numbers")
    return Binarized(ids, lengths, dictionary.pieces, dictionary.counts, unknown)


def _tables(path: Path, dictionary: Any) -> dict[str, Any]:
    """Return the attributes of the pickled Dictionary."""
    if not isinstance(dictionary, Record) or not isinstance(dictionary.state, dict):
        raise DataError(
            f"{path}: dico is {type(dictionary).__name__}, expected the original's Dictionary"
        )
    return dictionary.state


def _arrays(path: Path, content: dict[str, Any]) -> tuple[NDArray[Any], NDArray[np.int64]]:
    ids = _array(path, content, "sentences", 1, ("uint16", "int32"))
    positions = _array(path, content, "positions", 2, ("int64",))
    if positions.shape[1] != 2:
        raise DataError(f"{path}: positions is {list(positions.shape)}, expected [n, 2]")
    return ids, positions


def _array(
    path: Path, content: dict[str, Any], name: str, num_dimensions: int, kinds: tuple[str, ...]
) -> NDArray[Any]:
    found = content[name]
    shown = type(found).__name__
    if isinstance(found, np.ndarray):
        if found.ndim == num_dimensions and found.dtype.name in kinds:
            return found
        shown = f"{list(found.shape)} {found.dtype.name}"
    raise DataError(
        f"{path}: {name} is {shown}, expected an array of {num_dimensions} dimensions of "
        f"{' or '.join(kinds)}"
    )


def _check_positions(
    path: Path, ids: NDArray[Any], positions: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return lengths with the end symbols, after checking that sentences follow without gaps."""
    starts, ends = positions[:, 0], positions[:, 1]
    expected = np.concatenate([np.zeros(1, np.int64), ends[:-1] + 1])[: len(starts)]
    wrong = np.flatnonzero((starts != expected) | (ends < starts) | (ends >= len(ids)))
    if len(wrong):
        at = int(wrong[0])
        raise DataError(
            f"{path}: sentence {at} runs from {starts[at]} to {ends[at]}, expected from "
            f"{expected[at]} to less than {len(ids)}: the file is damaged"
        )
    last = int(ends[-1]) + 1 if len(ends) else 0
    if last != len(ids):
        raise DataError(
            f"{path}: its sentences end after {last} ids of {len(ids)}: the file is damaged"
        )
    return ends - starts + 1


def _check_ids(path: Path, ids: NDArray[Any], lengths: NDArray[np.int64], vocab_size: int) -> None:
    if len(ids) and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise DataError(
            f"{path}: ids run from {ids.min()} to {ids.max()}, but the dictionary has "
            f"{vocab_size} entries: the file is damaged"
        )
    is_end = np.zeros(len(ids), dtype=bool)
    is_end[np.cumsum(lengths) - 1] = True
    wrong = np.flatnonzero((ids == END) != is_end)
    if len(wrong):
        at = int(wrong[0])
        expected = "the end symbol 1" if is_end[at] else "one inside a sentence, which 1 is not"
        raise DataError(f"{path}: id {at} is {ids[at]}, expected {expected}: the file is damaged")

"""Padded arrays from examples: the part that every objective's ``collate`` shares.

Axes: ``B`` rows, ``T`` positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from xlm.batch import IGNORED, Batch
from xlm.data.streams import Examples
from xlm.text.tokenizers.tokenizer import Wrapped

TARGETS_MULTIPLE = 8
"""Multiple that ``predict`` is padded to, so that shapes repeat and tensor cores are used well."""


@dataclass(frozen=True)
class Cells:
    """Rows padded to one length; every array int64 ``[B, T]``, ``lengths`` int64 ``[B]``."""

    tokens: NDArray[np.int64]
    positions: NDArray[np.int64]
    langs: NDArray[np.int64]
    segments: NDArray[np.int64]
    lengths: NDArray[np.int64]

    def shifted(self) -> Cells:
        """Return all but the last column, and each row one cell shorter: a causal model's input."""
        arrays = (self.tokens, self.positions, self.langs, self.segments)
        tokens, positions, langs, segments = (np.ascontiguousarray(a[:, :-1]) for a in arrays)
        return Cells(tokens, positions, langs, segments, self.lengths - 1)

    @property
    def real(self) -> NDArray[np.bool_]:
        """Cells that are not padding, bool ``[B, T]``."""
        return np.arange(self.tokens.shape[1]) < self.lengths[:, None]

    def batch(
        self,
        rows: NDArray[np.int64],
        predict: NDArray[np.int64],
        targets: NDArray[np.int64],
        *,
        source: Batch | None = None,
        multiple: int = TARGETS_MULTIPLE,
    ) -> Batch:
        """Return the ``Batch`` of these cells, with ``targets`` at the flat cells ``predict``."""
        filler = -len(predict) % multiple
        return Batch(
            tokens=torch.from_numpy(self.tokens),
            positions=torch.from_numpy(self.positions),
            langs=torch.from_numpy(self.langs),
            segments=torch.from_numpy(self.segments),
            lengths=torch.from_numpy(self.lengths),
            rows=torch.from_numpy(np.asarray(rows, dtype=np.int64)),
            predict=torch.from_numpy(np.pad(predict, (0, filler))),
            targets=torch.from_numpy(np.pad(targets, (0, filler), constant_values=IGNORED)),
            source=source,
        )


def pad(wrapped: Sequence[Wrapped], language_ids: Sequence[int], length: int, pad_id: int) -> Cells:
    """Return rows of tokens, positions and segments, padded on the right to ``length``.

    ``language_ids`` holds the language of segment 0 and, for pairs, of segment 1; padding takes the
    last one.
    """
    length = max(length, max(len(row.tokens) for row in wrapped))
    shape = (len(wrapped), length)
    tokens = np.full(shape, pad_id, dtype=np.int64)
    positions = np.zeros(shape, dtype=np.int64)
    segments = np.full(shape, len(language_ids) - 1, dtype=np.int64)
    for row, (row_tokens, row_positions, row_segments) in enumerate(wrapped):
        tokens[row, : len(row_tokens)] = row_tokens
        positions[row, : len(row_tokens)] = row_positions
        segments[row, : len(row_tokens)] = row_segments
    lengths = np.array([len(row.tokens) for row in wrapped], dtype=np.int64)
    langs = np.asarray(language_ids, dtype=np.int64)[np.minimum(segments, len(language_ids) - 1)]
    return Cells(tokens, positions, langs, segments, lengths)


def pad_text(examples: Examples) -> Cells:
    """Return rows cut from text, without special tokens; only the last row is padded."""
    stream = examples.stream
    lengths = np.array([len(row) for row in examples.first], dtype=np.int64)
    shape = (len(lengths), examples.length)
    tokens = np.full(shape, stream.tokenizer.pad_id, dtype=np.int64)
    for row, ids in enumerate(examples.first):
        tokens[row, : len(ids)] = ids
    positions = np.broadcast_to(np.arange(shape[1]), shape).copy()
    langs = np.full(shape, stream.language_ids[0], dtype=np.int64)
    return Cells(tokens, positions, langs, np.zeros(shape, dtype=np.int64), lengths)


def pad_pairs(examples: Examples, layout: str) -> Cells:
    """Return sentences or pairs with the special tokens of ``layout`` (see ``Tokenizer.wrap``)."""
    stream = examples.stream
    wrapped = [
        stream.tokenizer.wrap(first, examples.second[row] if examples.second else None, layout)
        for row, first in enumerate(examples.first)
    ]
    return pad(wrapped, stream.language_ids, examples.length, stream.tokenizer.pad_id)

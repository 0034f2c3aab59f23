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
from xlm.text.tokenizers.tokenizer import Ids, Wrapped

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
    lengths = _sizes(examples.first)
    shape = (len(lengths), examples.length)
    if (lengths == examples.length).all():
        tokens = np.stack(examples.first)
    else:
        tokens = np.full(shape, stream.tokenizer.pad_id, dtype=np.int64)
        for row, ids in enumerate(examples.first):
            tokens[row, : len(ids)] = ids
    positions = np.broadcast_to(np.arange(shape[1]), shape).copy()
    langs = np.full(shape, stream.language_ids[0], dtype=np.int64)
    return Cells(tokens, positions, langs, np.zeros(shape, dtype=np.int64), lengths)


def pad_pairs(examples: Examples, layout: str) -> Cells:
    """Return sentences or pairs with the special tokens of ``layout`` (see ``Tokenizer.wrap``)."""
    stream, second = examples.stream, examples.second
    frame = stream.tokenizer.frame(layout, pair=bool(second))
    first_sizes = _sizes(examples.first)
    second_sizes = _sizes(second) if second else np.zeros_like(first_sizes)
    lengths = first_sizes + second_sizes + sum(map(len, frame[:3]))
    shape = (len(lengths), max(examples.length, int(lengths.max())))
    tokens = np.full(shape, stream.tokenizer.pad_id, dtype=np.int64)
    flat, at = tokens.reshape(-1), np.arange(shape[0]) * shape[1]
    for ids, sentences, sizes in (
        (frame.before, examples.first, first_sizes),
        (frame.between, second or [], second_sizes),
        (frame.after, [], None),
    ):
        for place, special in enumerate(ids):
            flat[at + place] = special
        at = at + len(ids)
        if sentences and sizes is not None:
            flat[_runs(at, sizes)] = np.concatenate(sentences)
            at = at + sizes
    columns, last = np.arange(shape[1]), len(stream.language_ids) - 1
    real = columns < lengths[:, None]
    opens = (len(frame.before) + frame.opens + first_sizes)[:, None]
    is_second = columns >= opens
    positions = np.where(real, columns - opens * (is_second & frame.restarts), 0)
    segments = np.where(real, is_second, last).astype(np.int64)
    ids_of_languages = np.asarray(stream.language_ids, dtype=np.int64)
    langs = ids_of_languages[np.minimum(segments, last)]
    return Cells(tokens, positions, langs, segments, lengths)


def _sizes(sentences: Sequence[Ids]) -> NDArray[np.int64]:
    return np.fromiter(map(len, sentences), dtype=np.int64, count=len(sentences))


def _runs(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the cells of runs of ``sizes`` cells from ``starts`` on, one run after the other."""
    ends = np.cumsum(sizes)
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(starts - ends + sizes, sizes)

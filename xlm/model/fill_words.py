"""Masks filled with whole words of one subword or several, by beam search.

    a mask --as 1, 2, .. n masks--> one subword after another, the rest still hidden --> words

The score of a word is the mean log-probability of its pieces, each given those before it with those
behind it hidden; words of different lengths are compared by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from xlm.model.asking import (
    CELLS,
    Askable,
    batches_by_length,
    check_whole_numbers,
    device_of,
    evaluating,
    read_as,
    refuse_not_a_number,
    widened,
)
from xlm.model.fill import Beside, letters_around, masked_rows
from xlm.text.tokenizers.tokenizer import Wrapped
from xlm.text.tokenizers.word_marks import WordMarks, word_marks

BEAM = 5
"""Unfinished words of each length that are followed at least; ``top`` if that is more."""


class Word(NamedTuple):
    """A word for a mask."""

    text: str
    probability: float
    """The geometric mean of the probabilities of its pieces."""
    pieces: list[str]
    """The pieces as the tokenizer has them."""
    ids: list[int]


@dataclass(frozen=True)
class _Slot:
    """A mask that is to become a word of ``length`` pieces."""

    text: int
    mask: int
    """Index of the mask in the text."""
    row: Wrapped
    """The text's row, with ``length`` masks in place of this one."""
    first: int
    """Cell of the row at which the word begins."""
    length: int
    letters: tuple[bool, bool]


@dataclass(frozen=True)
class _Word:
    """The first pieces of a word, and the sum of their log-probabilities."""

    slot: _Slot
    ids: tuple[int, ...] = ()
    total: float = 0.0

    def row(self) -> Wrapped:
        tokens = self.slot.row.tokens.copy()
        tokens[self.slot.first : self.slot.first + len(self.ids)] = self.ids
        return self.slot.row._replace(tokens=tokens)


def fill_words(
    model: Askable,
    texts: Sequence[str],
    language: str | None = None,
    *,
    pieces: int = 3,
    top: int = 5,
    beam: int = BEAM,
    beside: Beside | None = None,
    tokens: int = CELLS,
    places: Sequence[str] | None = None,
) -> list[list[list[Word]]]:
    """Return the ``top`` best words of up to ``pieces`` subwords for each mask of each text.

    ``beam`` unfinished words are followed of each length (``top`` if that is more). The other masks
    of a text stay hidden. A length that would make the row longer than the model's positions is
    left out. The rest, and the errors, as in ``xlm.model.fill.fill``.
    """
    check_whole_numbers(words=pieces, top=top, beam=beam, tokens=tokens)
    model = read_as(model, language, beside.language if beside else None)
    rows, places = masked_rows(model, texts, language, beside, places)
    longest = model.transformer.config.max_positions
    marks = word_marks(model.tokenizer)
    slots = [
        slot
        for text, row in enumerate(rows)
        for slot in _slots(model, text, row, letters_around(texts[text]), pieces)
        if slot.length == 1 or len(slot.row.tokens) <= longest
    ]
    alive, done = [_Word(slot) for slot in slots], list[_Word]()
    for _ in range(pieces):
        grown: dict[tuple[int, int, int], list[_Word]] = {}
        for word in _longer(
            model, alive, marks, (language, beside), max(beam, top), tokens, places
        ):
            slot = word.slot
            grown.setdefault((slot.text, slot.mask, slot.length), []).append(word)
        best = [
            word
            for own in grown.values()
            for word in sorted(own, key=lambda word: -word.total)[: max(beam, top)]
        ]
        done += [word for word in best if len(word.ids) == word.slot.length]
        alive = [word for word in best if len(word.ids) < word.slot.length]
    num_masks = [int((row.tokens == model.tokenizer.mask_id).sum()) for row in rows]
    found: list[list[list[Word]]] = [[[] for _ in range(num)] for num in num_masks]
    for word in sorted(done, key=lambda word: -word.total / len(word.ids)):
        own = found[word.slot.text][word.slot.mask]
        if len(own) < top:
            own.append(_finished(model, word))
    return found


def _finished(model: Askable, word: _Word) -> Word:
    tokenizer, ids = model.tokenizer, list(word.ids)
    probability = math.exp(word.total / len(ids))
    pieces = [tokenizer.pieces[at] for at in ids]
    return Word(tokenizer.decode(ids).strip(), probability, pieces, ids)


def _slots(
    model: Askable, text: int, row: Wrapped, letters: list[tuple[bool, bool]], pieces: int
) -> Iterator[_Slot]:
    """Yield each mask of a row as 1 to ``pieces`` masks; positions and segments move along."""
    mask_id = model.tokenizer.mask_id
    for mask, at in enumerate(np.flatnonzero(row.tokens == mask_id).tolist()):
        for length in range(1, pieces + 1):
            more = length - 1
            tokens = np.insert(row.tokens, at, [mask_id] * more)
            segments = np.insert(row.segments, at, [row.segments[at]] * more)
            positions = np.insert(row.positions, at, [0] * more)
            positions[at : at + length] = row.positions[at] + np.arange(length)
            # the rest of the sentence moves; a second one may count from 0 again
            restarts = np.flatnonzero(np.diff(row.positions[at:]) < 0)
            end = at + int(restarts[0]) + 1 if len(restarts) else len(row.tokens)
            positions[at + length : end + more] += more
            grown = Wrapped(tokens, positions, segments)
            around = letters[mask] if mask < len(letters) else (False, False)
            yield _Slot(text, mask, grown, at, length, around)


def _longer(
    model: Askable,
    words: list[_Word],
    marks: WordMarks,
    languages: tuple[str | None, Beside | None],
    beam: int,
    tokens: int,
    places: Sequence[str],
) -> Iterator[_Word]:
    """Yield each word with one more piece, the ``beam`` most probable ones."""
    language, beside = languages
    rows = [word.row() for word in words]
    for numbers in batches_by_length([len(row.tokens) for row in rows], tokens):
        own = [words[at] for at in numbers]
        cells = [word.slot.first + len(word.ids) for word in own]
        second = beside.language if beside else None
        logs = _log_probabilities(model, [rows[at] for at in numbers], cells, language, second)
        for row, word in enumerate(own):
            if not bool(logs[row].isfinite().all()):
                raise refuse_not_a_number(model, places[word.slot.text])
            before, after = word.slot.letters
            allowed = marks.allowed(
                len(word.ids), word.slot.length, after_letters=before, before_letters=after
            )
            kept = logs[row].masked_fill(~torch.from_numpy(allowed).to(logs.device), -torch.inf)
            best = kept.topk(min(beam, int(allowed.sum())))
            for value, piece in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                yield _Word(word.slot, (*word.ids, piece), word.total + value)


def _log_probabilities(
    model: Askable,
    rows: Sequence[Wrapped],
    cells: Sequence[int],
    language: str | None,
    second: str | None,
) -> Tensor:
    """Return the log-probabilities ``[B, V]`` of one cell of each row."""
    batch = model.batch_rows(rows, language, second).to(device_of(model))
    flat = torch.arange(len(rows)) * batch.tokens.shape[1] + torch.tensor(cells)
    with evaluating(model.transformer):
        hidden = model.transformer.encode(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments
        )
        logits = model.transformer.predict(hidden, flat.to(hidden.device))
        return widened(logits).log_softmax(-1)

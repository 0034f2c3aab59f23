"""Texts with masks filled in by a masked language model: each in its place, in batches by length.

texts --normalized, encoded around the masks--> rows, by length --batches--> softmax --> candidates

Words of several subwords are found in ``fill_words.py``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from xlm.batch import Batch
from xlm.errors import ConfigError
from xlm.model.asking import (
    CELLS,
    Askable,
    batches_by_length,
    check_beside,
    check_masked,
    check_whole_numbers,
    device_of,
    evaluating,
    places_of,
    read_as,
    refuse_not_a_number,
    widened,
)
from xlm.text.line_jobs import check_lines
from xlm.text.normalize import normalize
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer, Wrapped

_MASK = re.compile("<mask>|___+")
_STAND_INS = range(0x20B9F, 0x20BB0)
"""Rare letters; one that a text lacks stands for its masks until it is cut into pieces."""


class Candidate(NamedTuple):
    """A subword for a mask."""

    text: str
    """The text, without the mark by which a tokenizer shows that a word begins or continues."""
    probability: float
    """The model's, among all ids of the vocabulary."""
    piece: str
    """The piece as the tokenizer has it."""
    id: int


@dataclass(frozen=True)
class Beside:
    """A translation beside each text, as in TLM, and how the two are laid out."""

    texts: Sequence[str]
    language: str | None = None
    layout: str | None = None
    """Layout as in ``Tokenizer.wrap``; None: ``tlm`` for XLM's tokenizers, else ``merged``."""


def fill(
    model: Askable,
    texts: Sequence[str],
    language: str | None = None,
    *,
    top: int = 5,
    beside: Beside | None = None,
    tokens: int = CELLS,
    places: Sequence[str] | None = None,
) -> list[list[list[Candidate]]]:
    """Return the ``top`` most probable subwords of each mask of each text, best first.

    A mask is ``<mask>``, or three or more underscores. One beside a space stands for the first
    subword of a word, one beside letters continues their word. Special tokens are not candidates,
    though a part of the probability is theirs. ``tokens`` are the cells of a batch, ``places`` the
    names of the texts in errors (None: text 1 and so on).

    Raises ConfigError for a model that is known not to be a masked one, a language that is missing
    or that the model does not know, a text without a mask or longer than the model's positions, and
    numbers that are not positive; CheckpointError for scores that are not numbers.
    """
    check_whole_numbers(top=top, tokens=tokens)
    model = read_as(model, language, beside.language if beside else None)
    rows, places = masked_rows(model, texts, language, beside, places)
    found: list[list[list[Candidate]]] = [[] for _ in rows]
    for numbers in batches_by_length([len(row.tokens) for row in rows], tokens):
        batch = model.batch_rows(
            [rows[at] for at in numbers], language, beside.language if beside else None
        )
        own_places = [places[at] for at in numbers]
        filled = _fill_batch(model, batch, own_places, top)
        for at, candidates in zip(numbers, filled, strict=True):
            found[at] = candidates
    return found


def masked_rows(
    model: Askable,
    texts: Sequence[str],
    language: str | None,
    beside: Beside | None,
    places: Sequence[str] | None,
) -> tuple[list[Wrapped], Sequence[str]]:
    """Return the row of tokens of each text with the mask symbol at its masks, and their places.

    See ``fill`` for the errors.
    """
    check_lines("texts", texts)
    check_masked(model)
    model.language_id(language)
    seconds: Sequence[str | None] = [None] * len(texts)
    if beside is not None:
        check_beside(model, "translation_language", beside.language)
        check_lines("translations", beside.texts)
        if len(beside.texts) != len(texts):
            raise ConfigError(
                f"{len(beside.texts)} translations for {len(texts)} texts: give one for each"
            )
        seconds = beside.texts
    places = places_of(places, len(texts), "text")
    layout = beside.layout if beside else None
    others = beside.language or language if beside else language
    rows = [
        _row(model, place, (text, language), (second, others), layout)
        for place, text, second in zip(places, texts, seconds, strict=True)
    ]
    return rows, places


def _row(
    model: Askable,
    place: str,
    first: tuple[str, str | None],
    beside: tuple[str | None, str | None],
    layout: str | None,
) -> Wrapped:
    """Return the row of tokens of a text and its language, with the mask symbol at its masks."""
    tokenizer = model.tokenizer
    (text, language), (second, other_language) = first, beside
    ids = encode_masked(tokenizer, _normalized(tokenizer, text, language))
    if tokenizer.mask_id not in ids:
        raise ConfigError(
            f"{place} has no mask: expected <mask> or ___ in place of each missing subword, "
            f"found {text[:40]!r}"
        )
    if second is None:
        row = tokenizer.wrap(ids)
    else:
        if _MASK.search(second):
            raise ConfigError(
                f"{place} has a mask in its translation: expected masks only in the sentence "
                "before it"
            )
        is_xlm = tokenizer.begin_id == tokenizer.end_id
        other = np.array(
            tokenizer.encode(tokenizer.normalize(second, other_language)), dtype=np.int64
        )
        row = tokenizer.wrap(ids, other, layout or ("tlm" if is_xlm else "merged"))
    longest = model.transformer.config.max_positions
    if len(row.tokens) > longest:
        raise ConfigError(
            f"{place} has {len(row.tokens)} tokens with the special ones, but the model has only "
            f"{longest} positions: shorten it"
        )
    return row


def _normalized(tokenizer: Tokenizer, text: str, language: str | None) -> str:
    """Return the text in its normal form; the rules of its language leave the masks alone."""
    line = normalize(text)
    if not tokenizer.rules:
        return line
    own = tokenizer.in_language(language)
    stretches = re.split(f"({_MASK.pattern})", line)
    words: list[str] = []
    for stretch, mask in zip(stretches[::2], [*stretches[1::2], ""], strict=True):
        before, after = " " * stretch.startswith(" "), " " * stretch.endswith(" ")
        words += [before, own.normalize(stretch), after, mask]
    return normalize("".join(words))


def encode_masked(tokenizer: Tokenizer, line: str) -> Ids:
    """Return the ids of a normalized line, without special tokens but for those of its masks.

    The text around a mask is cut into pieces as if a word stood there: a full stop right after it
    does not begin a word, and the space before belongs to the masked text.
    """
    letter = next(chr(code) for code in _STAND_INS if chr(code) not in line)
    # two masks side by side must not become one unknown piece
    line = re.sub(f"{letter}(?={letter})", f"{letter} ", _MASK.sub(letter, line))
    ids, spans = tokenizer.encode_spans(line)
    encoded: list[int] = []
    num_blank, last = 0, -1
    for piece, (first, end) in zip(ids, spans, strict=True):
        at = line.find(letter, first, end)
        if at < 0:
            encoded.append(piece)
            num_blank = 0 if line[first:end].strip() else num_blank + 1
        elif at > last:
            # the space, or the first bytes of the letter
            del encoded[len(encoded) - num_blank :]
            # a piece that holds more than the mask is an unknown word's
            before, after = line[first:at].strip(), line[at + 1 : end].strip()
            encoded += [piece] * bool(before) + [tokenizer.mask_id] + [piece] * bool(after)
            num_blank, last = 0, at
    return np.array(encoded, dtype=np.int64)


def letters_around(text: str) -> list[tuple[bool, bool]]:
    """Return whether letters are right before each mask, and right after it."""
    line = normalize(text)
    return [
        (line[: own.start()][-1:].isalnum(), line[own.end() :][:1].isalnum())
        for own in _MASK.finditer(line)
    ]


def _fill_batch(
    model: Askable, batch: Batch, places: Sequence[str], top: int
) -> list[list[list[Candidate]]]:
    """Return the candidates of each mask of each row; ``places`` name the rows in errors."""
    transformer, tokenizer = model.transformer, model.tokenizer
    batch = batch.to(device_of(model))
    cells = batch.tokens.eq(tokenizer.mask_id).flatten().nonzero()[:, 0]
    rows = (cells // batch.tokens.shape[1]).tolist()
    with evaluating(transformer):
        hidden = transformer.encode(
            batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments
        )
        probabilities = widened(transformer.predict(hidden, cells)).softmax(-1)
    for row, is_number in zip(rows, probabilities.isfinite().all(1).tolist(), strict=True):
        if not is_number:
            raise refuse_not_a_number(model, places[row])
    special = torch.zeros(tokenizer.vocab_size, dtype=torch.bool, device=probabilities.device)
    special[sorted(tokenizer.special_ids)] = True
    best = probabilities.masked_fill(special, -1.0).topk(min(top, int((~special).sum())))
    found: list[list[list[Candidate]]] = [[] for _ in places]
    for row, values, ids in zip(rows, best.values.tolist(), best.indices.tolist(), strict=True):
        found[row].append(
            [
                Candidate(tokenizer.decode([at]).strip(), value, tokenizer.pieces[at], at)
                for value, at in zip(values, ids, strict=True)
            ]
        )
    return found

"""Texts with masks filled in by a masked language model: each in its place, in batches by length.

texts --normalized, encoded around the masks--> rows, by length --batches--> softmax --> candidates
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from xlm.batch import Batch
from xlm.errors import CheckpointError, ConfigError
from xlm.model.transformer import Transformer
from xlm.text.normalize import normalize
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer, Wrapped

CELLS = 2000
"""Tokens of a batch, padding included."""
NO_HEAD = "no head"
"""In a model's ``extra``: it came without an output onto the vocabulary, and leaves without one."""
OBJECTIVES = "objectives"
"""In a model's ``extra``: the names of the classes by which a run trained it."""
_MASK = re.compile("<mask>|___+")
_STAND_INS = range(0x20B9F, 0x20BB0)
"""Rare letters; one that a text lacks stands for its masks until it is cut into pieces."""


class Candidate(NamedTuple):
    """A subword for a mask."""

    text: str
    """As text, without the mark by which a tokenizer tells that a word begins or goes on."""
    probability: float
    """The model's, among all ids of the vocabulary."""
    piece: str
    """As the tokenizer has it."""
    id: int


class Filling(Protocol):
    """A model with all that is needed to fill masks, such as ``PretrainedModel``."""

    @property
    def transformer(self) -> Transformer:
        """The network."""

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer."""

    @property
    def extra(self) -> dict[str, Any]:
        """Where the model comes from."""

    def language_id(self, language: str | None) -> int:
        """Return the language's row in the table; raise ConfigError if none."""

    def batch_rows(self, rows: Sequence[Wrapped], language: str | None = None) -> Batch:
        """Return rows that have their special tokens as a batch without targets."""


def fill(
    model: Filling,
    texts: Sequence[str],
    language: str | None = None,
    *,
    top: int = 5,
    tokens: int = CELLS,
    places: Sequence[str] | None = None,
) -> list[list[list[Candidate]]]:
    """Return the ``top`` most probable subwords of each mask of each text, best first.

    A mask is ``<mask>``, or three or more underscores. One beside a space stands for the first
    subword of a word, one beside letters goes on with their word. Special tokens are no candidates,
    though a part of the probability is theirs. ``tokens`` are the cells of a batch, ``places`` the
    names of the texts in errors (None: text 1 and so on).

    Raises ConfigError for a model that is known not to be a masked one, a language that is missing
    or that the model does not know, a text without a mask or longer than the model's positions, and
    numbers that are not positive; CheckpointError for scores that are not numbers.
    """
    if isinstance(texts, str):  # whose letters would pass for texts
        raise ConfigError(f"texts is the string {texts[:40]!r}: give a list of strings")
    for name, value in (("top", top), ("tokens", tokens)):
        if value < 1:
            raise ConfigError(f"{name} is {value}: expected 1 or more")
    check_masked(model)
    model.language_id(language)
    places = places or [f"text {number}" for number in range(1, len(texts) + 1)]
    rows = [_row(model, place, text) for place, text in zip(places, texts, strict=True)]
    found: list[list[list[Candidate]]] = [[] for _ in rows]
    for numbers in _batches(rows, tokens):
        batch = model.batch_rows([rows[at] for at in numbers], language)
        own_places = [places[at] for at in numbers]
        filled = _fill_batch(model, batch, own_places, top)
        for at, candidates in zip(numbers, filled, strict=True):
            found[at] = candidates
    return found


def check_masked(model: Filling) -> None:
    """Raise ConfigError if the model is known not to predict masked tokens.

    Weights do not say by which objective they were trained: a model of unknown origin passes.
    """
    expected = "expected a model that was trained with MaskedLM"
    if model.transformer.decoder is not None:
        raise ConfigError(f"the model has a decoder, so it translates: {expected}")
    if model.extra.get(NO_HEAD):
        raise ConfigError(
            f"the model came without an output, so it cannot predict tokens: {expected}"
        )
    names = model.extra.get(OBJECTIVES) or []
    if names and all("Causal" in name for name in names):
        raise ConfigError(
            f"the model was trained with {', '.join(names)} alone, so it sees nothing behind a "
            f"mask: {expected}"
        )


def _row(model: Filling, place: str, text: str) -> Wrapped:
    """The text's row of tokens with the mask symbol at its masks."""
    if not isinstance(text, str):
        raise ConfigError(f"{place} is {text!r}: expected a string")
    tokenizer = model.tokenizer
    ids = encode_masked(tokenizer, normalize(text))
    if tokenizer.mask_id not in ids:
        raise ConfigError(
            f"{place} has no mask: expected <mask> or ___ where a subword is wanted, found "
            f"{text[:40]!r}"
        )
    row = tokenizer.wrap(ids)
    longest = model.transformer.config.max_positions
    if len(row.tokens) > longest:
        raise ConfigError(
            f"{place} is {len(row.tokens)} tokens long, special ones included: expected at "
            f"most {longest}, the model's positions; shorten it"
        )
    return row


def encode_masked(tokenizer: Tokenizer, line: str) -> Ids:
    """Return the ids of a normalized line, without special tokens but for those of its masks.

    The text around a mask is cut into pieces as if a word stood there: a full stop right after it
    does not begin a word, and the space before belongs to what is masked.
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


def _batches(rows: Sequence[Wrapped], tokens: int) -> Iterator[list[int]]:
    """Return which rows go together: of like length, the longest first."""
    order = sorted(range(len(rows)), key=lambda at: -len(rows[at].tokens))
    start = 0
    while start < len(order):
        end = start + max(tokens // len(rows[order[start]].tokens), 1)
        yield order[start:end]
        start = end


@torch.inference_mode()
def _fill_batch(
    model: Filling, batch: Batch, places: Sequence[str], top: int
) -> list[list[list[Candidate]]]:
    """Return the candidates of each mask of each row; ``places`` name the rows in errors."""
    transformer, tokenizer = model.transformer, model.tokenizer
    batch = batch.to(next(transformer.parameters()).device)
    hidden = transformer.encode(
        batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments
    )
    cells = batch.tokens.eq(tokenizer.mask_id).flatten().nonzero()[:, 0]
    rows = (cells // batch.tokens.shape[1]).tolist()
    probabilities = _softmax(transformer.predict(hidden, cells))
    for row, is_number in zip(rows, probabilities.isfinite().all(1).tolist(), strict=True):
        if not is_number:
            raise CheckpointError(
                f"the scores for {places[row]} are not numbers: the model's weights are "
                "damaged, or fp16 is too narrow for it; try bf16 or fp32"
            )
    special = sorted(tokenizer.special_ids)
    probabilities[:, special] = -1.0  # below any
    best = probabilities.topk(min(top, tokenizer.vocab_size - len(special)))
    found: list[list[list[Candidate]]] = [[] for _ in places]
    for row, values, ids in zip(rows, best.values.tolist(), best.indices.tolist(), strict=True):
        found[row].append(
            [
                Candidate(tokenizer.decode([at]).strip(), value, tokenizer.pieces[at], at)
                for value, at in zip(values, ids, strict=True)
            ]
        )
    return found


def _softmax(logits: Tensor) -> Tensor:
    """Return probabilities, in float32 if the logits are in less."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1)

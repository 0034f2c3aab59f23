"""The proof that adding a language changed nothing: every old tensor, and answers for old rows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from xlm.batch import Batch
from xlm.model.asking import batches_by_length, evaluating
from xlm.model.language_modules import tensor_bytes
from xlm.model.pretrained import PretrainedModel
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Ids, Wrapped

NUM_ROWS = 1000
"""Rows that are compared for each language."""
DRAWN_LENGTH = 16
"""Tokens of a row of drawn ids, if there is no old text."""
CELLS = 2000
"""Tokens in a batch."""
_MOST_SCORES = 1 << 25
"""Scores of one model that are held at once."""


def compare(
    before: PretrainedModel, after: PretrainedModel, rows: Mapping[str, Sequence[Ids]]
) -> dict[str, Any]:
    """Return the record of equal values: every tensor by SHA-256, every answer by torch.equal.

    ``rows`` are old text by language, int64 ``[T]`` each without special tokens. A language of the
    model without any gets drawn ids; those that the model reads alike are drawn once.
    """
    there, here = before.transformer.state_dict(), after.transformer.state_dict()
    tensors = {name: _sha256(tensor) for name, tensor in there.items()}
    changed = [n for n, digest in tensors.items() if n not in here or _sha256(here[n]) != digest]
    compared = {}
    for language in _languages(before, rows):
        own = rows.get(language or "", [])[:NUM_ROWS]
        num, equal = _compare_rows(before, after, language, own)
        kind = "held-out text" if own else "drawn ids"
        compared[language or "any"] = {"rows": num, "of": kind}
        if not equal:
            changed.append(f"the answers in {language or 'any language'}")
    return {
        "unchanged": not changed,
        "changed": changed,
        "tensors": tensors,
        "heads": {name: _sha256(tensor) for name, tensor in before.heads.items()},
        "rows": compared,
    }


def _languages(model: PretrainedModel, rows: Mapping[str, Sequence[Ids]]) -> list[str | None]:
    """Return the languages to compare: all, but one of those that the model reads alike."""
    known: list[str | None] = [*model.known_languages]
    if not model.has_languages:
        known = [name for name in known if rows.get(name or "")] or known[:1]
    return [*known, *model.tables] or [None]


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor_bytes(tensor)).hexdigest()


def _compare_rows(
    before: PretrainedModel, after: PretrainedModel, language: str | None, rows: Sequence[Ids]
) -> tuple[int, bool]:
    """Return the number of rows of a language that were compared, and whether all are equal."""
    one, other = before.reading(language), after.reading(language or _first(after))
    equal, num = True, 0
    with evaluating(one.transformer), evaluating(other.transformer):
        for batch in _batches(one, language, rows):
            equal = equal and _equal(one, other, batch)
            num += len(batch.tokens)
    return num, equal


def _first(model: PretrainedModel) -> str | None:
    return model.known_languages[0] if model.known_languages else None


def _equal(one: PretrainedModel, other: PretrainedModel, batch: Batch) -> bool:
    """Return whether all states and scores of a batch are equal, bit for bit."""
    hidden = [model.encode(batch) for model in (one, other)]
    equal = torch.equal(*hidden)
    most = max(1, _MOST_SCORES // one.transformer.vocab_size)
    for first in range(0, batch.tokens.numel(), most):
        cells = torch.arange(first, min(first + most, batch.tokens.numel()))
        scores = [
            model.transformer.predict(states, cells)
            for model, states in zip((one, other), hidden, strict=True)
        ]
        equal = equal and torch.equal(*scores)
    return equal


def _batches(model: PretrainedModel, language: str | None, rows: Sequence[Ids]) -> Iterator[Batch]:
    tokenizer = model.tokenizer
    longest = model.transformer.config.max_positions - tokenizer.num_specials("xlm", pair=False)
    ids = list(rows)
    if not ids:
        text = np.array([i for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids])
        size = min(DRAWN_LENGTH, longest)
        random = Random(0, "proof", language or "")
        ids = [text[random.integers(size, len(text))] for _ in range(NUM_ROWS)]
    wrapped: list[Wrapped] = [tokenizer.wrap(row[:longest]) for row in ids]
    for places in batches_by_length([len(row.tokens) for row in wrapped], CELLS):
        yield model.batch_rows([wrapped[place] for place in places], language)

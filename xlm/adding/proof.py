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
from xlm.text.tokenizers.tokenizer import Wrapped

NUM_DRAWN, DRAWN_LENGTH = 64, 64
"""Rows of drawn ids, and their tokens, if there is no old text."""
CELLS = 2000


def compare(
    before: PretrainedModel, after: PretrainedModel, lines: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the record of equal values: every tensor by SHA-256, every answer by torch.equal.

    ``lines`` are old text by language; a language of the model without any gets drawn ids.
    """
    there, here = before.transformer.state_dict(), after.transformer.state_dict()
    tensors = {name: _sha256(tensor) for name, tensor in there.items()}
    changed = [n for n, digest in tensors.items() if n not in here or _sha256(here[n]) != digest]
    rows = {}
    names: list[str | None] = [*before.known_languages, *before.tables]
    for language in names or [None]:
        texts = lines.get(language or "", [])
        compared = _compare_rows(before, after, language, texts)
        rows[language or "any"] = {"rows": compared[0], "of": "text" if texts else "drawn ids"}
        if not compared[1]:
            changed.append(f"the answers in {language or 'any language'}")
    return {
        "unchanged": not changed,
        "changed": changed,
        "tensors": tensors,
        "heads": {name: _sha256(tensor) for name, tensor in before.heads.items()},
        "rows": rows,
    }


def _sha256(tensor: Tensor) -> str:
    return hashlib.sha256(tensor_bytes(tensor)).hexdigest()


def _compare_rows(
    before: PretrainedModel, after: PretrainedModel, language: str | None, lines: Sequence[str]
) -> tuple[int, bool]:
    """Return the number of rows of a language that were compared, and whether all are equal."""
    one, other = before.reading(language), after.reading(language or _first(after))
    equal, num = True, 0
    with evaluating(one.transformer), evaluating(other.transformer):
        for batch in _batches(one, language, lines):
            states, logits = zip(_answers(one, batch), _answers(other, batch), strict=True)
            equal = equal and torch.equal(*states) and torch.equal(*logits)
            num += len(batch.tokens)
    return num, equal


def _first(model: PretrainedModel) -> str | None:
    return model.known_languages[0] if model.known_languages else None


def _answers(model: PretrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    hidden = model.encode(batch)
    cells = torch.arange(batch.tokens.numel())
    return hidden, model.transformer.predict(hidden, cells)


def _batches(model: PretrainedModel, language: str | None, lines: Sequence[str]) -> Iterator[Batch]:
    tokenizer = model.tokenizer
    longest = model.transformer.config.max_positions
    if lines:
        own = tokenizer.in_language(language) if tokenizer.rules else tokenizer
        ids = [np.array(own.encode(own.normalize(line)), dtype=np.int64) for line in lines]
    else:
        text = np.array([i for i in range(tokenizer.vocab_size) if i not in tokenizer.special_ids])
        size = min(DRAWN_LENGTH, longest - 2)
        random = Random(0, "proof", language or "")
        ids = [text[random.integers(size, len(text))] for _ in range(NUM_DRAWN)]
    rows: list[Wrapped] = [tokenizer.wrap(row[: longest - 2]) for row in ids]
    for places in batches_by_length([len(row.tokens) for row in rows], CELLS):
        yield model.batch_rows([rows[place] for place in places], language)

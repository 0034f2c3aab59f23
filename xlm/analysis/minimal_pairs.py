"""Minimal pairs: does a model prefer the right sentence of two? (MonoTrans, section 4.3.)

A masked model reads the sentence with the one differing piece masked and `` .`` appended, and the
likelier of the two pieces counts; a causal one reads both sentences. Pairs that differ in more than
one piece are left out, not counted wrong as in bert-syntax; a tie counts a half.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.analysis import intervals
from xlm.analysis.intervals import Estimate, Null, mean_of, undefined
from xlm.analysis.masked import predicted
from xlm.analysis.readers import MinimalPair
from xlm.analysis.states import encode_words, is_causal, longest
from xlm.errors import ConfigError, DataError
from xlm.model.asking import NO_HEAD, refuse_not_a_number
from xlm.model.pretrained import PretrainedModel
from xlm.model.score import Scoring, score
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer

CHANCE = Null(0.5)
END = " ."
_ANIMACY = re.compile(r"_(in)?anim$")


class Judged(NamedTuple):
    """Choices of a model between the sentences of pairs."""

    credit: NDArray[np.float64]
    """1 if the right sentence is likelier, a half for a tie, NaN if the pair was left out."""
    num_inputs: int
    """Number of different rows that the model read."""


class Masked(NamedTuple):
    """A row with one mask, and the pieces of the right and of the wrong sentence for it."""

    ids: Ids
    at: int
    right: int
    wrong: int


def masked_pair(tokenizer: Tokenizer, pair: MinimalPair) -> Masked | None:
    """Return the row of a pair that differs in one word, of one piece in both; else None."""
    texts = [tokenizer.normalize(text + END).split(" ") for text in (pair.right, pair.wrong)]
    if len(texts[0]) != len(texts[1]):
        return None
    words = [at for at, (one, two) in enumerate(zip(*texts, strict=True)) if one != two]
    if len(words) != 1:
        return None
    sides = [encode_words(tokenizer, own) for own in texts]
    places = [np.flatnonzero(own.word == words[0]) for own in sides]
    if any(len(own) != 1 for own in places) or len(sides[0].ids) != len(sides[1].ids):
        return None
    at = int(places[0][0])
    right, wrong = int(sides[0].ids[at]), int(sides[1].ids[at])
    ids = sides[0].ids.copy()
    ids[at] = tokenizer.mask_id
    same = np.delete(ids, at) == np.delete(sides[1].ids, at)
    if tokenizer.unk_id in (right, wrong) or not same.all():
        return None
    return Masked(ids, at, right, wrong)


def judge(
    model: PretrainedModel,
    pairs: Sequence[MinimalPair],
    language: str | None = None,
    *,
    tokens: int = 4000,
) -> Judged:
    """Return the model's choice for each pair; equal rows are read once.

    Raises ConfigError for a model without an output, or one that only translates, CheckpointError
    for scores that are not numbers.
    """
    if model.extra.get(NO_HEAD):
        raise ConfigError(
            f"{model.source} has no output layer, so it predicts nothing: minimal pairs need "
            "a language model"
        )
    if model.transformer.decoder is not None:
        raise ConfigError(
            f"{model.source} has a decoder, so it translates: minimal pairs need a language model"
        )
    if is_causal(model):
        return _by_likelihood(model, pairs, language, tokens)
    return _by_mask(model, pairs, language, tokens)


def _by_mask(
    model: PretrainedModel, pairs: Sequence[MinimalPair], language: str | None, tokens: int
) -> Judged:
    model = model.reading(language)
    tokenizer = model.tokenizer.in_language(language)
    made = [masked_pair(tokenizer, pair) for pair in pairs]
    credit = np.full(len(pairs), np.nan)
    rows: dict[bytes, list[int]] = {}
    for number, own in enumerate(made):
        if own is not None and len(own.ids) <= longest(model):
            rows.setdefault(own.ids.tobytes(), []).append(number)
    groups = list(rows.values())
    asked = [made[group[0]] for group in groups]
    wrapped = [model.tokenizer.wrap(own.ids) for own in asked if own is not None]
    cells = [np.array([1 + own.at]) for own in asked if own is not None]
    for found in predicted(model, wrapped, cells, (language, None), tokens=tokens):
        scores = found.logits.cpu()
        for row, own_scores in zip(found.rows.tolist(), scores, strict=True):
            for number in groups[row]:
                own = made[number]
                assert own is not None
                right, wrong = float(own_scores[own.right]), float(own_scores[own.wrong])
                if not (math.isfinite(right) and math.isfinite(wrong)):
                    raise refuse_not_a_number(model, f"minimal pair {number + 1}")
                credit[number] = _credit(right, wrong)
    return Judged(credit, len(groups))


def _by_likelihood(
    model: PretrainedModel, pairs: Sequence[MinimalPair], language: str | None, tokens: int
) -> Judged:
    texts = list(dict.fromkeys(t for pair in pairs for t in (pair.right, pair.wrong)))
    found = score(model, texts, Scoring(language=language, kind="causal"), tokens=tokens)
    nats = {text: own.nats for text, own in zip(texts, found, strict=True)}
    credit = np.array([_credit(-nats[pair.right], -nats[pair.wrong]) for pair in pairs])
    return Judged(credit, len(texts))


def _credit(right: float, wrong: float) -> float:
    return 0.5 if right == wrong else float(right > wrong)


def construction_of(name: str) -> str:
    """Return a construction's name without its mark of animacy.

    Marvin and Linzen's 18 constructions become 13.
    """
    return _ANIMACY.sub("", name)


def rows_by_construction(pairs: Sequence[MinimalPair]) -> dict[str, list[int]]:
    """Return the places of the pairs of each construction."""
    groups: dict[str, list[int]] = {}
    for at, pair in enumerate(pairs):
        groups.setdefault(construction_of(pair.construction), []).append(at)
    return groups


def by_construction(pairs: Sequence[MinimalPair], judged: Judged) -> dict[str, dict[str, Estimate]]:
    """Return coverage and accuracy of each construction, and the means over them.

    The means are over agreement, over reflexives (constructions whose name has the word) and over
    all; constructions without a covered pair are left out of them.
    """
    if not pairs:
        raise DataError("found no minimal pairs: expected at least one")
    groups = rows_by_construction(pairs)
    found: dict[str, dict[str, Estimate]] = {}
    for name, rows in groups.items():
        credit = judged.credit[rows]
        own = credit[~np.isnan(credit)]
        accuracy = (
            intervals.share(float(own.sum()), len(own))
            if len(own)
            else undefined("no pair differs in one piece alone", 0)
        )
        found[name] = {
            "coverage": intervals.share(len(own), len(rows)),
            "accuracy": accuracy.beside(chance=CHANCE),
        }
    parts = {
        "mean of agreement": [name for name in groups if "reflexive" not in name],
        "mean of reflexives": [name for name in groups if "reflexive" in name],
        "mean of all": list(groups),
    }
    for part, names in parts.items():
        accuracies = [found[name]["accuracy"] for name in names]
        value = mean_of(accuracies)
        num = sum(own.value is not None for own in accuracies)
        if names:
            mean = (
                undefined("no construction is covered")
                if value is None
                else Estimate(value, num=num)
            )
            found[part] = {"accuracy": mean.beside(chance=CHANCE)}
    return found

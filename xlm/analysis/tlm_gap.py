"""The gain of a masked model from a translation beside a sentence (XLM section 3.4).

Nats and accuracy of a sentence's tokens, each masked once: beside its translation (true), beside
another sentence (wrong), and alone. A wrong partner misleads, so that it is worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from xlm.analysis import intervals
from xlm.analysis.alignment import wrong_partners
from xlm.analysis.intervals import Estimate, undefined
from xlm.analysis.masked import Languages, predicted
from xlm.analysis.states import normalized_ids
from xlm.model.asking import check_masked, read_as, refuse_not_a_number
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Ids, Wrapped

FOLDS = 7
"""Fold number: every seventh token is masked at once, near the 15 % of training."""
PARTNERS = ("true", "wrong", "alone")


class _Read(NamedTuple):
    """Sums over the tokens of each sentence, ``[n]``."""

    nats: NDArray[np.float64]
    hits: NDArray[np.float64]


def tlm_gap(
    model: PretrainedModel,
    first: Sequence[str],
    second: Sequence[str],
    languages: Languages,
    *,
    folds: int = FOLDS,
    tokens: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return mean nats a token of the second sentences, and their accuracy.

    Nats are named ``true``, ``wrong`` and ``alone``; gain = alone - true, gap = wrong - true.
    Accuracies are named ``accuracy, true`` and so on; gain = true - alone, gap = true - wrong.
    ``first`` and ``second`` translate each other row by row; the wrong partner is that of the
    sentence next in length. Pairs with a side longer than half of the model's positions are left
    out (``num`` says how many are not). Intervals are by the bootstrap over sentences. Raises
    ConfigError for a model that is not masked.
    """
    check_masked(model)
    read_as(model, languages[1], languages[0])  # one vocabulary, or an error
    model = model.reading(languages[1])
    sides = _fitting(model, first, second, languages)
    counts = np.array([len(ids) for ids in sides[1]], dtype=np.float64)
    if not len(counts):
        reason = "no pair fits the model's positions"
        return {name: undefined(reason) for name in (*PARTNERS, "gain", "gap")}
    partners = wrong_partners([len(ids) for ids in sides[0]])
    beside = {"true": sides[0], "wrong": [sides[0][at] for at in partners], "alone": None}
    read = {
        name: _read(model, own, sides[1], languages, folds, tokens) for name, own in beside.items()
    }
    nats, hits = ({name: own[at] for name, own in read.items()} for at in (0, 1))
    columns = {
        **nats,
        "gain": nats["alone"] - nats["true"],
        "gap": nats["wrong"] - nats["true"],
        **{f"accuracy, {name}": own for name, own in hits.items()},
        "accuracy, gain": hits["true"] - hits["alone"],
        "accuracy, gap": hits["true"] - hits["wrong"],
    }
    return {
        name: intervals.ratio(
            np.stack([own, counts], axis=1), lambda means: means[:, 0] / means[:, 1], seed
        )
        for name, own in columns.items()
    }


def _fitting(
    model: PretrainedModel, first: Sequence[str], second: Sequence[str], languages: Languages
) -> tuple[list[Ids], list[Ids]]:
    """Return the ids of the pairs that have text and fit the positions beside any partner."""
    layout = _layout(model)
    specials = model.tokenizer.num_specials(layout, pair=True)
    most = (model.transformer.config.max_positions - specials) // 2
    one, two = (
        normalized_ids(model.tokenizer.in_language(language), side)
        for language, side in zip(languages, (first, second), strict=True)
    )
    kept = [
        (np.array(a, dtype=np.int64), np.array(b, dtype=np.int64))
        for a, b in zip(one, two, strict=True)
        if 0 < len(a) <= most and 0 < len(b) <= most
    ]
    return [a for a, _ in kept], [b for _, b in kept]


def _layout(model: PretrainedModel) -> str:
    return "tlm" if model.tokenizer.begin_id == model.tokenizer.end_id else "merged"


def _read(
    model: PretrainedModel,
    beside: Sequence[Ids] | None,
    sentences: Sequence[Ids],
    languages: Languages,
    folds: int,
    tokens: int,
) -> _Read:
    """Return the sums of each sentence, read behind another one or alone."""
    rows: list[Wrapped] = []
    cells: list[Ids] = []
    of_sentence: list[int] = []
    for number, ids in enumerate(sentences):
        if beside is None:
            row = model.tokenizer.wrap(ids)
            places = np.arange(1, 1 + len(ids))
        else:
            row = model.tokenizer.wrap(beside[number], ids, _layout(model))
            end = len(row.tokens) - 1
            places = np.arange(end - len(ids), end)
        for fold in range(min(folds, len(ids))):
            rows.append(row)
            cells.append(places[fold::folds])
            of_sentence.append(number)
    spoken = (languages[1], None) if beside is None else languages
    sums = _Read(np.zeros(len(sentences)), np.zeros(len(sentences)))
    for own in predicted(model, rows, cells, spoken, tokens=tokens):
        scores = own.logits.gather(1, own.tokens[:, None])[:, 0]
        nats = (own.logits.logsumexp(-1) - scores).double().cpu().numpy()
        numbers = np.array(of_sentence)[own.rows]
        if not np.isfinite(nats).all():
            where = int(numbers[~np.isfinite(nats)][0]) + 1
            raise refuse_not_a_number(model, f"pair {where}")
        np.add.at(sums.nats, numbers, nats)
        hits = (own.logits.argmax(-1) == own.tokens).double().cpu().numpy()
        np.add.at(sums.hits, numbers, hits)
    return sums

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
DIFFERENCES = ("gain", "gap", "accuracy, gain", "accuracy, gap")
"""The figures that two models are compared by."""


class GapRows(NamedTuple):
    """The rows that are read for the pairs that fit a model: made once, read with any weights."""

    sentences: list[Ids]
    """The second sentences, ``n`` of them."""
    beside: list[Wrapped]
    """Each of them behind its translation, then each behind another sentence, ``2 n``."""
    alone: list[Wrapped]
    """Each of them alone."""
    places: list[str]
    """The name of each pair in messages."""
    numbers: list[int]
    """The place of each pair among those that were given, from 0."""


class GapSums(NamedTuple):
    """Sums over the tokens of each sentence in each of k sets of rows, ``[k, n]``."""

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
    rows = gap_rows(model, first, second, languages)
    return gap_estimates(rows, read_gap(model, rows, languages, folds, tokens), seed)


def read_gap(
    model: PretrainedModel,
    rows: GapRows,
    languages: Languages,
    folds: int = FOLDS,
    tokens: int = 2000,
) -> GapSums:
    """Return the sums of ``PARTNERS``, ``[3, n]`` each."""
    model = model.reading(languages[1])
    if not rows.sentences:
        return GapSums(np.zeros((3, 0)), np.zeros((3, 0)))
    read = [
        _read(model, own, rows, spoken, folds, tokens)
        for own, spoken in ((rows.beside, languages), (rows.alone, (languages[1], None)))
    ]
    return GapSums(*(np.concatenate([own[at] for own in read]) for at in (0, 1)))


def gap_estimates(rows: GapRows, sums: GapSums, seed: int = 0) -> dict[str, Estimate]:
    """Return the figures of ``tlm_gap`` for the sums of its rows."""
    counts = np.array([len(ids) for ids in rows.sentences], dtype=np.float64)
    if not len(counts):
        reason = "no pair fits the model's positions"
        return {name: undefined(reason) for name in (*PARTNERS, "gain", "gap")}
    found = {name: _by_token(own, counts, seed) for name, own in _columns(sums).items()}
    if len(counts) == 1:  # its own partner
        for name in ("wrong", "gap", "accuracy, wrong", "accuracy, gap"):
            found[name] = undefined("a single pair has no wrong partner", 1)
    return found


def gap_differences(
    rows: tuple[GapRows, GapRows], sums: tuple[GapSums, GapSums], seed: int = 0
) -> dict[str, Estimate]:
    """Return ``DIFFERENCES`` of one model minus those of another, over the pairs that both read.

    Nats a token are compared, so both must have the same pieces. Intervals are by the paired
    bootstrap over sentences.
    """
    common, *at = np.intersect1d(rows[0].numbers, rows[1].numbers, return_indices=True)
    if not len(common):
        return dict.fromkeys(DIFFERENCES, undefined("no pair fits the positions of both models"))
    counts = np.array([len(rows[0].sentences[place]) for place in at[0]], dtype=np.float64)
    one, two = (
        _columns(GapSums(*(own[:, kept] for own in side)))
        for side, kept in zip(sums, at, strict=True)
    )
    found = {name: _by_token(one[name] - two[name], counts, seed) for name in DIFFERENCES}
    if min(len(own.sentences) for own in rows) == 1:  # its own partner
        for name in ("gap", "accuracy, gap"):
            found[name] = undefined("a single pair has no wrong partner", 1)
    return found


def _columns(sums: GapSums) -> dict[str, NDArray[np.float64]]:
    """Return the sum over each sentence's tokens of each figure, ``[n]``."""
    nats, hits = (dict(zip(PARTNERS, own, strict=True)) for own in sums)
    return {
        **nats,
        "gain": nats["alone"] - nats["true"],
        "gap": nats["wrong"] - nats["true"],
        **{f"accuracy, {name}": own for name, own in hits.items()},
        "accuracy, gain": hits["true"] - hits["alone"],
        "accuracy, gap": hits["true"] - hits["wrong"],
    }


def _by_token(sums: NDArray[np.float64], counts: NDArray[np.float64], seed: int) -> Estimate:
    return intervals.ratio(
        np.stack([sums, counts], axis=1), lambda means: means[:, 0] / means[:, 1], seed
    )


def gap_rows(
    model: PretrainedModel, first: Sequence[str], second: Sequence[str], languages: Languages
) -> GapRows:
    """Return the rows of ``tlm_gap`` for the pairs that fit; the weights make no difference."""
    check_masked(model)
    read_as(model, languages[1], languages[0])  # one vocabulary, or an error
    model = model.reading(languages[1])
    one, two, numbers = _fitting(model, first, second, languages)
    partners = [one[at] for at in wrong_partners([len(ids) for ids in one])]
    beside = zip([*one, *partners], [*two, *two], strict=True)
    wrap = model.tokenizer.wrap
    return GapRows(
        two, [wrap(*pair, _layout(model)) for pair in beside], [wrap(ids) for ids in two],
        [f"pair {number + 1}" for number in numbers], numbers,
    )  # fmt: skip


def joined_rows(many: Sequence[GapRows]) -> GapRows:
    """Return the rows of several texts as those of one."""
    sentences, alone, places, numbers = (
        [row for own in many for row in getattr(own, name)]
        for name in ("sentences", "alone", "places", "numbers")
    )
    halves = [(own.beside[: len(own.alone)], own.beside[len(own.alone) :]) for own in many]
    beside = [row for side in zip(*halves, strict=True) for own in side for row in own]
    return GapRows(sentences, beside, alone, places, numbers)


def _fitting(
    model: PretrainedModel, first: Sequence[str], second: Sequence[str], languages: Languages
) -> tuple[list[Ids], list[Ids], list[int]]:
    """Return the ids of the pairs that have text and fit the positions beside any partner.

    The numbers are the places of these pairs among all of them.
    """
    layout = _layout(model)
    specials = model.tokenizer.num_specials(layout, pair=True)
    most = (model.transformer.config.max_positions - specials) // 2
    one, two = (
        normalized_ids(model.tokenizer.in_language(language), side)
        for language, side in zip(languages, (first, second), strict=True)
    )
    kept = [
        (np.array(a, dtype=np.int64), np.array(b, dtype=np.int64), number)
        for number, (a, b) in enumerate(zip(one, two, strict=True))
        if 0 < len(a) <= most and 0 < len(b) <= most
    ]
    return [a for a, _, _ in kept], [b for _, b, _ in kept], [number for _, _, number in kept]


def _layout(model: PretrainedModel) -> str:
    return "tlm" if model.tokenizer.begin_id == model.tokenizer.end_id else "merged"


def _read(
    model: PretrainedModel,
    rows: Sequence[Wrapped],
    of: GapRows,
    languages: Languages,
    folds: int,
    tokens: int,
) -> GapSums:
    """Return the sums of the sentences, each of which ends one row of each set of ``rows``."""
    num = len(of.sentences)
    cells: list[Ids] = []
    of_row: list[int] = []
    for number, row in enumerate(rows):
        end, size = len(row.tokens) - 1, len(of.sentences[number % num])
        for fold in range(min(folds, size)):
            cells.append(np.arange(end - size, end)[fold::folds])
            of_row.append(number)
    sums = GapSums(np.zeros(len(rows)), np.zeros(len(rows)))
    read = [rows[number] for number in of_row]
    for own in predicted(model, read, cells, languages, tokens=tokens):
        scores = own.logits.gather(1, own.tokens[:, None])[:, 0]
        nats = (own.logits.logsumexp(-1) - scores).double().cpu().numpy()
        numbers = np.array(of_row)[own.rows]
        if not np.isfinite(nats).all():
            where = int(numbers[~np.isfinite(nats)].min()) % num
            raise refuse_not_a_number(model, of.places[where])
        np.add.at(sums.nats, numbers, nats)
        hits = (own.logits.argmax(-1) == own.tokens).double().cpu().numpy()
        np.add.at(sums.hits, numbers, hits)
    return GapSums(sums.nats.reshape(-1, num), sums.hits.reshape(-1, num))

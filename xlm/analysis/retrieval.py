"""Retrieval of translations by nearest neighbors, and mining of pairs.

Scores are cosines of rows i of x and y, which translate each other: raw, with each side centered,
with CSLS (Lample et al. 2018, equation 2) and with the margins of Artetxe and Schwenk (2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.analysis import intervals
from xlm.analysis.intervals import ODD, Estimate, Null, choose_layer, undefined
from xlm.analysis.neighbors import (
    Adjust,
    Rows,
    Vectors,
    centered,
    hits_within,
    nearest_both_ways,
    own_places,
    reciprocal_ranks,
    unit,
)
from xlm.analysis.nulls import of_draws, permutations
from xlm.analysis.sparse_rows import SparseRows, counted
from xlm.analysis.states import Reading, normalized_ids, sentence_states
from xlm.errors import DataError
from xlm.model.pretrained import PretrainedModel
from xlm.text.normalize import normalize
from xlm.text.tokenizers.tokenizer import Tokenizer

CUTS = (1, 5, 10)
CSLS_NEIGHBORS = 10
MARGIN_NEIGHBORS = 4
FEWEST_ROWS = 4
CHOSEN = "centered @1"
"""The measure that chooses a layer."""
Scored = tuple[Rows, Rows, Adjust | None, Adjust | None]
"""Unit vectors of both sides, and the functions from cosines to scores, forth and back."""


@dataclass(frozen=True)
class Pairs:
    """Translations of each other, line by line, each text once."""

    first: list[str]
    second: list[str]
    num_repeated: int = 0
    """Number of pairs left out because one of their sides is in a pair kept before."""
    num_empty: int = 0
    """Number of pairs left out because one of their sides is empty."""


def distinct(first: Sequence[str], second: Sequence[str], most: int | None = None) -> Pairs:
    """Return the first ``most`` pairs of which no side is empty or is in a pair kept before.

    Lines are normalized. Raises DataError for sides of unequal length and for fewer than 4 rows.
    """
    if len(first) != len(second):
        raise DataError(
            f"{len(first):,} and {len(second):,} lines: expected two sides with the same "
            "number of lines; check where they diverge"
        )
    seen: tuple[set[str], set[str]] = (set(), set())
    kept: list[tuple[str, str]] = []
    num_repeated = num_empty = 0
    for raw in zip(first, second, strict=True):
        pair = (normalize(raw[0]), normalize(raw[1]))
        if not all(pair):
            num_empty += 1
        elif pair[0] in seen[0] or pair[1] in seen[1]:
            num_repeated += 1
        else:
            kept.append(pair)
            for line, own in zip(pair, seen, strict=True):
                own.add(line)
        if most is not None and len(kept) == most:
            break
    if len(kept) < FEWEST_ROWS:
        raise DataError(
            f"only {len(kept)} of {len(first):,} lines are different pairs: expected at "
            f"least {FEWEST_ROWS}"
        )
    return Pairs([one for one, _ in kept], [two for _, two in kept], num_repeated, num_empty)


def scorings(x: NDArray[np.floating], y: NDArray[np.floating]) -> dict[str, Scored | str]:
    """Return each scoring's inputs for rows of x ``[N, D]`` and y, or the reason it has none."""
    raw = unit(x), unit(y)
    middle = unit(centered(x)), unit(centered(y))
    found: dict[str, Scored | str] = {"raw": (*raw, None, None), "centered": (*middle, None, None)}
    found["CSLS"] = _less_neighborhoods(raw, CSLS_NEIGHBORS, 2.0, 1.0)
    found["distance margin"] = _less_neighborhoods(raw, MARGIN_NEIGHBORS, 1.0, 0.5)
    found["centered distance margin"] = _less_neighborhoods(middle, MARGIN_NEIGHBORS, 1.0, 0.5)
    found["ratio margin"] = _over_neighborhoods(raw, MARGIN_NEIGHBORS)
    return found


def neighborhoods(x: Rows, y: Rows, k: int) -> tuple[Vectors, Vectors]:
    """Return the mean of the k largest cosines of each row of x in y ``[N]`` and of y in x."""
    forth, back = nearest_both_ways(x, y, k)
    return (
        forth.scores.mean(1, dtype=np.float64).astype(np.float32),
        back.scores.mean(1, dtype=np.float64).astype(np.float32),
    )


def _less_neighborhoods(sides: tuple[Rows, Rows], k: int, product: float, share: float) -> Scored:
    of_x, of_y = (torch.from_numpy(own) for own in neighborhoods(*sides, k))

    def less(own: Tensor, others: Tensor) -> Adjust:
        return lambda tile, rows: product * tile - share * own[rows, None] - share * others[None, :]

    return (*sides, less(of_x, of_y), less(of_y, of_x))


def _over_neighborhoods(sides: tuple[Vectors, Vectors], k: int) -> Scored | str:
    arrays = neighborhoods(*sides, k)
    if num := _num_not_positive(*arrays):
        total = len(arrays[0]) * len(arrays[1])
        return f"{num:,} of {total:,} denominators are 0 or less"
    of_x, of_y = (torch.from_numpy(own) for own in arrays)

    def over(own: Tensor, others: Tensor) -> Adjust:
        return lambda tile, rows: 2 * tile / (own[rows, None] + others[None, :])

    return (*sides, over(of_x, of_y), over(of_y, of_x))


def _num_not_positive(of_x: Vectors, of_y: Vectors) -> int:
    """Return the number of pairs for which the sum of the neighborhoods is 0 or less."""
    rising = np.sort(of_y)
    return int(np.searchsorted(rising, -of_x, side="right").sum())


def retrieval(
    x: NDArray[np.floating], y: NDArray[np.floating], *, seed: int = 0
) -> dict[str, Estimate]:
    """Return the figures of retrieval among rows ``[N, D]`` of x and y that translate each other.

    Keys are a scoring and a figure, ``centered @1``, for the mean of both directions, or with ``,
    forth`` and ``, back`` for one. Ties share a hit. Nulls: ``chance`` and, for shares,
    ``permuted``. Raises DataError for arrays of different lengths or fewer than 4 rows.
    """
    if len(x) != len(y) or len(x) < FEWEST_ROWS:
        raise DataError(
            f"{len(x)} rows on one side and {len(y)} on the other: expected the same number, "
            f"at least {FEWEST_ROWS}"
        )
    found: dict[str, Estimate] = {}
    for name, scored in scorings(x, y).items():
        if isinstance(scored, str):
            for figure in (*(f"@{cut}" for cut in CUTS), "reciprocal rank"):
                found[f"{name} {figure}"] = undefined(scored, len(x))
        else:
            found.update(_figures(name, scored, seed))
    return found


def _figures(name: str, scored: Scored, seed: int) -> dict[str, Estimate]:
    one, two, forth, back = scored
    num = len(one)
    places = own_places(one, two, forth), own_places(two, one, back)
    near = nearest_both_ways(one, two, max(CUTS), forth)
    drawn = _permuted_hits(near[0].ids, near[1].ids, seed)
    found = {}
    for cut in CUTS:
        hits = [hits_within(own, cut) for own in places]
        chance = Null(min(1.0, cut / num))
        both = intervals.mean_of_hits((hits[0] + hits[1]) / 2, seed)
        found[f"{name} @{cut}"] = both.beside(
            chance=chance, permuted=of_draws(both.value, drawn[cut])
        )
        for way, own in zip(("forth", "back"), hits, strict=True):
            estimate = intervals.share(float(own.sum()), num)
            found[f"{name} @{cut}, {way}"] = estimate.beside(chance=chance)
    ranks = [reciprocal_ranks(own) for own in places]
    chance = Null(float((1 / np.arange(1, num + 1)).mean()))
    named = {"": (ranks[0] + ranks[1]) / 2, ", forth": ranks[0], ", back": ranks[1]}
    for way, values in named.items():
        estimate = intervals.mean(values, seed)
        found[f"{name} reciprocal rank{way}"] = estimate.beside(chance=chance)
    return found


def _permuted_hits(
    forth: NDArray[np.int64], back: NDArray[np.int64], seed: int
) -> dict[int, list[float]]:
    """Return the share of hits, mean of both ways, for each permutation of the second side."""
    drawn: dict[int, list[float]] = {cut: [] for cut in CUTS}
    for permutation in permutations(len(forth), seed, "retrieval"):
        inverse = np.argsort(permutation)
        ahead, behind = forth == permutation[:, None], back == inverse[:, None]
        for cut in CUTS:
            hits = ahead[:, :cut].any(1).mean() + behind[:, :cut].any(1).mean()
            drawn[cut].append(float(hits) / 2)
    return drawn


def accuracy(x: NDArray[np.floating], y: NDArray[np.floating], *, center: bool = True) -> float:
    """Return the share of rows whose nearest row translates them, the mean of both directions."""
    return float(hits_of_rows(x, y, center=center).mean())


def best_layer(
    x: Sequence[NDArray[np.floating]],
    y: Sequence[NDArray[np.floating]],
    layers: Sequence[int] | None = None,
) -> tuple[int, Estimate]:
    """Return the layer with the best centered accuracy on even rows, and that on odd rows.

    ``layers`` are those to choose from (None: all).
    """

    def hits(layer: int, rows: slice) -> NDArray[np.float64]:
        return hits_of_rows(x[layer][rows], y[layer][rows])

    wanted = range(len(x)) if layers is None else layers
    layer = choose_layer(wanted, lambda at, rows: float(hits(at, rows).mean()))
    own = hits(layer, ODD)
    return layer, intervals.mean_of_hits(own).beside(chance=Null(1 / len(own)))


def hits_of_rows(
    x: NDArray[np.floating], y: NDArray[np.floating], cut: int = 1, *, center: bool = True
) -> NDArray[np.float64]:
    """Return for each row whether its translation is among the ``cut`` nearest ``[N]``.

    The mean of both directions; ties share a hit.
    """
    one, two = (unit(centered(own) if center else own) for own in (x, y))
    hits = [hits_within(own_places(*own), cut) for own in ((one, two), (two, one))]
    return np.asarray((hits[0] + hits[1]) / 2)


def retrieval_by_layer(
    model: PretrainedModel,
    pairs: Pairs,
    languages: tuple[str | None, str | None] = (None, None),
    reading: Reading | None = None,
    *,
    seed: int = 0,
) -> list[dict[str, Estimate]]:
    """Return ``retrieval`` of the model's sentence vectors for each layer, the embeddings first."""
    x, y = (
        sentence_states(model, lines, language, reading)
        for lines, language in zip((pairs.first, pairs.second), languages, strict=True)
    )
    return [retrieval(one, two, seed=seed) for one, two in zip(x, y, strict=True)]


def piece_vectors(
    tokenizer: Tokenizer,
    first: Sequence[str],
    second: Sequence[str],
    languages: tuple[str | None, str | None] = (None, None),
) -> tuple[SparseRows, SparseRows]:
    """Return vectors of piece counts × ln(2n / lines that have the piece), ``[n, P]``.

    Only pieces that occur have a column.
    """
    encoded = [
        normalized_ids(tokenizer.in_language(language), side)
        for language, side in zip(languages, (first, second), strict=True)
    ]
    used = sorted({piece for side in encoded for ids in side for piece in ids})
    column = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    column[used] = np.arange(len(used))
    one, two = (counted([column[ids] for ids in side], len(used)) for side in encoded)
    documents = np.bincount(np.concatenate([one.columns, two.columns]), minlength=len(used))
    weights = np.log(2 * len(first) / documents)
    return one.scaled(weights), two.scaled(weights)


def lexical(
    tokenizer: Tokenizer,
    first: Sequence[str],
    second: Sequence[str],
    languages: tuple[str | None, str | None] = (None, None),
) -> dict[str, Null]:
    """Return the raw figures of retrieval by shared pieces, as nulls by figure."""
    one, two = (own.unit() for own in piece_vectors(tokenizer, first, second, languages))
    figures = _figures("", (one, two, None, None), 0)
    return {name.strip(): own.as_null() for name, own in figures.items()}


class Mined(NamedTuple):
    """Pairs of rows by descending score, each row at most once."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: Vectors


def mine(
    x: NDArray[np.floating] | SparseRows,
    y: NDArray[np.floating] | SparseRows,
    k: int = MARGIN_NEIGHBORS,
) -> Mined:
    """Return the best pairs of both directions by the distance margin of ``[N, D]``, ``[M, D]``."""
    left, right = (own.unit() if isinstance(own, SparseRows) else unit(own) for own in (x, y))
    one, two, forth, _ = _less_neighborhoods((left, right), k, 1.0, 0.5)
    ahead, behind = nearest_both_ways(one, two, 1, forth)
    first = np.concatenate([np.arange(len(one)), behind.ids[:, 0]])
    second = np.concatenate([ahead.ids[:, 0], np.arange(len(two))])
    scores = np.concatenate([ahead.scores[:, 0], behind.scores[:, 0]])
    used: tuple[set[int], set[int]] = (set(), set())
    kept = []
    for at in np.lexsort((second, first, -scores)).tolist():
        own = int(first[at]), int(second[at])
        if own[0] not in used[0] and own[1] not in used[1]:
            kept.append(at)
            used[0].add(own[0])
            used[1].add(own[1])
    return Mined(first[kept], second[kept], scores[kept])


class MiningScores(NamedTuple):
    """Precision, recall and F1 if all pairs down to each of the mined are taken."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]

    @property
    def best(self) -> int:
        """Index of the best F1."""
        return int(self.f1.argmax())


def score_mined(mined: Mined, gold: Mapping[int, int]) -> MiningScores:
    """Return the scores of mined pairs at every threshold; ``gold`` maps rows of x to rows of y.

    Pairs of equal scores are taken together. Raises DataError if there is no gold pair or no mined
    pair.
    """
    if not gold or not len(mined.first):
        raise DataError("there is no pair for mining to find: expected at least one")
    right = np.array(
        [gold.get(int(i)) == int(j) for i, j in zip(mined.first, mined.second, strict=True)]
    )
    hits = np.cumsum(right)
    last = np.searchsorted(-mined.scores, -mined.scores, side="right") - 1
    hits, taken = hits[last], last + 1
    precision, recall = hits / taken, hits / len(gold)
    f1 = 2 * hits / (taken + len(gold))
    return MiningScores(precision, recall, f1)


def mined_by_row(mined: Mined, gold: Mapping[int, int], num: int, best: int) -> NDArray[np.float64]:
    """Return for each of ``num`` rows of x if it is taken, is right and has a translation.

    ``[num, 3]``, of 0 and 1. All pairs that score at least as much as the one of index ``best`` are
    taken; ``mined_f1`` of the means is the F1 there.
    """
    size = int(np.searchsorted(-mined.scores, -mined.scores[best], side="right"))
    taken = dict(zip(mined.first[:size].tolist(), mined.second[:size].tolist(), strict=True))
    return np.array(
        [
            (row in taken, row in taken and gold.get(row) == taken[row], row in gold)
            for row in range(num)
        ],
        dtype=np.float64,
    )


def mined_f1(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F1 of means of the columns of ``mined_by_row``, ``[R, 3]``."""
    return np.asarray(2 * means[:, 1] / (means[:, 0] + means[:, 2]))


def mined_f1_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], *, seed: int = 0
) -> Estimate:
    """Return F1 of one model's pairs minus that of another's, ``mined_by_row`` of the same rows.

    Each resample of the sentences gives both models' F1; the thresholds stay.
    """
    return intervals.of_enough(
        intervals.ratio(
            np.concatenate([first, second], axis=1),
            lambda means: mined_f1(means[:, :3]) - mined_f1(means[:, 3:]),
            seed,
        )
    )

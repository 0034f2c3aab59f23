"""Words of two languages: translation by nearest vectors, and similarity against human scores.

Precision as in MUSE (Lample et al. 2018), but over all usable entries, with their share reported:
MUSE drops those with unknown words. Similarity as in Table 5 of the XLM paper.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from xlm.analysis import intervals
from xlm.analysis.intervals import Estimate, Null, undefined
from xlm.analysis.neighbors import Vectors, centered, nearest, row_cosines, unit
from xlm.analysis.nulls import of_draws, permutations
from xlm.analysis.retrieval import CSLS_NEIGHBORS, CUTS, neighborhoods
from xlm.analysis.states import States
from xlm.errors import DataError

Lookup = Callable[[Sequence[str]], tuple[States, NDArray[np.bool_]]]
"""A function from words to their vectors ``[N, D]``, and which of them have one."""
Ranked = dict[str, NDArray[np.int64]]
"""Candidates of each source word by each way of scoring, the best first, ``[N, k]``."""


@dataclass(frozen=True)
class Entries:
    """The usable part of a dictionary: source words with the indices of their translations."""

    sources: list[str]
    x: States
    """Vectors of the source words, ``[N, D]``."""
    candidates: list[str]
    y: States
    """Vectors of the candidates, ``[M, D]``."""
    gold: list[list[int]]
    """The candidates that translate each source word; any of them counts."""
    num_words: int
    """Source words of the dictionary, usable or not."""

    @property
    def coverage(self) -> Estimate:
        """The share of source words that are usable."""
        return intervals.share(len(self.sources), self.num_words)

    def part(self, rows: Sequence[int]) -> Entries:
        """Return the entries of some source words, with all candidates."""
        return Entries(
            [self.sources[at] for at in rows], self.x[list(rows)], self.candidates, self.y,
            [self.gold[at] for at in rows], len(rows),
        )  # fmt: skip


def usable_entries(
    dictionary: Mapping[str, Sequence[str]],
    common: Sequence[str],
    source: Lookup,
    target: Lookup,
) -> Entries:
    """Return the entries with a vector of the source word and of a translation.

    Candidates are the dictionary's targets and the ``common`` words of the target language. Raises
    DataError, with the coverage, if no entry is usable.
    """
    sources = list(dictionary)
    vectors, known = source(sources)
    words = list(dict.fromkeys([w for own in dictionary.values() for w in own] + list(common)))
    others, usable = target(words)
    candidates = [word for word, there in zip(words, usable, strict=True) if there]
    place = {word: at for at, word in enumerate(candidates)}
    gold = [[place[w] for w in own if w in place] for own in dictionary.values()]
    rows = [at for at, own in enumerate(gold) if known[at] and own]
    if not rows:
        raise DataError(
            f"none of {len(sources):,} entries is usable: {int(known.sum()):,} source words "
            f"have a vector, and {sum(map(bool, gold)):,} have a translation with a vector"
        )
    return Entries(
        [sources[at] for at in rows], vectors[rows], candidates, others[usable],
        [gold[at] for at in rows], len(sources),
    )  # fmt: skip


def word_translation(
    entries: Entries, *, seed: int = 0, ranked: Ranked | None = None
) -> dict[str, Estimate]:
    """Return P@1, @5 and @10 of nearest neighbors and of CSLS, raw and with each side centered.

    The null ``permuted`` gives each source word the translations of another; ``chance`` is the
    mean share of candidates that translate a word. ``ranked`` saves ranking the candidates again.
    """
    found: dict[str, Estimate] = {}
    for name, ids in (rank_candidates(entries) if ranked is None else ranked).items():
        found.update(_precisions(name, ids, entries, seed))
    return found


def rank_candidates(entries: Entries) -> Ranked:
    """Return the best candidates of each source word, by each way of scoring."""
    found = {}
    for name, (x, y) in {
        "raw": (unit(entries.x), unit(entries.y)),
        "centered": (unit(centered(entries.x)), unit(centered(entries.y))),
    }.items():
        found[f"{name} nearest"] = nearest(x, y, max(CUTS)).ids
        found[f"{name} CSLS"] = _by_csls(x, y)
    return found


def found_within(
    entries: Entries, ranked: Ranked, words: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return if a translation of each of ``words`` is among the best candidates, by measure.

    Measures are those of ``word_translation``; ``[n]`` each: 1 if it is, 0 if not, NaN for a word
    without a usable entry.
    """
    place = {word: at for at, word in enumerate(words)}
    rows = [place[word] for word in entries.sources]
    found = {}
    for name, ids in ranked.items():
        first = _first_hits(ids, _padded_gold(entries))
        for cut in CUTS:
            own = np.full(len(words), np.nan)
            own[rows] = first < cut
            found[f"{name} P@{cut}"] = own
    return found


def _padded_gold(entries: Entries) -> NDArray[np.int64]:
    """Return the translations of each source word, ``[N, g]``, padded with -1."""
    widest = max(map(len, entries.gold))
    return np.array([[*own, *[-1] * (widest - len(own))] for own in entries.gold])


def _by_csls(x: Vectors, y: Vectors) -> NDArray[np.int64]:
    """Return the candidates by 2cos - r; a row's own neighborhood does not change their order."""
    _, of_y = neighborhoods(x, y, CSLS_NEIGHBORS)
    less = torch.from_numpy(of_y)[None, :]
    return nearest(x, y, max(CUTS), lambda tile, rows: 2 * tile - less).ids


def _precisions(
    name: str, ids: NDArray[np.int64], entries: Entries, seed: int
) -> dict[str, Estimate]:
    gold = _padded_gold(entries)
    first = _first_hits(ids, gold)
    num = len(ids)
    drawn: dict[int, list[float]] = {cut: [] for cut in CUTS}
    for order in permutations(num, seed, "words"):
        places = _first_hits(ids, gold[order])
        for cut in CUTS:
            drawn[cut].append(float((places < cut).mean()))
    sizes = (gold >= 0).sum(1)
    found = {}
    for cut in CUTS:
        own = intervals.share(int((first < cut).sum()), num)
        chance = Null(float(np.minimum(1.0, cut * sizes / len(entries.y)).mean()))
        null = of_draws(own.value, drawn[cut])
        found[f"{name} P@{cut}"] = own.beside(chance=chance, permuted=null)
    return found


def _first_hits(ids: NDArray[np.int64], gold: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the position of the first correct candidate, or the largest cutoff if there is none.

    ``ids`` ``[N, k]``, ``gold`` ``[N, g]``, padded with -1.
    """
    hits = (ids[:, :, None] == gold[:, None, :]).any(2)
    return np.where(hits.any(1), hits.argmax(1), max(CUTS))


def orthogonal_map(x: NDArray[np.floating], y: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the orthogonal ``W [D, D]`` with the smallest ‖x W - y‖_F (Schönemann 1966).

    Fewer pairs than dimensions leave a part of W open. That part is as near to the identity as the
    rest allows, and does not depend on how the last digits of float32 vectors are rounded.
    """
    product = np.asarray(x, np.float64).T @ np.asarray(y, np.float64)
    left, values, right = np.linalg.svd(product)
    rank = int((values > values.max() * len(values) * np.finfo(np.float32).eps).sum())
    kept, free = slice(rank), slice(rank, None)
    turn, _, back = np.linalg.svd(left[:, free].T @ right[free].T)
    return np.asarray(left[:, kept] @ right[kept] + left[:, free] @ turn @ back @ right[free])


def after_map(entries: Entries, learned: Sequence[int], tested: Sequence[int]) -> Entries:
    """Return the tested entries, their source words mapped by the pairs of the learned ones.

    The map is the orthogonal one of unit vectors, each source word with each of its translations.
    ``learned`` and ``tested`` are rows of the entries. Raises DataError if one of them is empty.
    """
    if not learned or not tested:
        raise DataError(
            f"{len(learned):,} entries to learn a map from and {len(tested):,} to test it: "
            "expected at least one of each without a common translation"
        )
    pairs = [(row, at) for row in learned for at in entries.gold[row]]
    x, y = unit(entries.x), unit(entries.y)
    own = orthogonal_map(x[[row for row, _ in pairs]], y[[at for _, at in pairs]])
    mapped = np.asarray(x @ own, dtype=np.float32)
    turned = Entries(
        entries.sources, mapped, entries.candidates, y, entries.gold, entries.num_words
    )
    return turned.part(tested)


def halves(gold: Sequence[Sequence[int]]) -> tuple[list[int], list[int]]:
    """Return the rows of two halves; rows linked by shared translations are in the same half.

    A map that only knows the translations of its half would otherwise find them in the other one.
    The links may pass through other rows. Each group of linked rows goes to the half that has fewer
    rows so far.
    """
    group = list(range(len(gold)))

    def root(row: int) -> int:
        while group[row] != row:
            group[row] = group[group[row]]
            row = group[row]
        return row

    first_with: dict[int, int] = {}
    for row, own in enumerate(gold):
        for translation in own:
            one, two = root(first_with.setdefault(translation, row)), root(row)
            group[max(one, two)] = min(one, two)
    members: dict[int, list[int]] = {}
    for row in range(len(gold)):
        members.setdefault(root(row), []).append(row)
    found: tuple[list[int], list[int]] = ([], [])
    for rows in members.values():
        found[int(len(found[1]) < len(found[0]))].extend(rows)
    return sorted(found[0]), sorted(found[1])


def word_pairs(x: States, y: States, *, seed: int = 0) -> dict[str, Estimate]:
    """Return how near the vectors of paired words are, ``[N, D]`` each (XLM Table 5).

    Figures are the mean cosine, the mean L2 distance, and that distance over the mean norm of all
    vectors. The null ``permuted`` pairs the same words at random.
    """
    one, two = np.asarray(x, np.float64), np.asarray(y, np.float64)
    norm = float(np.linalg.norm(np.concatenate([one, two]), axis=1).mean()) if len(one) else 0.0
    left, right = unit(one).astype(np.float64), unit(two).astype(np.float64)
    cosines = (left * right).sum(1)
    distances = np.linalg.norm(one - two, axis=1)
    orders = list(permutations(len(one), seed, "pairs")) if len(one) else []
    drawn = {
        "cosine": [float((left * right[order]).sum(1).mean()) for order in orders],
        "L2": [float(np.linalg.norm(one - two[order], axis=1).mean()) for order in orders],
    }
    found = {}
    for name, values in {"cosine": cosines, "L2": distances}.items():
        own = intervals.mean(values, seed)
        found[name] = own.beside(permuted=_both_sides(own.value, drawn[name], name == "cosine"))
    if norm > 0:
        own = intervals.mean(distances / norm, seed)
        scaled = [value / norm for value in drawn["L2"]]
        found["L2 / norm"] = own.beside(permuted=_both_sides(own.value, scaled, False))
    else:
        found["L2 / norm"] = undefined("all vectors are 0", len(one))
    return found


def _both_sides(observed: float | None, drawn: list[float], larger_is_nearer: bool) -> Null:
    """Return the null; p counts permutations whose pairs are at least as near."""
    null = of_draws(observed, drawn)
    if larger_is_nearer or observed is None or not drawn:
        return null
    p = (1 + sum(value <= observed for value in drawn)) / (len(drawn) + 1)
    return Null(null.value, null.low, null.high, p)


def similarity(
    x: States, y: States, scores: Sequence[float], *, seed: int = 0
) -> dict[str, Estimate]:
    """Return the correlations of the cosines of pairs ``[N, D]`` with human scores ``[N]``."""
    cosines = row_cosines(x, y)
    gold = np.asarray(scores, np.float64)
    found = {}
    for name, ranks in (("Pearson", False), ("Spearman", True)):
        own = intervals.correlated(cosines, gold, ranks=ranks)
        if own.value is not None:
            drawn = [
                intervals.correlated(cosines, gold[order], ranks=ranks).value
                for order in permutations(len(gold), seed, "scores")
            ]
            null = of_draws(own.value, [value for value in drawn if value is not None])
            own = own.beside(permuted=null)
        found[name] = own
    return found


def phrase_vectors(lookup: Lookup, phrases: Sequence[str]) -> tuple[States, NDArray[np.bool_]]:
    """Return the mean vector of each phrase's words ``[N, D]``, and which phrases have them all."""
    words = sorted({word for phrase in phrases for word in phrase.split()})
    place = {word: at for at, word in enumerate(words)}
    vectors, usable = lookup(words)
    found = np.zeros((len(phrases), vectors.shape[1]), dtype=np.float32)
    there = np.zeros(len(phrases), dtype=bool)
    for at, phrase in enumerate(phrases):
        rows = [place[word] for word in phrase.split()]
        if rows and usable[rows].all():
            found[at], there[at] = vectors[rows].mean(0, dtype=np.float64), True
    return found, there


def file_lookup(vectors: Mapping[str, NDArray[np.float32]]) -> Lookup:
    """Return a lookup of the words of a ``.vec`` file, as given or in lower case."""
    width = len(next(iter(vectors.values())))

    def look(words: Sequence[str]) -> tuple[States, NDArray[np.bool_]]:
        found = np.zeros((len(words), width), dtype=np.float32)
        usable = np.zeros(len(words), dtype=bool)
        for at, word in enumerate(words):
            own = vectors.get(word, vectors.get(word.lower()))
            if own is not None:
                found[at], usable[at] = own, True
        return found, usable

    return look

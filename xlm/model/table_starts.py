"""First rows of a new language's table, made from the rows of a table that is there.

random    drawn like a model's own (MonoTrans); nothing of the old table
copy      equal pieces keep their rows; others drawn with the old rows' mean and deviation
pieces    equal pieces keep theirs; others get the mean of their sub-pieces' rows, or of all
focus     equal pieces keep theirs; others a sparse mean of them by similarity (Dobler and de Melo
          2023, "FOCUS", section 3.2)
aligned   pieces with translations get their rows' mean; others as in focus
oracle    rows by a given list: for experiments in which the truth is known

A start is the same for every array of a table that has a row for each id: words, output matrix,
output bias.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.errors import ConfigError
from xlm.model.language_tables import ROLES
from xlm.model.vocabulary import (
    INSIDE_WORDPIECE,
    STARTS,
    UNDECODED,
    extend_vocabulary,
    marking,
)
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer

Vectors = NDArray[np.floating]
FEWEST_ANCHORS = 500
"""Number of anchors below which a warning says that ``focus`` has too few."""
FEWEST_IN_MIXTURE = 0.01
"""Share of the largest product of a new piece that an old one needs in ``aligned``."""
_BLOCK = 256
"""New pieces whose similarities to all anchors are held at once."""

SYMBOL, KEPT, MIXED, TRANSLATED, DRAWN = "symbol", "kept", "mixed", "translated", "drawn"
GIVEN, MEAN = "given", "mean"


@dataclass(frozen=True)
class TableStart:
    """For each id here the old rows whose weighted sum it starts from; none: it is drawn."""

    rows: tuple[NDArray[np.int64], ...]
    """Ids there, for each id here."""
    weights: tuple[NDArray[np.float64], ...]
    """Their weights, which sum to 1."""
    rules: tuple[str, ...]
    """The rule that filled each row: symbol, kept, mixed, translated, given, mean or drawn."""
    text_rows: tuple[int, ...]
    """Ids there that are pieces of text: drawn rows have the mean and deviation of theirs."""
    num_anchors: int | None = None
    """Pieces that carried ``focus``; None without it."""

    @property
    def counts(self) -> dict[str, int]:
        """Return how many rows each rule filled."""
        return dict(Counter(self.rules))

    @property
    def warning(self) -> str | None:
        """Return a warning if few anchors carry ``focus``; None otherwise."""
        if self.num_anchors is None or self.num_anchors >= FEWEST_ANCHORS:
            return None
        return (
            f"only {self.num_anchors:,} pieces with vectors are known to both vocabularies, fewer "
            f"than {FEWEST_ANCHORS}: the other rows start from mixtures of few; give pairs or a "
            "dictionary (start: aligned), or compare with start: copy"
        )

    def apply(self, table: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Map ``[V there, ...] -> [V here, ...]``; a row with one source is equal bit for bit.

        Drawn rows are normal, with the mean and the deviation of the text rows by column; every row
        is drawn, so that the values do not depend on which of them are used.
        """
        text = table.detach()[list(self.text_rows)]
        shape = (len(self.rows), *table.shape[1:])
        drawn = torch.randn(shape, generator=generator, dtype=torch.float32).to(table)
        result: Tensor = drawn * text.std(0, correction=0) + text.mean(0)
        for at, (rows, weights) in enumerate(zip(self.rows, self.weights, strict=True)):
            if len(rows) == 1:
                result[at] = table.detach()[int(rows[0])]
            elif len(rows):
                own = table.detach()[torch.from_numpy(rows)]
                shares = torch.from_numpy(weights).to(own)
                result[at] = torch.tensordot(shares, own, dims=1)
            elif self.rules[at] == MEAN:
                result[at] = text.mean(0)
        return result

    def shuffled(self, random: Random, here: Tokenizer) -> TableStart:
        """Return the null of a start: the same rows, on pieces of text drawn anew.

        Frequent and rare pieces change places too; symbols stay.
        """
        text = np.array([at for at in range(len(self.rows)) if at not in here.special_ids])
        order = np.arange(len(self.rows))
        order[text] = text[np.argsort(random.uniform(len(text)), kind="stable")]
        return replace(
            self,
            rows=tuple(self.rows[at] for at in order),
            weights=tuple(self.weights[at] for at in order),
            rules=tuple(self.rules[at] for at in order),
        )


def sparsemax(scores: Vectors) -> NDArray[np.float64]:
    """Return the points of the simplex nearest to rows of scores ``[N, M]``, many of them 0.

    Martins and Astudillo 2016 ("From Softmax to Sparsemax", algorithm 1).
    """
    own = np.asarray(scores, dtype=np.float64)
    descending = -np.sort(-own, axis=1)
    sums = np.cumsum(descending, axis=1) - 1.0
    sizes = np.arange(1, own.shape[1] + 1)
    support = (descending * sizes > sums).sum(1)
    threshold = sums[np.arange(len(own)), support - 1] / support
    return np.asarray(np.maximum(own - threshold[:, None], 0.0))


def copy(here: Tokenizer, there: Tokenizer) -> TableStart:
    """Return the start that keeps the rows of symbols and of equal pieces, and draws the others."""
    start = _symbols(here, there)
    for at, row in equal_pieces(here, there).items():
        start.fill(at, [row], [1.0], KEPT)
    return start.done()


def same(here: Tokenizer) -> TableStart:
    """Return the start of a table with the model's own vocabulary, which keeps every row."""
    start = _symbols(here, here)
    for at in range(here.vocab_size):
        if at not in start.rows:
            start.fill(at, [at], [1.0], KEPT)
    return start.done()


def pieces(here: Tokenizer, there: Tokenizer) -> TableStart:
    """Return the start from the mean of the sub-pieces of each piece (``extend_vocabulary``).

    Raises ConfigError for tokenizers that mark the borders of words differently.
    """
    vocabulary = extend_vocabulary(here, there)
    start = _symbols(here, there)
    equal = equal_pieces(here, there)
    for at, rows in enumerate(vocabulary.rows):
        if at not in here.special_ids:
            rule = KEPT if at in equal else MIXED if rows else MEAN
            start.fill(at, rows, [1.0 / max(len(rows), 1)] * len(rows), rule)
    return start.done()


def focus(here: Tokenizer, there: Tokenizer, vectors: Vectors) -> TableStart:
    """Return the start by similarity to equal pieces.

    ``vectors`` ``[V here, D]`` are those of the new language's pieces; a row of zeros is that of a
    piece too rare to have one, which is drawn unless it is an equal piece.
    """
    start = _symbols(here, there)
    for at, row in equal_pieces(here, there).items():
        start.fill(at, [row], [1.0], KEPT)
    start.mix(vectors)
    return start.done()


def aligned(
    here: Tokenizer,
    there: Tokenizer,
    new: NDArray[np.int64],
    old: NDArray[np.int64],
    product: NDArray[np.float64],
    vectors: Vectors,
) -> TableStart:
    """Return the start by translations, and as in ``focus`` for pieces without any.

    ``new``, ``old`` and ``product`` ``[N]`` are pairs of pieces and the products of both
    directions' probabilities (``xlm.analysis.translation_model``). A piece with translations is an
    anchor for the others, as an equal piece is.
    """
    start = _symbols(here, there)
    order = np.argsort(new, kind="stable")
    new, old, product = new[order], old[order], product[order]
    edges = np.flatnonzero(np.diff(new, prepend=-1))
    for first, last in zip(edges, [*edges[1:], len(new)], strict=True):
        at, rows, weights = int(new[first]), old[first:last], product[first:last]
        text = np.array([int(row) not in there.special_ids for row in rows])
        chosen = text & (weights >= FEWEST_IN_MIXTURE * weights.max())
        if at not in here.special_ids and chosen.any() and weights[chosen].sum() > 0:
            start.fill(at, rows[chosen], weights[chosen] / weights[chosen].sum(), TRANSLATED)
    for at, row in equal_pieces(here, there).items():
        if at not in start.rows:
            start.fill(at, [row], [1.0], KEPT)
    start.mix(vectors)
    return start.done()


def oracle(here: Tokenizer, there: Tokenizer, truth: Mapping[str, str]) -> TableStart:
    """Return the start by a list of pieces here and the piece there whose row each one gets.

    Raises ConfigError for a piece that one of the two vocabularies lacks.
    """
    start = _symbols(here, there)
    own = {piece: at for at, piece in enumerate(here.pieces)}
    others = {piece: at for at, piece in enumerate(there.pieces)}
    for piece, other in truth.items():
        for name, known, side in ((piece, own, "new"), (other, others, "old")):
            if name not in known:
                raise ConfigError(
                    f"start oracle: the {side} vocabulary has no piece {name!r}: expected "
                    "lines with a new piece, a tab and an old one"
                )
        start.fill(own[piece], [others[other]], [1.0], GIVEN)
    return start.done()


def equal_pieces(here: Tokenizer, there: Tokenizer) -> dict[int, int]:
    """Return the row there of each piece of text here that is the same text in the same place.

    Two tokenizers that mark words alike compare strings; SentencePiece, WordPiece and byte-level
    BPE among each other compare texts, and whether a word begins with them.
    """
    marks = marking(here), marking(there)
    comparable = all(mark in (*STARTS, INSIDE_WORDPIECE) for mark in marks)
    plain = marks[0] == marks[1] or not comparable
    sides: list[dict[object, int]] = []
    for tokenizer, mark in zip((here, there), marks, strict=True):
        forms: dict[object, int] = {}
        for at, piece in enumerate(tokenizer.pieces):
            if at not in tokenizer.special_ids:
                form = piece if plain else _form(tokenizer, at, mark)
                if form is not None:
                    forms.setdefault(form, at)
        sides.append(forms)
    return {at: sides[1][form] for form, at in sides[0].items() if form in sides[1]}


def _form(tokenizer: Tokenizer, at: int, mark: str) -> tuple[str, bool] | None:
    """Return the text of a piece, and whether a word begins with it; None for half a letter."""
    piece = tokenizer.pieces[at]
    if mark == INSIDE_WORDPIECE:
        return piece.removeprefix(mark), not piece.startswith(mark)
    text = tokenizer.decode([at]).strip() if mark == STARTS[1] else piece.removeprefix(mark)
    return None if UNDECODED in text or not text else (text, piece.startswith(mark))


class _Filling:
    """The rows of a start while rules fill them."""

    def __init__(self, here: Tokenizer, there: Tokenizer):
        self.here, self.there = here, there
        self.rows: dict[int, NDArray[np.int64]] = {}
        self.weights: dict[int, NDArray[np.float64]] = {}
        self.rules: dict[int, str] = {}
        self.num_anchors: int | None = None

    def fill(self, at: int, rows: object, weights: object, rule: str) -> None:
        self.rows[at] = np.asarray(rows, dtype=np.int64)
        self.weights[at] = np.asarray(weights, dtype=np.float64)
        self.rules[at] = rule

    def mix(self, vectors: Vectors) -> None:
        """Fill every other piece with a vector by its similarity to the pieces filled so far."""
        if len(vectors) != self.here.vocab_size:
            raise ConfigError(
                f"{len(vectors):,} vectors for a vocabulary of {self.here.vocab_size:,}: expected "
                "a row for each id"
            )
        norms = np.linalg.norm(np.asarray(vectors, dtype=np.float64), axis=1)
        text = [at for at in range(len(vectors)) if at not in self.here.special_ids and norms[at]]
        anchors = np.array([at for at in text if at in self.rows], dtype=np.int64)
        others = np.array([at for at in text if at not in self.rows], dtype=np.int64)
        self.num_anchors = len(anchors)
        if not len(anchors):
            return
        unit = np.asarray(vectors, dtype=np.float64) / np.where(norms > 0, norms, 1.0)[:, None]
        for first in range(0, len(others), _BLOCK):
            block = others[first : first + _BLOCK]
            for at, weights in zip(block, sparsemax(unit[block] @ unit[anchors].T), strict=True):
                self._mixture(int(at), anchors[weights > 0], weights[weights > 0])

    def _mixture(self, at: int, anchors: NDArray[np.int64], weights: NDArray[np.float64]) -> None:
        """Fill a row with a mixture of the anchors' rows, which may be mixtures themselves."""
        shares: dict[int, float] = {}
        for anchor, weight in zip(anchors, weights, strict=True):
            for row, share in zip(self.rows[int(anchor)], self.weights[int(anchor)], strict=True):
                shares[int(row)] = shares.get(int(row), 0.0) + float(weight * share)
        self.fill(at, list(shares), list(shares.values()), MIXED)

    def done(self) -> TableStart:
        ids = range(self.here.vocab_size)
        none, no_weight = np.zeros(0, dtype=np.int64), np.zeros(0)
        special = self.there.special_ids
        return TableStart(
            rows=tuple(self.rows.get(at, none) for at in ids),
            weights=tuple(self.weights.get(at, no_weight) for at in ids),
            rules=tuple(self.rules.get(at, DRAWN) for at in ids),
            text_rows=tuple(at for at in range(self.there.vocab_size) if at not in special),
            num_anchors=self.num_anchors,
        )


def _symbols(here: Tokenizer, there: Tokenizer) -> _Filling:
    """Return a start whose special symbols have the rows of the same role, or of the same name."""
    filling = _Filling(here, there)
    named = {there.pieces[at]: at for at in there.special_ids}
    for role in ROLES:
        at = getattr(here, role)
        if at not in filling.rows:
            filling.fill(at, [getattr(there, role)], [1.0], SYMBOL)
    for at in here.special_ids:
        if at not in filling.rows and here.pieces[at] in named:
            filling.fill(at, [named[here.pieces[at]]], [1.0], SYMBOL)
    return filling

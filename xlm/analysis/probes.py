"""Linear probes of states: how well a logistic regression reads a label from them.

The labels are the language of a text (mBERT study, section 5.3), any given ones, the sense of a
word in context (WiC; MonoTrans, section 4.2) and the similarity of two words in theirs (SCWS).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from xlm.analysis import intervals
from xlm.analysis.intervals import Estimate, Null, undefined
from xlm.analysis.readers import InContext
from xlm.analysis.states import States, encode_words, longest, wrapped_batches
from xlm.analysis.states import num_layers as layers_of
from xlm.errors import DataError, NotInstalled
from xlm.metrics.agreement import class_figures, confusion_matrix, confusion_scores
from xlm.model.pretrained import PretrainedModel
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Ids, Wrapped


class Probed(NamedTuple):
    """Results of a probe on test rows."""

    figures: dict[str, Estimate]
    """``accuracy`` with its nulls, and ``F1 LABEL`` of each label."""
    labels: list[str]
    confusion: NDArray[np.float64]
    """``[labels, labels]``: rows are gold, columns predicted."""
    right: NDArray[np.float64]
    """1 for each test row that was answered right, 0 for the others, ``[m]``."""
    commonest: NDArray[np.float64]
    """1 for each test row with the commonest label of the training rows, 0 for others, ``[m]``."""

    def on(self, rows: slice) -> Estimate:
        """Return the accuracy on some test rows, beside that of guessing the commonest label."""
        own = intervals.share(float(self.right[rows].sum()), len(self.right[rows]))
        if own.value is None:
            return own
        return own.beside(commonest=Null(float(self.commonest[rows].mean())))


def probe(
    train: ArrayLike,
    train_labels: Sequence[str],
    test: ArrayLike,
    test_labels: Sequence[str],
    *,
    seed: int = 0,
    shuffled: bool = True,
) -> Probed:
    """Return the figures on ``test`` ``[m, D]`` of a probe fitted on ``train`` ``[n, D]``.

    It is a logistic regression (C = 1, at most 1,000 iterations) on standardized dimensions. Nulls:
    ``commonest`` class of the training rows, and ``shuffled`` training labels. Raises DataError for
    training rows of one label, NotInstalled if scikit-learn is missing.
    """
    labels = sorted({*train_labels, *test_labels})
    if len(set(train_labels)) < 2:
        raise DataError(
            f"all training rows have the label {labels[0]!r}: expected at least two labels"
        )
    place = {label: at for at, label in enumerate(labels)}
    own = np.array([place[label] for label in train_labels])
    gold = np.array([place[label] for label in test_labels])
    predicted = _fit(train, own).predict(np.asarray(test))
    counts = confusion_scores(gold.tolist(), predicted.tolist())
    figures = class_figures(counts, labels)
    right = (predicted == gold).astype(np.float64)
    accuracy = intervals.share(int(right.sum()), len(gold))
    commonest = (gold == np.bincount(own).argmax()).astype(np.float64)
    nulls = {"commonest": Null(float(commonest.mean()))}
    if shuffled:
        order = np.argsort(Random("shuffled", seed).words(len(own)))
        wrong = _fit(train, own[order]).predict(np.asarray(test))
        nulls["shuffled"] = intervals.share(int((wrong == gold).sum()), len(gold)).as_null()
    found = {"accuracy": accuracy.beside(**nulls)}
    for label in labels:
        value = figures.get(f"f1.{label}")
        found[f"F1 {label}"] = (
            undefined("neither there nor predicted", len(gold))
            if value is None
            else Estimate(value, num=len(gold))
        )
    return Probed(found, labels, confusion_matrix(counts, len(labels)), right, commonest)


def _fit(rows: ArrayLike, labels: NDArray[np.int64]) -> Any:
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise NotInstalled(
            "probes need scikit-learn, of the extra analysis: pip install 'xlm-pretrain[analysis]'"
        ) from error
    made = make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return made.fit(np.asarray(rows, dtype=np.float64), labels)


def language_probe(states: Mapping[str, States], *, center: bool, seed: int = 0) -> Probed:
    """Return how well a probe recognizes languages, ``[n, D]`` each, whose rows are translations.

    Even rows train and odd ones test, so that the translations of a sentence are on one side. With
    ``center`` each language's mean over the training rows is subtracted.
    """
    parts: list[list[NDArray[np.float64]]] = [[], []]
    labels: list[list[str]] = [[], []]
    for language, own in states.items():
        rows = np.asarray(own, dtype=np.float64)
        mean = rows[::2].mean(0) if center else 0.0
        for side in (0, 1):
            half = rows[side::2] - mean
            parts[side].append(half)
            labels[side] += [language] * len(half)
    train, test = (np.concatenate(own) for own in parts)
    return probe(train, labels[0], test, labels[1], seed=seed)


def piece_counts(rows: Sequence[Ids], vocab_size: int) -> States:
    """Return the count of each piece in each row, ``[n, V]``: a probe's input without a model."""
    counts = np.zeros((len(rows), vocab_size), dtype=np.float32)
    for row, ids in zip(counts, rows, strict=True):
        np.add.at(row, ids, 1.0)
    return counts[:, counts.any(0)]


def words_in_context(
    model: PretrainedModel,
    rows: Sequence[InContext],
    language: str | None = None,
    *,
    tokens: int = 4000,
) -> tuple[States, States]:
    """Return the states of the marked words of both sentences, float32 ``[L + 1, n, D]`` each.

    A word is the mean of its pieces. Sentences that do not fit the model's positions are cut on the
    side further from the word.
    """
    one = [(row.first, row.first_at) for row in rows]
    two = [(row.second, row.second_at) for row in rows]
    found = _marked_states(model, [*one, *two], language, tokens)
    return found[:, : len(rows)], found[:, len(rows) :]


def words_alone(
    model: PretrainedModel,
    rows: Sequence[InContext],
    language: str | None = None,
    *,
    tokens: int = 4000,
) -> tuple[States, States]:
    """Return the states of the marked words without their contexts, as ``words_in_context``."""
    return words_in_context(model, without_context(rows), language, tokens=tokens)


def without_context(rows: Sequence[InContext]) -> list[InContext]:
    """Return rows whose sentences are their marked words alone."""
    return [
        InContext([row.first[row.first_at]], 0, [row.second[row.second_at]], 0, row.answer)
        for row in rows
    ]


def _marked_states(
    model: PretrainedModel,
    marked: Sequence[tuple[list[str], int]],
    language: str | None,
    tokens: int,
) -> States:
    model = model.reading(language)
    cut = [_fitting(model, words, at, language) for words, at in marked]
    wrapped = [model.tokenizer.wrap(ids) for ids, _ in cut]
    shape = (layers_of(model), len(marked), model.transformer.config.dim)
    found = np.zeros(shape, dtype=np.float32)
    for own, _, layers in wrapped_batches(model, wrapped, language, tokens=tokens):
        for layer, states in enumerate(layers):
            values = states.cpu().numpy()
            for row, at in enumerate(own):
                cells = 1 + cut[at][1]  # after the symbol that opens the row
                if len(cells):
                    found[layer, at] = values[row, cells].mean(0, dtype=np.float64)
    return found


def _fitting(
    model: PretrainedModel, words: Sequence[str], at: int, language: str | None
) -> tuple[Ids, NDArray[np.int64]]:
    """Return the pieces around word ``at`` that fit the positions, and which are the word's."""
    own = encode_words(model.tokenizer.in_language(language), words)
    places = np.flatnonzero(own.word == at)
    most = longest(model)
    if len(own.ids) <= most or not len(places):
        return own.ids[:most], places
    middle = int(places.mean())
    start = min(max(0, middle - most // 2), len(own.ids) - most)
    kept = places[(places >= start) & (places < start + most)] - start
    return own.ids[start : start + most], kept


def pair_states(
    model: PretrainedModel,
    rows: Sequence[InContext],
    language: str | None = None,
    *,
    tokens: int = 4000,
) -> States:
    """Return the first state of each merged pair of sentences, float32 ``[L + 1, n, D]``.

    The longer sentence of a pair that does not fit the model's positions is cut.
    """
    model = model.reading(language)
    most = model.transformer.config.max_positions
    specials = model.tokenizer.num_specials("merged", pair=True)
    tokenizer = model.tokenizer.in_language(language)
    wrapped: list[Wrapped] = []
    for row in rows:
        sides = [encode_words(tokenizer, words).ids for words in (row.first, row.second)]
        while sum(map(len, sides)) > most - specials:
            longer = int(len(sides[1]) > len(sides[0]))
            sides[longer] = sides[longer][:-1]
        wrapped.append(model.tokenizer.wrap(sides[0], sides[1], "merged"))
    shape = (layers_of(model), len(rows), model.transformer.config.dim)
    found = np.zeros(shape, dtype=np.float32)
    for own, _, layers in wrapped_batches(model, wrapped, language, language, tokens=tokens):
        for layer, states in enumerate(layers):
            found[layer, own] = states[:, 0].cpu().numpy()
    return found


def compared(u: States, v: States) -> States:
    """Return ``[u; v; |u - v|; u · v]`` of rows ``[n, D]``, ``[n, 4 D]``."""
    return np.concatenate([u, v, np.abs(u - v), u * v], axis=1)

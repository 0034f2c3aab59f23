"""Figures of held-out pairs while a run trains: retrieval, and the gain from seeing a translation.

They join the held-out figures under ``watch/en-hi``. Every rank measures them itself, alike, and
they draw nothing from torch's generators: the weights are the same with and without.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from xlm.analysis.loading import prepared_pairs
from xlm.analysis.retrieval import Pairs, best_layer
from xlm.analysis.states import encode_lines, num_layers, row_states
from xlm.analysis.tlm_gap import (
    GapRows,
    GapSums,
    gap_estimates,
    gap_rows,
    joined_rows,
    read_gap,
)
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, DataError
from xlm.languages import LanguagePair
from xlm.model.asking import OBJECTIVES, Kind, evaluating, kind_of
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.text.tokenizers.tokenizer import Wrapped

log = logging.getLogger("xlm")

NAME = "watch"
"""The first part of the names of these streams."""
GAP_SHARE = 5
"""Every so many sentences, one is asked for the gap: reading it again and again takes time."""
_GAP_NAMES = {
    "true": "nats_true", "wrong": "nats_wrong", "alone": "nats_alone", "gain": "gain_nats",
    "gap": "gap_nats", "accuracy, gain": "gain_accuracy", "accuracy, gap": "gap_accuracy",
}  # fmt: skip
FEWEST = 10
FIRST_LOOK = 16
"""Pairs of the look before training, which only shows that all figures are there."""


@dataclass(frozen=True, kw_only=True)
class WatchedPairs:
    """Held-out pairs that are asked for their translations at each evaluation."""

    pairs: list[str] = field(default_factory=list)
    """Pairs of languages such as en-hi, with prepared valid text; empty: none."""
    sentences: int = 500
    """Number of sentence pairs used for retrieval: the first ones, without repetitions. A fifth of
    them is used for the gap."""
    folds: int = 7
    """Mask every n-th token of a sentence at once when its nats are measured."""
    layers: list[int] | None = None
    """Layers among which the best for retrieval is chosen; 0 is the embeddings (null: all)."""

    def __post_init__(self) -> None:
        if self.sentences < FEWEST:
            raise ConfigError(f"watch.sentences is {self.sentences}: expected {FEWEST} or more")
        if self.folds < 1:
            raise ConfigError(f"watch.folds is {self.folds}: expected 1 or more")
        if self.layers is not None and not self.layers:
            raise ConfigError("watch.layers is empty: name layers, or leave it out for all")


class _Rows(NamedTuple):
    """The rows of a pair, which are the same at each look."""

    sides: tuple[list[Wrapped], list[Wrapped]]
    gap: GapRows | None
    """Those of the gap, of masked models alone."""


@dataclass(frozen=True)
class Watched:
    """The texts that are watched, and all that reads them beside the weights."""

    settings: WatchedPairs
    texts: Mapping[LanguagePair, Pairs]
    corpora: Corpora
    objectives: list[str]
    """Names of the run's objectives' classes."""
    _kept: dict[LanguagePair, _Rows] = field(default_factory=dict, compare=False)
    """The rows of each pair, from the first whole look on."""
    _said: list[Kind] = field(default_factory=list, compare=False)
    """The kind of the model, once the log says what is left out."""

    @classmethod
    def of(
        cls, settings: WatchedPairs, corpora: Corpora, objectives: Mapping[str, Objective]
    ) -> Watched:
        """Return the watched pairs of prepared text.

        Raises ConfigError for a name that is not a pair, DataError for one without held-out text.
        """
        wanted = [corpora.languages.pair(name) for name in settings.pairs]
        texts = {}
        if wanted:
            there = prepared_pairs(corpora, "valid", settings.sentences)
            there.update({pair.reversed: _swapped(own) for pair, own in there.items()})
            for pair in wanted:
                if pair not in there or len(there[pair].first) < FEWEST:
                    raise DataError(
                        f"watch.pairs names {pair}, but its valid text has fewer than "
                        f"{FEWEST} different pairs: prepare more, or leave it out"
                    )
                texts[pair] = there[pair]
        names = sorted({type(objective).__name__ for objective in objectives.values()})
        return cls(settings, texts, corpora, names)

    @property
    def streams(self) -> list[str]:
        """The names of the streams of figures."""
        return [f"{NAME}/{pair}" for pair in self.texts]

    def measure(self, transformer: Transformer, *, first_look: bool) -> dict[str, dict[str, float]]:
        """Return the figures of each pair by stream.

        Of causal models and translators, retrieval alone. ``first_look`` takes few pairs.
        """
        if not self.texts:
            return {}
        model = PretrainedModel(
            transformer, self.corpora.tokenizer, dict(self.corpora.languages),
            {OBJECTIVES: self.objectives},
        )  # fmt: skip
        self._say(kind_of(model))
        rows = self._rows(model, first_look)
        with evaluating(transformer):
            gaps = self._gaps(model, rows)
            return {
                f"{NAME}/{pair}": self._retrieval(model, pair, own) | gaps[pair]
                for pair, own in rows.items()
            }

    def _say(self, kind: Kind) -> None:
        """Log, once a run, that a model that is not masked gets no figures of the gap."""
        if kind == "masked" or self._said:
            return
        self._said.append(kind)
        name = "causal" if kind == "causal" else "a translator"
        pairs = ", ".join(map(str, self.texts))
        log.info("watch: the model is %s, so %s get retrieval alone, not the gap", name, pairs)

    def _rows(self, model: PretrainedModel, first_look: bool) -> Mapping[LanguagePair, _Rows]:
        if first_look:
            return {pair: _rows(model, pair, own, FIRST_LOOK) for pair, own in self.texts.items()}
        if not self._kept:
            self._kept.update({pair: _rows(model, pair, own) for pair, own in self.texts.items()})
        return self._kept

    def _retrieval(
        self, model: PretrainedModel, pair: LanguagePair, rows: _Rows
    ) -> dict[str, float]:
        if model.has_languages:
            x, y = (row_states(model, *own) for own in zip(rows.sides, pair, strict=True))
        else:  # both together, as batches of more rows are padded less
            both = row_states(model, [*rows.sides[0], *rows.sides[1]])
            halves = [np.split(states, 2) for states in both]
            x, y = ([half[side] for half in halves] for side in (0, 1))
        layer, found = best_layer(x, y, self._layers(model))
        assert found.value is not None
        return {"retrieval_at_1": found.value, "layer": float(layer), "chance": 1 / found.num}

    def _gaps(
        self, model: PretrainedModel, rows: Mapping[LanguagePair, _Rows]
    ) -> dict[LanguagePair, dict[str, float]]:
        """Return the figures of the gap of each pair; no figures of a model that is not masked."""
        asked = {pair: own.gap for pair, own in rows.items() if own.gap is not None}
        folds, found = self.settings.folds, dict[LanguagePair, GapSums]()
        if model.has_languages:
            for pair, own in asked.items():
                found[pair] = read_gap(model, own, (pair.first, pair.second), folds)
        elif asked:  # all together, for the same reason
            ends = np.cumsum([len(own.sentences) for own in asked.values()])[:-1]
            sums = read_gap(model, joined_rows(list(asked.values())), (None, None), folds)
            parts = zip(*(np.split(own, ends, axis=1) for own in sums), strict=True)
            found = {pair: GapSums(*own) for pair, own in zip(asked, parts, strict=True)}
        figures: dict[LanguagePair, dict[str, float]] = {pair: {} for pair in rows}
        for pair, own in asked.items():
            for name, estimate in gap_estimates(own, found[pair]).items():
                if estimate.value is not None and name in _GAP_NAMES:
                    figures[pair][_GAP_NAMES[name]] = estimate.value
        return figures

    def _layers(self, model: PretrainedModel) -> list[int]:
        num, wanted = num_layers(model), self.settings.layers
        if outside := [layer for layer in wanted or () if not 0 <= layer < num]:
            raise ConfigError(
                f"watch.layers has {outside[0]}: expected layers of the model, 0 to {num - 1}"
            )
        return list(range(num)) if wanted is None else wanted


def _rows(model: PretrainedModel, pair: LanguagePair, own: Pairs, most: int | None = None) -> _Rows:
    """Return the rows of the first ``most`` pairs of sentences, cut at the model's positions."""
    sides = own.first[:most], own.second[:most]
    one, two = (
        [model.tokenizer.wrap(ids) for ids in encode_lines(model, lines, language)[0]]
        for lines, language in zip(sides, pair, strict=True)
    )
    gap = None
    if kind_of(model) == "masked":
        first, second = (lines[::GAP_SHARE] for lines in sides)
        gap = gap_rows(model, first, second, (pair.first, pair.second))
        gap = gap._replace(places=[f"{pair}, {place}" for place in gap.places])
    return _Rows((one, two), gap)


def _swapped(own: Pairs) -> Pairs:
    return replace(own, first=own.second, second=own.first)

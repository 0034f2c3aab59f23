"""The models and texts of a report, and the states of each text in each model, computed once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from xlm.analysis.intervals import Estimate
from xlm.analysis.joined_pieces import pieces_of
from xlm.analysis.readers import InContext, MinimalPair, Scored
from xlm.analysis.retrieval import Pairs
from xlm.analysis.sections.links import AlignedText
from xlm.analysis.states import (
    Reading,
    States,
    longest,
    normalized_ids,
    num_layers,
    sentence_states,
)
from xlm.errors import ConfigError, XlmError
from xlm.languages import LanguagePair
from xlm.model.pretrained import PretrainedModel
from xlm.text.tokenizers.tokenizer import Ids, Tokenizer

MODEL = "model"
"""The name of the analyzed model."""
UNTRAINED = "untrained"
"""The name of the null from random weights."""
EMBEDDINGS = "embeddings"
"""The name of ``.vec`` files that were given without one."""


class Lacks(XlmError):
    """Raised for material without the texts that an analysis needs; the message names them."""


class Labeled(NamedTuple):
    """Texts with labels, by language."""

    texts: dict[str, list[str]]
    labels: dict[str, list[str]]


@dataclass
class Material:
    """All inputs of the analyses; empty ones were not given."""

    models: dict[str, PretrainedModel]
    """The analyzed model under ``model``, and those compared with it under their names."""
    fresh: dict[str, PretrainedModel] = field(default_factory=dict)
    """Random weights of each model's shape by its name, the same for models of one shape; empty if
    that null was not asked for."""
    parent: PretrainedModel | None = None
    texts: dict[str, list[str]] = field(default_factory=dict)
    """Lines by language."""
    train: dict[str, list[str]] = field(default_factory=dict)
    """Lines of training text by language, for overlap."""
    pairs: dict[LanguagePair, Pairs] = field(default_factory=dict)
    parallel: dict[str, list[str]] = field(default_factory=dict)
    """Lines by language, aligned as translations."""
    dictionaries: dict[LanguagePair, dict[str, list[str]]] = field(default_factory=dict)
    similarity: dict[LanguagePair, list[Scored]] = field(default_factory=dict)
    alignments: dict[LanguagePair, AlignedText] = field(default_factory=dict)
    wic: tuple[list[InContext], list[InContext]] | None = None
    """Training and development rows."""
    scws: list[InContext] = field(default_factory=list)
    english: str = "en"
    """The language of WiC and SCWS."""
    minimal_pairs: dict[str, list[MinimalPair]] = field(default_factory=dict)
    labeled: dict[str, Labeled] = field(default_factory=dict)
    scores: dict[str, dict[str, float]] = field(default_factory=dict)
    """Scores by language for each task or report."""
    indicators: dict[str, dict[str, float]] = field(default_factory=dict)
    """Numbers by language, such as distances, to compare scores with."""
    embeddings: dict[str, dict[str, Mapping[str, States]]] = field(default_factory=dict)
    """Vectors of words of ``.vec`` files, by the name of the set and by language."""
    distances: list[str] = field(default_factory=list)
    """Names of the indicators in which the smallest number is the best source."""
    files: dict[str, str] = field(default_factory=dict)
    """The file of a setting such as ``dictionaries.en-hi``, for messages."""
    stand_in: dict[str, str] = field(default_factory=dict)
    reading: Reading = field(default_factory=Reading)
    layers: list[int] | None = None
    seed: int = 0
    folder: Path | None = None
    """The folder for files of states."""
    _states: dict[tuple[str, str, int], list[States]] = field(default_factory=dict)
    """By the model's name, the text, and the model, as all random weights have one name."""
    _vocabularies: dict[str, Tokenizer] = field(default_factory=dict)
    """Pieces by their digest."""
    _cut: dict[tuple[str, str], str] = field(default_factory=dict)
    """A note about each text of which lines were cut."""
    _used: set[tuple[str, str]] = field(default_factory=set)
    """The texts whose states were used since ``notes`` was called."""

    @property
    def model(self) -> PretrainedModel:
        """The analyzed model."""
        return self.models[MODEL]

    @property
    def device(self) -> torch.device:
        """The device of the models."""
        return next(self.model.transformer.parameters()).device

    def named_models(self, *, fresh: bool = True) -> Iterator[tuple[str, PretrainedModel]]:
        """Yield every model by its name; random weights come before the models of their shape."""
        left = dict(self.models)
        while left:
            own = self.fresh.get(next(iter(left))) if fresh else None
            if own is not None:
                yield UNTRAINED, own
            for name in [name for name in left if own is None or self.fresh[name] is own]:
                yield name, left.pop(name)

    def spoken(self, model: PretrainedModel, language: str) -> str | None:
        """Return the name by which the model knows ``language``; None if it needs none.

        Raises ConfigError if the model does not know it and ``stand_in`` has no substitute.
        """
        name = self.stand_in.get(language, language)
        if model.tables:
            model.table_of(name)  # raises for a language that the model does not know
            return name
        if not model.has_languages:
            return name if model.tokenizer.rules else None
        if name not in model.languages:
            raise ConfigError(
                f"{model.source} does not know the language {language}: it knows "
                f"{', '.join(model.languages)}; name one of these in stand_in, such as "
                f"{{{language}: {next(iter(model.languages))}}}"
            )
        return name

    @cached_property
    def pieces(self) -> Tokenizer:
        """The analyzed model's pieces; those of several vocabularies under one numbering."""
        return self.vocabulary(self.model)

    def vocabulary(self, model: PretrainedModel) -> Tokenizer:
        """Return a model's pieces, the same object for models whose pieces are the same."""
        own = pieces_of(model)
        return self._vocabularies.setdefault(own.digest, own)

    def piece_rows(self, lines: Sequence[str], language: str, model: PretrainedModel) -> list[Ids]:
        """Return the ids of lines in the ``vocabulary`` of a model, cut at its positions."""
        tokenizer = self.vocabulary(model).in_language(self.spoken(model, language))
        most = longest(model)
        return [np.array(ids[:most], np.int64) for ids in normalized_ids(tokenizer, lines)]

    def spoken_pair(
        self, model: PretrainedModel, pair: LanguagePair
    ) -> tuple[str | None, str | None]:
        """Return ``spoken`` of both sides."""
        return self.spoken(model, pair.first), self.spoken(model, pair.second)

    def chosen_layers(self, model: PretrainedModel) -> list[int]:
        """Return the layers to analyze; raise ConfigError for one that does not exist."""
        num = num_layers(model)
        wanted = list(range(num)) if self.layers is None else self.layers
        if outside := [layer for layer in wanted if not 0 <= layer < num]:
            raise ConfigError(
                f"layers has {outside[0]}, but the layers of {model.source} are 0 to "
                f"{num - 1}: choose from these"
            )
        return list(dict.fromkeys(wanted))

    def check(self) -> None:
        """Raise ConfigError unless all models have the layers and know the languages."""
        pairs = [*self.pairs, *self.dictionaries, *self.similarity, *self.alignments]
        named = {*self.texts, *self.parallel, *self.minimal_pairs}
        named |= {language for pair in pairs for language in pair}
        named |= {language for own in self.labeled.values() for language in own.texts}
        if self.wic or self.scws:
            named.add(self.english)
        for model in self.models.values():
            self.chosen_layers(model)
            for language in sorted(named):
                self.spoken(model, language)
        if self.parent is not None:
            for language in self.texts:
                self.spoken(self.parent, language)

    def states(
        self, name: str, model: PretrainedModel, key: str, lines: Sequence[str], language: str
    ) -> list[States]:
        """Return the states of all layers of a text, computed once for each ``key`` and model."""
        at = (name, f"{key}/{language}")
        if (*at, id(model)) not in self._states:
            folder, cut = None, list[int]()
            if self.folder is not None:
                # numbered, as names that differ in other signs alone are written alike
                folder = self.folder / f"{len(self._states)}-{_safe(name)}-{_safe(at[1])}"
            self._states[*at, id(model)] = sentence_states(
                model, lines, self.spoken(model, language), self.reading, folder=folder,
                on_cut=cut.append,
            )  # fmt: skip
            if cut and name != UNTRAINED:
                self._cut[at] = (
                    f"{name}: {sum(cut):,} of {len(lines):,} lines ({key}, {language}) were cut at "
                    f"{longest(model)} pieces, the most that fit its positions"
                )
        self._used.add(at)
        return self._states[*at, id(model)]

    def place(self, setting: str) -> str:
        """Return the file of a setting for messages, or its name if it is not from a file."""
        return self.files.get(setting, setting)

    def notes(self) -> list[str]:
        """Return what a reader must know of the states used since the last call, and forget it."""
        found = [self._cut[at] for at in sorted(self._used & self._cut.keys())]
        self._used.clear()
        return found

    def both_sides(
        self, name: str, model: PretrainedModel, pair: LanguagePair
    ) -> tuple[list[States], list[States]]:
        """Return the states of both sides of a pair's sentences, by layer."""
        own = self.pairs[pair]
        return (
            self.states(name, model, f"pairs {pair}", own.first, pair.first),
            self.states(name, model, f"pairs {pair}, second side", own.second, pair.second),
        )


def _safe(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name)


def beside_untrained(
    own: Mapping[str, Estimate], fresh: Mapping[str, Estimate] | None
) -> dict[str, Estimate]:
    """Return estimates with those of random weights as a further null, measure by measure."""
    if fresh is None:
        return dict(own)
    return {
        name: value.beside(untrained=fresh[name].as_null()) if name in fresh else value
        for name, value in own.items()
    }

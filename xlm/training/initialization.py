"""First weights from another model, tensor by tensor, with an account of each.

The model's tables follow the source by name: languages, pieces of the vocabulary; a decoder that
starts from an encoder keeps its own cross-attention (XLM section 5.2; docs/fidelity.md, A6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from xlm.errors import ConfigError
from xlm.languages import match_languages
from xlm.model.language_tables import OF_VOCABULARY, OUTPUT_SYMBOLS, SYMBOLS
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Side, Transformer
from xlm.model.vocabulary import VocabularyMap, describe_difference, extend_vocabulary
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.training.head_values import take_heads
from xlm.training.initialization_report import InitializationReport
from xlm.training.learner import Learner

COMPUTED_WITH = (
    "positions", "rotary_base", "norm", "norm_kind", "first_norm", "embedding_scale", "window",
    "global_every", "local_rotary_base", "num_heads", "activation",
    "layer_norm_eps", "plain_first",
)  # fmt: skip
"""Fields of a shape that no tensor shows and that yet decide the result."""


@dataclass(frozen=True, kw_only=True)
class Initialization:
    """The weights that a new run starts from, and the differences that are allowed.

    A source is anything that ``xlm.load`` takes: a run's folder (its best checkpoint, averaged
    weights if there are any) or one of its checkpoints, a model directory, a file of the
    original, a folder of transformers or fairseq, a name on the Hugging Face hub.
    """

    encoder: str | None = None
    """Source of the encoder; without a decoder, this is the whole model."""
    decoder: str | None = None
    """Source of the decoder: the source's decoder, else its encoder (cross-attention stays new)."""
    only: Literal["all", "embeddings", "nothing"] = "all"
    """embeddings: only the word table, the EMB of the paper (section 5.2); the rest is new.
    nothing: only the shape and the languages, with random weights (the control)."""
    partial: bool = False
    """Take the tensors that fit and list the others, instead of stopping if a source differs."""
    new_languages: Literal["refuse", "random", "mean"] = "refuse"
    """Vectors of languages that the source lacks: none (stop with an error), random, or the mean of
    its vectors."""
    vocabulary: Literal["same", "extend"] = "same"
    """extend: pieces that the source lacks get the mean of the rows of their sub-pieces."""


def model_languages(
    settings: Initialization,
    sources: Sequence[PretrainedModel],
    data: Mapping[str, int],
    *,
    table: bool,
) -> dict[str, int]:
    """Return each language's id in a model that starts from ``sources`` and trains on ``data``.

    The first source's languages keep their ids, also those that the data lacks; then come those
    of a second source, then the data's own if ``new_languages`` allows them. If no source has a
    ``table`` of languages, or the model has none, the ids are the data's. Raises ConfigError naming
    the languages that no source knows.
    """
    having = [source for source in sources if source.has_languages]
    if not table or not having or settings.only == "embeddings":
        return dict(data)
    ids: dict[str, int] = {}
    for languages in (source.languages for source in having):
        for name in sorted(languages, key=lambda name: languages[name]):
            ids.setdefault(name, len(ids))
    if settings.new_languages == "refuse":
        match_languages(
            ids, data, where=f"initialize: {having[0].source}",
            otherwise="prepare the data without it, or set initialize.new_languages to mean or "
            "random",
        )  # fmt: skip
    for name in data:
        ids.setdefault(name, len(ids))
    return ids


def initialize(
    learner: Learner,
    settings: Initialization,
    *,
    encoder: PretrainedModel | None,
    decoder: PretrainedModel | None,
    tokenizer: Tokenizer,
    languages: Mapping[str, int],
) -> InitializationReport:
    """Fill the learner in place and return the fate of each tensor.

    ``tokenizer`` and ``languages`` are the learner's. Nothing is changed if it raises: ConfigError
    for a source that does not fit (unless ``partial``), for another vocabulary (unless it is to be
    extended), for a language that is not known.
    """
    report = InitializationReport()
    if settings.only == "nothing":
        report.left = dict.fromkeys(learner.state_dict(), "initialize.only is nothing")
        return report
    values: dict[str, Tensor] = {}
    taken: dict[int, set[str]] = {}
    for side, source in _sides(learner, settings, encoder, decoder):
        stack = getattr(learner.model, side)
        if source is None:
            reason = f"initialize.{side} is not given"
            names = _without_tables(stack.state_dict())
            report.left.update({f"model.{side}.{name}": reason for name in names})
            continue
        filling = _Filling(settings, source, learner.model, side, tokenizer, languages)
        filling.fill()
        filling.account(report, values)
        taken.setdefault(id(source), set()).update(filling.taken)
    take_heads(learner, settings.only == "all", encoder, report, values)
    _list_unused([encoder, decoder], taken, settings, report)
    encoder_stack = learner.model.encoder
    with encoder_stack.symbols_in_rows(learner.model.roles):
        learner.load_state_dict(values, strict=False)
    return report


def _sides(
    learner: Learner,
    settings: Initialization,
    encoder: PretrainedModel | None,
    decoder: PretrainedModel | None,
) -> list[tuple[Side, PretrainedModel | None]]:
    if decoder is not None and learner.model.decoder is None:
        raise ConfigError(
            f"initialize.decoder is {settings.decoder}, but the model has no decoder: set "
            "model.num_decoder_layers, or leave it out"
        )
    if encoder is None and learner.model.config.shared_words:
        raise ConfigError(
            f"initialize.decoder is {settings.decoder}, but the decoder shares the encoder's "
            "words (model.shared_words true): give initialize.encoder too, or set "
            "shared_words to false"
        )
    sides: list[tuple[Side, PretrainedModel | None]] = [("encoder", encoder)]
    return sides + ([("decoder", decoder)] if learner.model.decoder is not None else [])


def _tensors(model: Transformer, side: Side) -> dict[str, Tensor]:
    """Return the tensors of a side by name, a table of words that is the other side's too."""
    stack = getattr(model, side)
    return {"words.weight": stack.words.weight.detach(), **_without_tables(stack.state_dict())}


def _without_tables(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a side without further tables, and symbols, which lie in the words."""
    apart = ("tables.", SYMBOLS, OUTPUT_SYMBOLS)
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(apart)}


class _Filling:
    """One side of the model from one side of a source."""

    def __init__(
        self,
        settings: Initialization,
        source: PretrainedModel,
        model: Transformer,
        side: Side,
        tokenizer: Tokenizer,
        languages: Mapping[str, int],
    ) -> None:
        self.settings, self.pretrained, self.side = settings, source, side
        self.tokenizer, self.languages = tokenizer, languages
        there = source.transformer
        self.there: Side = "decoder" if side == "decoder" and there.decoder else "encoder"
        self.theirs = _tensors(there, self.there)
        self.own: dict[str, Tensor] = _without_tables(getattr(model, side).state_dict())
        self.values: dict[str, Tensor] = {}
        self.copied: dict[str, str] = {}
        self.left: dict[str, str] = {}
        self.misfits: dict[str, str] = {}
        self.taken: set[str] = set()
        self.notes: list[str] = []
        self._config = model.config

    def fill(self) -> None:
        """Decide for each tensor; raise ConfigError as ``initialize`` does."""
        vocabulary = self._vocabulary()
        if self.settings.only == "all":
            self._compare_settings()
        for name, own in self.own.items():
            self._one(name, own, vocabulary)
        if self.settings.only == "all":
            for name in self.theirs.keys() - self.own.keys():
                if name == "words.weight" and not self._has_words_of_its_own():
                    continue  # the encoder's table, which is this side's too
                self.misfits[name] = f"{list(self.theirs[name].shape)} there, not in the model"
        if self.misfits and not self.settings.partial:
            first, reason = next(iter(self.misfits.items()))
            raise ConfigError(
                f"initialize: {self.pretrained.source} does not fit the recipe's model: "
                f"{len(self.misfits)} tensors or settings differ, the first is "
                f"{self.side}.{first} ({reason}); leave model out to take the source's "
                "shape, or set initialize.partial"
            )

    def account(self, report: InitializationReport, values: dict[str, Tensor]) -> None:
        """Add the decisions to the report of the whole model."""
        here = f"model.{self.side}."
        values.update({here + name: value for name, value in self.values.items()})
        report.copied.update({here + name: there for name, there in self.copied.items()})
        report.left.update({here + name: reason for name, reason in self.left.items()})
        report.notes.append(f"{self.side} from the {self.there} of {self.pretrained.source}")
        report.notes.extend(f"{self.side}: {note}" for note in self.notes)
        lost = self.pretrained.extra.get("lost", [])
        report.notes.extend(
            f"{self.side}: reading {self.pretrained.source}: {line}" for line in lost
        )

    def _has_words_of_its_own(self) -> bool:
        """Return whether this side of the source has another table of words than its encoder."""
        there = self.pretrained.transformer
        return self.there == "decoder" and not there.config.shared_words

    def _one(self, name: str, own: Tensor, vocabulary: VocabularyMap | None) -> None:
        origin = name
        if name == "output_weight" and name not in self.theirs:
            origin = "words.weight"  # if the two are tied, that is the output matrix
        if self.settings.only == "embeddings" and name not in ("words.weight", "output_weight"):
            self.left[name] = "initialize.only is embeddings"
            return
        if origin not in self.theirs:
            self._missing(name, own)
            return
        value = self.theirs[origin]
        if name in OF_VOCABULARY and vocabulary is not None and own.shape[1:] == value.shape[1:]:
            value = vocabulary.apply(value)
        elif name == "languages.weight" and own.shape[1:] == value.shape[1:]:
            value = self._languages(own, value)
        elif name == "positions.weight" and own.shape[1:] == value.shape[1:]:
            value = self._positions(own, value)
        if value.shape != own.shape:
            self._misfit(name, f"{list(value.shape)} there, {list(own.shape)} here")
            return
        self.values[name] = value
        self.copied[name] = f"{self.there}.{origin}"
        self.taken.add(f"{self.there}.{origin}")

    def _missing(self, name: str, own: Tensor) -> None:
        """Decide for a tensor that the source does not have."""
        if ".cross_attention" in name and self.there == "encoder":
            self.left[name] = "cross-attention, which the encoder of the source has not"
        elif name == "languages.weight" and self.settings.new_languages != "refuse":
            if self.settings.new_languages == "mean":
                self.values[name] = torch.zeros_like(own)
                self.notes.append("languages: the source tells none apart: rows of zeros")
            self.left[name] = "the source tells no languages apart"
        else:
            self._misfit(name, f"not in the source, {list(own.shape)} here")

    def _misfit(self, name: str, reason: str) -> None:
        self.misfits[name] = self.left[name] = reason

    def _compare_settings(self) -> None:
        there = self.pretrained.transformer.config
        for name in COMPUTED_WITH:
            mine, other = getattr(self._config, name), getattr(there, name)
            if mine != other:
                self.misfits[name] = f"{other} there, {mine} here"
                self.notes.append(f"{name} is {other} in the source, {mine} here")

    def _vocabulary(self) -> VocabularyMap | None:
        """Return the rows that pieces are copied from; None if the vocabularies are the same."""
        there = self.pretrained.tokenizer
        if there.digest == self.tokenizer.digest:
            return None
        if self.settings.vocabulary == "same":
            raise ConfigError(
                f"initialize: {self.pretrained.source} has a different vocabulary from the "
                f"data: {describe_difference(self.tokenizer, there)}; prepare the data with "
                "vocabulary.folder set to the source, or set initialize.vocabulary to extend"
            )
        carried = extend_vocabulary(self.tokenizer, there)
        self.notes.append(carried.describe())
        return carried

    def _languages(self, own: Tensor, table: Tensor) -> Tensor:
        """Fill rows by language name; those of new languages as ``new_languages`` says."""
        there = self.pretrained.languages
        new = [name for name in self.languages if name not in there]
        rule = self.settings.new_languages
        if rule == "refuse":
            match_languages(
                there, new, where=f"initialize: {self.pretrained.source}",
                otherwise="set initialize.new_languages to mean or random",
            )  # fmt: skip
        rows = own.detach().clone()
        for name, at in self.languages.items():
            if name in there:
                rows[at] = table[there[name]]
            elif rule == "mean":
                rows[at] = table.mean(0)
        if new:
            how = "the mean of the others" if rule == "mean" else "random rows"
            self.notes.append(f"new languages {', '.join(new)}: {how}")
        return rows

    def _positions(self, own: Tensor, table: Tensor) -> Tensor:
        """Take the first rows of a longer table; all of a shorter one, if ``partial`` is set."""
        if len(table) > len(own):
            self.notes.append(f"positions: the first {len(own)} of the source's {len(table)} rows")
            return table[: len(own)]
        if len(table) < len(own) and self.settings.partial:
            self.notes.append(f"positions: {len(table)} rows of {len(own)}, the others stay random")
            return torch.cat([table.to(own), own[len(table) :]])
        return table


def _list_unused(
    sources: Sequence[PretrainedModel | None],
    taken: Mapping[int, set[str]],
    settings: Initialization,
    report: InitializationReport,
) -> None:
    copied = set(report.copied.values())
    for source in {id(one): one for one in sources if one is not None}.values():
        for name in source.transformer.state_dict():
            if name.startswith("encoder.tables."):
                continue  # see ``start_tables``
            if name not in taken.get(id(source), ()):
                report.unused[f"{source.source}: {name}"] = _why_unused(name, settings)
        for name in source.heads:
            if name not in copied or source is not sources[0]:
                report.unused[f"{source.source}: {name}"] = "no head of that name and shape"


def _why_unused(name: str, settings: Initialization) -> str:
    if settings.only == "embeddings":
        return "initialize.only is embeddings"
    if name.startswith("decoder.") and settings.decoder is None:
        return "initialize.decoder is not given"
    return "nothing in the model takes it"

"""The config tree, and how each part is built from it: the only file that knows everything."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from xlm.config.cli import read, to_yaml
from xlm.config.validation import check_types
from xlm.data.corpora import Corpora
from xlm.data.mixture import Mixture
from xlm.data.streams import Stream
from xlm.errors import ConfigError
from xlm.metrics.scores import rises
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective

# Imported so that a recipe may name them without their module.
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.causal import CausalLM, CausalTLM
from xlm.objectives.denoising import Denoising
from xlm.objectives.masked import MaskedLM
from xlm.objectives.translation import Translation
from xlm.storage import make_folder, write_whole
from xlm.tasks.answering import Answering
from xlm.tasks.classification import Classification
from xlm.tasks.parsing import Parsing
from xlm.tasks.ranking import Ranking
from xlm.tasks.regression import Regression
from xlm.tasks.tagging import Tagging
from xlm.training.initialization import Initialization
from xlm.training.learner import Learner
from xlm.training.optimizers.config import Optimizer
from xlm.training.precision import Precision
from xlm.training.schedule import Schedule

__all__ = [
    "Answering", "BackTranslation", "CausalLM", "CausalTLM", "Classification", "Denoising",
    "Initialization", "MaskedLM", "ModelConfig", "Optimizer", "Parsing", "Ranking", "Regression",
    "Run", "Schedule", "Stopping", "Tagging", "Translation",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """Which held-out score is watched, and when to give up.

    The score is the mean over the named streams: the perplexity averaged over languages, as in the
    paper (section 5.1).
    """

    metric: str = "perplexity"
    """A figure of the evaluation: perplexity, nats, accuracy, f1, las ..."""
    streams: list[str] = field(default_factory=list)
    """Stream ids such as mlm/ne; empty: those of single languages, else those of pairs."""
    from_step: int = 0
    """Evaluations before this step are shown but neither best nor counted (staged mixtures)."""
    patience: int | None = None
    """Stop after so many evaluations without a new best; null: never."""
    halve: bool = False
    """Halve the learning rate at each evaluation without a new best (mBERT study, section 5)."""
    lowest_lr: float = 0.0
    """With halve: stop when the rate falls below this (mBERT study: 1e-5)."""

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"stopping.patience must be at least 1: found {self.patience}")
        if self.lowest_lr and not self.halve:
            raise ConfigError(
                f"stopping.lowest_lr is {self.lowest_lr}, which goes with stopping.halve: set both"
            )


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Fields of the model's shape that cost no weights, and so may change in fine-tuning."""

    dropout: float | None = None
    """The model's dropout (null: as its shape has it)."""
    attention_dropout: float | None = None
    """The model's dropout of attention weights (null: as its shape has it)."""
    embedding_noise: float | None = None
    """The model's noise on embeddings in training (null: as its shape has it)."""

    def applied(self, shape: ModelConfig) -> ModelConfig:
        """The shape with these changes."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(shape, **given) if given else shape


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train a model on prepared corpora by the objectives that are listed."""

    data: str
    """The folder that `xlm prepare` wrote."""
    folder: str
    """Where config, metrics, checkpoints and curves go; an interrupted run goes on from here."""
    objectives: dict[str, Objective]
    """What is trained: a name (of its head, metrics and streams) and a class with its fields."""
    model: ModelConfig | None = None
    """The shape of the model (--model.help lists its fields); null: that of initialize.encoder."""
    changes: Changes = field(default_factory=Changes)
    """What of the model's shape is changed, most of all of one that is initialize.encoder's."""
    steps: int = 1000
    """Updates; a skipped one counts."""
    seed: int = 0
    """Keys everything random."""
    group_size: int = 8
    """Micro-batches of an objective in one update, over all ranks; the world size divides it."""
    order: Literal["rotate", "together", "code"] = "rotate"
    """rotate: an update is of one objective, in turn; together: of all objectives at once; code:
    in turn, as many updates in a row as an objective has languages or pairs, at most 5."""
    one_language_a_group: bool = False
    """Draw the language once a group, not once a micro-batch."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """The update rule."""
    schedule: Schedule = field(default_factory=Schedule)
    """The learning rate, a function of the step."""
    precision: Precision = "fp32"
    """fp32, bf16, or fp16 with a dynamic loss scale; parameters stay float32."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the parameters; float64 is for exact comparisons."""
    average: float = 0.0
    """Decay of the exponentially averaged weights that are evaluated; 0: none are kept."""
    evaluate_averaged: bool = True
    """Measure the averaged weights where some are kept; false: the others, and both at the end."""
    stopping: Stopping = field(default_factory=Stopping)
    """Which score is watched, and early stopping."""
    report_every: int = 50
    """Steps between two lines of the report."""
    evaluate_every: int = 500
    """Steps between two evaluations on held-out text; 0: none."""
    evaluate_test: bool = False
    """Measure the test split at each evaluation too: shown and recorded, never chosen by."""
    save_every: int = 500
    """Steps between two checkpoints; the last step is always saved."""
    keep_last: int = 2
    """Checkpoints that are kept, beside the best."""
    initialize: Initialization | None = None
    """The weights to start from (--initialize.help lists its fields); null: random ones."""
    frozen_layers: int | None = None
    """Layers of the encoder, from the bottom, that stay as they are, embeddings included (0: those
    alone; null: all is trained)."""
    tensorboard: bool = True
    """Write TensorBoard files beside metrics.jsonl."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA where there is a GPU."""
    compile: bool = False
    """Compile the model with torch.compile (pays on CUDA, not on CPUs)."""
    tf32: bool = False
    """Let float32 products on CUDA round to TF32."""
    deterministic: bool = False
    """On CUDA, use kernels that repeat bit for bit."""

    def __post_init__(self) -> None:
        check_types(self)
        self._check_start()
        if not self.objectives:
            raise ConfigError("objectives is empty: name at least one, such as mlm: MaskedLM")
        for name in ("steps", "group_size", "report_every", "keep_last"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        for name in ("evaluate_every", "save_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0 (never): found {getattr(self, name)}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be in [0, 2**63): found {self.seed}")
        for name, objective in self.objectives.items():
            try:
                objective.check(self.model, compiled=self.compile)
            except ConfigError as error:
                raise ConfigError(f"objectives.{name}.{error}") from None
        if self.frozen_layers is not None and self.frozen_layers < 0:
            raise ConfigError(f"frozen_layers must be at least 0: found {self.frozen_layers}")
        if not 0 <= self.average < 1:
            raise ConfigError(f"average must be in [0, 1): found {self.average}")
        if self.dtype == "float64" and self.precision != "fp32":
            raise ConfigError(f"dtype float64 goes with precision fp32: found {self.precision}")

    def _check_start(self) -> None:
        start = self.initialize
        if start is not None and start.encoder is None and start.decoder is None:
            raise ConfigError(
                "initialize names no source: give initialize.encoder, or initialize.decoder too"
            )
        if self.model is None and (start is None or start.encoder is None):
            raise ConfigError(
                "model missing, and there is no initialize.encoder whose shape it could take: give "
                "one of the two, such as --model.preset=tiny"
            )

    @property
    def shape(self) -> ModelConfig:
        """The model's shape, once it is known: before, it is the shape of ``initialize.encoder``'s.

        Raises ConfigError where it is not known yet.
        """
        if self.model is None:
            raise ConfigError("the model's shape is that of initialize.encoder, not read yet")
        return self.model


def read_run(path: Path | str) -> Run:
    """The run of a recipe, or of the resolved config in a run's folder."""
    path = Path(path)
    return read(Run, path / "config.yaml" if path.is_dir() else path)


def write_run(run: Run, folder: Path) -> str:
    """Write the resolved config, a valid recipe, into ``folder``; returns its text.

    Raises ConfigError where the folder cannot be written.
    """
    text = to_yaml(run)
    make_folder(folder, error=ConfigError)
    write_whole(folder / "config.yaml", text, error=ConfigError)
    return text


def build_learner(run: Run, corpora: Corpora) -> Learner:
    """Model and heads with initial weights that depend on the seed alone."""
    torch.manual_seed(run.seed)
    model = Transformer(
        run.shape,
        vocab_size=corpora.tokenizer.vocab_size,
        num_languages=len(corpora.languages),
        pad_id=corpora.tokenizer.pad_id,
    )
    learner = Learner(model, run.objectives, run.shape)
    return learner.to(getattr(torch, run.dtype))


def freeze(learner: Learner, num_layers: int | None) -> None:
    """Freeze the embeddings and the lowest ``num_layers`` layers of the encoder (None: nothing).

    Raises ConfigError where the encoder has fewer layers.
    """
    if num_layers is None:
        return
    encoder = learner.model.encoder
    if num_layers > len(encoder.layers):
        raise ConfigError(
            f"frozen_layers is {num_layers}: the encoder has {len(encoder.layers)} layers"
        )
    tables = (encoder.words, encoder.positions, encoder.languages, encoder.segments)
    for module in (*tables, encoder.embedding_norm, *encoder.layers[:num_layers]):
        if module is not None:
            module.requires_grad_(False)


def compile_stacks(model: Transformer) -> None:
    """Compile encoder and decoder, one graph a shape; gathering and projecting cells stay outside.

    A padded length comes with two numbers of rows (a bucket's last batch is shorter), and training
    and evaluation differ: torch's own limit of 8 graphs would turn to eager mode with a warning.
    """
    settings = torch._dynamo.config
    name = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"
    setattr(settings, name, max(getattr(settings, name), 128))
    for stack in (model.encoder, model.decoder):
        if stack is not None:
            stack.compile(dynamic=False)


def training_streams(run: Run, corpora: Corpora) -> dict[str, list[Stream]]:
    """What every objective draws from."""
    return {
        name: objective.streams(name, corpora, seed=run.seed)
        for name, objective in run.objectives.items()
    }


def held_out_streams(run: Run, corpora: Corpora, split: str) -> dict[str, list[Stream]]:
    """What every objective is evaluated on: those of its languages that have such a split."""
    return {
        name: objective.streams(name, corpora, seed=run.seed, split=split)
        for name, objective in run.objectives.items()
    }


def build_mixture(run: Run, streams: Mapping[str, Sequence[Stream]]) -> Mixture:
    """Which micro-batches make step s."""
    return Mixture(
        {name: list(own) for name, own in streams.items()},
        {name: objective.sampling for name, objective in run.objectives.items()},
        {name: objective.weight for name, objective in run.objectives.items()},
        group_size=run.group_size,
        order=run.order,
        one_language_a_group=run.one_language_a_group,
        seed=run.seed,
    )


UNWATCHED = ("targets", "unigram_perplexity")
"""Figures that do not depend on the model."""


def check_stopping(stopping: Stopping, stream_ids: Iterable[str]) -> None:
    """Raise ConfigError where a stream that is watched is none of those evaluated."""
    evaluated = list(stream_ids)
    unknown = [name for name in stopping.streams if name not in evaluated]
    if unknown:
        raise ConfigError(
            f"stopping.streams names {', '.join(unknown)}: evaluated are {', '.join(evaluated)}"
        )


def stopping_score(
    stopping: Stopping, figures: Mapping[str, Mapping[str, float]]
) -> tuple[float, list[str]]:
    """The watched score (infinite where it is no number) and the streams that it averages.

    The lower, the better: a figure that rises with the model enters with its sign changed.
    Raises ConfigError where a named stream or the metric does not exist.
    """
    check_stopping(stopping, figures)
    having = [name for name, own in figures.items() if stopping.metric in own]
    single = [name for name in having if "-" not in name]
    names = stopping.streams or single or having
    if stopping.metric in UNWATCHED:
        raise ConfigError(
            f"stopping.metric {stopping.metric!r} does not depend on the model: give perplexity, "
            "nats or accuracy"
        )
    if not names or not set(names) <= set(having):
        raise ConfigError(
            f"stopping.metric {stopping.metric!r}: not a figure of {', '.join(names or figures)}, "
            f"which have {', '.join(sorted({name for own in figures.values() for name in own}))}"
        )
    score = sum(figures[name][stopping.metric] for name in names) / len(names)
    if rises(stopping.metric):
        score = -score
    return math.inf if math.isnan(score) else score, names


UNTRAINED = {
    "data", "folder", "steps", "stopping", "report_every", "evaluate_every", "save_every",
    "evaluate_test", "keep_last", "initialize", "tensorboard", "device",
}  # fmt: skip
"""Fields that may change when a run goes on: they do not change what an update does."""


def differences(saved: str, run: Run, free: Set[str] | None = None) -> list[str]:
    """What of ``saved`` (a resolved config) ``run`` trains otherwise: ``field now (was then)``.

    ``free`` are the fields that are not compared (None: those of UNTRAINED).
    """
    before, now = _leaves(yaml.safe_load(saved)), _leaves(yaml.safe_load(to_yaml(run)))
    if free is None:
        free = UNTRAINED - ({"steps"} if run.schedule.needs_total else set())
    return [
        f"{name} {now.get(name, 'absent')} (was {before.get(name, 'absent')})"
        for name in {**before, **now}
        if name.split(".")[0] not in free
        and now.get(name, "absent") != before.get(name, "absent")
        # A total that is given says where the schedule ends, whatever the number of steps.
        and not (name == "steps" and run.schedule.total_steps is not None)
    ]


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Every value below the mappings of ``tree``, by its dotted path."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {
        name: value
        for key, below in tree.items()
        for name, value in _leaves(below, f"{path}.{key}" if path else key).items()
    }

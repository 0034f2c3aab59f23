"""The settings of a run, and their form as a recipe (YAML)."""

from __future__ import annotations

import tempfile
from collections.abc import Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from xlm.config import strict_yaml
from xlm.config.cli import read, to_yaml
from xlm.config.hints import check_types
from xlm.config.trust import Trust
from xlm.config.upgrade import upgraded
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.objective import Objective
from xlm.objectives import (
    BackTranslation,
    CausalLM,
    CausalTLM,
    Denoising,
    Infilling,
    MaskedLM,
    NextSentence,
    Translation,
)
from xlm.run.convergence import Guard
from xlm.run.language_tables import LanguageTable, check_tables
from xlm.run.stopping import Stopping
from xlm.run.watched import WatchedPairs
from xlm.storage import make_folder, write_whole
from xlm.tasks import Answering, Classification, Parsing, Ranking, Regression, Tagging
from xlm.training.distributed.sharding import Sharding, check_sharding
from xlm.training.initialization import Initialization
from xlm.training.optimizers.config import Optimizer
from xlm.training.precision import PrecisionSetting
from xlm.training.schedule import Schedule

__all__ = [
    "Answering", "BackTranslation", "CausalLM", "CausalTLM", "Classification", "Denoising",
    "Infilling", "Initialization", "MaskedLM", "ModelConfig", "NextSentence", "Optimizer",
    "Parsing", "Ranking", "Regression", "Run", "Schedule", "Stopping", "Tagging", "Translation",
]  # fmt: skip
# Imported here, the objectives and tasks are classes that a recipe may name without their module.


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Fields of the model's shape that cost no weights, and so may change in fine-tuning."""

    dropout: float | None = None
    """Dropout of the model (null: unchanged)."""
    attention_dropout: float | None = None
    """Dropout of attention weights (null: unchanged)."""
    embedding_noise: float | None = None
    """Noise on embeddings in training (null: unchanged)."""

    def applied(self, shape: ModelConfig) -> ModelConfig:
        """Return the shape with these changes."""
        given = {name: value for name, value in vars(self).items() if value is not None}
        return replace(shape, **given) if given else shape


@dataclass(frozen=True, kw_only=True)
class Run:
    """Train a model on prepared corpora by the objectives that are listed."""

    data: str | None
    """The folder that `xlm prepare` wrote; null: only tables have text, and the first vocabulary is
    that of initialize.encoder."""
    folder: str
    """Folder of config, metrics, checkpoints and curves; an interrupted run resumes from it."""
    objectives: dict[str, Objective]
    """The objectives: for each a name (of its head, metrics and streams) and a class with its
    fields."""
    tables: dict[str, LanguageTable] = field(default_factory=dict)
    """Languages with a separate vocabulary, by name; not for models with a decoder."""
    model: ModelConfig | None = None
    """The shape of the model (--model.help lists its fields); null: that of initialize.encoder."""
    changes: Changes = field(default_factory=Changes)
    """Changes to the model's shape, mostly to that of initialize.encoder."""
    steps: int = 1000
    """Number of updates, skipped ones included."""
    seed: int = 0
    """The seed of everything random."""
    group_size: int = 8
    """Micro-batches of an objective in one update, over all ranks. If the number of processes does
    not divide it, some are idle in the last round."""
    order: Literal["rotate", "together", "original"] = "rotate"
    """rotate: each update belongs to one objective, in turn. together: each update is of all
    objectives. original: in turn, each objective with as many consecutive updates as it has
    languages or pairs, at most 5."""
    one_language_a_group: bool = False
    """Draw the language once per group instead of once per micro-batch."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """The update rule."""
    schedule: Schedule = field(default_factory=Schedule)
    """The learning rate as a function of the step."""
    precision: PrecisionSetting = "fp32"
    """fp32, bf16, fp16 with a dynamic loss scale, or auto: bf16 if it is faster on the device, else
    fp32 (a resumed run keeps its own). Parameters stay float32."""
    dtype: Literal["float32", "float64"] = "float32"
    """Type of the parameters; float64 is meant for exact comparisons."""
    skip_spikes: float = 0.0
    """Skip an update whose gradient norm is more than so many times its recent mean; 0: never."""
    average: float = 0.0
    """Decay of exponentially averaged weights, which are evaluated; 0: no averaging."""
    evaluate_averaged: bool = True
    """Evaluate the averaged weights if there are any; false: evaluate the others, and both at the
    end."""
    stopping: Stopping = field(default_factory=Stopping)
    """The score that is watched, and early stopping."""
    guard: Guard | None = None
    """Signs that further tables have converged, measured at each evaluation; null: not measured."""
    signs: bool = False
    """Record in the model the signs of a language it learned (gain, order, moments of states), with
    which xlm add-language compares a new one, so that no text of the old language is needed."""
    watch: WatchedPairs = field(default_factory=WatchedPairs)
    """Held-out pairs whose translations are searched for at each evaluation."""
    report_every: int = 50
    """Steps between two lines of the report."""
    evaluate_every: int = 500
    """Steps between two evaluations on held-out text; 0: none."""
    evaluation_tokens: int = 0
    """Cells (padding included) in a micro-batch of held-out text, on one process: more use a GPU
    better. Masks are drawn by micro-batch, so other ones are drawn; 0: as many as in training."""
    evaluate_test: bool = False
    """Also measure the test split at each evaluation; it is shown and recorded, but never used to
    choose a model."""
    save_every: int = 500
    """Steps between two checkpoints; the last step is always saved."""
    save_in_background: bool | Literal["auto"] = "auto"
    """Go on training while a thread writes a checkpoint from copies of the tensors, which take as
    much memory again on the CPU. auto: on CUDA."""
    keep_last: int = 2
    """Number of checkpoints that are kept besides the best."""
    keep_best: list[str] = field(default_factory=list)
    """Figures, such as mlm/ne/perplexity, whose best checkpoints are kept as well, beside the best
    of stopping."""
    keep_every: int = 0
    """Checkpoints at multiples of so many steps are kept as well; 0: none."""
    hang_seconds: int = 300
    """Seconds for which one of several processes may keep the others waiting before all end; each
    then prints its stack, and the number of the missing process (raise it if compilation takes
    long)."""
    stop_status: int = 0
    """Exit status of xlm pretrain if a signal stopped the run, which is saved: 75 tells a scheduler
    to start it again (torchrun has statuses of its own)."""
    restart: bool = False
    """Start again at step 0 if there are checkpoints but none of them can be read: checkpoints and
    metrics are put aside. Otherwise such a run stops with an error."""
    initialize: Initialization | None = None
    """Weights to start from (--initialize.help lists its fields); null: random ones."""
    frozen_layers: int | None = None
    """Number of layers, from the bottom, frozen with the embeddings (0: the embeddings alone; null:
    train everything)."""
    frozen: list[str] = field(default_factory=list)
    """Parts that are not trained: body (layers, norms, segments, output transform), words (of the
    first vocabulary, with its output and the language vectors), positions, symbols (begin, end,
    padding, unknown, mask), heads, or the name of a table."""
    word_vectors: bool = False
    """Start the words of the first vocabulary from skip-gram vectors of its pieces, learned on the
    training text (MonoTrans, section 3.1, CLWE, which freezes them: frozen [words])."""
    forget_every: int = 0
    """Number of updates after which the words of all trained tables are reset, except special
    symbols, so that other languages are learned faster later (active forgetting, Chen et al. 2023:
    1000); 0: never."""
    wandb: str | None = None
    """A project of Weights & Biases to write to as well (the extra wandb); null: none."""
    tensorboard: bool = True
    """Write TensorBoard files beside metrics.jsonl."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the layers and the loss with torch.compile. auto: on CUDA, in runs of at least 2,000
    updates (a resumed run keeps its own)."""
    recompute_activations: bool = False
    """Recompute the activations of each layer in the backward pass instead of keeping them: much
    less memory for about a third more time, the same gradients."""
    gradient_sums: Literal["fp32", "bf16"] = "fp32"
    """Type in which gradients travel between processes and are added: bf16 halves the traffic of
    slow networks, with rounding that grows with their number."""
    tf32: bool = False
    """Let float32 products on CUDA round to TF32."""
    deterministic: bool = False
    """On CUDA, use kernels that give the same bits every time."""
    sharding: Sharding = "none"
    """Rows of parameters, gradients and moments on each of several processes (FSDP2), for a model
    that fits no card. none: each process has all of them; full: rows over all processes; hybrid:
    over those of a machine, so that each machine has all of them."""

    def __post_init__(self) -> None:
        check_types(self)
        self._check_start()
        check_tables(self.tables, self.frozen)
        if not self.objectives:
            raise ConfigError("objectives is empty: name at least one, such as mlm: MaskedLM")
        for name in ("steps", "group_size", "report_every", "keep_last", "hang_seconds"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1: found {getattr(self, name)}")
        for name in ("evaluate_every", "evaluation_tokens", "save_every", "keep_every"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} must be at least 0: found {getattr(self, name)}")
        if self.keep_best and not self.evaluate_every:
            raise ConfigError(
                f"keep_best names {', '.join(self.keep_best)}, but evaluate_every is 0: nothing is "
                "measured; set both"
            )
        if not 0 <= self.stop_status <= 125:
            raise ConfigError(f"stop_status must be in [0, 125]: found {self.stop_status}")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"seed must be in [0, 2**63): found {self.seed}")
        for name, objective in self.objectives.items():
            try:
                objective.check(self.model, compiled=self.compile is True)
            except ConfigError as error:
                raise ConfigError(f"objectives.{name}.{error}") from None
        if self.frozen_layers is not None and self.frozen_layers < 0:
            raise ConfigError(f"frozen_layers must be at least 0: found {self.frozen_layers}")
        if self.skip_spikes and not self.skip_spikes > 1:
            raise ConfigError(
                f"skip_spikes must be above 1, or 0 (never): found {self.skip_spikes}"
            )
        if not 0 <= self.average < 1:
            raise ConfigError(f"average must be in [0, 1): found {self.average}")
        if self.forget_every < 0:
            raise ConfigError(f"forget_every must be at least 0 (never): found {self.forget_every}")
        if self.forget_every and self.average:
            raise ConfigError(
                f"forget_every is {self.forget_every} and average is {self.average}: "
                "averaging words that are reset is meaningless; leave one of the two out"
            )
        self._check_sharding()
        for name in ("precision", "gradient_sums"):
            if self.dtype == "float64" and (found := getattr(self, name)) != "fp32":
                raise ConfigError(f"dtype float64 needs {name} fp32: found {found}")

    def _check_sharding(self) -> None:
        check_sharding(self.sharding, optimizer=self.optimizer.kind, precision=self.precision)
        if self.sharding != "none" and (self.tables or self.forget_every):
            what = "tables" if self.tables else "forget_every"
            raise ConfigError(
                f"sharding {self.sharding} with {what}, which changes rows of words that a process "
                "may not have: leave one of the two out"
            )

    def _check_start(self) -> None:
        start = self.initialize
        if self.data is None and (start is None or start.encoder is None):
            raise ConfigError(
                "data is null, but there is no initialize.encoder whose vocabulary would "
                "come first: give one of the two"
            )
        if self.word_vectors and (start is not None or self.data is None):
            raise ConfigError(
                "word_vectors starts words of new text (data), but here the words come from "
                "initialize: leave one of the two out"
            )
        if start is not None and start.encoder is None and start.decoder is None:
            raise ConfigError(
                "initialize has no source: give initialize.encoder, initialize.decoder or both"
            )
        if self.model is None and (start is None or start.encoder is None):
            raise ConfigError(
                "model is missing, and there is no initialize.encoder whose shape it could "
                "take: give one of the two, such as --model.preset=tiny"
            )

    @property
    def shape(self) -> ModelConfig:
        """The model's shape, once it is known: before, it is the shape of ``initialize.encoder``'s.

        Raises ConfigError if it is not known yet.
        """
        if self.model is None:
            raise ConfigError(
                "the model's shape is that of initialize.encoder, which has not been read yet"
            )
        return self.model


def read_run(path: Path | str, trust: Trust | None = None) -> Run:
    """Return the run of a recipe or of a run's folder; ``trust`` as in ``xlm.config.cli.read``.

    The settings in a folder may be those of an older version: see ``xlm.config.upgrade``.
    """
    path = Path(path)
    if not path.is_dir():
        return read(Run, path, trust)
    path /= "config.yaml"
    if (text := _upgraded(path)) is None:
        return read(Run, path, trust)
    with tempfile.TemporaryDirectory() as folder:
        now = Path(folder) / "config.yaml"
        now.write_text(text, encoding="utf-8")
        try:
            return read(Run, now, trust)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(now), str(path))) from None


def _upgraded(path: Path) -> str | None:
    """Return the settings of a file in the words of today; None if they are, or are none."""
    try:
        tree = strict_yaml.load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, ConfigError, yaml.YAMLError):
        return None  # reported by the code that reads it
    now = upgraded(tree, Run)
    return None if now == tree else strict_yaml.dump(now)


def write_run(run: Run, folder: Path) -> str:
    """Write the resolved config, a valid recipe, into ``folder``; return its text.

    Raises ConfigError if the folder cannot be written.
    """
    text = to_yaml(run)
    make_folder(folder, error=ConfigError)
    write_whole(folder / "config.yaml", text, error=ConfigError)
    return text


UNTRAINED = {
    "data", "folder", "steps", "stopping", "watch", "guard", "signs", "report_every",
    "evaluate_every", "evaluation_tokens", "evaluate_test", "save_every", "save_in_background",
    "keep_last", "keep_best", "keep_every", "restart", "hang_seconds", "initialize",
    "tensorboard", "device", "sharding", "wandb", "recompute_activations", "stop_status",
}  # fmt: skip
"""Fields that may change when a run is resumed: they do not change an update's result."""


def differences(saved: str, run: Run, free: Set[str] | None = None) -> list[str]:
    """Return the settings that ``run`` changes of ``saved``, a resolved recipe.

    ``free`` are the fields that are not compared (None: those of UNTRAINED).
    """
    before = _leaves(yaml.safe_load(_completed(saved)))
    now = _leaves(yaml.safe_load(to_yaml(run)))
    if free is None:
        free = UNTRAINED - ({"steps"} if run.schedule.needs_total else set())
    return [
        f"{name} {now.get(name, 'absent')} (was {before.get(name, 'absent')})"
        for name in {**before, **now}
        if name.split(".")[0] not in free
        and now.get(name, "absent") != before.get(name, "absent")
        # A total that is given ends the schedule, for any number of steps.
        and not (name == "steps" and run.schedule.total_steps is not None)
    ]


def _completed(saved: str) -> str:
    """Return a resolved recipe with the defaults of settings that it is too old to have.

    One that is not valid any more is returned as it is.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(saved, encoding="utf-8")
        try:
            return to_yaml(read_run(folder))
        except ConfigError:
            return saved


def _leaves(tree: Any, path: str = "") -> dict[str, Any]:
    """Return every value below the mappings of ``tree``, by its dotted path."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {
        name: value
        for key, below in tree.items()
        for name, value in _leaves(below, f"{path}.{key}" if path else key).items()
    }

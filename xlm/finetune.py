"""Fine-tune a pretrained model on tasks, in some languages, and report every language.

Use as ``xlm.finetune.finetune(Finetune(...))``, ``xlm finetune --config RECIPE.yaml``, ``python -m
xlm.finetune`` or with torchrun. Each cell of the grid and each seed is a run in its own folder; an
interrupted call resumes when it is repeated.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Literal

from xlm import sample, strict_json
from xlm.config.cli import run_verb, to_yaml
from xlm.config.console import say
from xlm.config.hints import check_types
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.interchange.load import MODEL, load
from xlm.model.facts import facts_in_words
from xlm.model.pretrained import PretrainedModel
from xlm.run.config import Changes, Run
from xlm.run.folder import origin_of
from xlm.run.launch import finish_run, sole_training
from xlm.run.selection import FinetuneReport, History, render, summarize
from xlm.run.stopping import Stopping
from xlm.run.text import corpora_of, settings_of
from xlm.storage import make_folder, write_whole
from xlm.tasks.task import Task
from xlm.training.initialization import Initialization
from xlm.training.optimizers.config import Optimizer
from xlm.training.precision import PrecisionSetting
from xlm.training.restore import CHECKPOINTS
from xlm.training.schedule import Schedule

__all__ = ["Finetune", "Grid", "finetune", "main"]

log = logging.getLogger("xlm")

REPORT = "report.json"
SHARED = (
    "group_size", "optimizer", "precision", "average", "frozen_layers", "frozen", "report_every",
    "tensorboard", "device", "restart", "compile", "tf32", "deterministic", "evaluation_tokens",
)  # fmt: skip
"""Settings that every run of the call shares."""
RECIPE = "finetune.yaml"


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Lists of settings to try in every combination; an empty list leaves the setting unchanged."""

    learning_rates: list[float] = field(default_factory=list)
    """Peak learning rates (mBERT study: [2e-5, 3e-5, 5e-5])."""
    batches: list[int] = field(default_factory=list)
    """Rows in an update (mBERT study: [16, 32])."""
    epochs: list[float] = field(default_factory=list)
    """Passes over the training rows (mBERT study: [3, 4])."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("learning_rates", "batches", "epochs"):
            values = getattr(self, name)
            shown = [f"{value:g}" for value in values]
            if any(value <= 0 for value in values) or len(set(shown)) < len(shown):
                raise ConfigError(
                    f"grid.{name} must be different numbers above 0: found {', '.join(shown)}"
                )


@dataclass(frozen=True, kw_only=True)
class Finetune:
    """Fine-tune a pretrained model on tasks; evaluate in any language."""

    model: str
    """The model to fine-tune: a run's folder, a model directory, a foreign model, a hub name."""
    folder: str
    """The folder of runs and the report; an interrupted call resumes from here."""
    tasks: dict[str, Task]
    """The tasks: a name (of its head and figures) and a class with its fields."""
    root: str = "."
    """The folder that the tasks' relative paths start from."""
    random_weights: bool = False
    """Keep the model's shape and tokenizer but none of its weights: the control."""
    epochs: float = 3.0
    """Passes over the training rows."""
    steps: int = 0
    """Updates; 0: as many as the epochs need."""
    group_size: int = 1
    """Micro-batches in one update, over all ranks."""
    optimizer: Optimizer = field(
        default_factory=lambda: Optimizer(
            betas=(0.9, 0.999), weight_decay=0.01, decay_norms_and_biases=False, max_grad_norm=1.0
        )
    )
    """The update rule; head_rate gives heads a separate learning rate."""
    schedule: Schedule = field(
        default_factory=lambda: Schedule(kind="linear", peak_lr=2e-5, warmup_steps=0)
    )
    """The learning rate as a function of the step."""
    warmup: float = 0.1
    """Share of the updates used for warm-up; 0: the schedule's warmup_steps."""
    frozen_layers: int | None = None
    """Number of layers, from the bottom, frozen with the embeddings (0: the embeddings alone)."""
    frozen: list[str] = field(default_factory=list)
    """Parts that are not trained: body, words, positions, symbols, or the name of a table
    (MonoTrans, section 2, step 3: [words, positions])."""
    dropout: float | None = None
    """The model's dropout (null: as in pretraining)."""
    attention_dropout: float | None = None
    """The model's dropout of attention weights (null: as in pretraining)."""
    embedding_noise: float = 0.0
    """Standard deviation of noise added to embeddings in training (MonoTrans: 0.075)."""
    evaluate_every: int = 0
    """Training rows between evaluations (XLM's XNLI: 20000); 0: once an epoch."""
    evaluation_tokens: int = 0
    """Most cells in a micro-batch of held-out rows (a GPU wants thousands); 0: rows of training."""
    average: float = 0.0
    """Decay of averaged weights, which are measured at the end; 0: no averaging."""
    seeds: list[int] = field(default_factory=lambda: [0])
    """Seeds, one run each; for several, mean and 95 % interval are reported."""
    grid: Grid = field(default_factory=Grid)
    """Settings to choose from, by the figure on choose_on."""
    choose_on: list[str] = field(default_factory=list)
    """Languages whose validation figure chooses checkpoint and grid cell; empty: the validation
    languages that are trained on."""
    metric: str = ""
    """The metric to choose by; empty: the task's own."""
    halve_on_plateau: bool = False
    """Halve the rate after each evaluation without improvement (feature-based, mBERT study)."""
    lowest_lr: float = 0.0
    """With halve_on_plateau: stop below this rate (mBERT study: 1e-5)."""
    patience: int | None = None
    """Stop after this many evaluations without a new best; null: never."""
    precision: PrecisionSetting = "fp32"
    """fp32, bf16, fp16 with a dynamic loss scale, or auto: bf16 if it is faster on the device."""
    report_every: int = 50
    """Steps between two lines of the report."""
    keep: bool = True
    """Keep the fine-tuned models; false: figures only (a grid of large models fills a disk)."""
    tensorboard: bool = False
    """Write TensorBoard files too."""
    restart: bool = False
    """Restart a run at step 0 if it has checkpoints but none of them can be read."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""
    compile: bool | Literal["auto"] = "auto"
    """Compile the layers with torch.compile. auto: on CUDA, in runs of at least 2,000 updates."""
    tf32: bool = False
    """Let float32 products on CUDA round to TF32."""
    deterministic: bool = False
    """On CUDA, use kernels that give the same bits every time."""

    def __post_init__(self) -> None:
        check_types(self)
        if not self.tasks:
            raise ConfigError("tasks is empty: name at least one, such as nli: Classification")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ConfigError(f"seeds must be one or more different numbers: found {self.seeds}")
        if not 0 <= self.warmup < 1:
            raise ConfigError(f"warmup must be a share in [0, 1): found {self.warmup}")
        if self.epochs <= 0 and not self.steps:
            raise ConfigError(f"epochs must be above 0: found {self.epochs}; or give steps")
        if self.steps and self.grid.epochs:
            raise ConfigError(
                f"steps is {self.steps} and grid.epochs {self.grid.epochs}: give one of the two"
            )
        for name, least in (("steps", 0), ("group_size", 1), ("evaluate_every", 0)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} must be at least {least}: found {getattr(self, name)}")
        if self.lowest_lr and not self.halve_on_plateau:
            raise ConfigError(
                f"lowest_lr is {self.lowest_lr}, but it only applies with halve_on_plateau: "
                "set both"
            )
        for name in ("model", "folder"):
            if not str(getattr(self, name)):
                raise ConfigError(f"{name} is empty: give one")


def finetune(config: Finetune) -> FinetuneReport:
    """Train every cell and seed that is not finished, and report all of them.

    Writes ``report.json``. Raises ConfigError, DataError, CheckpointError or TrainingError, each in
    one line.
    """
    tasks = {name: rooted(task, config.root).resolved() for name, task in config.tasks.items()}
    chooses = chosen_on(config, tasks)
    source = load(config.model)
    _check_lengths(tasks, source.transformer.config.max_positions)
    corpora = task_corpora(source, tasks)
    tables = settings_of(source)
    runs = [
        (cell, seed, dataclasses.replace(run, tables=tables) if tables else run)
        for cell, seed, run in to_runs(config, tasks, corpora)
    ]
    histories: dict[str, dict[int, History]] = {}
    with sole_training(runs[0][2]) as parallel:
        origin: dict[str, str] = {}
        if parallel.is_main:
            make_folder(config.folder, error=ConfigError)
            write_whole(Path(config.folder) / RECIPE, to_yaml(config), error=ConfigError)
            files = [by for task in tasks.values() for by in vars(task.files).values()]
            origin = origin_of(source, [path for by in files for path in by.values()])
        for cell, seed, run in runs:
            title = f"{cell + ', ' if cell else ''}seed {seed}: training"
            history = finish_run(run, corpora, parallel, origin, title)
            if parallel.is_main:
                _clear(Path(run.folder), config.keep)
            histories.setdefault(cell, {})[seed] = history
        report = summarize(histories, chooses, metrics(config, tasks))
        report = dataclasses.replace(report, model=source.describe())
        if parallel.is_main:
            text = strict_json.dumps(report.to_json(), indent=1)
            write_whole(Path(config.folder) / REPORT, text + "\n", error=ConfigError)
    return report


def _check_lengths(tasks: Mapping[str, Task], max_positions: int) -> None:
    for name, task in tasks.items():
        if task.length > max_positions:
            raise ConfigError(
                f"tasks.{name}.length is {task.length}, but the model has {max_positions} "
                "positions: lower it"
            )


def rooted(task: Task, root: str) -> Task:
    """Return the task with ``root`` before its relative files, and ``sample:NAME`` as a path.

    Raises DataError for a name that the sample does not have.
    """

    def place(source: str) -> str:
        if source.startswith(sample.PREFIX):
            return sample.resolved(source)
        return source if source.startswith("datasets:") else str(Path(root, source))

    splits = {
        split.name: {lang: place(own) for lang, own in getattr(task.files, split.name).items()}
        for split in dataclasses.fields(task.files)
    }
    return dataclasses.replace(task, files=dataclasses.replace(task.files, **splits))


def task_corpora(model: PretrainedModel, tasks: Mapping[str, Task]) -> Corpora:
    """Return the model's tokenizer and languages, or the tasks' languages if it has none."""
    if model.tables:
        return corpora_of(model)
    if model.has_languages:
        return Corpora(model.tokenizer, model.languages)
    named = {
        task.stand_in.get(language, language)
        for task in tasks.values()
        for split in ("train", "valid", "test")
        for language in getattr(task.files, split)
    }
    return Corpora(model.tokenizer, named)


def to_runs(
    config: Finetune, tasks: Mapping[str, Task], corpora: Corpora
) -> Iterator[tuple[str, int, Run]]:
    """Yield each cell's name, seed and run; a grid without settings is one cell, called ""."""
    grid = config.grid
    rates = grid.learning_rates or [config.schedule.peak_lr]
    for peak_lr, batch, epochs in product(rates, grid.batches or [0], grid.epochs or [0.0]):
        named = {
            "lr": peak_lr if grid.learning_rates else None,
            "batch": batch or None,
            "epochs": epochs or None,
        }
        cell = " ".join(f"{name} {value:g}" for name, value in named.items() if value is not None)
        own = {name: _with_rows(task, batch, config.group_size) for name, task in tasks.items()}
        steps, every = _steps(config, own, corpora, epochs or config.epochs)
        place = [cell.replace(" ", "-")] if cell else []
        for seed in config.seeds:
            folder = Path(config.folder, *place, f"seed-{seed}")
            yield cell, seed, _run(config, own, folder, seed, peak_lr, steps, every)


def _with_rows(task: Task, batch: int, group_size: int) -> Task:
    if not batch:
        return task
    if batch % group_size:
        raise ConfigError(
            f"grid.batches has {batch}: expected multiples of group_size {group_size}"
        )
    return dataclasses.replace(task, rows=batch // group_size)


def _steps(
    config: Finetune, tasks: Mapping[str, Task], corpora: Corpora, epochs: float
) -> tuple[int, int]:
    """Return the number of updates, and of those between evaluations; each has one task."""
    batches = rows = 0.0
    for name, task in tasks.items():
        for stream in task.streams(name, corpora, seed=config.seeds[0]):
            batches += stream.batches_per_epoch
            rows += stream.num_rows
    epoch = max(1, round(batches / config.group_size))
    steps = config.steps or max(1, round(epochs * batches / config.group_size))
    every = round(config.evaluate_every * epoch / rows) if config.evaluate_every else epoch
    return steps, min(max(1, every), steps)


def _run(
    config: Finetune, tasks: Mapping[str, Task], folder: Path, seed: int, peak_lr: float,
    steps: int, every: int,
) -> Run:  # fmt: skip
    chooses = chosen_on(config, tasks)
    warmup = round(config.warmup * steps) if config.warmup else config.schedule.warmup_steps
    return Run(
        data="",
        folder=str(folder),
        objectives=dict(tasks),
        model=None,
        initialize=Initialization(
            encoder=config.model, only="nothing" if config.random_weights else "all"
        ),
        changes=Changes(
            dropout=config.dropout,
            attention_dropout=config.attention_dropout,
            embedding_noise=config.embedding_noise or None,
        ),
        steps=steps,
        seed=seed,
        schedule=dataclasses.replace(config.schedule, peak_lr=peak_lr, warmup_steps=warmup),
        evaluate_averaged=False,
        stopping=Stopping(
            metric=metrics(config, tasks)[chooses[0].split("/")[0]],
            streams=chooses,
            patience=config.patience,
            halve=config.halve_on_plateau,
            lowest_lr=config.lowest_lr,
        ),
        evaluate_every=every,
        evaluate_test=True,
        save_every=every,
        keep_last=1,
        **{name: getattr(config, name) for name in SHARED},
    )


def chosen_on(config: Finetune, tasks: Mapping[str, Task]) -> list[str]:
    """Return the streams that choose: those of ``choose_on`` for the first task.

    Raises ConfigError if the task has no validation file in such a language.
    """
    name, task = next(iter(tasks.items()))
    valid = list(task.files.valid)
    wanted = config.choose_on or [language for language in valid if language in task.files.train]
    if not wanted or not set(wanted) <= set(valid):
        raise ConfigError(
            f"choose_on has {', '.join(wanted) or 'no language'} for {name}, whose validation "
            f"files are of {', '.join(valid) or 'none'}: give one for each language named"
        )
    return [f"{name}/{language}" for language in wanted]


def metrics(config: Finetune, tasks: Mapping[str, Task]) -> dict[str, str]:
    """Return the metric of each task; ``config.metric`` replaces the first one's."""
    own = {name: task.metric for name, task in tasks.items()}
    if config.metric:
        own[next(iter(own))] = config.metric
    return own


def _clear(folder: Path, keep: bool) -> None:
    """Remove the checkpoints of a finished run, and its model unless ``keep``."""
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
    if not keep:
        shutil.rmtree(folder / MODEL, ignore_errors=True)
    elif not (folder / MODEL).exists():
        log.warning("%s: its model was not kept; remove the folder to train it again", folder)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm finetune``: see ``Finetune``."""

    def act(config: Finetune) -> None:
        report = finetune(config)
        if os.environ.get("RANK", "0") != "0":
            return
        say("\n".join([f"the model: {config.model}", *facts_in_words(report.model)]))
        say(render(report))
        say(f"report: {Path(config.folder) / REPORT}")

    run_verb(Finetune, "finetune", act, arguments)


if __name__ == "__main__":
    main()

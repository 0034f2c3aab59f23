"""Choose among several tries: by held-out nats, or by a task in the new language.

MonoTrans, section 5.2, keeps the best of several restarts by XNLI's validation text of the language
itself. Labels of the language decide then, so that its figure on that task is not zero-shot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from xlm import sample
from xlm.config.hints import check_types
from xlm.errors import ConfigError, XlmError
from xlm.interchange.finetuned import FineTuned, open_finetuned
from xlm.metrics.scores import rises
from xlm.model.language_modules import KNOWN
from xlm.model.pretrained import PretrainedModel
from xlm.run.text import corpora_of
from xlm.tasks.task import Files
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.learner import Learner


@dataclass(frozen=True, kw_only=True)
class Select:
    """A task whose figure in the new language decides which of several tries is kept."""

    model: str = ""
    """A model that was fine-tuned from the same body, such as runs/nli/seed-0/model."""
    file: str = ""
    """Labeled validation text of the new language, in the task's format."""
    task: str | None = None
    """The task's name in its recipe (null: the only one)."""
    metric: str | None = None
    """The figure (null: the one that the task's checkpoints are chosen by)."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in ("model", "file"):
            if not getattr(self, name):
                raise ConfigError(
                    f"select.{name} is empty: give a fine-tuned model and labeled text of the new "
                    "language"
                )


@dataclass(frozen=True)
class Choice:
    """The figures that tries were chosen by, in their order, and the best of them."""

    best: int
    figures: list[float]
    rule: str
    zero_shot: bool
    """False if the choice was made with labels of the new language."""

    def to_json(self) -> dict[str, Any]:
        """Return the rule, each try's figure and their mean."""
        return {
            "rule": self.rule, "figures": self.figures, "mean": fmean(self.figures),
            "zero_shot": self.zero_shot,
        }  # fmt: skip


def check_select(select: Select, model: PretrainedModel, language: str) -> None:
    """Raise ConfigError or DataError for a task that could not choose, before anything is trained.

    That is a model of another body, one without the task, or text that it cannot read.
    """
    tuned = open_finetuned(select.model, select.task)
    if (body := model.bodies[-1]) not in tuned.model.bodies:
        raise ConfigError(
            f"select.model: {select.model} does not descend from the body {body[:12]} of "
            f"{model.source}: give a model that was fine-tuned from it"
        )
    if language in (*tuned.model.known_languages, *tuned.model.tables):
        raise ConfigError(
            f"select.model: {select.model} already has the language {language}: give the model "
            "that was fine-tuned before it was added"
        )
    try:
        tuned.task.read(sample.resolved(select.file), language, "valid")
    except XlmError as error:
        raise type(error)(f"select.file: {error}") from None


def choose(
    tries: Sequence[Mapping[str, Any]], select: Select | None, modules: Sequence[Path]
) -> Choice:
    """Return the best try, of those that the guard let pass if there are any.

    ``tries`` have ``nats`` and ``fired``; ``modules`` are the folders of their modules, which are
    read if a task decides.
    """
    if select is None:
        figures = [float(one["nats"]) for one in tries]
        return Choice(_best(tries, figures, higher=False), figures, "fewest held-out nats", True)
    tuned = open_finetuned(select.model, select.task)
    metric = select.metric or tuned.task.metric
    file = sample.resolved(select.file)
    figures = [task_figure(tuned, file, metric, module) for module in modules]
    rule = f"best {metric} of {tuned.name} on {select.file}"
    return Choice(_best(tries, figures, higher=rises(metric)), figures, rule, False)


def _best(tries: Sequence[Mapping[str, Any]], figures: Sequence[float], *, higher: bool) -> int:
    def badness(at: int) -> tuple[bool, float]:
        value = -figures[at] if higher else figures[at]
        return bool(tries[at]["fired"]), value if math.isfinite(value) else math.inf

    return min(range(len(tries)), key=badness)


def task_figure(tuned: FineTuned, file: str, metric: str, module: Path) -> float:
    """Return a figure of a fine-tuned model on labeled text of a module's language.

    Raises ConfigError for a figure that the task does not have.
    """
    known = tuned.model.known_languages or list(tuned.task.files.train)
    extra = {**tuned.model.extra, KNOWN: known}
    model = replace(tuned.model, extra=extra).plugged(module)
    (language,) = set(model.tables) - set(tuned.model.tables)
    task = replace(tuned.task, files=Files(train=tuned.task.files.train, valid={language: file}))
    streams = task.streams(tuned.name, corpora_of(model), seed=0, split="valid")
    learner = Learner(model.transformer, {tuned.name: task}, model.transformer.config)
    learner.heads[tuned.name] = tuned.head
    # by rank 0 alone, whatever the number of processes
    alone = Parallel(device=torch.device("cpu"))
    figures = evaluate(learner.float(), {tuned.name: streams}, alone, seed=0)[streams[0].id]
    if metric not in figures:
        raise ConfigError(
            f"select.metric is {metric}, but the figures of the task {tuned.name} are "
            f"{', '.join(figures)}: give one of these"
        )
    return figures[metric]

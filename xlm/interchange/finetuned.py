"""Open fine-tuned models with their tasks, for prediction and export.

    model directory    heads.safetensors and tasks.yaml
    run, checkpoint    its tensors and config.yaml
    transformers       a class with a head that this library knows

tasks.yaml comes with the model, perhaps from a stranger: ``xlm.config.trust`` decides which classes
it may name.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from xlm.config import strict_yaml
from xlm.config.cli import parse
from xlm.config.trust import Trust, Untrusted, is_own
from xlm.errors import CheckpointError, ConfigError, XlmError, one_line
from xlm.interchange.load import fetch, load
from xlm.interchange.transformers.heads import read_head
from xlm.interchange.transformers.tasks import from_task_head
from xlm.model.model_directory import CONFIG, TASKS
from xlm.model.pretrained import PretrainedModel
from xlm.storage import read_json
from xlm.tasks.task import Task

FOREIGN = "task"
"""Name of the task of a model that was fine-tuned with transformers."""


PRETRAINING = "xlm.objectives."
"""Beginning of the class paths of objectives that are no tasks."""


@dataclass(frozen=True)
class FineTuned:
    """A model, one of its tasks and the head of that task; in evaluation mode."""

    model: PretrainedModel
    name: str
    """Name of the task in its recipe."""
    task: Task
    head: nn.Module


@dataclass(frozen=True, kw_only=True)
class _Saved:
    """Content of a tasks.yaml that is read here."""

    task: Task


def open_finetuned(
    source: str | Path, task: str | None = None, trust: Trust | None = None
) -> FineTuned:
    """Return the fine-tuned model at ``source``, which is anything that ``xlm.load`` takes.

    ``task`` is the task's name; None: the only task of the model. Raises ConfigError for a model
    that was not fine-tuned, a task that it does not have, and a class that ``trust`` (None: the
    least) does not allow; CheckpointError or DataError for files that are damaged.
    """
    path = Path(source).expanduser()
    if not path.exists():
        path = fetch(str(source))
    model = load(path)
    if (
        not _saved_tasks(model, str(source))
        and (path / CONFIG).is_file()
        and "model_type" in read_json(path / CONFIG)
    ):
        return _open_foreign(model, path, str(source), task)
    return with_task(model, str(source), task, trust)


def with_task(
    model: PretrainedModel, source: str, task: str | None = None, trust: Trust | None = None
) -> FineTuned:
    """Return a model of this library with the head of a task; raises as ``open_finetuned``."""
    saved = _saved_tasks(model, source)
    if not saved:
        raise ConfigError(
            f"{source} has no task head: expected a fine-tuned model, such as the folder "
            "model that xlm finetune leaves in a seed's folder"
        )
    if task is None and len(saved) > 1:
        raise ConfigError(f"{source} has the tasks {', '.join(saved)}: choose one by task")
    name = next(iter(saved)) if task is None else task
    if name not in saved:
        raise ConfigError(f"{source} has no task {name!r}: it has {', '.join(saved)}")
    own = f"heads.{name}."
    tensors = {n.removeprefix(own): t for n, t in model.heads.items() if n.startswith(own)}
    made = _parsed(saved[name], name, source, trust or Trust())
    return _built(model, name, made, tensors, source)


def chosen_task(model: PretrainedModel, source: str, task: str | None) -> FineTuned | None:
    """Return the model to export with its task, or None to export the language model alone.

    ``task`` is the task's name; None: the only task of this library, if any; "": none. Heads of
    other objectives are left out unless they are named. Raises as ``open_finetuned``.
    """
    if task == "":
        return None
    known = [name for name, saved in _saved_tasks(model, source).items() if _is_ours(saved)]
    if task is None and len(known) > 1:
        raise ConfigError(
            f"{source} has the tasks {', '.join(known)}: choose by task the one whose head "
            'is exported too, or give task "" for the language model alone'
        )
    if task is None and not known:
        return None
    return with_task(model, source, task or known[0])


def _saved_tasks(model: PretrainedModel, source: str) -> dict[str, Any]:
    """Return the settings of each task that has a head in the model, by name, as parsed from YAML.

    Heads of this library's pretraining, such as BERT's next-sentence classes, are not tasks.
    Raises CheckpointError if they are not valid settings of tasks.
    """
    if not model.heads:
        return {}
    try:
        content = strict_yaml.load(model.tasks)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{source}: its {TASKS} is not valid YAML ({one_line(error, most=200)})"
        ) from None
    tasks = content.get("objectives") if isinstance(content, Mapping) else None
    if not isinstance(tasks, Mapping):
        raise CheckpointError(
            f"{source}: its {TASKS} has no objectives: expected one for each task"
        )
    having = {name.split(".")[1] for name in model.heads if name.count(".") > 1}
    return {
        name: settings
        for name, settings in tasks.items()
        if name in having and not str(_class_path(settings)).startswith(PRETRAINING)
    }


def _is_ours(settings: Any) -> bool:
    """Return True if the settings of a task name a class of this library."""
    path = _class_path(settings)
    with suppress(ImportError, AttributeError):
        return is_own(path) and isinstance(Trust().find(path), type)
    return False


def _class_path(settings: Any) -> Any:
    return settings.get("class_path") if isinstance(settings, Mapping) else settings


def _parsed(settings: Any, name: str, source: str, trust: Trust) -> Task:
    path = str(_class_path(settings))
    try:
        if "." in path:
            trust.find(path)
    except Untrusted as refusal:
        raise ConfigError(f"{source}: the task {name} is of {path[:80]!r}: {refusal}") from None
    except (ImportError, AttributeError, ValueError):
        pass  # reported below, with the classes that were expected
    try:
        given = [f"--task={strict_yaml.dump(settings)}"]
        return parse(_Saved, TASKS, given, trust=trust).task
    except (XlmError, ValueError) as error:
        line = one_line(error).removeprefix("--")
        raise CheckpointError(f"{source}: its {TASKS}, {name}: {line}") from None


def _built(
    model: PretrainedModel, name: str, task: Task, tensors: Mapping[str, Tensor], source: str
) -> FineTuned:
    with torch.device("meta"):
        # spend no memory and no random numbers on values that are about to be replaced
        head = task.head(model.transformer.config)
    if head is None:
        raise ConfigError(f"{source}: the task {name} has no head, so it cannot predict")
    try:
        head.load_state_dict(dict(tensors), assign=True)
    except RuntimeError as error:
        raise CheckpointError(
            f"{source}: the head of {name} does not fit its settings ({one_line(error, most=300)})"
        ) from None
    return FineTuned(model, name, task, head.eval())


def _open_foreign(model: PretrainedModel, folder: Path, source: str, task: str | None) -> FineTuned:
    """Return a model of transformers with the head of a task."""
    head = read_head(folder)
    if head is None:
        found = read_json(folder / CONFIG).get("architectures")
        raise ConfigError(
            f"{source} has the architecture {found}, expected sequence classification, token "
            "classification or question answering"
        )
    if task not in (None, FOREIGN):
        raise ConfigError(f"{source} has no task {task!r}: its only task is called {FOREIGN}")
    made, tensors = from_task_head(head, model.transformer.config.max_positions)
    lost = [line for line in model.extra.get("lost", ()) if "head" not in line]
    model = replace(model, extra={**model.extra, "lost": lost})
    return _built(model, FOREIGN, made, tensors, source)

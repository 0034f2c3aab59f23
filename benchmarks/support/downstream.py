"""What the measurements of fine-tuning share: jobs that go on, their figures, the shapes of them.

A job is a ``Finetune`` with a folder of its own, so a script that was interrupted goes on where it
stopped, and its result holds every job that is finished.
"""

from __future__ import annotations

import json
import logging
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import xlm
from benchmarks.support import record
from xlm.errors import ConfigError
from xlm.finetune import REPORT, Finetune, finetune
from xlm.run.config import Optimizer, Schedule
from xlm.run.selection import mean_of
from xlm.tasks.task import Task
from xlm.text.files import raw_lines

Figures = dict[str, Any]
AT_THE_END = 10**9
"""Training rows between evaluations: more than there are."""


def settings(lr: float, *, head_rate: float = 1.0) -> Figures:
    """What all measurements share: AdamW, a straight line down, and dropout.

    The small models are pretrained without dropout; fine-tuned without it, they learn English by
    heart. In float32: a processor without AVX-512 computes bf16 some fifty times more slowly.
    """
    return {
        "optimizer": Optimizer(
            betas=(0.9, 0.999), weight_decay=0.01, decay_norms_and_biases=False,
            max_grad_norm=1.0, head_rate=head_rate,
        ),
        "schedule": Schedule(kind="linear", peak_lr=lr, warmup_steps=0),
        "dropout": 0.1,
        "device": "cpu",
        "report_every": 100,
    }  # fmt: skip


def shape(models: Path, folder: Path) -> str:
    """The run ``mlm+tlm`` as a model directory beside the runs, for starts of random weights.

    They take its shape, tokenizer and languages alone, so that theirs need not be run again where
    pretraining went on.
    """
    target = folder / "shape"
    if not target.exists():
        xlm.load(models / "mlm+tlm").save_pretrained(target)
    return str(target)


def begin(threads: int) -> None:
    """Threads, and the program's lines on standard error."""
    torch.set_num_threads(threads)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)


def chosen(only: Sequence[str] | None, names: Iterable[str]) -> list[str]:
    """The jobs whose names begin with one of ``only``; all where nothing is asked for."""
    names = list(names)
    for wanted in only or []:
        if not any(name.startswith(wanted) for name in names):
            raise ConfigError(f"--only {wanted}: expected the beginning of {', '.join(names)}")
    return [name for name in names if not only or name.startswith(tuple(only))]


def run(jobs: Mapping[str, Finetune], only: Sequence[str] | None = None) -> dict[str, Figures]:
    """Run the jobs that are asked for; what every finished one reports, in the jobs' order."""
    for name in chosen(only, jobs):
        sys.stderr.write(f"== {name}\n")
        finetune(jobs[name])
    reports = {name: Path(job.folder) / REPORT for name, job in jobs.items()}
    return {
        name: json.loads(path.read_text(encoding="utf-8"))
        for name, path in reports.items()
        if path.exists()
    }


def collapsed(reports: Mapping[str, Figures]) -> list[str]:
    """The runs that gave nearly all rows one answer, by job."""
    return [f"{name}, {line}" for name, own in reports.items() for line in own["collapsed"]]


def means(report: Figures, rule: str = "chosen") -> dict[str, Figures]:
    """Mean, interval and values by stream (``task/lang``), under a rule of choosing."""
    return {name: own[rule] for name, own in report["streams"].items() if rule in own}


def paired(first: Sequence[float], second: Sequence[float]) -> Figures:
    """How much the first are above the second, seed by seed: mean and half of the 95 % interval."""
    mean = mean_of([one - two for one, two in zip(first, second, strict=True)])
    return {"mean": mean.mean, "interval": mean.interval, "values": mean.values}


def apart(first: Figures, second: Figures) -> bool:
    """Whether the interval of the first lies above that of the second."""
    low = first["mean"] - (first["interval"] or 0.0)
    return bool(low > second["mean"] + (second["interval"] or 0.0))


def commonest(task: Task, file: str, language: str) -> float:
    """Return the accuracy of the commonest answer; 0 for spans, the F1 of naming none."""
    if getattr(task, "spans", False):
        return 0.0
    examples = task.read(file, language, "test")
    answers: Counter[Any] = Counter()
    for one in examples:
        tags = getattr(one, "tags", None)
        answers.update(tags if tags is not None else [getattr(one, "label", None)])
    return max(answers.values()) / answers.total()


def write(name: str, figures: Figures, *, trial: bool, folder: Path) -> Path:
    """Write a result; that of a trial (``--quick``, or ``--only`` a part) into its folder."""
    return record.write(name, figures, folder if trial else None)


def show(name: str, path: Path) -> None:
    """The table of a result, as the documents have it."""
    from benchmarks.support import tables

    result = json.loads(path.read_text(encoding="utf-8"))
    make = tables.table_of(name)[0]
    sys.stdout.write(f"{make(result)}\n\n{path}\n")


def lines_of(path: Path, most: int) -> list[str]:
    """The first lines of a text that has at least one."""
    lines = []
    for raw in raw_lines(str(path), 1 << 20):
        if len(lines) == most:
            break
        lines.append((raw or b"").decode("utf-8"))
    return lines


def version_2(source: Path, folder: Path) -> Path:
    """A CoNLL-U file of UD version 1 with the parts of speech of version 2, beside the runs.

    CONJ is called CCONJ since, and copulas are AUX (universaldependencies.org, changes to v2); the
    other tags kept their names and, for Hindi, their use.
    """
    target = folder / f"{source.parent.name}.{source.stem}.v2.conllu"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = source.read_text(encoding="utf-8").split("\n")
        target.write_text("\n".join(_version_2(lines)), encoding="utf-8")
    return target


def _version_2(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        cells = line.split("\t")
        if len(cells) == 10 and cells[3] == "CONJ":
            cells[3] = "CCONJ"
        elif len(cells) == 10 and cells[3] == "VERB" and cells[7].split(":")[0] == "cop":
            cells[3] = "AUX"
        yield "\t".join(cells)

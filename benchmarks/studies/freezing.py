"""Freezing the bottom layers, against full fine-tuning and against fixed features.

    python -m benchmarks.studies.freezing --models runs/small --data data --folder runs/freezing

One sentence task (topics) and one word task (parts of speech), as finetuning_real.py has them with
their few training examples, from the run ``mlm+tlm`` of recipes/small: everything trained; the
embeddings and the lowest n layers as they are, n = 0 being the embeddings alone; the whole encoder
as it is, a learnt mix of its layers read by a BiLSTM. The picture has the shape of Wu and Dredze
(2019), figure 1: a row a way, a column a language, colored by the difference from full fine-tuning.
Everything that is finished is not run again; ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import xlm
from benchmarks.studies import finetuning_real
from benchmarks.support import downstream, toy
from xlm.finetune import Finetune
from xlm.run.config import Optimizer, Schedule
from xlm.tasks.heads import Readout

TASKS = ("topics", "pos")
MODEL = "mlm+tlm"
FEATURES = {
    "optimizer": Optimizer(kind="adam", betas=(0.9, 0.999), max_grad_norm=1.0),
    "schedule": Schedule(kind="constant", peak_lr=1e-3, warmup_steps=0),
    "warmup": 0.0,
    "halve_on_plateau": True,
    "lowest_lr": 1e-5,
}
"""As the study's (section 5): Adam, 1e-3, batches of 32, halved where an epoch is no better."""


def ways(num_layers: int) -> dict[str, dict[str, Any]]:
    """Fields of each way, by its name."""
    frozen = {f"layer {n} frozen": {"frozen_layers": n} for n in range(num_layers + 1)}
    return {"full": {}, "features": FEATURES, **frozen}


def draw(tasks: dict[str, Any], path: Path) -> None:
    """A panel a task; figures in percent, colors the difference from full fine-tuning."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels = {name: own["starts"] for name, own in tasks.items() if "full" in own["starts"]}
    if not panels:
        return
    widest = max(len(own) for own in panels.values())
    figure, grid = pyplot.subplots(
        1, len(panels), figsize=(4.6 * len(panels), 0.5 * widest + 1.4), squeeze=False
    )
    for axes, (name, own) in zip(grid[0], panels.items(), strict=True):
        streams = list(own["full"])
        mean = [[100 * figures[stream]["mean"] for stream in streams] for figures in own.values()]
        full = [100 * own["full"][stream]["mean"] for stream in streams]
        change = [[a - b for a, b in zip(row, full, strict=True)] for row in mean]
        bound = max(1.0, *(abs(value) for row in change for value in row))
        picture = axes.imshow(change, cmap="coolwarm_r", vmin=-bound, vmax=bound, aspect="auto")
        for y, row in enumerate(mean):
            for x, value in enumerate(row):
                axes.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=9)
        axes.set_xticks(range(len(streams)), [stream.split("/")[1] for stream in streams])
        axes.set_yticks(range(len(own)), list(own))
        axes.set_title(f"{name} (accuracy, %)", fontsize=10)
        figure.colorbar(picture, ax=axes, label="points above full")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=Path("runs/freezing"))
    parser.add_argument("--only", nargs="+", help="TASK/WAY, or how some of these begin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    folder, quick = arguments.folder, arguments.quick
    if quick:
        arguments.data, arguments.seeds = toy.data(folder), [0]
        arguments.models = toy.models(folder / "models")
    model = str(arguments.models / MODEL)
    jobs = {}
    for name in TASKS:
        study = finetuning_real.STUDIES[name]
        task = study.task(arguments.data, folder / "files")
        for way, fields in ways(xlm.load(model).transformer.config.num_layers).items():
            features = way == "features"
            own = dataclasses.replace(task, readout=Readout(features=True)) if features else task
            jobs[f"{name}/{way}"] = Finetune(
                model=model, folder=str(folder / name / way.replace(" ", "-")), tasks={name: own},
                epochs=1 if quick else 2 * study.epochs if features else study.epochs,
                seeds=arguments.seeds, keep=False,
                evaluate_every=0 if features else downstream.AT_THE_END,
                **{**downstream.settings(arguments.rate), **fields},
            )  # fmt: skip
    reports = downstream.run(jobs, arguments.only)
    tasks: dict[str, downstream.Figures] = {}
    for job, report in reports.items():
        name, way = job.split("/")
        tasks.setdefault(name, {"starts": {}})["starts"][way] = downstream.means(report)
    figures = {
        "rate": arguments.rate,
        "tasks": tasks,
        "collapsed": downstream.collapsed(reports),
        "seconds": sum(report["seconds"] for report in reports.values()),
    }
    trial = quick or bool(arguments.only)
    path = downstream.write("freezing", figures, trial=trial, folder=folder)
    draw(json.loads(path.read_text(encoding="utf-8"))["tasks"], path.with_suffix(".png"))
    downstream.show("freezing", path)


if __name__ == "__main__":
    main()

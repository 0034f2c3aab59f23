"""The cost of analyses where they are used: beside training, and of a finished run.

    python -m benchmarks.speed.reports --corpora runs/small/data --run runs/sample

In processor time on one thread. ``watch`` of all three pairs is measured at the first weights of
recipes/small/mlm+tlm.yaml, and set against the recipe's updates and evaluations; the report is that
of ``xlm analyze`` on a run of recipes/sample.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.support import downstream, record, toy
from xlm.analyze import Analyze, analyze
from xlm.config.cli import parse
from xlm.data.corpora import Corpora
from xlm.run.config import Run
from xlm.run.folder import RunFolder
from xlm.run.held_out import HeldOut
from xlm.run.session import begin
from xlm.run.watched import WatchedPairs
from xlm.training.distributed.processes import Parallel
from xlm.training.loop import train
from xlm.training.schedule import Schedule

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes/small/mlm+tlm.yaml"
MOST = {"share of a run, %": 2.0, "s": 180.0}
"""The goals."""


def seconds_of(act: Callable[[], Any]) -> float:
    """Return the processor seconds of a call."""
    started = time.process_time()
    act()
    return time.process_time() - started


def watched(recipe_path: Path, data: Path, updates: int, sentences: int) -> dict[str, Any]:
    """Return the seconds of an update, an evaluation and a look at pairs, and the look's share."""
    corpora = Corpora.open(data)
    with tempfile.TemporaryDirectory() as folder:
        words = [f"--config={recipe_path}", f"--data={data}", f"--folder={folder}", "--device=cpu"]
        recipe: Run = parse(Run, "pretrain", [*words, "--precision=fp32"])
        pairs = sorted(corpora.names("valid")["pairs"])
        watch = WatchedPairs(pairs=pairs, sentences=sentences)
        schedule = Schedule(kind="constant", peak_lr=recipe.schedule.peak_lr, warmup_steps=0)
        run = replace(
            recipe, steps=updates, schedule=schedule, evaluate_every=0, save_every=0, watch=watch
        )
        session = begin(run, corpora, RunFolder(run.folder, Parallel.start("cpu")))
        trainer = session.trainer
        with session.reporter.journal:
            update = seconds_of(lambda: train(trainer)) / updates
        held_out = HeldOut.of(run, corpora)
        assert held_out.watched is not None
        model = trainer.learner.model
        looks = held_out.watched
        look = seconds_of(lambda: looks.measure(model, first_look=False))
        plain = replace(held_out, watched=None)
        evaluation = seconds_of(lambda: plain.measure(trainer, averaged=False))
    times = recipe.steps // recipe.evaluate_every
    whole = recipe.steps * update + times * (evaluation + look)
    return {
        "figure": f"watch of {', '.join(pairs)}", "update, s": update, "evaluation, s": evaluation,
        "look, s": look, "updates": recipe.steps, "looks": times,
        "share of a run, %": 100 * times * look / whole, "at most": MOST["share of a run, %"],
    }  # fmt: skip


def report(run: Path, sentences: int) -> dict[str, Any]:
    """Return the seconds of a report on a run's folder."""
    with tempfile.TemporaryDirectory() as folder:
        config = Analyze(model=str(run), folder=folder, device="cpu", sentences=sentences)
        seconds = seconds_of(lambda: analyze(config))
    return {"figure": f"report of {run.name}", "s": seconds, "at most": MOST["s"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=Path, default=Path("runs/small/data"))
    parser.add_argument("--run", type=Path, default=Path("runs/sample"))
    parser.add_argument("--recipe", type=Path, default=RECIPE)
    parser.add_argument("--updates", type=int, default=20, help="that are timed")
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(1)
    sizes = (20, 12) if arguments.quick else (500, 1000)
    if arguments.quick:
        arguments.updates = 1
        arguments.run = toy.models(Path(tempfile.gettempdir()) / "toy-models") / "mlm+tlm"
    rows = [
        watched(arguments.recipe, arguments.corpora, arguments.updates, sizes[0]),
        report(arguments.run, sizes[1]),
    ]
    for row in rows:
        sys.stdout.write(f"{row}\n")
    if not arguments.quick:
        record.write("analysis_cost", {"rows": rows})


if __name__ == "__main__":
    main()

"""What TLM takes from the other sentence, where the alignment is known (id-shifted English).

    python -m benchmarks.studies.tlm_shifted

Trains with masks on both sides and evaluates with masks on the first: with the true partner, with a
wrong one, and (for MLM beside TLM) without one. With positions that restart at the second sentence,
as in the paper, and with positions that run on, at the same budget.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.support import record, shifted
from xlm import sample
from xlm.model.config import ModelConfig
from xlm.objective import Objective
from xlm.objectives.masked import MaskedLM
from xlm.run.build import held_out_streams
from xlm.run.config import Optimizer, Run, Schedule
from xlm.run.folder import RunFolder
from xlm.run.session import begin
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.loop import Verdict, train

PARTNERS = ("true pair", "wrong pair")
PAIR = f"{shifted.FIRST}-{shifted.SECOND}"


def tlm(layout: str) -> MaskedLM:
    return MaskedLM(
        pairs=[PAIR], tokens=2048, length=72, layout=layout, evaluation_side="first", num_lengths=8
    )


def mlm(tokens: int) -> MaskedLM:
    return MaskedLM(languages=[shifted.FIRST, shifted.SECOND], rows=tokens // 32, length=32)


VARIANTS: dict[str, dict[str, Objective]] = {
    "tlm": {"tlm": tlm("tlm")},
    "tlm, positions run on": {"tlm": tlm("tlm-run-on")},
    "mlm+tlm": {"mlm": mlm(2048), "tlm": tlm("tlm")},
}


def run_of(
    objectives: dict[str, Objective], folder: Path, *, steps: int, every: int, lr: float, seed: int
) -> Run:
    """Return the training of a tiny model: ``steps`` updates of each objective."""
    return Run(
        data="in memory",
        folder=str(folder),
        objectives=objectives,
        model=ModelConfig(preset="tiny", dropout=0.0, attention_dropout=0.0),
        steps=steps * len(objectives),
        seed=seed,
        group_size=1,
        optimizer=Optimizer(weight_decay=0.01),
        schedule=Schedule(kind="linear", peak_lr=lr, warmup_steps=min(200, steps // 5)),
        evaluate_every=every * len(objectives),
        save_every=0,
        report_every=100,
        tensorboard=False,
        device="cpu",
    )


def measure(
    name: str, corpora: Any, steps: int, every: int, lr: float, seed: int = 0
) -> dict[str, Any]:
    """One variant: the curve of accuracies (first side masked) and the seconds it took."""
    objectives = VARIANTS[name]
    with tempfile.TemporaryDirectory() as folder:
        run = run_of(objectives, Path(folder), steps=steps, every=every, lr=lr, seed=seed)
        session = begin(run, corpora, RunFolder(run.folder, Parallel.start("cpu")))
        curve: list[dict[str, float]] = []
        spent = [0.0]

        def look() -> Verdict:
            started = time.perf_counter()
            point: dict[str, float] = {"step": session.trainer.state.step}
            for split, what in (("valid", "true pair"), ("test", "wrong pair")):
                streams = held_out_streams(run, corpora, split)
                if split == "test":
                    streams.pop("mlm", None)
                trainer = session.trainer
                figures = evaluate(trainer.learner, streams, trainer.parallel, seed=0)
                point[what] = figures[f"tlm/{PAIR}"]["accuracy"]
                if f"mlm/{shifted.FIRST}" in figures:
                    point["alone"] = figures[f"mlm/{shifted.FIRST}"]["accuracy"]
            curve.append(point)
            sys.stderr.write(f"{name} {point}\n")
            spent[0] += time.perf_counter() - started
            return Verdict()

        started = time.perf_counter()
        with session.reporter.journal:
            train(session.trainer, report=session.reporter.train, evaluate=look)
        seconds = time.perf_counter() - started - spent[0]
    return {"objectives": list(objectives), "seconds": round(seconds, 1), "curve": curve}


def draw(variants: dict[str, Any], path: Path) -> None:
    """Accuracy on masked tokens of the first side over TLM updates."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for name, own in variants.items():
        share = len(own["objectives"])
        for what, style in (("true pair", "-"), ("wrong pair", ":"), ("alone", "--")):
            points = [(p["step"] / share, p[what]) for p in own["curve"] if what in p]
            if points:
                axes.plot(*zip(*points, strict=True), style, marker=".", label=f"{name}: {what}")
    axes.set(xlabel="TLM updates", ylabel="accuracy on masked tokens, held-out pairs", ylim=(0, 1))
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def text(path: Path | None) -> tuple[list[str], list[str]]:
    """Return training and held-out English: lines of a file, or of the corpus that ships."""
    if path is None:
        return tuple(  # type: ignore[return-value]
            sample.path(f"{split}.en.txt").read_text(encoding="utf-8").splitlines()
            for split in ("train", "valid")
        )
    lines = path.read_text(encoding="utf-8").splitlines()[:20000]
    return lines[1000:], lines[:1000]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="English text; default: the corpus that ships")
    parser.add_argument("--steps", type=int, default=1000, help="TLM updates")
    parser.add_argument("--every", type=int, default=100, help="updates between two looks")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--only", choices=VARIANTS, help="one variant, timed: tlm_time")
    parser.add_argument("--folder", type=Path, default=Path("runs/tlm-shifted"),
                        help="for the result of --quick")  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="try it with two updates")
    arguments = parser.parse_args()
    train_lines, valid_lines = text(arguments.text)
    sizes = {"vocab_size": 1000, "num": 20000}
    if arguments.quick:
        arguments.steps, arguments.every = 2, 1
        sizes = {"vocab_size": 400, "num": 60, "num_held_out": 8}
    folder = arguments.folder if arguments.quick else None
    corpora = shifted.corpora(train_lines, valid_lines, **sizes)
    names = [arguments.only] if arguments.only else list(VARIANTS)
    variants = {
        name: measure(name, corpora, arguments.steps, arguments.every, arguments.lr)
        for name in names
    }
    if arguments.only is None:
        source = "shipped corpus" if arguments.text is None else "English text"
        path = record.write("tlm_shifted", {"text": source, "variants": variants}, folder)
        draw(variants, path.with_suffix(".png"))
    else:
        (own,) = variants.values()
        looked = {f"{kind}, %": round(100 * own["curve"][-1][kind], 2) for kind in PARTNERS}
        row = {"trained on": arguments.only, "updates": arguments.steps, **looked}
        record.write("tlm_time", {"rows": [{**row, "seconds": own["seconds"]}]}, folder)
    for name, own in variants.items():
        sys.stdout.write(f"{name}: {own['seconds']} s, {json.dumps(own['curve'][-1])}\n")


if __name__ == "__main__":
    main()

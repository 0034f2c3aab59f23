"""Table 4 of XLM, small: does Hindi, English or both help a Nepali language model?

    python -m benchmarks.studies.nepali --text ../shared/data/mono --folder runs/nepali

Four recipes (recipes/nepali), each at two learning rates, the Nepali-only row, which the others
are compared with, at a third. A row's rate is chosen by perplexity on Nepali validation text; then
it is measured once on the test text. Runs are resumable; a run that ended is not run again.
``--report`` only rebuilds the table and the figure; ``--quick`` tries the script with four updates
of two rows on the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.support import record, tables, toy
from xlm.evaluate import Evaluate, evaluate_run
from xlm.training.journal import read_metrics

ROOT = Path(__file__).parents[2]
BOTH = (1e-3, 2e-3)
RATES = {"ne": (*BOTH, 4e-3), "ne+en": BOTH, "ne+hi": BOTH, "ne+en+hi": BOTH}
QUICK_RATES = {"ne": BOTH, "ne+hi": BOTH[:1]}
QUICK = (
    "--steps=4", "--evaluate_every=2", "--save_every=2", "--report_every=2",
    "--schedule.warmup_steps=1", "--stopping.from_step=0", "--precision=fp32", "--average=0",
    "--model.dim=16", "--model.num_layers=1", "--model.num_heads=2", "--tensorboard=false",
)  # fmt: skip
"""Flags of `xlm pretrain` that make a run of a second."""


def run(verb: str, *arguments: str) -> None:
    """Run one verb of `xlm` in a process of its own, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "xlm", verb, *arguments], env=environment, check=True)


def train(folder: Path, row: str, rate: float, flags: Sequence[str] = ()) -> Path:
    """Train one row at one rate, or resume it; `flags` are further ones of `xlm pretrain`."""
    own = folder / f"{row}-{rate:g}"
    if not (own / "done").exists():
        run(
            "pretrain", "--config", str(ROOT / "recipes" / "nepali" / f"{row}.yaml"),
            "--data", str(folder / "data"), "--folder", str(own),
            "--schedule.peak_lr", str(rate), *flags,
        )  # fmt: skip
        (own / "done").touch()
    return own


def summary(own: Path, rate: float) -> dict[str, Any]:
    """Return a run's best validation score, its step, the last step, and the curve."""
    lines = read_metrics(own / "metrics.jsonl")
    valid = [line for line in lines if line["event"] == "valid"]
    counted = [line for line in valid if line["score"] == min(v["score"] for v in valid)]
    trained = [line for line in lines if line["event"] == "train"]
    return {
        "peak_lr": rate,
        "valid_perplexity": counted[0]["score"],
        "best_step": counted[0]["step"],
        "last_step": trained[-1]["step"],
        "curve": [[line["step"], line["clm/ne"]["nats"]] for line in valid],
    }


def measure(folder: Path, tried: Mapping[str, Sequence[float]] = RATES) -> dict[str, Any]:
    """Choose each row's rate on validation text and measure it on the test text."""
    rows = {}
    for row, rates in tried.items():
        runs = [summary(folder / f"{row}-{rate:g}", rate) for rate in rates]
        best = min(runs, key=lambda one: one["valid_perplexity"])
        own = folder / f"{row}-{best['peak_lr']:g}"
        result = evaluate_run(
            Evaluate(folder=str(own), split="test", data=str(folder / "data"), device="cpu")
        )
        state = json.loads((own / "checkpoints" / result["checkpoint"] / "state.json").read_text())[
            "train_state"
        ]
        rows[row] = {
            "chosen": {key: value for key, value in best.items() if key != "curve"},
            "tokens_until_best": state["tokens"],
            "test": {key.split("/")[1]: own for key, own in result["figures"].items()},
            "search": runs,
        }
    return rows


def draw(rows: dict[str, Any], path: Path) -> None:
    """Draw nats per subword on Nepali validation text, of each row at its chosen rate."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for row, own in rows.items():
        chosen = own["chosen"]["peak_lr"]
        curve = next(one["curve"] for one in own["search"] if one["peak_lr"] == chosen)
        axes.plot([s for s, _ in curve], [n for _, n in curve], marker=".", label=row)
    axes.set(
        xlabel="updates (1,024 tokens each)", ylabel="nats per subword, Nepali validation text"
    )
    axes.set_ylim(top=7)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", default="data/mono", help="holds LANG/{train,valid,test}.txt")
    parser.add_argument("--folder", type=Path, default=Path("runs/nepali"), help="where runs go")
    parser.add_argument("--parallel", type=int, default=2, help="runs at a time, one thread each")
    parser.add_argument("--report", action="store_true", help="only rebuild table and figure")
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    folder, quick = arguments.folder, arguments.quick
    results = (folder if quick else record.RESULTS) / "nepali.json"
    if not arguments.report:
        text = str(toy.data(folder) / "mono") if quick else arguments.text
        tried, flags = (QUICK_RATES, QUICK) if quick else (RATES, ())
        if not (folder / "data" / "corpora.json").exists():
            recipe = str(ROOT / "recipes" / "nepali" / "prepare.yaml")
            size = ("--vocabulary.size", "400") if quick else ()
            run("prepare", "--config", recipe, "--root", text,
                "--folder", str(folder / "data"), *size)  # fmt: skip
        with ThreadPoolExecutor(arguments.parallel) as pool:
            jobs = [
                pool.submit(train, folder, row, rate, flags)
                for row, rates in tried.items()
                for rate in rates
            ]
            for job in jobs:
                job.result()
        record.write("nepali", {"rows": measure(folder, tried)}, results.parent)
    result = json.loads(results.read_text(encoding="utf-8"))
    draw(result["rows"], results.with_suffix(".png"))
    sys.stdout.write(f"{tables.nepali(result)}\n\n{tables.nepali_found(result)}\n")


if __name__ == "__main__":
    main()

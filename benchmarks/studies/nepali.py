"""Table 4 of XLM, small: does Hindi, English or both help a Nepali language model?

    python -m benchmarks.studies.nepali --text ../shared/data/mono --folder runs/nepali

Four recipes (recipes/nepali), each at two learning rates, the Nepali-only row, which the others
are compared with, at a third. A row's rate is chosen by perplexity on Nepali validation text; then
it is measured once on the test text. Runs are resumable; a run that ended is not run again.
``--report`` only rebuilds the table and the figure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.support import record, tables
from xlm.evaluate import Evaluate, evaluate_run
from xlm.training.journal import read_metrics

ROOT = Path(__file__).parents[2]
ROWS = ("ne", "ne+en", "ne+hi", "ne+en+hi")
BOTH = (1e-3, 2e-3)
RATES = {"ne": (*BOTH, 4e-3), "ne+en": BOTH, "ne+hi": BOTH, "ne+en+hi": BOTH}


def run(verb: str, *arguments: str) -> None:
    """One verb in a process of its own, one thread each; its lines go to a log beside the run."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-m", "xlm", verb, *arguments], env=environment, check=True)


def train(folder: Path, row: str, rate: float) -> Path:
    """Train (or go on with) one row at one rate."""
    own = folder / f"{row}-{rate:g}"
    if not (own / "done").exists():
        run(
            "pretrain", "--config", str(ROOT / "recipes" / "nepali" / f"{row}.yaml"),
            "--data", str(folder / "data"), "--folder", str(own),
            "--schedule.peak_lr", str(rate),
        )  # fmt: skip
        (own / "done").touch()
    return own


def summary(own: Path, rate: float) -> dict[str, Any]:
    """What a run says of itself: best validation score, its step, tokens by language until then."""
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


def measure(folder: Path) -> dict[str, Any]:
    """Choose each row's rate on validation text and measure it on the test text."""
    rows = {}
    for row in ROWS:
        runs = [summary(folder / f"{row}-{rate:g}", rate) for rate in RATES[row]]
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
    """Nats per subword on Nepali validation text, of each row at its chosen rate."""
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
    arguments = parser.parse_args()
    results = record.RESULTS / "nepali.json"
    if not arguments.report:
        folder = arguments.folder
        if not (folder / "data" / "corpora.json").exists():
            recipe = str(ROOT / "recipes" / "nepali" / "prepare.yaml")
            run("prepare", "--config", recipe, "--root", arguments.text,
                "--folder", str(folder / "data"))  # fmt: skip
        with ThreadPoolExecutor(arguments.parallel) as pool:
            jobs = [pool.submit(train, folder, row, rate) for row in ROWS for rate in RATES[row]]
            for job in jobs:
                job.result()
        record.write("nepali", {"rows": measure(folder)})
    result = json.loads(results.read_text())
    draw(result["rows"], record.RESULTS / "nepali.png")
    sys.stdout.write(f"{tables.nepali(result)}\n\n{tables.nepali_found(result)}\n")


if __name__ == "__main__":
    main()

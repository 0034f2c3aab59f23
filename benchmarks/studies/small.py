"""How good the models of recipes/small are, and what they cost.

    xlm prepare --config recipes/small/prepare.yaml
    xlm pretrain --config recipes/small/mlm.yaml
    xlm pretrain --config recipes/small/mlm+tlm.yaml
    python -m benchmarks.studies.small --models runs/small

Reads the metrics of finished runs: the last held-out perplexity of each language beside its unigram
model's on the same cells, tokens seen, and the run's seconds (of the clock, evaluations included).
``--quick`` trains models of a few updates first, on the corpus that ships.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.support import downstream, toy
from xlm.errors import ConfigError
from xlm.training import checkpoint
from xlm.training.journal import METRICS, read_metrics
from xlm.training.restore import CHECKPOINTS

RUNS = ("mlm", "mlm+tlm", "mlm+clm", "clm")


def rows(run: Path) -> list[dict[str, Any]]:
    """Return a line a stream of one run; raise ConfigError if the run has not ended."""
    lines = read_metrics(run / METRICS)
    if not any(line["event"] == "end" for line in lines):
        raise ConfigError(f"{run} has not ended: train it with the recipe of its name")
    last = [line for line in lines if line["event"] == "valid"][-1]
    seconds = next(line["seconds"] for line in reversed(lines) if line["event"] == "end")
    found = checkpoint.latest(run / CHECKPOINTS).loaded
    tokens = sum(found.state["train_state"]["tokens"].values()) if found is not None else 0
    return [
        {
            "run": run.name, "text": stream, "perplexity": round(own["perplexity"], 1),
            "unigram model": round(own["unigram_perplexity"], 1),
            "times lower": round(own["unigram_perplexity"] / own["perplexity"], 1),
            "tokens seen, million": round(tokens / 1e6, 1), "s": round(seconds),
        }
        for stream, own in last.items()
        if isinstance(own, dict) and "unigram_perplexity" in own
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=Path("runs/small-figures"))
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.models = toy.models(arguments.folder / "models")
    names = [name for name in RUNS if (arguments.models / name / METRICS).exists()]
    if not names:
        raise ConfigError(f"{arguments.models} holds none of the runs {', '.join(RUNS)}")
    table = [line for name in names for line in rows(arguments.models / name)]
    path = downstream.write(
        "small", {"rows": table}, trial=arguments.quick, folder=arguments.folder
    )
    downstream.show("small", path)


if __name__ == "__main__":
    main()

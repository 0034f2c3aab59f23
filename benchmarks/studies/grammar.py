"""Minimal pairs of a small grammar of agreement: causal and masked models, and random weights.

    python -m benchmarks.studies.grammar --folder runs/grammar

Both models are tiny and are trained on the same sentences (support/grammar.py) for equally many
updates; the pairs have nouns between subject and verb that are all of the other number, in
combinations that no training sentence has. A model that is finished is not trained again.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import xlm
from benchmarks.studies.learning import kept
from benchmarks.support import downstream, grammar, record
from xlm.analysis.minimal_pairs import by_construction, judge
from xlm.analysis.nulls import untrained
from xlm.model.config import ModelConfig
from xlm.objective import Objective
from xlm.objectives.causal import CausalLM
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import Optimizer, Run, Schedule, pretrain

ENGLISH = "en"
OBJECTIVES: dict[str, Objective] = {
    "CLM": CausalLM(languages=[ENGLISH], rows=32, length=32),
    "MLM": MaskedLM(languages=[ENGLISH], rows=32, length=32, frequency_exponent=0),
}


def prepared(folder: Path, num: int) -> Path:
    """Return prepared text of the grammar, made once."""
    data = folder / "data"
    if not data.exists():
        folder.mkdir(parents=True, exist_ok=True)
        files = {}
        for split, seed, lines in (("train", 0, num), ("valid", 1, max(20, num // 50))):
            files[split] = folder / f"{split}.txt"
            own = grammar.training_lines(lines, seed)
            files[split].write_text("\n".join(own) + "\n", encoding="utf-8")
        train, valid = ({ENGLISH: str(files[split])} for split in ("train", "valid"))
        prepare(
            Prepare(
                folder=str(data),
                text=Texts(train=train, valid=valid),
                vocabulary=Vocabulary(kind="fastbpe", size=1000),
                workers=1,
            )
        )
    return data


def one_model(
    data: Path, folder: Path, name: str, steps: int, seed: int, num_pairs: int
) -> dict[str, Any]:
    """Train a model; return its figures by construction, and those of random weights."""
    started = time.perf_counter()
    pretrain(
        Run(
            data=str(data), folder=str(folder), objectives={name.lower(): OBJECTIVES[name]},
            model=ModelConfig(preset="rotary-tiny", dim=64, num_layers=2, num_heads=4, dropout=0.0),
            steps=steps, seed=seed, group_size=1,
            optimizer=Optimizer(kind="muon", betas=(0.9, 0.98), weight_decay=0.01),
            schedule=Schedule(kind="linear", peak_lr=4e-3, warmup_steps=min(50, steps // 4)),
            evaluate_every=steps, save_every=steps, tensorboard=False, device="cpu",
        )
    )  # fmt: skip
    seconds = time.perf_counter() - started
    model = xlm.load(folder)
    pairs = grammar.minimal_pairs(num_pairs)
    found: dict[str, Any] = {"seconds": round(seconds, 1)}
    for kind, own in (("trained", model), ("random weights", untrained(model, seed))):
        figures = by_construction(pairs, judge(own, pairs, ENGLISH))
        found[kind] = {
            part: {name: estimate.as_json() for name, estimate in figures_of.items()}
            for part, figures_of in figures.items()
        }
    return found


def rows_of(found: dict[str, dict[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row for each construction: the least accuracy of the seeds, and random weights."""
    rows = []
    for construction in grammar.CONSTRUCTIONS:
        row: dict[str, Any] = {"construction": construction}
        for name, seeds in found.items():
            own = [seed["trained"][construction]["accuracy"]["value"] for seed in seeds.values()]
            row[name] = f"{sum(own) / len(own):.3f} ({min(own):.3f} to {max(own):.3f})"
        for name, seeds in found.items():
            fresh = [seed["random weights"][construction]["accuracy"] for seed in seeds.values()]
            inside = sum(own["low"] <= 0.5 <= own["high"] for own in fresh)
            mean = sum(own["value"] for own in fresh) / len(fresh)
            row[f"{name}, random weights"] = f"{mean:.3f} (.5 in {inside} of {len(fresh)})"
        first = next(iter(found.values()))
        coverage = next(iter(first.values()))["trained"][construction]["coverage"]["value"]
        row["coverage"] = f"{coverage:.2f}"
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/grammar"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--sentences", type=int, default=40_000, help="of training text")
    parser.add_argument("--pairs", type=int, default=500, help="of each construction")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it with four updates")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    folder = arguments.folder
    if arguments.quick:
        arguments.steps, arguments.sentences, arguments.pairs, arguments.seeds = 4, 300, 10, [0]
    data = prepared(folder, arguments.sentences)
    found: dict[str, dict[int, dict[str, Any]]] = {name: {} for name in OBJECTIVES}
    for seed in arguments.seeds:
        for name in OBJECTIVES:
            place = f"{name}-{seed}-{arguments.steps}"
            found[name][seed] = kept(
                folder / f"figures/{place}.json",
                lambda n=name, s=seed, p=place: one_model(  # type: ignore[misc]
                    data, folder / p, n, arguments.steps, s, arguments.pairs
                ),
            )
    result = {"updates": arguments.steps, "rows": rows_of(found), "seeds": found}
    record.write("grammar", result, folder if arguments.quick else None)
    for row in result["rows"]:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

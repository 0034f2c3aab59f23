"""Two readings of MMTE's learning rates for Adafactor, in one small bilingual model.

    python -m benchmarks.studies.adafactor_readings --folder runs/adafactor-readings

The paper gives (3.0, 40k): a rate of 3 x min(t / 40000^1.5, t^-0.5). It does not say whether the
rate is multiplied by 1/sqrt(width) too, as in Lingvo's public schedule of these numbers. Two
readings are of usual size: without the factor and steps in proportion to the RMS of each tensor,
as the recipes have it, or with the factor and steps not scaled. Both train a translator between
English and one language of many_languages_lab.py for equally many updates, at the peaks of two of
the paper's rates, reached after a tenth of the updates; AdamW stands beside them. Everything that
is finished is not run again; ``--quick`` tries a tiny size.
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.studies.language_token import arms
from benchmarks.studies.learning import kept
from benchmarks.support import downstream
from benchmarks.support import many_languages_lab as laboratory
from benchmarks.support.many_languages_lab import Lab, Size
from xlm.pretrain import Optimizer, Run, Schedule, pretrain

RATES = {"(3.0, 40k)": 1.5e-2, "(0.2, 5k)": 2.8e-3}
"""Peaks of the paper's rates, without the factor."""
SCALED, PLAIN, ADAMW = "scaled by RMS", "times 1/sqrt(width), not scaled", "AdamW"


def optimizer(reading: str) -> Optimizer:
    """Return the optimizer of a reading."""
    if reading == ADAMW:
        return Optimizer(betas=(0.9, 0.98), max_grad_norm=1.0)
    return Optimizer(
        kind="lingvo-adafactor", max_tensor_grad_norm=1.0, update_clip=1.0,
        scale_by_parameter=reading == SCALED, max_grad_norm=0.0,
    )  # fmt: skip


def rows_of(dim: int) -> list[tuple[str, str, float]]:
    """Return reading, rate of the paper and peak of each row."""
    found = [
        (reading, name, peak * (1.0 if reading == SCALED else 1 / math.sqrt(dim)))
        for name, peak in RATES.items()
        for reading in (SCALED, PLAIN)
    ]
    return [*found, (ADAMW, "", 2e-3)]


def measure(lab: Lab, place: Path, reading: str, peak: float) -> dict[str, Any]:
    """Train one row; return held-out nats by direction and the course of the training loss."""
    size = lab.size
    warmup = max(1, size.updates // 10)
    result = pretrain(
        Run(
            data=str(lab.data), folder=str(place), steps=size.updates, group_size=2,
            objectives=dict(arms(size)["xlm"].objectives),
            model=laboratory.shape(size, decoder=True, vectors=True),
            optimizer=optimizer(reading),
            schedule=Schedule(
                kind="inverse-sqrt", peak_lr=peak, warmup_steps=warmup,
                warmup_init_lr=peak / warmup,
            ),
            report_every=max(1, size.updates // 4), evaluate_every=size.updates,
            save_every=size.updates, keep_last=1, tensorboard=False, device="cpu",
        )
    )  # fmt: skip
    if result.state.step < size.updates:
        raise SystemExit(f"stopped at update {result.state.step}; the same command resumes")
    return {name: own["nats"] for name, own in result.figures.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/adafactor-readings"))
    parser.add_argument("--only", nargs="+", help="readings, or how their names begin")
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try a tiny size")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    size = replace(
        laboratory.QUICK if arguments.quick else replace(Size(), updates=arguments.updates),
        languages=1,
    )
    lab = Lab(arguments.folder, size)
    laboratory.make_data(lab)
    rows = []
    wanted = downstream.chosen(arguments.only, (SCALED, PLAIN, ADAMW))
    for at, (reading, rate, peak) in enumerate(rows_of(size.dim)):
        if reading not in wanted:
            continue
        place = arguments.folder / f"row-{at}"
        sys.stderr.write(f"== {reading}, {rate}\n")
        nats = kept(
            place.with_suffix(".json"),
            lambda: measure(lab, place, reading, peak),  # noqa: B023
        )
        rows.append({
            "optimizer": ADAMW if reading == ADAMW else f"Adafactor, {reading}",
            "rate of the paper": rate, "peak": f"{peak:.2g}",
            **{f"nats, {name.partition('/')[2]}": round(own, 3) for name, own in nats.items()},
        })  # fmt: skip
    result = {"rows": rows, "width": size.dim, "updates": size.updates}
    trial = arguments.quick or bool(arguments.only)
    path = downstream.write("adafactor_readings", result, trial=trial, folder=arguments.folder)
    downstream.show("adafactor_readings", path)


if __name__ == "__main__":
    main()

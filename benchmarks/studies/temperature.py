"""Table 1 of MMTE where the truth is known: BLEU by the size of a pair, at three temperatures.

    python -m benchmarks.studies.temperature --folder runs/temperature

Four languages that are English in other alphabets (many_languages_lab.py), with fewer and fewer
pairs each, are translated both ways by one model at temperatures 1, 5 and 100, for equally many
updates. Beside BLEU stands the share of the sentences that each pair is due and got: passes over
its pairs, times their number. Everything that is finished is not run again; ``--quick`` tries a
tiny size.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from benchmarks.studies.learning import kept
from benchmarks.support import many_languages_lab as laboratory
from benchmarks.support import seeded_study
from benchmarks.support.many_languages_lab import ENGLISH, Arm, Lab, Size
from xlm.data.sampling import Sampling
from xlm.training.journal import METRICS, read_metrics

TEMPERATURES = (1.0, 5.0, 100.0)
PARTS = (1, 2, 5, 20)
"""A language has one such part of the pairs."""


def measure(lab: Lab, temperature: float) -> dict[str, Any]:
    """Train at a temperature; return BLEU by direction, and the share of sentences of each."""
    sampling = Sampling(rule="temperature", temperature=temperature, per="sentence")
    arm = Arm({"mt": laboratory.translation(lab.size, "target", sampling=sampling)})
    name = f"temperature {temperature:g}"
    path = laboratory.trained(lab, {name: arm}, name, 0)
    (end,) = (line for line in read_metrics(path.parent / METRICS) if line["event"] == "end")
    pairs = dict(zip(laboratory.spoken(lab.size), lab.most, strict=True))
    seen = {
        own["stream"]: own["epochs"] * sum(pairs.get(side, 0) for side in own["stream"].split("-"))
        for own in end["shares"]
    }
    shares = {name: num / sum(seen.values()) for name, num in seen.items()}
    return {"bleu": laboratory.translation_figures(lab, path)["bleu"], "shares": shares}


def rows_of(lab: Lab, found: dict[float, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row a language: its pairs, and shares and BLEU at each temperature."""
    rows = []
    for language, num in zip(laboratory.spoken(lab.size), lab.most, strict=True):
        row: dict[str, Any] = {"language": language, "pairs": num}
        into, out = f"{language}-{ENGLISH}", f"{ENGLISH}-{language}"
        for temperature, own in found.items():
            share = 100 * (own["shares"][into] + own["shares"][out])
            due = Sampling(rule="temperature", temperature=temperature).probabilities(
                dict(zip(laboratory.spoken(lab.size), lab.most, strict=True))
            )[language]
            row[f"T {temperature:g}: due, %"] = f"{100 * due:.1f}"
            row[f"drawn, %, T {temperature:g}"] = f"{share:.1f}"
            row[f"BLEU into en, T {temperature:g}"] = f"{own['bleu'][into]:.1f}"
            row[f"BLEU out of en, T {temperature:g}"] = f"{own['bleu'][out]:.1f}"
        rows.append(row)
    return rows


def main() -> None:
    parser = seeded_study.parser_of(__doc__, "runs/temperature", seeds=False)
    parser.add_argument("--temperatures", type=float, nargs="+", default=TEMPERATURES)
    arguments = seeded_study.begun(seeded_study.with_size(parser, Size()))
    size = seeded_study.size_of(arguments, Size(), languages=len(PARTS))
    lab = Lab(arguments.folder, size, most=tuple(size.pairs // part for part in PARTS))
    laboratory.make_data(lab)
    found = {}
    for temperature in arguments.temperatures:
        sys.stderr.write(f"== temperature {temperature:g}\n")
        path = lab.folder / "figures" / f"{temperature:g}.json"
        found[temperature] = kept(path, lambda: measure(lab, temperature))  # noqa: B023
    result = {"rows": rows_of(lab, found), "size": asdict(size), "seeds": 1}
    seeded_study.finish("temperature", result, arguments)


if __name__ == "__main__":
    main()

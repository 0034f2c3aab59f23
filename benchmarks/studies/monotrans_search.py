"""How large the laboratory of MonoTrans must be to show anything: one seed, by shape and budget.

    python -m benchmarks.studies.monotrans_search --text data/mono/en/train.txt

English and its respelled other half (``support/language_lab.py``), words alone, in the order of
English: what share of the pieces of the new table lies nearest to its true twin, for several
vocabularies, shapes, rates and numbers of updates. ``studies/monotrans_lab.py`` takes the settings
that were chosen here. Everything that is finished is not run again; ``--quick`` tries it on lines
drawn from the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import xlm
from benchmarks.studies.learning import kept
from benchmarks.support import downstream, record
from benchmarks.support import language_lab as lab
from xlm.add_language import add_language
from xlm.data.corpora import Corpora

FREQUENT = 100
BASE = replace(lab.ENGLISH, rate=3e-3, precision="bf16", twin=False)
"""With a vocabulary that is learned on respelled text: nine of ten pieces have a twin."""
LEARNED = {"positions": "learned", "plain_first": True}
SMALL = {"dim": 64, "num_layers": 2}
TRIALS: dict[str, dict[str, Any]] = {
    "rotary": {},
    "rate 1e-2": {"rate": 1e-2},
    "64 wide, 2 layers": SMALL,
    "64 wide, 2 layers, rate 1e-2": {**SMALL, "rate": 1e-2},
    "64 wide, 2 layers, rate 2e-2": {**SMALL, "rate": 2e-2},
    "64 wide, 2 layers, rate 2e-2, 750 updates": {**SMALL, "rate": 2e-2, "steps": 750},
    "learned positions, rate 1e-2": {**LEARNED, "rate": 1e-2},
    "learned positions, rows of 12, rate 1e-2": {
        **LEARNED,
        "rows": 160,
        "length": 12,
        "rate": 1e-2,
    },
}


def tried(folder: Path, lines: list[str], size: lab.Size) -> dict[str, Any]:
    """Return the figures of one setting; models and text are shared by those that can."""
    own = folder / f"{size.vocabulary}-{size.lines}"
    lab.write_texts(own, lines, size)
    place = own / f"{size.dim}-{size.num_layers}-{size.positions}-{size.rows}-{size.length}"
    place = place.with_name(f"{place.name}-{size.old_steps}-{size.old_rate:g}")
    place.mkdir(parents=True, exist_ok=True)
    if not (place / "text").exists():
        (place / "text").symlink_to((own / "text").resolve())
    lab.old_model(place, size, 0)
    config = lab.adding(place, size, f"{size.steps}-{size.rate:g}", seed=0, body=0)
    report = add_language(config)
    (one,) = report["tries"]
    model = xlm.load(Path(config.folder) / "model")
    counts = Corpora.open(Path(config.folder) / "data").counts()
    return {
        "nats of English": report["old"]["nats"], "gain of English": report["old"]["gain"],
        "nats": one["nats"], "unigram nats": one["unigram_nats"], **one["signs"],
        "twins": lab.twins_found(model), "frequent twins": lab.twins_found(model, counts, FREQUENT),
        "seconds": report["seconds"]["training"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, help="English, a sentence a line")
    parser.add_argument("--folder", type=Path, default=Path("runs/monotrans-search"))
    parser.add_argument("--only", nargs="+", help="settings, or how their names begin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it with four updates")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    rows = []
    for name in downstream.chosen(arguments.only, TRIALS):
        size = replace(lab.QUICK if arguments.quick else BASE, **TRIALS[name])
        if arguments.quick:
            size = replace(lab.QUICK, rate=size.rate)
        lines = lab.english(arguments.text, size)
        path = arguments.folder / f"figures/{name.replace(', ', '-').replace(' ', '-')}.json"
        found = kept(path, lambda: tried(arguments.folder, lines, size))  # noqa: B023
        rows.append({"trial": name, **vars(size), **found})
        sys.stdout.write(f"{json.dumps(rows[-1])}\n")
    trial = arguments.quick or bool(arguments.only)
    record.write("monotrans_search", {"rows": rows}, arguments.folder if trial else None)


if __name__ == "__main__":
    main()

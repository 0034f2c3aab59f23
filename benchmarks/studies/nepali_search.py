"""Rates, optimizer and stages for the rows of the Nepali study, one seed each.

    python -m benchmarks.studies.nepali_search --text data/mono --folder runs/nepali-search

Every trial is a model of ``xlm reproduce nepali`` with other settings of training, judged by nats
a subword of Nepali validation text. What was best is in ``xlm.reproduce.cells``. A finished trial
is not run again; ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.support import record
from benchmarks.support.tables import plain
from xlm.reproduce.cells import ADAMW, OBJECTIVE, TRAINING, Cell, Shape, Training
from xlm.reproduce.config import Reproduce
from xlm.reproduce.text import StudyText, open_text
from xlm.run.launch import finish_run, sole_training


@dataclass(frozen=True)
class Trial:
    """A row of the table in one shape, trained in one way."""

    shape: Shape
    row: str
    optimizer: str
    rate: float
    first: int = 600
    share: float = 0.75
    dropout: float = 0.1

    @property
    def training(self) -> Training:
        """The settings that ``Cell.run`` takes."""
        return Training(
            model={**TRAINING[self.shape].model, "dropout": self.dropout},
            optimizer={**ADAMW, "kind": self.optimizer},
            rate=self.rate, first=self.first, share=self.share,
        )  # fmt: skip

    @property
    def name(self) -> str:
        """The folder of its run."""
        stages = f"-{self.first}-{self.share:g}" if "+" in self.row else ""
        return (
            f"{self.shape}-{self.row}-{self.optimizer}-{self.rate:g}{stages}-drop{self.dropout:g}"
        )


TRIALS = [
    Trial("rotary", "ne+hi", "muon", 2e-3),
    Trial("rotary", "ne", "adamw", 2e-3),
    Trial("rotary", "ne+hi", "adamw", 2e-3),
    Trial("rotary", "ne", "muon", 2e-3),
    Trial("rotary", "ne+hi", "muon", 2e-3, share=1.0),
    Trial("rotary", "ne", "adamw", 4e-3, dropout=0.2),
    Trial("2019", "ne+hi", "adamw", 1e-3),
    Trial("2019", "ne+hi", "adamw", 2e-3),
    Trial("2019", "ne", "adamw", 2e-3),
]


def run(trial: Trial, config: Reproduce, text: StudyText) -> dict[str, Any]:
    """Train one trial, or read its figures if it is finished."""
    own = Path(config.folder) / "trials" / trial.name
    result = own / "trial.json"
    if result.exists():
        found: dict[str, Any] = json.loads(result.read_text(encoding="utf-8"))
        return found
    cell = Cell(trial.shape, tuple(trial.row.split("+")), 0, text.sentences)
    corpora = text.corpora(cell.languages, cell.sentences, shifted=False)
    settings = cell.run(config, own, corpora, trial.training)
    started = time.process_time()
    with sole_training(settings) as parallel:
        history = finish_run(settings, corpora, parallel, origin={})
    first = settings.stopping.from_step
    nats = {step: own[f"{OBJECTIVE}/ne"]["nats"] for step, own in history.valid.items()}
    best = min((step for step in nats if step >= first), key=lambda step: nats[step])
    figures = {
        "row": trial.row,
        "shape": trial.shape,
        "optimizer": trial.optimizer,
        "rate": trial.rate,
        "first": first,
        "share": trial.share if first else 1.0,
        "dropout": trial.dropout,
        "validation nats": nats[best],
        "best update": best,
        "last update": max(nats),
        "processor seconds": round(time.process_time() - started),
    }
    result.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    for name in ("checkpoints", "model"):
        shutil.rmtree(own / name, ignore_errors=True)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", help="holds LANG/{train,valid,test}.txt")
    parser.add_argument("--folder", type=Path, default=Path("runs/nepali-search"))
    parser.add_argument("--only", nargs="*", help="trials whose names begin with one of these")
    parser.add_argument("--report", action="store_true", help="only write what is finished")
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    given = parser.parse_args()
    config = Reproduce(
        study="nepali", folder=str(given.folder), text=None if given.quick else given.text,
        quick=given.quick, sizes=[],
    )  # fmt: skip
    text = open_text(config)
    wanted = [
        trial for trial in TRIALS if not given.only or trial.name.startswith(tuple(given.only))
    ]
    if given.report:
        wanted = [t for t in wanted if (given.folder / "trials" / t.name / "trial.json").exists()]
    rows = [run(trial, config, text) for trial in wanted]
    rows.sort(key=lambda row: (row["shape"], row["row"], row["validation nats"]))
    whole = not given.quick and not given.only
    record.write("nepali_search", {"rows": rows}, None if whole else given.folder)
    sys.stdout.write(plain({"rows": rows}) + "\n")


if __name__ == "__main__":
    main()

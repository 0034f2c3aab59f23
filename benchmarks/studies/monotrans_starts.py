"""How a further language's table starts best, how often the guard fires, and what best of 3 hides.

    python -m benchmarks.studies.monotrans_starts --data data --folder runs/monotrans-starts

A small model of English and Hindi, and tables for Nepali with every start and its shuffled null:
updates until the nats that ``random`` ends with, and the nats at the end. Then twenty tables of one
start: how often the guard fires, and how much better the best of three looks than the mean.
``--data`` holds mono/LANG/train.txt and valid.txt, and parallel/en-ne/train.LANG. Everything that
is finished is not run again; ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

from benchmarks.studies.learning import kept
from benchmarks.support import downstream, record, toy
from xlm.add_language import AddLanguage, NewText, add_language
from xlm.model.config import ModelConfig
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer, Run, Schedule
from xlm.run.selection import mean_of
from xlm.training.journal import METRICS, read_metrics

OLD, NEW = ("en", "hi"), "ne"
MASKS: dict[str, Any] = {
    "frequency_exponent": 0.0, "mask_rate": 0.3, "evaluation_mask_rate": 0.15,
    "evaluation_folds": 1,
}  # fmt: skip
STARTS = {
    "random": {"start": "random"},
    **{
        f"{rule}{', shuffled' if null else ''}": {"start": rule, "shuffled": null}
        for rule in ("copy", "pieces", "focus", "aligned")
        for null in (False, True)
    },
    "mapped": {"start": "mapped"},
}  # fmt: skip
HELD_OUT = 200
"""Held-out lines of a language."""
MANY, OF = 20, 3
"""Tables of one start, and tries of which the best is kept."""


def text_of(folder: Path, data: Path, language: str, lines: int) -> NewText:
    """Return the first lines of a language's text, written apart."""
    paths = {}
    for split, most in (("train", lines), ("valid", HELD_OUT)):
        path = folder / f"text/{language}.{split}.txt"
        if not path.exists():
            own = downstream.lines_of(data / f"mono/{language}/{split}.txt", most)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(f"{line}\n" for line in own), encoding="utf-8")
        paths[split] = str(path)
    return NewText(**paths)


def body(folder: Path, data: Path, languages: Sequence[str], arguments: argparse.Namespace,
         seed: int = 0) -> Path:  # fmt: skip
    """Pretrain a model of some languages, unless it is there; return its run."""
    name = "-".join(languages)
    place, prepared = folder / f"body-{name}-{seed}", folder / f"data-{name}"
    if (place / "model" / "SHA256SUMS").exists():
        return place
    if not (prepared / "corpora.json").exists():
        texts = {one: text_of(folder, data, one, arguments.lines) for one in languages}
        prepare(
            Prepare(
                folder=str(prepared),
                text=Texts(
                    train={one: text.train for one, text in texts.items()},
                    valid={one: text.valid for one, text in texts.items()},
                ),
                vocabulary=Vocabulary(size=arguments.vocabulary, begins=True),
            )
        )  # fmt: skip
    mlm = MaskedLM(languages=list(languages), rows=32, length=64, **MASKS)
    steps = arguments.body_steps
    pretrain(
        Run(
            data=str(prepared), folder=str(place), objectives={"lm": mlm}, seed=seed,
            model=ModelConfig(
                preset="rotary-tiny", dim=arguments.dim, dropout=0.0, attention_dropout=0.0,
                language_embeddings=False,
            ),
            steps=steps, group_size=1, precision="auto",
            optimizer=Optimizer(
                kind="muon", betas=(0.9, 0.98), weight_decay=0.01, max_grad_norm=1.0
            ),
            schedule=Schedule(kind="linear", peak_lr=4e-3, warmup_steps=min(100, steps // 4)),
            report_every=100, evaluate_every=steps, save_every=max(1, steps // 3), keep_last=1,
            tensorboard=False, device="cpu",
        )
    )  # fmt: skip
    return place


def vocabulary_of(folder: Path, text: NewText, language: str, size: int) -> Vocabulary:
    """Learn a language's vocabulary, unless it is there; all its tables have the same."""
    place = folder / f"vocabulary-{language}"
    if not (place / "corpora.json").exists():
        prepare(
            Prepare(
                folder=str(place), text=Texts(train={language: text.train}),
                vocabulary=Vocabulary(size=size, begins=True), workers=1,
            )
        )  # fmt: skip
    return Vocabulary(folder=str(place))


def table(
    place: Path, model: Path, text: NewText, arguments: argparse.Namespace, seed: int,
    language: str = NEW, **changes: Any,
) -> AddLanguage:  # fmt: skip
    """Return the settings of a table."""
    steps = arguments.steps
    given: dict[str, Any] = {
        "model": str(model), "folder": str(place), "language": language, "text": text,
        "vocabulary": vocabulary_of(arguments.folder, text, language, arguments.vocabulary),
        "steps": steps, "rows": 32, "length": 64, "group_size": 1, "mask_rate": 0.3, "seed": seed,
        "device": "cpu", "evaluate_every": max(1, steps // 10), "precision": "auto",
        "schedule": Schedule(
            kind="linear", peak_lr=arguments.rate, warmup_steps=min(100, steps // 4)
        ),
    }  # fmt: skip
    return AddLanguage(**{**given, **changes})


def learned(config: AddLanguage) -> dict[str, Any]:
    """Return the nats of a table at each evaluation, those of a unigram model, and the alarms."""
    report = add_language(config)
    (tried,) = report["tries"]
    stream = f"lm/{config.language}"
    lines = read_metrics(Path(config.folder) / f"seed-{config.seed}" / METRICS)
    valid = {str(one["step"]): one[stream]["nats"] for one in lines if one["event"] == "valid"}
    return {
        "nats": valid, "unigram nats": tried["unigram_nats"], "signs": tried["signs"],
        "rows": tried["start"], "fired": [line.split(":")[0] for line in tried["fired"]],
    }  # fmt: skip


def updates_until(nats: Mapping[str, float], goal: float) -> int | None:
    """Return the first evaluated update with as few nats as ``goal``; None if there is none."""
    return next((int(step) for step, value in nats.items() if value <= goal), None)


def compared(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row for each start: the last nats, and the updates until those of ``random``."""
    goals = [last_of(one) for one in found.get("random", [])]
    rows = []
    for name, own in found.items():
        last = [last_of(one) for one in own]
        less = ""
        if name != "random" and len(goals) == len(last):
            less = _shown(mean_of([one - goal for one, goal in zip(last, goals, strict=True)]))
        needed = [updates_until(one["nats"], goal) for one, goal in zip(own, goals, strict=False)]
        reached = [step for step in needed if step is not None]
        rows.append(
            {
                "start": name, "seeds": len(own), "nats": _shown(mean_of(last)),
                "against random": less,
                "unigram nats": round(own[0]["unigram nats"], 3),
                "updates until random's": f"{fmean(reached):.0f}" if reached else "not reached",
                "reached": f"{len(reached)} of {len(needed)}",
                "the guard fired": f"{sum(bool(one['fired']) for one in own)} of {len(own)}",
                "rows by rule": ", ".join(f"{num} {rule}" for rule, num in own[0]["rows"].items()),
            }
        )  # fmt: skip
    return rows


def last_of(one: Mapping[str, Any]) -> float:
    """Return the nats of a table's last evaluation."""
    return float(list(one["nats"].values())[-1])


def many(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how often the guard fired, and the mean beside the expected best of ``OF`` tables."""
    last = [last_of(one) for one in found]
    best = [min(own) for own in combinations(last, min(OF, len(last)))]
    return {
        "tables": len(found),
        "the guard fired": sum(bool(one["fired"]) for one in found),
        "mean nats": round(fmean(last), 3),
        f"best of {OF}, expected": round(fmean(best), 3),
        "fewest": round(min(last), 3), "most": round(max(last), 3),
    }  # fmt: skip


def _shown(own: Any) -> str:
    return f"{own.mean:.3f}" + ("" if own.interval is None else f" ±{own.interval:.3f}")


def parser_of(description: str, folder: str) -> argparse.ArgumentParser:
    """Return a parser of the settings that the studies of real text share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folder", type=Path, default=Path(folder))
    parser.add_argument("--only", nargs="+", help="arms, or how their names begin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lines", type=int, default=20_000, help="lines of a language")
    parser.add_argument("--vocabulary", type=int, default=4000, help="pieces of a vocabulary")
    parser.add_argument("--dim", type=int, default=128, help="width of the bodies")
    parser.add_argument("--body-steps", type=int, default=1000, help="updates of a body")
    parser.add_argument("--steps", type=int, default=600, help="updates of a table")
    parser.add_argument("--rate", type=float, default=1e-2, help="learning rate of a table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    return parser


def shrunk(arguments: argparse.Namespace) -> None:
    """Make a trial of the settings, in place."""
    arguments.data, arguments.seeds = toy.data(arguments.folder), arguments.seeds[:1]
    arguments.vocabulary, arguments.dim = 500, 16
    arguments.body_steps = arguments.steps = 2


def main() -> None:
    parser = parser_of(__doc__.splitlines()[0], "runs/monotrans-starts")
    parser.add_argument("--many", default="random", choices=STARTS, help="start of the many tables")
    parser.add_argument("--part", action="store_true", help="record what --only names")
    parser.add_argument("--tables", type=int, default=MANY, help="how many these are; 0: none")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    num = arguments.tables
    if arguments.quick:
        shrunk(arguments)
        num = 2
    folder, data = arguments.folder, arguments.data
    model = body(folder, data, OLD, arguments)
    text = text_of(folder, data, NEW, arguments.lines)
    pair = {f"en-{NEW}": [str(data / f"parallel/en-{NEW}/train.{one}") for one in ("en", NEW)]}

    def tried(name: str, seed: int) -> dict[str, Any]:
        place = folder / f"{name.replace(', ', '-')}-{seed}"
        own = {**STARTS[name], **({"pairs": pair} if name.startswith("aligned") else {})}
        config = table(place, model, text, arguments, seed, **own)
        return kept(folder / f"figures/{place.name}.json", lambda: learned(config))

    found: dict[str, list[dict[str, Any]]] = {}
    for seed in arguments.seeds:  # the whole of a seed before the next
        for name in downstream.chosen(arguments.only, STARTS):
            found.setdefault(name, []).append(tried(name, seed))
    figures: dict[str, Any] = {"rows": compared(found)}
    if num and not arguments.only:
        own = [tried(arguments.many, seed) for seed in range(num)]
        figures["many"] = [{"start": arguments.many, **many(own)}]
    trial = arguments.quick or bool(arguments.only) and not arguments.part
    record.write("monotrans_starts", figures, folder if trial else None)
    for row in (*figures["rows"], *figures.get("many", ())):
        sys.stdout.write(f"{json.dumps(row, ensure_ascii=False)}\n")


if __name__ == "__main__":
    main()

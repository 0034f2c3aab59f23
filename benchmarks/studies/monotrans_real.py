"""MonoTrans on real text, small: tables for Nepali, Hindi and Swahili in small bodies.

    python -m benchmarks.studies.monotrans_real --data data --folder runs/monotrans-real

Bodies of English alone, and of English and Hindi, get tables for the languages that they lack;
those in the first start from aligned sentences too, if there are any. Beside them stand training
everything on with an extended vocabulary (and what it costs English), and the old vocabulary as it
is (``stand_in``): bits a byte of each. From the English body, tasks that are learned in English
alone, words frozen: parts of speech in Hindi, entities and topics in Nepali and Hindi, each beside
the commonest answer. ``--data`` holds mono, parallel, ud, ner, classify and nli/xnli (whose Swahili
sentences are the only text of it). Everything that is finished is not run again; ``--quick`` tries
it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.studies.finetuning_real import STUDIES
from benchmarks.studies.learning import kept
from benchmarks.studies.monotrans_starts import (
    MASKS,
    body,
    learned,
    parser_of,
    shrunk,
    table,
    text_of,
)
from benchmarks.support import downstream, record
from xlm.add_language import NewText
from xlm.adding.selection import task_figure
from xlm.finetune import Finetune, finetune
from xlm.interchange.finetuned import open_finetuned
from xlm.interchange.load import load
from xlm.model.pretrained import PretrainedModel
from xlm.model.score import Scoring, score
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer, Run, Schedule
from xlm.run.selection import mean_of
from xlm.training.initialization import Initialization

BODIES = {"en": ("en",), "en+hi": ("en", "hi")}
NEW = {"en": ("ne", "hi", "sw"), "en+hi": ("ne", "sw")}
TASKS = {"pos": ("hi",), "ner": ("ne", "hi"), "topics": ("ne", "hi")}
"""Tasks learned in English, and the languages that they are tested in."""
SWAHILI = "nli/xnli/sw.dev.tsv"
ALIGNED = "aligned"
"""The start by pairs, beside that without."""
SCORED = 200
"""Held-out lines that are scored."""


def new_text(folder: Path, data: Path, language: str, lines: int) -> NewText | None:
    """Return a new language's text; None if there is none."""
    if (data / f"mono/{language}/train.txt").exists():
        return text_of(folder, data, language, lines)
    if language != "sw" or not (data / SWAHILI).exists():
        return None
    place = folder / "text/sw.train.txt"
    if not place.exists():
        rows = downstream.lines_of(data / SWAHILI, sys.maxsize)[1:]
        sentences = dict.fromkeys(cell for row in rows for cell in row.split("\t")[:2])
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text("".join(f"{one}\n" for one in sentences), encoding="utf-8")
    return NewText(train=str(place))


def bits(model: PretrainedModel, text: NewText, language: str) -> float:
    """Return bits a byte of the first held-out lines: each token masked once, a seventh at a time.

    So vocabularies can be compared. Lines are those that end the training text if none are held
    out.
    """
    path = Path(str(text.valid or text.train))
    lines = path.read_text(encoding="utf-8").splitlines()
    lines = lines[:SCORED] if text.valid else lines[-SCORED:]
    found = score(model, lines, Scoring(language=language, kind="masked", folds=7))
    size = sum(len(line.encode()) for line in lines)
    return sum(own.nats for own in found) / math.log(2) / size


def pairs_of(data: Path, language: str) -> dict[str, list[str]]:
    """Return the files of sentences aligned with English, by the name of the pair; {} without."""
    files = [str(data / f"parallel/en-{language}/train.{one}") for one in ("en", language)]
    return {f"en-{language}": files} if all(Path(file).exists() for file in files) else {}


def table_folder(folder: Path, name: str, language: str, start: str, seed: int) -> Path:
    """Return the folder of a table; the default start is left out of its name."""
    return folder / "-".join(["table", name, language, *([start] if start else []), str(seed)])


def of_table(
    name: str, language: str, start: str, seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return bits a byte of a table and of the old vocabulary in its place, and the table's signs.

    What English has is the same, bit for bit: ``add_language`` proves it.
    """
    folder, data = arguments.folder, arguments.data
    model = body(folder, data, BODIES[name], arguments, seed)
    text = new_text(folder, data, language, arguments.lines)
    assert text is not None
    place = table_folder(folder, name, language, start, seed)
    pairs = {"start": start, "pairs": pairs_of(data, language)} if start else {}
    config = table(place, model, text, arguments, seed, language, **pairs)
    figures = learned(config)
    return {
        "bits a byte": bits(load(place / "model"), text, language),
        "of the old vocabulary": bits(load(model), text, "en"),
        "change of English": 0.0,
        "alarms": len(figures["fired"]), **figures["signs"],
    }  # fmt: skip


def trained_on(
    name: str, language: str, seed: int, arguments: argparse.Namespace
) -> dict[str, Any]:
    """Return bits a byte after training everything on with new text alone, and what English lost.

    The vocabulary is learned on both languages; new pieces start from their sub-pieces.
    """
    folder, data = arguments.folder, arguments.data
    model = body(folder, data, BODIES[name], arguments, seed)
    texts = {one: text_of(folder, data, one, arguments.lines) for one in ("en", language)}
    both = folder / f"joint-{name}-{language}"
    if not (both / "corpora.json").exists():
        prepare(
            Prepare(
                folder=str(both),
                text=Texts(
                    train={one: text.train for one, text in texts.items()},
                    valid={one: text.valid for one, text in texts.items()},
                ),
                vocabulary=Vocabulary(size=2 * arguments.vocabulary, begins=True),
            )
        )
    place = folder / f"trained-on-{name}-{language}-{seed}"
    pretrain(continued(place, both, model, language, seed, arguments))
    before, after = load(model), load(place)
    return {
        "bits a byte": bits(after, texts[language], language),
        "change of English": bits(after, texts["en"], "en") - bits(before, texts["en"], "en"),
    }


def continued(
    place: Path, data: Path, model: Path, language: str, seed: int, arguments: argparse.Namespace
) -> Run:
    """Return the run that trains everything on, on the new language alone."""
    steps = arguments.steps
    return Run(
        data=str(data), folder=str(place), seed=seed,
        objectives={"lm": MaskedLM(languages=[language], rows=32, length=64, **MASKS)},
        initialize=Initialization(
            encoder=str(model), vocabulary="extend", new_languages="mean"
        ),
        steps=steps, group_size=1, precision="auto",
        optimizer=Optimizer(weight_decay=0.01, max_grad_norm=1.0),
        schedule=Schedule(kind="linear", peak_lr=1e-3, warmup_steps=min(100, steps // 4)),
        report_every=100, evaluate_every=steps, save_every=steps, keep_last=1,
        tensorboard=False, device="cpu",
    )  # fmt: skip


def of_task(name: str, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """Learn a task in English in the English body; return figures by language, and the commonest.

    Languages are read by their tables.
    """
    folder, data = arguments.folder, arguments.data
    model = body(folder, data, BODIES["en"], arguments, seed)
    study = STUDIES[name]
    task = study.task(data, folder / "files")
    english = replace(task, files=replace(task.files, test={"en": task.files.test["en"]}))
    place = folder / f"task-{name}-{seed}"
    report = finetune(
        Finetune(
            model=str(model), folder=str(place), tasks={name: english}, frozen=["words"],
            epochs=1 if arguments.quick else study.epochs, seeds=[seed],
            evaluate_every=downstream.AT_THE_END, **downstream.settings(1e-3),
        )
    )  # fmt: skip
    found: dict[str, Any] = {
        "en": report.streams[f"{name}/en"]["chosen"].mean,
        "en, commonest": downstream.commonest(task, task.files.test["en"], "en"),
    }
    tuned = open_finetuned(place / f"seed-{seed}" / "model")
    for language in TASKS[name]:
        file = task.files.test[language]
        for start in ("", ALIGNED):
            module = table_folder(folder, "en", language, start, seed) / "module"
            if module.exists():
                figure = f"{language}, {start}" if start else language
                found[figure] = task_figure(tuned, file, tuned.task.metric, module)
                found[f"{language}, commonest"] = downstream.commonest(task, file, language)
    return found


def rows_of(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row for each arm: means over seeds with their intervals."""
    rows = []
    for name, own in found.items():
        row: dict[str, Any] = {"arm": name, "seeds": len(own)}
        for figure in own[0]:
            values = [float(one[figure]) for one in own if one.get(figure) is not None]
            if values:
                mean = mean_of(values)
                interval = "" if mean.interval is None else f" ±{mean.interval:.3f}"
                row[figure] = f"{mean.mean:.3f}{interval}"
        rows.append(row)
    return rows


def main() -> None:
    parser = parser_of(__doc__.splitlines()[0], "runs/monotrans-real")
    parser.add_argument(
        "--part", action="store_true", help="record what --only names, and all that is finished"
    )
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    if arguments.quick:
        shrunk(arguments)
    arms: dict[str, Any] = {}
    for name, languages in NEW.items():
        for language in languages:
            if new_text(arguments.folder, arguments.data, language, arguments.lines) is None:
                continue
            arms[f"{name}, table of {language}"] = (of_table, name, language, "")
            if name == "en" and pairs_of(arguments.data, language):
                arms[f"{name}, table of {language}, aligned"] = (of_table, name, language, ALIGNED)
            if (arguments.data / f"mono/{language}").exists():
                arms[f"{name}, all trained on to {language}"] = (trained_on, name, language)
    arms |= {f"task {name}": (of_task, name) for name in TASKS}
    found: dict[str, list[dict[str, Any]]] = {}
    wanted = downstream.chosen(arguments.only, arms)
    for arm, (function, *given) in arms.items():
        for seed in arguments.seeds:
            name = f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
            path = arguments.folder / f"figures/{name}.json"
            if arm in wanted or arguments.part and path.exists():
                one = kept(path, lambda: function(*given, seed, arguments))  # noqa: B023
                found.setdefault(arm, []).append(one)
    rows = rows_of(found)
    trial = arguments.quick or bool(arguments.only) and not arguments.part
    record.write("monotrans_real", {"rows": rows}, arguments.folder if trial else None)
    for row in rows:
        sys.stdout.write(f"{json.dumps(row, ensure_ascii=False)}\n")


if __name__ == "__main__":
    main()

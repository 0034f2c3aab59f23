"""MonoTrans where the truth is known: English in another alphabet, by parts and by word order.

    python -m benchmarks.studies.monotrans_lab --data data --folder runs/monotrans-lab

In the laboratory of ``support/language_lab.py``: step 2 with words alone (T02), with positions of
their own (T03) and with adapters (T05), in bodies with learned and with rotary positions, for a
language whose words stand in the order of English, with neighbors exchanged, or reversed. Beside
them the true table, a random one and one learned on shuffled words, and models of both languages
trained together (JointPair, rotary) with one vocabulary of v, of 2v, and with two of v, at equal
tokens a language. Each is asked for its nats, the signs of the guard, how many pieces lie nearest
to their twin, and for parts of speech (and entailment, with rotary positions) that were learned in
English alone, with noise on the embeddings and without (T04). The body with learned positions is
that of T03, whose opening symbol has none: pretraining reads running text, in which there is no
such symbol, so T02 has the same.
``--data`` holds mono/en/train.txt and ud/en_ewt. Everything that is finished is not run again;
``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xlm
from benchmarks.studies.learning import kept
from benchmarks.support import downstream, record, toy
from benchmarks.support import language_lab as lab
from benchmarks.support import language_lab_tasks as tasks
from xlm.add_language import AddLanguage, add_language
from xlm.adding.selection import task_figure
from xlm.data.corpora import Corpora
from xlm.interchange.finetuned import open_finetuned
from xlm.model.adapters import AdapterConfig
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import Schedule
from xlm.run.language_tables import LanguageTable
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.training.journal import METRICS, read_metrics

NOISE = 0.075
"""Of fine-tuning (MonoTrans, appendix)."""
BODIES: dict[str, dict[str, Any]] = {
    "learned": {
        "positions": "learned", "plain_first": True, "rows": 160, "length": 12, "old_steps": 2000,
        "steps": 1000,
    },
    "rotary": {"positions": "rotary", "plain_first": False},
}  # fmt: skip
"""With learned positions a body learns little from longer rows (``monotrans_search.py``)."""
TASKS = {"learned": ("pos",), "rotary": tasks.TASKS}
"""Two statements do not fit into short rows."""
FREQUENT = 100
ORDERS = lab.ORDERS[:3]
"""The dial; the fourth is the sabotage."""


@dataclass(frozen=True)
class Arm:
    """A table: in which body, of which order of words, with which parts, and how it starts."""

    body: str
    order: str = "same"
    positions: str = "shared"
    adapters: bool = False
    start: str = "copy"
    still: bool = False
    """Nothing is trained."""


ARMS = {
    "true table": Arm("learned", start="oracle", still=True),
    "random table": Arm("learned", start="random", still=True),
    "shuffled words": Arm("learned", "shuffled"),
    **{f"T02, {order}": Arm("learned", order) for order in ORDERS},
    **{f"T03, {order}": Arm("learned", order, "copy") for order in ORDERS},
    **{f"T05, {order}": Arm("learned", order, "copy", True) for order in ORDERS},
    "adapters alone, reversed": Arm("learned", "reversed", adapters=True),
    "rotary, true table": Arm("rotary", start="oracle", still=True),
    "rotary, random table": Arm("rotary", start="random", still=True),
    "rotary, shuffled words": Arm("rotary", "shuffled"),
    **{f"rotary, {order}": Arm("rotary", order) for order in ORDERS},
    "rotary, adapters, reversed": Arm("rotary", "reversed", adapters=True),
}  # fmt: skip
JOINT = {"one vocabulary of v": 1, "one vocabulary of 2v": 2, "two of v": 0}
"""JointPair: the size of the vocabulary in those of one language; 0: two of them."""


@dataclass(frozen=True)
class Tuning:
    """How tasks are learned: passes over the rows, and rows of English."""

    epochs: float = 3
    limit: int = 3000


def settings(arm: Arm, folder: Path, size: lab.Size, seed: int) -> AddLanguage:
    """Return the run of an arm's table."""
    own = folder / arm.body
    changes: dict[str, Any] = {"start": arm.start, "positions": arm.positions}
    if arm.adapters:
        changes["adapters"] = AdapterConfig(size=max(1, size.dim // 8))
    if arm.start == "oracle":
        changes["oracle"] = str(oracle(own, size, seed))
    if arm.still:
        schedule = Schedule(kind="constant", peak_lr=0.0, warmup_steps=0)
        changes |= {"steps": 1, "evaluate_every": 1, "schedule": schedule}
    name = "-".join([arm.order, arm.positions, arm.start, str(arm.adapters), str(seed)])
    return lab.adding(own, size, name, order=arm.order, seed=seed, body=seed, **changes)


def oracle(folder: Path, size: lab.Size, seed: int) -> Path:
    """Write the true twins of the new vocabulary, a piece of English each."""
    path = folder / "oracle.tsv"
    if not path.exists():
        old = xlm.load(folder / f"old-{seed}").tokenizer
        new = load_tokenizer(lab.vocabulary_of(folder, size) / "tokenizer")
        known = {piece: at for at, piece in enumerate(old.pieces) if at not in old.special_ids}
        equal = {at: known[piece] for at, piece in enumerate(new.pieces) if piece in known}
        rows = [
            f"{new.pieces[at]}\t{old.pieces[own]}\n"
            for at, own in {**equal, **lab.twins(new, old)}.items()
        ]
        path.write_text("".join(rows), encoding="utf-8")
    return path


def of_table(arm: Arm, folder: Path, size: lab.Size, seed: int, tuning: Tuning) -> dict[str, Any]:
    """Learn the table of an arm and return its figures."""
    own = folder / arm.body
    body = lab.old_model(own, size, seed)
    config = settings(arm, folder, size, seed)
    report = add_language(config)
    model = xlm.load(Path(config.folder) / "model")
    counts = Corpora.open(Path(config.folder) / "data").counts()
    (tried,) = report["tries"]
    figures = {
        "nats": tried["nats"], "unigram nats": tried["unigram_nats"], **tried["signs"],
        "nats of English": report["old"]["nats"], "order of English": report["old"]["order"],
        "twins": lab.twins_found(model), "frequent twins": lab.twins_found(model, counts, FREQUENT),
        "alarms": [line.split(":")[0] for line in tried["fired"]],
    }  # fmt: skip
    for name in TASKS[arm.body]:
        for noise in (0.0, NOISE):
            place = own / f"{name}-{seed}-{noise:g}"
            english = tasks.tuned(
                folder, size, body, place, name, noise=noise, seed=seed, **vars(tuning)
            )[lab.OLD]
            tuned_model = open_finetuned(place / f"seed-{seed}" / "model")
            file = str(tasks.path_of(folder, name, tasks.new_name(arm.order), "test"))
            module = Path(config.folder) / "module"
            figure = f"{name}, noise" if noise else name
            figures[figure] = task_figure(tuned_model, file, "accuracy", module)
            figures[f"{figure}, English"] = english
    return figures


def of_joint(num: int, folder: Path, size: lab.Size, seed: int, tuning: Tuning) -> dict[str, Any]:
    """Train one model of both languages, with equal tokens a language, and return its figures."""
    own = folder / "rotary"
    place = own / f"joint-{num}-{seed}"
    languages = [lab.OLD, lab.NEW]
    data, tables = texts_of_both(num, own, size, seed)
    run = lab.old_run(own, size, seed)
    mlm = run.objectives["lm"]
    assert isinstance(mlm, MaskedLM)
    steps = 2 * run.steps
    pretrain(
        replace(
            run, data=str(data), folder=str(place), tables=tables, steps=steps,
            objectives={"lm": replace(mlm, languages=languages)}, evaluate_every=steps,
            save_every=steps // 4 or 1,
        )
    )  # fmt: skip
    valid = [line for line in read_metrics(place / METRICS) if line["event"] == "valid"][-1]
    figures: dict[str, Any] = {
        "nats": valid[f"lm/{lab.NEW}"]["nats"], "nats of English": valid[f"lm/{lab.OLD}"]["nats"]
    }  # fmt: skip
    if not num:
        figures["twins"] = lab.twins_found(xlm.load(place))
        counts = Corpora.open(Path(str(tables[lab.NEW].data))).counts()
        figures["frequent twins"] = lab.twins_found(xlm.load(place), counts, FREQUENT)
    for name in tasks.TASKS:
        found = tasks.tuned(
            folder, size, place, place / name, name, noise=0.0, seed=seed, test=languages,
            **vars(tuning),
        )  # fmt: skip
        figures[name], figures[f"{name}, English"] = found[lab.NEW], found[lab.OLD]
    return figures


def texts_of_both(
    num: int, folder: Path, size: lab.Size, seed: int
) -> tuple[Path, dict[str, LanguageTable]]:
    """Prepare the text of both languages; return the folder, and the further table if there is one.

    ``num`` vocabularies' pieces are in one vocabulary; 0: there are two of them.
    """
    texts = {
        lab.OLD: lab.text_of(folder, lab.OLD),
        lab.NEW: lab.text_of(folder, tasks.new_name("same")),
    }
    lab.old_model(folder, size, seed)  # whose text is prepared with it
    if num:
        data, own = folder / f"joint-data-{num}", texts
        vocabulary = Vocabulary(size=num * size.vocabulary, begins=True)
    else:
        data, own = folder / "new-data", {lab.NEW: texts[lab.NEW]}
        vocabulary = Vocabulary(folder=str(lab.vocabulary_of(folder, size)))
    if not (data / "corpora.json").exists():
        prepare(
            Prepare(
                folder=str(data),
                text=Texts(
                    train={name: text.train for name, text in own.items()},
                    valid={name: text.valid for name, text in own.items()},
                ),
                vocabulary=vocabulary, workers=1,
            )
        )  # fmt: skip
    if num:
        return data, {}
    return folder / "old-data", {lab.NEW: LanguageTable(data=str(data))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/monotrans-lab"))
    parser.add_argument("--only", nargs="+", help="tables, or how their names begin")
    parser.add_argument(
        "--part", action="store_true", help="record what --only names, and all that is finished"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it with four updates")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    folder, data, size, tuning = arguments.folder, arguments.data, lab.ENGLISH, Tuning()
    text: Path | None = data / "mono/en/train.txt"
    if arguments.quick:
        data, text, size = toy.data(folder), None, lab.QUICK
        arguments.seeds, tuning = arguments.seeds[:1], Tuning(1, 60)
    lines = lab.english(text, size)
    sizes = {body: replace(size, **changes) for body, changes in BODIES.items()}
    if arguments.quick:
        sizes = {body: replace(size, positions=own.positions, plain_first=own.plain_first)
                 for body, own in sizes.items()}  # fmt: skip
    for body, own in sizes.items():
        lab.write_texts(folder / body, lines, own)
    tasks.write_tasks(folder, data / "ud/en_ewt", tuning.limit)
    found: dict[str, list[dict[str, Any]]] = {}
    wanted = downstream.chosen(arguments.only, [*ARMS, *JOINT])
    for seed in arguments.seeds:  # the whole of a seed before the next
        for name in [*ARMS, *JOINT]:
            path = folder / "figures" / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}.json"
            if name not in wanted and not (arguments.part and path.exists()):
                continue
            if name in ARMS:
                arm = ARMS[name]
                own = sizes[arm.body]
                one = kept(path, lambda: of_table(arm, folder, own, seed, tuning))  # noqa: B023
            else:
                num, own = JOINT[name], sizes["rotary"]
                one = kept(path, lambda: of_joint(num, folder, own, seed, tuning))  # noqa: B023
            found.setdefault(name, []).append(one)
    trial = arguments.quick or bool(arguments.only) and not arguments.part
    figures = {
        "sizes": {name: vars(own) for name, own in sizes.items()}, "noise": NOISE,
        "frequent": FREQUENT,
        "chance": {"twins": 1 / size.vocabulary, **{
            name: tasks.commonest(folder, name) for name in tasks.TASKS
        }},
        "tables": found,
    }  # fmt: skip
    record.write("monotrans_lab", figures, folder if trial else None)
    for name, values in found.items():
        sys.stdout.write(f"{json.dumps({'table': name, **values[-1]})}\n")


if __name__ == "__main__":
    main()

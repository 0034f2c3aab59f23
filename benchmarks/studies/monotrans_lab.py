"""MonoTrans where the truth is known: English in another alphabet, by parts and by word order.

    python -m benchmarks.studies.monotrans_lab

In the laboratory of ``support/language_lab.py``: step 2 with words alone (T02), with positions of
their own (T03) and with adapters (T05), in bodies with learned and with rotary positions, for a
language whose words stand in the order of English, with neighbors exchanged, or reversed. Beside
them the true table, a random one and one learned on shuffled words, and models of both languages
trained together (JointPair) with one vocabulary of v, of 2v, and with two of v, at equal tokens a
language. Each is asked for its nats, the signs of the guard, how many pieces lie nearest to their
twin, and for tags of words that were learned in English alone, with noise on the embeddings and
without (T04). Everything that is finished is not run again; ``--quick`` tries it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xlm
from benchmarks.studies.learning import kept
from benchmarks.support import downstream, record
from benchmarks.support import language_lab as lab
from benchmarks.support.shifted import respelled
from xlm.add_language import AddLanguage, add_language
from xlm.adding.selection import task_figure
from xlm.data.corpora import Corpora
from xlm.finetune import Finetune, finetune
from xlm.interchange.finetuned import open_finetuned
from xlm.model.adapters import AdapterConfig
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer, Schedule
from xlm.run.language_tables import LanguageTable
from xlm.run.selection import mean_of
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.training.journal import METRICS, read_metrics

NUM_TAGS, TAGGED_WORDS = 5, 6
"""Tags, and words of a line that is tagged: short enough for the models' positions."""
NOISE = 0.075
"""Of fine-tuning (MonoTrans, appendix)."""
BODIES = {
    "learned": {"plain_first": False}, "plain": {}, "rotary": {"positions": "rotary"},
}  # fmt: skip
"""Learned positions as in T02, without any on the opening symbol as from T03 on, and rotary."""
FREQUENT = 100


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
    **{f"T02, {order}": Arm("learned", order) for order in lab.ORDERS[:3]},
    **{f"T03, {order}": Arm("plain", order, "copy") for order in lab.ORDERS[:3]},
    **{f"T05, {order}": Arm("plain", order, "copy", True) for order in lab.ORDERS[:3]},
    "adapters alone, reversed": Arm("learned", "reversed", adapters=True),
    **{f"rotary, {order}": Arm("rotary", order) for order in lab.ORDERS[:3]},
    "rotary, adapters, reversed": Arm("rotary", "reversed", adapters=True),
}  # fmt: skip
JOINT = {"one vocabulary of v": 1, "one vocabulary of 2v": 2, "two of v": 0}
"""JointPair: the size of the vocabulary in those of one language; 0: two of them."""


def write_tags(folder: Path, lines: list[str], size: lab.Size) -> None:
    """Write words with tags, in English and respelled: the tag of a word is the same everywhere.

    Tags are given to words by their frequency in turn, so that each is about as common.
    """
    counts = Counter(word for line in lines for word in line.split())
    tags = {word: f"T{at % NUM_TAGS}" for at, (word, _) in enumerate(counts.most_common())}
    num = 2 * size.held_out
    half = len(lines) // 2
    parts = {"train": lines[:num], "valid": lines[half - num // 2 : half], "test": lines[-num:]}
    for split, own in parts.items():
        short = [" ".join(line.split()[:TAGGED_WORDS]) for line in own]
        for name, order in ((lab.OLD, "same"), *((new_name(o), o) for o in lab.ORDERS)):
            spell = str if name == lab.OLD else respelled
            words = [lab.in_order(line, order, at).split() for at, line in enumerate(short)]
            rows = ["".join(f"{spell(w)}\t{tags[w]}\n" for w in line) for line in words]
            path = folder / f"tags/{name}.{split}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("\n".join(rows), encoding="utf-8")


def new_name(order: str) -> str:
    """Return the name of the new language's files in an order of words."""
    return f"{lab.NEW}-{order}"


def tagging(folder: Path, size: lab.Size, *test: str, order: str = "same") -> Tagging:
    """Return the task: learned and chosen in English."""
    own = folder / "tags"
    return Tagging(
        files=Files(
            train={lab.OLD: str(own / f"{lab.OLD}.train.tsv")},
            valid={lab.OLD: str(own / f"{lab.OLD}.valid.tsv")},
            test={
                name: str(own / f"{new_name(order) if name == lab.NEW else name}.test.tsv")
                for name in test
            },
        ),
        format="tsv", length=size.length, context=0, rows=16,
    )  # fmt: skip


def tuned(
    folder: Path, size: lab.Size, model: Path, place: Path, noise: float, seed: int, epochs: float,
    *test: str,
) -> dict[str, float]:  # fmt: skip
    """Fine-tune on English tags (step 3), words and learned positions frozen; return accuracies."""
    learned = size.positions == "learned"
    report = finetune(
        Finetune(
            model=str(model), folder=str(place), tasks={"tags": tagging(folder, size, *test)},
            frozen=["words", *(["positions"] if learned and size.plain_first else [])],
            embedding_noise=noise, epochs=epochs, seeds=[seed],
            evaluate_every=downstream.AT_THE_END, device="cpu",
            schedule=Schedule(kind="linear", peak_lr=1e-3, warmup_steps=0),
            optimizer=Optimizer(max_grad_norm=1.0), report_every=100,
        )
    )  # fmt: skip
    return {name.split("/")[1]: own["chosen"].mean for name, own in report.streams.items()}


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
        rows = [f"{new.pieces[at]}\t{old.pieces[own]}\n" for at, own in lab.twins(new, old).items()]
        path.write_text("".join(rows), encoding="utf-8")
    return path


def of_table(arm: Arm, folder: Path, size: lab.Size, seed: int, epochs: float) -> dict[str, Any]:
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
        "nats of English": report["old"]["nats"],
        "twins": lab.twins_found(model), "frequent twins": lab.twins_found(model, counts, FREQUENT),
        "alarms": len(tried["fired"]),
    }  # fmt: skip
    for noise in (0.0, NOISE):
        place = own / f"tags-{seed}-{noise:g}"
        english = tuned(folder, size, body, place, noise, seed, epochs, lab.OLD)[lab.OLD]
        name = " with noise" if noise else ""
        tuned_model = open_finetuned(place / f"seed-{seed}" / "model")
        file = str(folder / f"tags/{new_name(arm.order)}.test.tsv")
        module = Path(config.folder) / "module"
        figures[f"tags{name}"] = task_figure(tuned_model, file, "accuracy", module)
        figures[f"tags in English{name}"] = english
    return figures


def of_joint(num: int, folder: Path, size: lab.Size, seed: int, epochs: float) -> dict[str, Any]:
    """Train one model of both languages, with equal tokens a language, and return its figures."""
    own = folder / "plain"
    place = own / f"joint-{num}-{seed}"
    languages = [lab.OLD, lab.NEW]
    texts = {lab.OLD: lab.text_of(own, lab.OLD), lab.NEW: lab.text_of(own, new_name("same"))}
    tables = {}
    data = own / (f"joint-data-{num}" if num else "old-data")
    if num and not (data / "corpora.json").exists():
        prepare(
            Prepare(
                folder=str(data),
                text=Texts(
                    train={name: text.train for name, text in texts.items()},
                    valid={name: text.valid for name, text in texts.items()},
                ),
                vocabulary=Vocabulary(size=num * size.vocabulary, begins=True), workers=1,
            )
        )  # fmt: skip
    if not num:
        lab.old_model(own, size, seed)  # whose text is prepared with it
        new = own / "new-data"
        if not (new / "corpora.json").exists():
            text = texts[lab.NEW]
            prepare(
                Prepare(
                    folder=str(new),
                    text=Texts(train={lab.NEW: text.train}, valid={lab.NEW: text.valid}),
                    vocabulary=Vocabulary(folder=str(lab.vocabulary_of(own, size))), workers=1,
                )
            )  # fmt: skip
        tables = {lab.NEW: LanguageTable(data=str(new))}
    run = lab.old_run(own, size, seed)
    mlm = run.objectives["lm"]
    assert isinstance(mlm, MaskedLM)
    pretrain(
        replace(
            run, data=str(data), folder=str(place), tables=tables, steps=2 * run.steps,
            objectives={"lm": replace(mlm, languages=languages)}, evaluate_every=2 * run.steps,
            save_every=2 * run.steps,
        )
    )  # fmt: skip
    valid = [line for line in read_metrics(place / METRICS) if line["event"] == "valid"][-1]
    figures: dict[str, Any] = {
        "nats": valid[f"lm/{lab.NEW}"]["nats"], "nats of English": valid[f"lm/{lab.OLD}"]["nats"]
    }  # fmt: skip
    if not num:
        figures["twins"] = lab.twins_found(xlm.load(place))
    for noise in (0.0, NOISE):
        name = " with noise" if noise else ""
        found = tuned(
            folder, size, place, place / f"tags-{noise:g}", noise, seed, epochs, *languages
        )
        figures[f"tags{name}"] = found[lab.NEW]
        figures[f"tags in English{name}"] = found[lab.OLD]
    return figures


def row(name: str, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means over seeds of an arm's figures, each with its interval."""
    line: dict[str, Any] = {"table": name, "seeds": len(found)}
    for figure in dict.fromkeys(figure for one in found for figure in one):
        values = [float(one[figure]) for one in found if one.get(figure) is not None]
        if not values:
            continue
        own = mean_of(values)
        share = figure.startswith(("tags", "twins", "frequent"))
        scale, digits = (100.0, 1) if share else (1.0, 3)
        shown = f"{scale * own.mean:.{digits}f}"
        if own.interval is not None:
            shown += f" ±{scale * own.interval:.{digits}f}"
        line[figure + (", %" if share else "")] = shown
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/monotrans-lab"))
    parser.add_argument("--only", nargs="+", help="tables, or how their names begin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=lab.Size.steps, help="updates of a table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it with four updates")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    size = lab.Size(steps=arguments.steps)
    if arguments.quick:
        size, arguments.seeds = lab.QUICK, arguments.seeds[:1]
    folder: Path = arguments.folder
    lines = lab.english(None, size)
    sizes = {body: replace(size, **changes) for body, changes in BODIES.items()}  # type: ignore[arg-type]
    for body, own in sizes.items():
        lab.write_texts(folder / body, lines, own)
    write_tags(folder, lines, size)
    epochs = 1 if arguments.quick else 5
    rows = []
    for name in downstream.chosen(arguments.only, [*ARMS, *JOINT]):
        found = []
        for seed in arguments.seeds:
            path = folder / "figures" / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}.json"
            if name in ARMS:
                arm = ARMS[name]
                own = sizes[arm.body]
                one = kept(path, lambda: of_table(arm, folder, own, seed, epochs))  # noqa: B023
            else:
                num, own = JOINT[name], sizes["plain"]
                one = kept(path, lambda: of_joint(num, folder, own, seed, epochs))  # noqa: B023
            found.append(one)
        rows.append(row(name, found))
        sys.stdout.write(f"{json.dumps(rows[-1], ensure_ascii=False)}\n")
    tagged = (folder / f"tags/{new_name('same')}.test.tsv").read_text(encoding="utf-8").splitlines()
    tags = Counter(line.split("\t")[1] for line in tagged if line)
    chance = {"commonest tag, %": round(100 * max(tags.values()) / tags.total(), 1)}
    trial = arguments.quick or bool(arguments.only)
    record.write("monotrans_lab", {**chance, "rows": rows}, folder if trial else None)


if __name__ == "__main__":
    main()

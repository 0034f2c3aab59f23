"""Tasks of the laboratory of languages: parts of speech and entailment, in English and respelled.

Parts of speech are those of a treebank of English, whose words are spelled as the laboratory spells
its text; entailment is that of ``support/entailment.py``. Each is learned in English and asked in
the new language, in every order of words, so the answers are known and no translation is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.support import downstream, entailment
from benchmarks.support import language_lab as lab
from benchmarks.support.shifted import respelled
from xlm.finetune import Finetune, finetune
from xlm.run.config import Optimizer, Schedule
from xlm.tasks.classification import Classification
from xlm.tasks.readers.tagged import read_tagged
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files, Task

TASKS = ("pos", "entailment")
ENDINGS = {"pos": "tsv", "entailment": "txt"}
SPLITS = {"train": "train", "valid": "dev", "test": "test"}
"""Names of the parts, here and in the treebank."""
TAGGED_WORDS = 12
"""Words of a sentence that are tagged, so that it fits into a row."""
RATE = 1e-3


def new_name(order: str) -> str:
    """Return the name of the new language's files in an order of words."""
    return f"{lab.NEW}-{order}"


def spellings() -> dict[str, tuple[str, bool]]:
    """Return for each name of files the order of its words, and whether it is respelled."""
    return {lab.OLD: ("same", False), **{new_name(order): (order, True) for order in lab.ORDERS}}


def path_of(folder: Path, task: str, name: str, split: str) -> Path:
    """Return the file of a task in a language."""
    return folder / f"tasks/{task}.{name}.{split}.{ENDINGS[task]}"


def write_tasks(folder: Path, treebank: Path, num_pairs: int) -> None:
    """Write the files of both tasks, unless they are there."""
    pairs = entailment.pairs(num_pairs * len(SPLITS))
    for at, (split, name) in enumerate(SPLITS.items()):
        sentences = [
            [(spelled[0], tag) for word, tag in zip(one.words, one.tags, strict=True)
             if (spelled := lab.words(word))][:TAGGED_WORDS]
            for one in read_tagged(str(treebank / f"{name}.conllu"), "conllu")
        ]  # fmt: skip
        sentences = [own for own in sentences if len(own) >= lab.SHORTEST]
        statements = pairs[at * num_pairs : (at + 1) * num_pairs]
        for language, (order, is_new) in spellings().items():
            spell = respelled if is_new else str
            tagged = [
                "".join(f"{spell(own[to][0])}\t{own[to][1]}\n" for to in moved(len(own), order, n))
                for n, own in enumerate(sentences)
            ]
            _write(path_of(folder, "pos", language, split), tagged)
            stated = [
                "\t".join([label, *(spell(lab.in_order(str(own), order, n)) for own in both)])
                for n, (label, *both) in enumerate(statements)
            ]
            _write(path_of(folder, "entailment", language, split), stated)


def moved(num: int, order: str, number: int) -> list[int]:
    """Return which word stands in each place of a sentence of ``num`` words, in an order."""
    return [int(at) for at in lab.in_order(" ".join(map(str, range(num))), order, number).split()]


def _write(path: Path, rows: Iterable[str]) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")


def task(folder: Path, name: str, length: int, test: Sequence[str], limit: int) -> Task:
    """Return a task that is learned and chosen in English, and asked in ``test``."""
    files = Files(
        train={lab.OLD: str(path_of(folder, name, lab.OLD, "train"))},
        valid={lab.OLD: str(path_of(folder, name, lab.OLD, "valid"))},
        test={
            one: str(path_of(folder, name, one if one == lab.OLD else new_name("same"), "test"))
            for one in test
        },
    )
    if name == "entailment":
        return Classification(files=files, format="plain-pair", rows=32, length=length, limit=limit)
    return Tagging(files=files, format="tsv", rows=16, length=length, context=0, limit=limit)


def commonest(folder: Path, name: str) -> float:
    """Return the share of the commonest answer among those of the test rows."""
    path = path_of(folder, name, lab.OLD, "test")
    rows = [row.split("\t") for row in path.read_text(encoding="utf-8").splitlines() if row]
    answers = Counter(row[1 if name == "pos" else 0] for row in rows)
    return max(answers.values()) / answers.total()


def tuned(
    folder: Path, size: lab.Size, model: Path, place: Path, name: str, *,
    noise: float, seed: int, epochs: float, limit: int, test: Sequence[str] = (lab.OLD,),
) -> dict[str, float]:  # fmt: skip
    """Fine-tune in English (step 3), words and learned positions frozen; return accuracies."""
    learned = size.positions == "learned"
    report = finetune(
        Finetune(
            model=str(model), folder=str(place),
            tasks={name: task(folder, name, size.length, test, limit)},
            frozen=["words", *(["positions"] if learned and size.plain_first else [])],
            embedding_noise=noise, epochs=epochs, seeds=[seed],
            evaluate_every=downstream.AT_THE_END, device="cpu",
            schedule=Schedule(kind="linear", peak_lr=RATE, warmup_steps=0),
            optimizer=Optimizer(max_grad_norm=1.0), report_every=100,
        )
    )  # fmt: skip
    return {own.split("/")[1]: found["chosen"].mean for own, found in report.streams.items()}

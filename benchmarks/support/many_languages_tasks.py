"""The tasks of the laboratory of many languages: learnt in English, tested in every language.

Entailment from templates, parts of speech, and names, those of the test in no training sentence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.support import downstream, entailment, small_english
from benchmarks.support.many_languages_lab import ENGLISH, Lab, order_of, spoken
from xlm.finetune import Finetune
from xlm.tasks.classification import Classification
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files, Task

TASKS = ("entailment", "tags", "names")
FINE_TUNING_RATE = 2e-3


def make_tasks(lab: Lab) -> None:
    """Write the files of all tasks in every language, unless they are there."""
    if lab.tasks.exists():
        return
    size = lab.size
    sizes = {"train": size.examples, "valid": size.tested, "test": size.tested}
    staging = lab.tasks.with_name(f".{lab.tasks.name}")
    staging.mkdir(parents=True, exist_ok=True)
    statements = entailment.pairs(3 * (sum(sizes.values()) // 3 + 1), seed=7)
    start = 0
    for split, num in sizes.items():
        speaker = small_english.Speaker(f"tags {split}", int(split == "test"))  # other names
        drawn = [speaker.sentence() for _ in range(num)]
        own = statements[start : start + num]
        start += num
        for language in (ENGLISH, *(spoken(size) if split == "test" else ())):
            rows = [
                "\t".join((label, *(lab.say(str(side).split(), language) for side in sides)))
                for label, *sides in own
            ]
            _write(staging / f"entailment.{split}.{language}", rows)
            for task, field in (("tags", "tag"), ("names", "entity")):
                _write(staging / f"{task}.{split}.{language}", _tagged(lab, drawn, language, field))
    staging.rename(lab.tasks)


def _tagged(
    lab: Lab, sentences: Iterable[Sequence[small_english.Word]], language: str, field: str
) -> list[str]:
    lines = []
    for words in sentences:
        for at in order_of(len(words), language):
            lines.append(f"{lab.word(words[at].text, language)}\t{getattr(words[at], field)}")
        lines.append("")
    return lines


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def task(lab: Lab, name: str, **settings: Any) -> Task:
    """Return a task that is learnt in English and tested in every language."""
    languages = [ENGLISH, *spoken(lab.size)]
    files = Files(
        train={ENGLISH: str(lab.tasks / f"{name}.train.{ENGLISH}")},
        valid={ENGLISH: str(lab.tasks / f"{name}.valid.{ENGLISH}")},
        test={language: str(lab.tasks / f"{name}.test.{language}") for language in languages},
    )
    if name == "entailment":
        return Classification(files=files, format="plain-pair", rows=32, length=48, **settings)
    return Tagging(files=files, format="tsv", spans=name == "names", rows=32, length=48, context=8,
                   limit=lab.size.examples // 3, **settings)  # fmt: skip


def transfer(
    lab: Lab, path: Path, label: str, tasks: Sequence[str], seed: int, *,
    random_weights: bool = False, **settings: Any,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Fine-tune on English, a task at a time; return the figures by task and language."""
    found = {}
    for name in tasks:
        job = Finetune(
            model=str(path), folder=str(lab.folder / "fine-tuned" / f"{label}-{name}-{seed}"),
            tasks={name: task(lab, name, **settings)}, seeds=[seed], epochs=lab.size.epochs,
            random_weights=random_weights, keep=False, evaluate_every=downstream.AT_THE_END,
            **downstream.settings(FINE_TUNING_RATE),
        )  # fmt: skip
        report = downstream.run({name: job})[name]
        found[name] = {
            stream.split("/")[1]: own["mean"] for stream, own in downstream.means(report).items()
        }
    return found


def commonest(lab: Lab, name: str) -> float:
    """Return the accuracy of the commonest answer; of names, the F1 of none at all."""
    if name == "names":
        return 0.0
    lines = (lab.tasks / f"{name}.test.{ENGLISH}").read_text(encoding="utf-8").splitlines()
    cells = [line.split("\t") for line in lines if line]
    counts = Counter(own[0] if name == "entailment" else own[-1] for own in cells)
    return counts.most_common(1)[0][1] / counts.total()

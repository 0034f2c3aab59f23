"""Zero-shot transfer where the alignment is known: tasks learnt in English, tested in its shift.

    python -m benchmarks.studies.finetuning_shifted --data data --folder runs/finetuning-shifted

The second language is English in another alphabet (shifted.py): the ids of its text are those of
the English text plus one, and nothing but the special tokens is shared. Models of one shape are
pretrained with CLM, with MLM and with MLM and TLM, with equally many updates, or not at all; then
each is fine-tuned on English alone: entailment from templates (entailment.py) and parts of speech
of a treebank. ``--data`` holds ud/en_ewt and mono/en/train.txt. Pretraining reads the treebank's
training sentences, sentences of the templates and English lines, without labels, lower-cased.
Everything that is finished is not run again; ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import random
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.support import downstream, entailment, shifted, toy
from xlm.data.corpora import Corpora
from xlm.finetune import Finetune
from xlm.model.config import ModelConfig
from xlm.objective import Objective
from xlm.objectives.causal import CausalLM
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer, Run, Schedule
from xlm.tasks.classification import Classification
from xlm.tasks.readers.tagged import read_tagged
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files, Task
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn_fastbpe import learn_fastbpe_tokenizer

BOTH = (shifted.FIRST, shifted.SECOND)
PAIR = "-".join(BOTH)
SHAPE = {
    "dim": 128, "num_layers": 3, "num_heads": 4, "dropout": 0.0, "attention_dropout": 0.0,
    "language_embeddings": False, "positions": "rotary", "initialization": "normal",
}  # fmt: skip
"""Without language embeddings, as the 17- and 100-language models: a small model's states of the
two languages are nearer to each other so. Rotary positions, without which a small masked model
learns next to nothing (docs/training.md)."""
MASKED = 0.4
"""With fewer masks TLM can be solved by copying the token at the same position, and the words of
the two languages need not come near to each other."""
STARTS = ("random", "clm", "mlm", "mlm+tlm")
TASKS = ("entailment", "tagging")
MOST_WORDS = 16
"""Longer lines are left out of pretraining: a small model learns to look across sooner."""
AWKWARD = re.compile("[\U00010000-\U0010ffff]|@@|</w>")
WORD = re.compile(r"\w+|[^\w\s]")


def objectives(name: str) -> dict[str, Objective]:
    """What a start is pretrained with."""
    languages = list(BOTH)
    masks = {"mask_rate": MASKED, "evaluation_folds": 1}
    mlm = MaskedLM(languages=languages, rows=64, length=32, **masks)
    tlm = MaskedLM(pairs=[PAIR], tokens=2048, length=64, num_lengths=8, **masks)
    clm = CausalLM(languages=languages, rows=64, length=32)
    known: dict[str, dict[str, Objective]] = {
        "clm": {"clm": clm}, "mlm": {"mlm": mlm}, "mlm+tlm": {"mlm": mlm, "tlm": tlm}
    }  # fmt: skip
    return known[name]


def write(path: Path, lines: Iterable[str]) -> None:
    """Lines, and the same respelled beside them: ``NAME.en`` and ``NAME.xx``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for language in BOTH:
        spelled = lines if language == shifted.FIRST else [shifted.respelled(x) for x in lines]
        spoken(path, language).write_text("\n".join(spelled) + "\n", encoding="utf-8")


def write_tables(path: Path, rows: Sequence[Sequence[str]], *columns: int) -> None:
    """Rows between tabs, some columns of which are text; an empty row is an empty line."""
    for language in BOTH:
        respell = shifted.respelled if language == shifted.SECOND else str
        text = (
            "\t".join(respell(c) if at in columns else c for at, c in enumerate(row))
            for row in rows
        )
        spoken(path, language).write_text("\n".join(text) + "\n", encoding="utf-8")


def spoken(path: Path, language: str) -> Path:
    """``NAME.en`` or ``NAME.xx``."""
    return path.with_name(f"{path.name}.{language}")


def files(folder: Path, data: Path, num_lines: int, num_pairs: int, num_merges: int) -> None:
    """All text of both languages, the tokenizer, and the corpora that models are pretrained on."""
    if (folder / "corpora" / "corpora.json").exists():
        return
    (folder / "tasks").mkdir(parents=True, exist_ok=True)
    trees = {}
    for split, name in (("train", "train"), ("valid", "dev"), ("test", "test")):
        path = data / f"ud/en_ewt/{name}.conllu"
        trees[split] = list(read_tagged(str(path), "conllu"))
        rows = [
            row
            for sentence in trees[split]
            for row in (*zip((w.lower() for w in sentence.words), sentence.tags, strict=True), ())
        ]
        write_tables(folder / f"tasks/tagging.{split}", rows, 0)
    pairs = entailment.pairs(num_pairs * 3)
    for at, split in enumerate(("train", "valid", "test")):
        own = pairs[at * num_pairs : (at + 1) * num_pairs]
        cells = [(name, str(first), str(second)) for name, first, second in own]
        write_tables(folder / f"tasks/entailment.{split}", cells, 1, 2)
    english = downstream.lines_of(data / "mono/en/train.txt", num_lines)
    text = [" ".join(WORD.findall(line.lower())) for line in english]
    text += [" ".join(sentence.words).lower() for sentence in trees["train"]]
    text += [str(own) for _, *both in entailment.pairs(num_lines // 2, seed=1) for own in both]
    text = [line for line in text if usable(line)]
    random.Random(0).shuffle(text)
    tokenizer = shifted.with_twins(learn_fastbpe_tokenizer(text, num_merges))
    shifted.check_twins(tokenizer, text)
    prepared(folder, text, tokenizer)


def usable(line: str) -> bool:
    """Short, and without what codes and vocabularies are written with."""
    return 0 < len(line.split()) <= MOST_WORDS and not AWKWARD.search(line)


def prepared(folder: Path, text: Sequence[str], tokenizer: FastBpeTokenizer) -> None:
    """Every fiftieth line is held out."""
    write(folder / "text/valid", text[::50])
    write(folder / "text/train", [line for at, line in enumerate(text) if at % 50])
    tokenizer.save(folder / "tokenizer")
    names = {
        split: {language: str(folder / f"text/{split}.{language}") for language in BOTH}
        for split in ("train", "valid")
    }
    prepare(
        Prepare(
            folder=str(folder / "corpora"),
            text=Texts(**names),
            pairs=Aligned(**{split: {PAIR: [*own.values()]} for split, own in names.items()}),
            vocabulary=Vocabulary(
                kind="fastbpe",
                codes=str(folder / "tokenizer/codes"),
                vocab=str(folder / "tokenizer/vocab"),
            ),
            max_valid_sentences=400,
            workers=1,
            replace=True,
        )
    )


def pretrained(folder: Path, start: str, steps: int, lr: float) -> None:
    """Train a start, or go on with it."""
    pretrain(
        Run(
            data=str(folder / "corpora"), folder=str(folder / "models" / start),
            objectives=objectives(start),
            model=ModelConfig(**SHAPE), precision="auto", steps=steps, group_size=1,
            optimizer=Optimizer(
                kind="muon", betas=(0.9, 0.98), weight_decay=0.01, max_grad_norm=1.0
            ),
            schedule=Schedule(kind="linear", peak_lr=lr, warmup_steps=steps // 10),
            evaluate_every=steps // 4, save_every=steps // 4, report_every=max(1, steps // 20),
            keep_last=1, tensorboard=False, device="cpu",
        ),
        Corpora.open(folder / "corpora"),
    )  # fmt: skip


def task(folder: Path, name: str, limit: int) -> Task:
    """Trained and chosen in English, measured in both."""

    def path(split: str, language: str) -> str:
        return str(folder / f"tasks/{name}.{split}.{language}")

    places = Files(
        train={shifted.FIRST: path("train", shifted.FIRST)},
        valid={shifted.FIRST: path("valid", shifted.FIRST)},
        test={language: path("test", language) for language in BOTH},
    )
    if name == "entailment":
        return Classification(files=places, format="plain-pair", rows=32, length=64, limit=limit)
    return Tagging(files=places, format="tsv", rows=16, length=128, limit=limit)


def compared(reports: dict[str, downstream.Figures]) -> dict[str, downstream.Figures]:
    """Figures by task and start; how far MLM+TLM is above each other start, seed by seed."""
    found: dict[str, downstream.Figures] = {}
    for name in TASKS:
        starts = {
            start: downstream.means(reports[f"{name}-{start}"])
            for start in STARTS
            if f"{name}-{start}" in reports
        }
        stream = f"{name}/{shifted.SECOND}"
        best = starts.get("mlm+tlm", {}).get(stream)
        above = {}
        for start, own in starts.items():
            if best and start != "mlm+tlm" and len(best["values"]) == len(own[stream]["values"]):
                difference = downstream.paired(best["values"], own[stream]["values"])
                above[start] = {**difference, "apart": downstream.apart(best, own[stream])}
        found[name] = {"starts": starts, "mlm+tlm above": above}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/finetuning-shifted"))
    parser.add_argument("--only", nargs="+", help="TASK-START, or how some of these begin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--steps", type=int, default=2500, help="updates of pretraining")
    parser.add_argument("--lr", type=float, default=4e-3, help="of pretraining")
    parser.add_argument("--rate", type=float, default=5e-4, help="learning rate of fine-tuning")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    folder, quick = arguments.folder, arguments.quick
    data = toy.data(folder) if quick else arguments.data
    files(folder, data, *((40, 60, 200) if quick else (12000, 3000, 1000)))
    steps, seeds = (12, [0, 1]) if quick else (arguments.steps, arguments.seeds)
    jobs = {}
    wanted = downstream.chosen(arguments.only, [f"{t}-{s}" for t in TASKS for s in STARTS])
    sources = {
        start: folder / "models" / ("mlm" if start == "random" else start) for start in STARTS
    }
    for own in dict.fromkeys(sources[job.partition("-")[2]] for job in wanted):
        pretrained(folder, own.name, steps, arguments.lr)
    for name, start in ((name, start) for name in TASKS for start in STARTS):
        job = f"{name}-{start}"
        jobs[job] = Finetune(
            model=str(sources[start]), folder=str(folder / "runs" / job),
            tasks={name: task(folder, name, 3000)}, random_weights=start == "random",
            epochs=1 if quick else 5 if name == "entailment" else 3, seeds=seeds, keep=False,
            **downstream.settings(arguments.rate),
        )  # fmt: skip
    reports = downstream.run(jobs, wanted)
    figures = {
        "pretraining_updates": steps,
        "fine_tuning_rate": arguments.rate,
        "seeds": len(seeds),
        "tasks": compared(reports),
        "collapsed": downstream.collapsed(reports),
    }
    trial = quick or bool(arguments.only)
    path = downstream.write("finetuning_shifted", figures, trial=trial, folder=folder)
    downstream.show("finetuning_shifted", path)


if __name__ == "__main__":
    main()

"""Dependency parsing of English from a small pretrained model, with and without gold tags.

    python -m benchmarks.studies.parsing --models runs/small --data data --folder runs/parsing

A biaffine scorer (Dozat and Manning 2017) on the run ``mlm+tlm`` of recipes/small, all trained on
the training trees of ud/en_ewt and measured on the test trees; the same from random weights; and
a baseline that looks at no model: the head of each word is the word to its left, the root is the
first, its relation the commonest one of that word in the training trees. Punctuation and symbols
are left out of UAS and LAS (Wu and Dredze 2019, section 4.5), and counted under ``all words``.
The scorer is narrower than the study's (arcs 256 for 512, labels 64 for 128), as the models are;
``--limit`` trains on some of the sentences, and a run is measured once, at its end.
Everything that is finished is not run again; ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import math
from collections import Counter, defaultdict
from pathlib import Path

from benchmarks.support import downstream, toy
from xlm.finetune import Finetune
from xlm.metrics.attachment import attachment_figures, attachment_scores, without_upos
from xlm.metrics.scores import Scores
from xlm.tasks.parsing import UNSCORED, Parsing
from xlm.tasks.readers.tagged import ParsedSentence, read_trees
from xlm.tasks.task import Files

ROWS = {
    "pretrained": {},
    "pretrained, gold tags": {"upos": True},
    "random": {},
    "pretrained, longer": {},
}
LONGER = 2
"""Times the epochs of the others, in the last row."""
MODEL = "mlm+tlm"
HEADS = ("las", "uas", "las_all", "uas_all")


def head_left(train: list[ParsedSentence], test: list[ParsedSentence]) -> dict[str, float]:
    """Figures of the baseline."""
    seen: dict[str, Counter[str]] = defaultdict(Counter)
    for tree in train:
        for word, label in zip(tree.words, tree.labels, strict=True):
            seen[word][label] += 1
            seen[""][label] += 1
    scored, every = Scores(), Scores()
    for tree in test:
        heads = list(range(len(tree.words)))
        labels = [seen.get(word, seen[""]).most_common(1)[0][0] for word in tree.words]
        both = (tree.heads, tree.labels, heads, ["root", *labels[1:]])
        scored = scored + attachment_scores(*both, scored=without_upos(tree.upos, UNSCORED))
        every = every + attachment_scores(*both)
    whole = attachment_figures(every)
    own = attachment_figures(scored)
    return {"las": own["las"], "uas": own["uas"], "las_all": whole["las"], "uas_all": whole["uas"]}


def row(name: str, figures: dict[str, float], seeds: int) -> dict[str, object]:
    """A line of the table: percent."""
    shown = {h.replace("_all", ", all words").upper(): round(100 * figures[h], 1) for h in HEADS}
    return {"": name, **shown, "seeds": seeds or ""}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=Path("runs/parsing"))
    parser.add_argument("--only", nargs="+", help="rows, or how they begin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--epochs", type=float, default=12.0)
    parser.add_argument("--limit", type=int, default=0, help="training sentences; 0: all")
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--head-rate", type=float, default=2.0, help="of the scorer, times that")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    folder, quick = arguments.folder, arguments.quick
    if quick:
        arguments.data, arguments.epochs = toy.data(folder), 1
        arguments.models = toy.models(folder / "models")
    bank = arguments.data / "ud/en_ewt"
    train, valid, test = ({"en": str(bank / f"{n}.conllu")} for n in ("train", "dev", "test"))
    jobs = {}
    for name, fields in ROWS.items():
        random = name == "random"
        task = Parsing(
            files=Files(train=train, valid=valid, test=test), length=256, rows=32,
            limit=arguments.limit, arc_size=256, label_size=64, **fields,
        )  # fmt: skip
        model = downstream.shape(arguments.models, folder) if random else arguments.models / MODEL
        jobs[name] = Finetune(
            model=str(model), folder=str(folder / name.replace(", ", "-")),
            tasks={"parsing": task}, random_weights=random,
            epochs=arguments.epochs * (LONGER if name.endswith("longer") else 1),
            seeds=arguments.seeds, evaluate_every=downstream.AT_THE_END,
            **downstream.settings(arguments.rate, head_rate=arguments.head_rate),
        )  # fmt: skip
    reports = downstream.run(jobs, arguments.only)
    rows = [row("head to the left", baseline(train["en"], test["en"]), 0)]
    rows += [
        row(
            name, own["others"]["parsing/en"], len(own["streams"]["parsing/en"]["chosen"]["values"])
        )
        for name, own in reports.items()
    ]
    best = {name: own["streams"]["parsing/en"]["chosen"] for name, own in reports.items()}
    figures = {
        "rows": rows,
        "epochs": arguments.epochs,
        "times_longer": LONGER,
        "limit": arguments.limit,
        "rate": arguments.rate,
        "las": best,
        "seconds": math.fsum(own["seconds"] for own in reports.values()),
    }
    trial = quick or bool(arguments.only)
    path = downstream.write("parsing", figures, trial=trial, folder=folder)
    downstream.show("parsing", path)


def baseline(train: str, test: str) -> dict[str, float]:
    """The baseline on two files."""
    return head_left(list(read_trees(train)), list(read_trees(test)))


if __name__ == "__main__":
    main()

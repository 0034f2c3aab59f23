"""Fine-tuning on real text: pretrained small models against random weights of the same shape.

    python -m benchmarks.studies.finetuning_real --models runs/small --data data --folder runs/real

``--models`` holds the runs ``mlm`` and ``mlm+tlm`` of recipes/small, pretrained on English, Hindi
and Nepali. Swahili is in none of them: it goes as English (stand_in), the null case. Hindi's
treebank is of UD version 1 and is read with version 2's parts of speech; entity types are mapped to
PER, LOC and ORG, the others are no entity.

Cut so that a run takes a minute or three of one slow core: one learning rate for all starts and
tasks, few epochs and, but for topics and inference, few of the training examples (``limit``, drawn
by the seed), topics and pairs read to their 64th piece, and a run measured once, at its end, where
the rate has come down to 0. Test text is whole.
Sentences are read by the mean of their hidden states. Everything that is finished is not run again;
``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.support import downstream, toy
from xlm.errors import ConfigError
from xlm.finetune import Finetune
from xlm.tasks.answering import Answering
from xlm.tasks.classification import Classification
from xlm.tasks.heads import Readout
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files, Task

STARTS = ("random", "mlm+tlm", "mlm")
"""In the order in which they are run: random weights in the shape of ``mlm+tlm``, and two runs."""
AVERAGED = Readout(pooling="mean")
ENTITIES = {
    "PERSON": "PER", "LOCATION": "LOC", "ORGANIZATION": "ORG",
    **dict.fromkeys(
        "NUMBER TERMS MEASURE TIME TITLE_OBJECT DESIGNATION ABBREVIATION BRAND".split(), "O"
    ),
}  # fmt: skip


def topics(data: Path, folder: Path) -> Task:
    own = data / "classify/topic5"
    test = {language: str(own / f"{language}.test.tsv") for language in ("en", "ne", "hi")}
    train, valid = {"en": str(own / "en.train.tsv")}, {"en": str(own / "en.valid.tsv")}
    if not (own / "hi.test.tsv").exists():
        raise ConfigError(f"{own}: there is no hi.test.tsv: give --data a folder that has it")
    return Classification(
        files=Files(train=train, valid=valid, test=test), format="label-text", length=64,
        readout=AVERAGED,
    )  # fmt: skip


def parts_of_speech(data: Path, folder: Path) -> Task:
    own = data / "ud/en_ewt"
    hindi = downstream.version_2(data / "ud/hi_hdtb_v1.2/test.conllu", folder)
    return Tagging(
        files=Files(
            train={"en": str(own / "train.conllu")},
            valid={"en": str(own / "dev.conllu")},
            test={"en": str(own / "test.conllu"), "hi": str(hindi)},
        ),
        format="conllu", limit=1000,
    )  # fmt: skip


def nepali_parts_of_speech(data: Path, folder: Path) -> Task:
    own = {split: {"ne": str(data / f"tagging/ne_pos/{split}.tsv")} for split in SPLITS}
    return Tagging(files=Files(**own), limit=600)


def entities(data: Path, folder: Path) -> Task:
    own = data / "ner"
    return Tagging(
        files=Files(
            train={"en": str(own / "wikiann_en/train.tsv")},
            valid={"en": str(own / "wikiann_en/valid.tsv")},
            test={
                "en": str(own / "wikiann_en/test.tsv"),
                "ne": str(own / "ebiquity_ne/test.tsv"),
                "hi": str(own / "ijnlp2008_hi/valid.tsv"),  # it has no test file
            },
        ),
        relabel=ENTITIES, spans=True, limit=1500,
    )  # fmt: skip


def questions(data: Path, folder: Path) -> Task:
    own = data / "qa/xquad"
    english, hindi = str(own / "xquad.en.json"), str(own / "xquad.hi.json")
    return Answering(
        files=Files(
            train={"en": english}, valid={"en": english}, test={"en": english, "hi": hindi}
        ),
        articles=json.loads((own / "article_split.json").read_text(encoding="utf-8")),
        rows=8, length=320, limit=300,
    )  # fmt: skip


def inference(data: Path, folder: Path) -> Task:
    own = data / "nli"
    return Classification(
        files=Files(
            train={"en": str(own / "mnli10k/en.train.tsv")},
            valid={"en": str(own / "xnli/en.dev.tsv")},
            test={language: str(own / f"xnli/{language}.test.tsv") for language in ("en", "sw")},
        ),
        format="nli", length=64, stand_in={"sw": "en"}, readout=AVERAGED,
    )  # fmt: skip


SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Study:
    """A task, how long it is trained, and what its figure is called."""

    task: Callable[[Path, Path], Task]
    epochs: float
    figure: str = "accuracy"


STUDIES = {
    "topics": Study(topics, 3),
    "pos": Study(parts_of_speech, 3),
    "pos_ne": Study(nepali_parts_of_speech, 3),
    "ner": Study(entities, 3, "span F1"),
    "qa": Study(questions, 1, "F1"),
    "nli": Study(inference, 2),
}


def settings(name: str, start: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What choosing and measuring share."""
    study = STUDIES[name]
    shape = downstream.shape(arguments.models, arguments.folder)
    return {
        "model": shape if start == "random" else str(arguments.models / start),
        "tasks": {name: study.task(arguments.data, arguments.folder / "files")},
        "random_weights": start == "random",
        "epochs": 1 if arguments.quick else study.epochs,
        "evaluate_every": downstream.AT_THE_END,
        "keep": False,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=Path("runs/real"))
    parser.add_argument("--only", nargs="+", help="TASK/START, or how some of these begin")
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    if arguments.quick:
        arguments.data, arguments.seeds = toy.data(arguments.folder), [0]
        arguments.models = toy.models(arguments.folder / "models")
    jobs = {
        f"{name}/{start}": Finetune(
            folder=str(arguments.folder / name / start), seeds=arguments.seeds,
            **settings(name, start, arguments), **downstream.settings(arguments.rate),
        )
        for start in arguments.starts
        for name in STUDIES
    }  # fmt: skip
    reports = downstream.run(jobs, arguments.only)
    tasks: dict[str, downstream.Figures] = {}
    for job, report in reports.items():
        name, start = job.split("/")
        own = tasks.setdefault(name, {"figure": STUDIES[name].figure, "starts": {}})
        own["starts"][start] = downstream.means(report)
    figures = {
        "rate": arguments.rate,
        "tasks": tasks,
        "collapsed": downstream.collapsed(reports),
        "seconds": sum(report["seconds"] for report in reports.values()),
    }
    trial = arguments.quick or bool(arguments.only) or len(arguments.starts) < 2  # compares none
    path = downstream.write("finetuning_real", figures, trial=trial, folder=arguments.folder)
    downstream.show("finetuning_real", path)


if __name__ == "__main__":
    main()

"""Unsupervised translation of two related languages: Hindi and Nepali, small.

    python -m benchmarks.studies.unsupervised_real --models runs/small --data data \
        --folder runs/hi-ne

Denoising and back-translation on text of each language alone: Hindi sentences of the first half of
the pairs of user interfaces (parallel/hi-ne/train), Nepali ones of the other half, so that no
sentence meets its translation, and as many lines of mono/LANG/train.txt as ``--mono`` says.
Pretrained weights of recipes/small (``mlm``, which has seen no pairs) in both halves against random
ones of the same shape, at equal budgets, and against copying the source. Checkpoints are chosen by
chrF on held-out pairs (the original's are by BLEU, which is 0 for long here); the test text is
whole. Everything that is finished is not run again; ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from benchmarks.support import downstream, translators
from benchmarks.support.translators import NONE, Figures
from xlm.model.generate import Generation
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.denoising import Denoising
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.run.config import Run, Stopping

LANGUAGES = ("hi", "ne")
PAIR = "hi-ne"
DIRECTIONS = ("hi-ne", "ne-hi")
COPY = "copy"
SHORTEST, LONGEST = 3, 25
"""Words of the lines that are taken from running text; those of interfaces are all taken."""


def halves(first: Sequence[str], second: Sequence[str]) -> tuple[list[str], list[str]]:
    """Of aligned sentences the first half of one side and the second half of the other.

    A sentence may stand in several pairs: those of the other side that would so meet a translation
    are left out.
    """
    middle = len(first) // 2
    own, others = set(first[:middle]), set(second[middle:])
    met = {y for x, y in zip(first, second, strict=True) if x in own and y in others}
    return list(first[:middle]), [line for line in second[middle:] if line not in met]


def sides(data: Path, num_mono: int) -> dict[str, list[str]]:
    """Training text by language: its half of the pairs, and lines of running text."""
    pairs = [translators.read(data / f"parallel/{PAIR}/train.{name}") for name in LANGUAGES]
    found = {}
    for language, own in zip(LANGUAGES, halves(*pairs), strict=True):
        running = (
            line
            for line in translators.read(data / f"mono/{language}/train.txt")
            if SHORTEST <= len(line.split()) <= LONGEST
        )
        found[language] = own + list(islice(running, num_mono))
    return found


def corpora(arguments: argparse.Namespace, model: str) -> Path:
    """Text and held-out pairs in the vocabulary of ``model``, made once."""
    folder: Path = arguments.folder / f"data-{arguments.mono}"
    if (folder / "corpora.json").exists():
        return folder
    text = folder.with_name(f"text-{arguments.mono}")
    for language, lines in sides(arguments.data, arguments.mono).items():
        translators.write(text / f"train.{language}", lines)
    root = arguments.data / f"parallel/{PAIR}"
    held = {
        split: {PAIR: [str(root / f"{split}.ui.{language}") for language in LANGUAGES]}
        for split in ("valid", "test")
    }
    prepare(
        Prepare(
            folder=str(folder),
            text=Texts(
                train={language: str(text / f"train.{language}") for language in LANGUAGES},
                valid={
                    language: str(arguments.data / f"mono/{language}/valid.txt")
                    for language in LANGUAGES
                },
            ),
            pairs=Aligned(**held),
            vocabulary=Vocabulary(folder=model),
            max_valid_sentences=200,
            workers=1,
        )
    )
    return folder


def translator(arguments: argparse.Namespace, data: Path, model: str, start: str) -> Path:
    """Train a start, or go on with it."""
    names = {"tokens": "tokens", "length": "longest", "num_lengths": "num_lengths"}
    shared = {field: vars(arguments)[name] for field, name in names.items()}
    first, last = arguments.denoising
    return translators.trained(
        Run(
            data=str(data),
            folder=str(arguments.folder / f"seed-{arguments.seed}" / start),
            objectives={
                "ae": Denoising(
                    languages=list(LANGUAGES),
                    weight=[[0, first], [arguments.steps, last]],
                    **shared,
                ),
                "bt": BackTranslation(pairs=list(DIRECTIONS), decode=Generation(), **shared),
            },
            stopping=Stopping(metric="chrf", streams=[f"bt/{name}" for name in DIRECTIONS]),
            **translators.settings(arguments, model, start, arguments.steps),
        )
    )


def measured(arguments: argparse.Namespace, runs: dict[str, Path]) -> dict[str, Figures]:
    """By direction and system: copying first, which the others are compared with."""
    found = {}
    for direction in DIRECTIONS:
        sources, references = (
            translators.read(arguments.data / f"parallel/{PAIR}/test.ui.{language}")
            for language in direction.split("-")
        )
        systems = {COPY: sources} | {
            start: translators.translated(folder, "test", direction, sources, arguments.beam)
            for start, folder in runs.items()
        }
        found[direction] = translators.scored(systems, references, sources, arguments.resamples)
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    translators.flags(parser)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=Path("runs/hi-ne"))
    parser.add_argument("--starts", nargs="+", default=[NONE, "mlm"], help=f"{NONE}, or a run's")
    parser.add_argument("--mono", type=int, default=4000, help="lines of running text a language")
    parser.add_argument("--steps", type=int, default=800, help="updates of both objectives in turn")
    parser.add_argument(
        "--denoising", type=float, nargs=2, default=[1.0, 0.1],
        metavar=("FIRST", "LAST"), help="weight of denoising at the start and at the end",
    )  # fmt: skip
    return parser.parse_args()


def main() -> None:
    arguments = parsed()
    downstream.begin(arguments.threads)
    if arguments.quick:
        translators.try_it(arguments)
        arguments.mono = 20
    runs = {}
    for start in arguments.starts:
        model = translators.source_of(arguments.models, start, arguments.starts)
        runs[start] = translator(arguments, corpora(arguments, model), model, start)
    names = ("mono", "steps", "tokens", "longest", "lr", "dropout", "denoising", "beam", "seed")
    figures = {
        "settings": {name: vars(arguments)[name] for name in names},
        "directions": measured(arguments, runs),
        "seconds": {start: translators.seconds(folder) for start, folder in runs.items()},
        "pretrained": {
            start: translators.pretrained(folder) for start, folder in runs.items() if start != NONE
        },
    }
    trial = arguments.quick or len(arguments.starts) < 2
    path = downstream.write("unsupervised_real", figures, trial=trial, folder=arguments.folder)
    downstream.show("unsupervised_real", path)


if __name__ == "__main__":
    main()

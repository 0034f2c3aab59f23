"""Tables 2 to 6 of MMTE on real text, small: what pretrains an encoder best for Hindi and Nepali.

    python -m benchmarks.studies.translation_encoders_real --data data --folder runs/encoders-real

Encoders of random weights, of MLM, of MLM and TLM, and of a translator of many directions with the
token apart, for equally many updates of the same text (real_pairs.py), in one vocabulary. Each is
fine-tuned in English and tested in Hindi and Nepali: parts of speech, entities, topics. ``--data``
holds parallel, ud, ner and classify. Everything that is finished is not run again; ``--quick``
tries it on the corpus that ships. The models stay, listed in models.json.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import xlm
from benchmarks.studies.finetuning_real import STUDIES, Study
from benchmarks.support import downstream, real_pairs, seeded_study, toy
from benchmarks.support import many_languages_lab as laboratory
from benchmarks.support.many_languages_figures import differences, means_of
from benchmarks.support.many_languages_lab import Arm, Lab, Size
from xlm.finetune import Finetune
from xlm.metrics.translation import corpus_scores
from xlm.model.generate import Generation
from xlm.objectives.masked import MaskedLM
from xlm.objectives.translation import Translation
from xlm.run.selection import mean_of
from xlm.tasks.task import Task
from xlm.training.journal import METRICS, read_metrics

MLM, TLM, MT, RANDOM = "MLM", "MLM+TLM", "target-apart", "random"
TASKS = ("pos", "ner", "topics")
COMPARED = ((MT, MLM), (MT, TLM), (TLM, MLM), (MLM, RANDOM), (MT, RANDOM))
SIZE = Size(dim=128, num_layers=2, updates=400)
PIECES = 4000
LONGEST = 64
"""Pieces of a sentence; longer pairs are left out."""
ROOM: dict[str, Any] = {"max_positions": 256}
RATE = 1e-3
"""Of fine-tuning."""
ROWS = 500
"""Sentences of fine-tuning, of parts of speech and entities."""
TRANSLATED = 200
"""Lines of each test that are translated."""


def arms(size: Size) -> dict[str, Arm]:
    """Return the kinds of pretraining."""
    pairs = list(real_pairs.WITH_ENGLISH)
    ways = tuple(way for pair in pairs for way in (pair, "-".join(reversed(pair.split("-")))))
    common: dict[str, Any] = {"mask_rate": 0.3, "frequency_exponent": 0.0, "evaluation_folds": 1}
    mlm = MaskedLM(
        languages=[real_pairs.CENTER, *real_pairs.LANGUAGES],
        rows=max(1, size.tokens // LONGEST), length=LONGEST, **common,
    )  # fmt: skip
    tlm = MaskedLM(pairs=pairs, tokens=size.tokens, length=2 * LONGEST, num_lengths=8, **common)
    mt = Translation(
        pairs=pairs, directions="m2m", layout="target-apart", tokens=size.tokens, length=LONGEST,
        num_lengths=8, shared_lengths=True,
    )  # fmt: skip
    return {
        MLM: Arm({"mlm": mlm}, decoder=False, shape=ROOM),
        TLM: Arm({"mlm": mlm, "tlm": tlm}, decoder=False, shape=ROOM),
        MT: Arm({"mt": mt}, directions=ways, shape=ROOM),
    }


def task(name: str, data: Path, folder: Path) -> Task:
    """Return a task that is learned in English and tested in the others too."""
    study: Study = STUDIES[name]
    found = study.task(data, folder / "files")
    return found if name == "topics" else replace(found, limit=ROWS)


def transfer(lab: Lab, path: Path, arm: str, seed: int, data: Path, quick: bool) -> dict[str, Any]:
    """Fine-tune on English, a task at a time; return the figures by task and language."""
    found = {}
    for name in TASKS:
        label = f"{arm.replace('+', '-')}-{name}-{seed}"
        job = Finetune(
            model=str(path), folder=str(lab.folder / "fine-tuned" / label),
            tasks={name: task(name, data, lab.folder)}, seeds=[seed],
            epochs=1 if quick else STUDIES[name].epochs, random_weights=arm == RANDOM, keep=False,
            evaluate_every=downstream.AT_THE_END, **downstream.settings(RATE),
        )  # fmt: skip
        own = downstream.means(downstream.run({name: job})[name])
        found |= {
            f"{name}, {stream.split('/')[1]}": figure["mean"] for stream, figure in own.items()
        }
    return found


def pretrained(path: Path, arm: str, data: Path) -> dict[str, float]:
    """Return what a model has learned: held-out perplexities, and BLEU of a translator."""
    events = [line for line in read_metrics(path.parent / METRICS) if line["event"] == "valid"]
    found = {
        f"{stream}, {name.replace('_', ' ')}": own[name]
        for stream, own in events[-1].items()
        if isinstance(own, Mapping)
        for name in ("perplexity", "unigram_perplexity")
        if name in own
    }
    if arm == MT:
        model = xlm.load(path)
        for pair in real_pairs.WITH_ENGLISH:
            for ways in (pair.split("-"), pair.split("-")[::-1]):
                sources, references = (
                    lines[:TRANSLATED] for lines in real_pairs.tested(data, pair, ways)
                )
                written = model.translate(
                    sources, source=ways[0], target=ways[1], settings=Generation()
                )
                scores = corpus_scores(written, references)
                found[f"mt/{'-'.join(ways)}, BLEU"] = scores.bleu.score
                found[f"mt/{'-'.join(ways)}, chrF"] = scores.chrf.score
                copied = corpus_scores(sources, references)
                found[f"mt/{'-'.join(ways)}, chrF of the source"] = copied.chrf.score
    return found


def rows_of(found: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Return a row an arm and text: its figures in pretraining, means over seeds."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for arm, seeds in found.items():
        for key in seeds[0].get("pretrained", {}):
            text, figure = key.split(", ")
            row = rows.setdefault((arm, text), {"pretrained by": arm, "text": text})
            row[figure] = round(mean_of([one["pretrained"][key] for one in seeds]).mean, 1)
    return list(rows.values())


def commonest(data: Path, folder: Path) -> dict[str, float]:
    """Return the accuracy of the commonest answer by task and language; 0 of entities, by F1."""
    found = {}
    for name in TASKS:
        own = task(name, data, folder)
        for language, file in own.files.test.items():
            found[f"{name}, {language}"] = downstream.commonest(own, file, language)
    return found


def main() -> None:
    parser = seeded_study.parser_of(__doc__, "runs/encoders-real")
    parser.add_argument("--data", type=Path, default=Path("data"))
    arguments = seeded_study.begun(seeded_study.with_size(parser, SIZE))
    data = pairs = arguments.data
    size, pieces = seeded_study.size_of(arguments, SIZE), PIECES
    if arguments.quick:
        data, pairs, pieces = toy.data(arguments.folder), toy.pairs(arguments.folder), 600
    lab = Lab(arguments.folder, size)
    real_pairs.prepared(lab, pairs, pieces)

    def measure(name: str, seed: int) -> dict[str, Any]:
        path = laboratory.trained(lab, arms(size), MLM if name == RANDOM else name, seed)
        figures = {"tasks": transfer(lab, path, name, seed, data, arguments.quick)}
        if name != RANDOM:
            figures["pretrained"] = pretrained(path, name, pairs)
            figures["seconds"] = laboratory.seconds(path)
        return figures

    found = seeded_study.by_seed(
        arguments, (RANDOM, MLM, TLM, MT),
        lambda name, seed: (
            seeded_study.figures_file(lab.folder, name, seed), lambda: measure(name, seed)
        ),
        lambda: laboratory.write_models(lab, arms(size), arguments.seeds),
    )  # fmt: skip
    means = means_of({name: [one["tasks"] for one in own] for name, own in found.items()})
    result = {
        "size": {name: getattr(size, name) for name in ("dim", "num_layers", "updates", "tokens")},
        "pieces": pieces, "seeds": len(arguments.seeds), "arms": means,
        "differences": differences(means, COMPARED), "commonest": commonest(data, lab.folder),
        "rows": rows_of(found),
        "seconds": {name: mean_of([one["seconds"] for one in own]).mean
                    for name, own in found.items() if name != RANDOM},
    }  # fmt: skip
    seeded_study.finish("translation_encoders_real", result, arguments)


if __name__ == "__main__":
    main()

"""Hindi and Nepali, translated by a model that has no pair of them: directly, and through English.

    python -m benchmarks.studies.zero_shot_real --data data --folder runs/zero-shot

A translator of both directions of en-hi and en-ne, with the target's token in the source
(real_pairs.py), translates the test of hi-ne, user interfaces, directly and by way of English.
Beside it stand a model trained on the pairs of hi-ne alone, for equally many updates, and the
source as it is. Search is greedy unless ``--beam`` says otherwise. BLEU and chrF with 95 %
intervals over resamples of the lines, and the share of the lines in the target language, by
character trigrams of the training text. ``--data`` holds parallel. Everything that is finished is
not run again; ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xlm
from benchmarks.support import many_languages_lab as laboratory
from benchmarks.support import real_pairs, seeded_study, toy, translators
from benchmarks.support.many_languages_lab import Arm, Lab, Size
from xlm.metrics.language_shares import Trigrams
from xlm.model.generate import Generation
from xlm.objectives.translation import Translation

COPIED, DIRECT, PIVOT, SUPERVISED = "copied", "direct, zero-shot", "by way of English", "supervised"
ENGLISH_CENTRIC = "en-hi and en-ne"
SIZE = Size(dim=128, num_layers=3, updates=500)
PIECES = 4000
LONGEST = 64
SHAPE: dict[str, Any] = {"max_positions": 256, "dropout": 0.1}


def arms(size: Size) -> dict[str, Arm]:
    """Return the model of the pairs with English, and that of the pairs without."""
    pairs = {ENGLISH_CENTRIC: list(real_pairs.WITH_ENGLISH), SUPERVISED: [real_pairs.WITHOUT]}
    return {
        name: Arm(
            {
                "mt": Translation(
                    pairs=own, directions="m2m", layout="target", tokens=size.tokens,
                    length=LONGEST, num_lengths=8, shared_lengths=True, label_smoothing=0.1,
                )
            },
            directions=tuple(w for pair in own for w in (pair, "-".join(pair.split("-")[::-1]))),
            shape=SHAPE,
        )
        for name, own in pairs.items()
    }  # fmt: skip


def translated(
    lab: Lab, path: Path, sources: Sequence[str], ways: Sequence[str], beam: int
) -> list[str]:
    """Return the lines in the last of the languages, by way of those between; kept as a file."""
    kept = lab.folder / "translations" / f"{path.parent.name}.{'-'.join(ways)}.{beam}"
    if not kept.exists():
        model, lines = xlm.load(path), list(sources)
        for source, target in zip(ways, ways[1:], strict=False):
            lines = model.translate(
                lines, source=source, target=target, settings=Generation(beam=beam)
            )
        translators.write(kept, lines)
    return translators.read(kept)


def systems(lab: Lab, data: Path, ways: Sequence[str], beam: int) -> dict[str, list[str]]:
    """Return the translations of the test from the first language into the second, by system."""
    sources, _ = real_pairs.tested(data, real_pairs.WITHOUT, ways)
    models = {name: laboratory.trained(lab, arms(lab.size), name, 0) for name in arms(lab.size)}
    source, target = ways
    through = (source, real_pairs.CENTER, target)
    return {
        COPIED: sources,
        DIRECT: translated(lab, models[ENGLISH_CENTRIC], sources, ways, beam),
        PIVOT: translated(lab, models[ENGLISH_CENTRIC], sources, through, beam),
        SUPERVISED: translated(lab, models[SUPERVISED], sources, ways, beam),
    }


def languages(lab: Lab) -> Trigrams:
    """Return what recognizes the language of a line, fitted on the training text."""
    text: dict[str, list[str]] = {}
    for pair in real_pairs.WITH_ENGLISH:
        for language in pair.split("-"):
            lines = translators.read(lab.folder / "text" / f"train.{pair}.{language}")
            text.setdefault(language, []).extend(lines)
    return Trigrams(text)


def rows_of(
    lab: Lab, data: Path, ways: Sequence[str], beam: int, resamples: int
) -> list[dict[str, Any]]:
    """Return a row a system: scores, and how much of it is copied, empty or in the target."""
    sources, references = real_pairs.tested(data, real_pairs.WITHOUT, ways)
    found = systems(lab, data, ways, beam)
    scores = translators.scored(found, references, sources, resamples)
    recognized = languages(lab)
    rows = []
    for name, lines in {**found, "reference": references}.items():
        shares = recognized.shares(lines, ways[1])
        row = {"direction": "-".join(ways), "system": name}
        for key, title in (("bleu", "BLEU"), ("chrf", "chrF")):
            own = scores[name][key] if name in scores else None
            row[title] = f"{own['mean']:.1f} ±{own['interval']:.1f}" if own else ""
        row["in the target language, %"] = f"{100 * (shares.in_target or 0):.0f}"
        row["commonest other"] = shares.wrong or ""
        row["copied, %"] = f"{100 * scores[name]['copied']:.0f}" if name in scores else ""
        rows.append(row)
    return rows


def main() -> None:
    parser = seeded_study.parser_of(__doc__, "runs/zero-shot", seeds=False)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--resamples", type=int, default=1000)
    arguments = seeded_study.begun(seeded_study.with_size(parser, SIZE))
    size, pieces = seeded_study.size_of(arguments, SIZE), PIECES
    if arguments.quick:
        arguments.data, pieces = toy.pairs(arguments.folder), 600
        arguments.beam, arguments.resamples = 1, 20
    lab = Lab(arguments.folder, size)
    real_pairs.prepared(lab, arguments.data, pieces)
    pair = real_pairs.WITHOUT.split("-")
    rows = [
        row
        for ways in (pair, pair[::-1])
        for row in rows_of(lab, arguments.data, ways, arguments.beam, arguments.resamples)
    ]
    seconds = {
        name: laboratory.seconds(laboratory.trained(lab, arms(size), name, 0))
        for name in arms(size)
    }
    result = {
        "rows": rows, "seconds": seconds, "beam": arguments.beam, "pieces": pieces,
        "size": {name: getattr(size, name) for name in ("dim", "num_layers", "updates", "tokens")},
    }  # fmt: skip
    seeded_study.finish("zero_shot_real", result, arguments)


if __name__ == "__main__":
    main()

"""What pretraining gives to supervised translation, by the number of pairs; Table 3, small.

    python -m benchmarks.studies.supervised --models runs/small --data data --folder runs/supervised
    python -m benchmarks.studies.supervised --table3 --models runs/small \
        --data data --folder runs/table3

Pairs of user interfaces, English and Hindi into Nepali: 500, 2,000, 8,000 of them and all, each the
first of one random order, so that the smaller sets are in the larger. Encoder and decoder start
from random weights, from CLM or from MLM (recipes/small), at equal budgets; checkpoints are chosen
by chrF on held-out pairs. Measured on test pairs of the same kind (test.ui) and, apart, on the
first lines of FLORES (en-ne alone has it), which is Wikipedia: another domain.

``--table3`` trains the nine cells of the paper's Table 3 on ``--size`` pairs of English and Nepali:
Nepali into English alone, both directions in one model, and both with online back-translation of
running text. An update is of one objective, in turn, and all cells have as many.

Everything that is finished is not run again; ``--only`` runs some cells, ``--quick`` tries it on
the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.support import downstream, translators
from benchmarks.support.translators import NONE, Figures
from xlm.model.generate import Generation
from xlm.objective import Objective
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.translation import Translation
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.run.config import Run, Stopping

DOMAINS = {"ui": "test.ui", "flores": "test"}
"""What is measured, and the files of it."""
TABLE_3 = {
    "one direction": ["ne-en"],
    "both directions": ["ne-en", "en-ne"],
    "both directions + BT": ["ne-en", "en-ne"],
}
MEASURED = "ne-en"
"""The direction of Table 3, into English as the paper's."""
SHORTEST, LONGEST = 3, 25
"""Words of the lines that are translated back."""


@dataclass(frozen=True)
class Cell:
    """A model to train."""

    pair: str
    """The pair of languages as its files have it."""
    size: int
    """Pairs; 0: all."""
    start: str
    directions: tuple[str, ...]
    back: bool = False
    """With back-translation beside the pairs."""


def aligned(arguments: argparse.Namespace, pair: str) -> dict[str, list[str]]:
    """The training pairs of both languages in one random order."""
    root = arguments.data / f"parallel/{pair}"
    both = {name: translators.read(root / f"train.{name}") for name in pair.split("-")}
    order = list(range(len(both[pair.split("-")[0]])))
    random.Random(0).shuffle(order)
    return {name: [lines[at] for at in order] for name, lines in both.items()}


def num_pairs(arguments: argparse.Namespace, pair: str) -> int:
    """How many training pairs there are."""
    return len(translators.read(arguments.data / f"parallel/{pair}/train.{pair.split('-')[0]}"))


def sizes(arguments: argparse.Namespace, pair: str) -> list[int]:
    """Those that are asked for and well below all of them, and 0 for all."""
    most = 0.9 * num_pairs(arguments, pair)
    return [size for size in arguments.sizes if 0 < size < most] + [0]


def pair_of(direction: str) -> str:
    """The pair as its files have it."""
    return "-".join(sorted(direction.split("-")))


def corpora(arguments: argparse.Namespace, cell: Cell, model: str) -> Path:
    """Pairs, and text where there is back-translation, in the vocabulary of ``model``."""
    name = f"{cell.pair}-{cell.size or 'all'}{f'-{arguments.mono}' if cell.back else ''}"
    folder: Path = arguments.folder / "data" / name
    if (folder / "corpora.json").exists():
        return folder
    languages = cell.pair.split("-")
    text = arguments.folder / "text" / name
    for language, lines in aligned(arguments, cell.pair).items():
        translators.write(text / f"pairs.{language}", lines[: cell.size or None])
    if cell.back:
        for language in languages:
            running = translators.read(arguments.data / f"mono/{language}/train.txt")
            fitting = [line for line in running if SHORTEST <= len(line.split()) <= LONGEST]
            translators.write(text / f"mono.{language}", fitting[: arguments.mono])
    root = arguments.data / f"parallel/{cell.pair}"
    mono = {language: str(text / f"mono.{language}") for language in languages}
    prepare(
        Prepare(
            folder=str(folder),
            text=Texts(train=mono if cell.back else {}),
            pairs=Aligned(
                train={cell.pair: [str(text / f"pairs.{language}") for language in languages]},
                valid={cell.pair: [str(root / f"valid.ui.{language}") for language in languages]},
            ),
            vocabulary=Vocabulary(folder=model),
            max_valid_sentences=200,
            workers=1,
        )
    )
    return folder


def objectives(arguments: argparse.Namespace, cell: Cell) -> dict[str, Objective]:
    """Translation of the cell's directions, and back-translation of both."""
    names = {"tokens": "tokens", "length": "longest", "num_lengths": "num_lengths"}
    shared = {field: vars(arguments)[name] for field, name in names.items()}
    directions = list(cell.directions)
    found: dict[str, Objective] = {
        "mt": Translation(
            pairs=directions, decode=Generation(), label_smoothing=arguments.smoothing, **shared
        )
    }
    if cell.back:
        found["bt"] = BackTranslation(pairs=directions, **shared)
    return found


def translator(arguments: argparse.Namespace, name: str, cell: Cell) -> Path:
    """Train a cell, or go on with it."""
    model = translators.source_of(arguments.models, cell.start, arguments.starts)
    return translators.trained(
        Run(
            data=str(corpora(arguments, cell, model)),
            folder=str(arguments.folder / f"seed-{arguments.seed}" / name.replace(" ", "-")),
            objectives=objectives(arguments, cell),
            stopping=Stopping(metric="chrf", streams=[f"mt/{cell.directions[0]}"]),
            **translators.settings(arguments, model, cell.start, arguments.steps),
        )
    )


def measured(
    arguments: argparse.Namespace, direction: str, domain: str, runs: Mapping[str, Path]
) -> dict[str, Figures]:
    """By start: scores on the test text of a domain; none where there is no such text."""
    sides = direction.split("-")
    root = arguments.data / f"parallel/{pair_of(direction)}"
    paths = [root / f"{DOMAINS[domain]}.{language}" for language in sides]
    if not all(path.exists() for path in paths) or not runs:
        return {}
    most = arguments.flores if domain == "flores" else None
    sources, references = (translators.read(path, most) for path in paths)
    systems = {
        start: translators.translated(folder, domain, direction, sources, arguments.beam)
        for start, folder in runs.items()
    }
    found = translators.scored(systems, references, sources, arguments.resamples)
    return {s: {**own, "seconds": translators.seconds(runs[s])} for s, own in found.items()}


def study(arguments: argparse.Namespace) -> tuple[list[Figures], bool]:
    """Every direction, number of pairs and start; whether all of them are finished."""
    cells = {
        f"{direction}/{size or 'all'}/{start}": Cell(pair_of(direction), size, start, (direction,))
        for direction in arguments.directions
        for size in sizes(arguments, pair_of(direction))
        for start in arguments.starts
    }
    done = finished(arguments, cells)
    rows = []
    for direction, size in dict.fromkeys((c.directions[0], c.size) for c in cells.values()):
        runs = {
            cells[name].start: folder
            for name, folder in done.items()
            if (cells[name].directions[0], cells[name].size) == (direction, size)
        }
        num = size or num_pairs(arguments, pair_of(direction))
        for domain in DOMAINS:
            if starts := measured(arguments, direction, domain, runs):
                rows.append(
                    {"direction": direction, "pairs": num, "domain": domain, "starts": starts}
                )
    return rows, len(done) == len(cells)


def finished(arguments: argparse.Namespace, cells: Mapping[str, Cell]) -> dict[str, Path]:
    """Train those that are asked for; the folders of all that are finished, by name."""
    done = {}
    wanted = downstream.chosen(arguments.only, cells)
    for name, cell in cells.items():
        folder = arguments.folder / f"seed-{arguments.seed}" / name.replace(" ", "-")
        if name in wanted:
            done[name] = translator(arguments, name, cell)
        elif translators.ended(folder):
            done[name] = folder
    return done


def table_3(arguments: argparse.Namespace) -> tuple[dict[str, Any], bool]:
    """The nine cells by row and start; whether all of them are finished."""
    cells = {
        f"{row}/{start}": Cell("en-ne", arguments.size, start, tuple(directions), "BT" in row)
        for row, directions in TABLE_3.items()
        for start in arguments.starts
    }
    done = finished(arguments, cells)
    rows = {}
    for row in TABLE_3:
        runs = {cells[n].start: path for n, path in done.items() if n.split("/")[0] == row}
        if runs:
            rows[row] = measured(arguments, MEASURED, "ui", runs)
    return {"direction": MEASURED, "rows": rows}, len(done) == len(cells)


def draw(rows: list[Figures], path: Path) -> None:
    """How far each start is above random weights on test.ui, by the number of pairs."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [row for row in rows if row["domain"] == "ui" and NONE in row["starts"]]
    directions = list(dict.fromkeys(row["direction"] for row in rows))
    figure, grid = pyplot.subplots(
        1, max(1, len(directions)), figsize=(4.8 * max(1, len(directions)), 4.2), squeeze=False
    )
    for axes, direction in zip(grid[0], directions, strict=False):
        own = [row for row in rows if row["direction"] == direction]
        for start in dict.fromkeys(s for row in own for s in row["starts"] if s != NONE):
            for name, style in (("chrf", "-"), ("bleu", "--")):
                points = [gain(row, start, name) for row in own if start in row["starts"]]
                pairs, gains, widths = zip(*points, strict=True)
                axes.errorbar(
                    pairs, gains, yerr=widths, linestyle=style, marker=".", capsize=3,
                    label=f"{start}, {name}",
                )  # fmt: skip
        axes.axhline(0, color="gray", linewidth=0.8)
        axes.set(xscale="log", xlabel="training pairs", title=direction)
        sizes = [row["pairs"] for row in own]
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_ylabel("points above random weights")
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def gain(row: Figures, start: str, name: str) -> tuple[int, float, float]:
    """Pairs, points above random weights, and half an interval as if the two were independent.

    Both translate the same lines, so the true interval of the difference is narrower.
    """
    one, other = (row["starts"][s][name] for s in (start, NONE))
    width = (one["interval"] ** 2 + other["interval"] ** 2) ** 0.5
    return row["pairs"], one["mean"] - other["mean"], width


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    translators.flags(parser)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=Path("runs/supervised"))
    parser.add_argument("--starts", nargs="+", default=[NONE, "clm", "mlm"], help="none, or runs")
    parser.add_argument("--directions", nargs="+", default=["en-ne", "hi-ne"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000, 8000], help="and all")
    parser.add_argument("--steps", type=int, default=400, help="updates of each model")
    parser.add_argument("--smoothing", type=float, default=0.1, help="of labels")
    parser.add_argument("--flores", type=int, default=300, help="lines of FLORES")
    parser.add_argument("--table3", action="store_true", help="the nine cells of Table 3")
    parser.add_argument("--size", type=int, default=2000, help="pairs of --table3 (0: all)")
    parser.add_argument("--mono", type=int, default=4000, help="lines translated back, a language")
    parser.add_argument("--only", nargs="+", help="cells, or how some of these begin")
    arguments = parser.parse_args()
    if arguments.quick:
        translators.try_it(arguments)
        arguments.sizes, arguments.size, arguments.mono, arguments.flores = [30], 30, 20, 10
    return arguments


def main() -> None:
    arguments = parsed()
    downstream.begin(arguments.threads)
    names = "steps tokens longest lr dropout smoothing beam seed".split()
    settings = {name: vars(arguments)[name] for name in names}
    if arguments.table3:
        name = "table3"
        settings |= {"pairs": arguments.size, "mono": arguments.mono}
        figures, whole = table_3(arguments)
    else:
        name = "supervised"
        rows, whole = study(arguments)
        figures = {"rows": rows, "flores_lines": arguments.flores}
    path = downstream.write(
        name, {"settings": settings, **figures}, trial=arguments.quick or not whole,
        folder=arguments.folder,
    )  # fmt: skip
    if not arguments.table3:
        draw(json.loads(path.read_text(encoding="utf-8"))["rows"], path.with_suffix(".png"))
    downstream.show(name, path)


if __name__ == "__main__":
    main()

"""The figures of a study: means and intervals of each row, and differences paired by seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from xlm.reproduce.cells import Cell
from xlm.reproduce.config import Reproduce
from xlm.reproduce.training import Result
from xlm.run.selection import mean_of

Finished = Mapping[Cell, Result]
UNITS = (
    "nats", "perplexity", "word_perplexity", "bits_per_character", "bits_per_byte", "accuracy",
    "unigram_perplexity",
)  # fmt: skip
KIND = "kinds"


def summarize(config: Reproduce, plan: Sequence[Cell], done: Finished) -> dict[str, Any]:
    """Return all figures of a study as JSON values; rows of which nothing is finished are left out.

    A difference is in nats a subword, below zero if the row is better than the target alone, and
    taken between models of one shape, seed and amount of text.
    """
    sentences = plan[0].sentences
    shapes = {}
    for shape in dict.fromkeys(cell.shape for cell in plan):
        own = [c for c in plan if c.shape == shape and c.sentences == sentences]
        rows = {}
        for row in dict.fromkeys(cell.row for cell in own):
            cells = [cell for cell in own if cell.row == row]
            if any(cell in done for cell in cells):
                rows[row] = _row(cells, done, config.target)
        if rows:
            shapes[shape] = rows
    return {
        "study": config.study,
        "target": config.target,
        "related": config.related,
        "unrelated": config.unrelated,
        "sentences": sentences,
        "other_sentences": config.other_sentences,
        "finished": len(done),
        "planned": len(plan),
        "shapes": shapes,
        "sizes": _sizes(config, plan, done),
        "processor_seconds": round(sum(own["processor_seconds"] for own in done.values())),
    }


def _row(cells: Sequence[Cell], done: Finished, target: str) -> dict[str, Any]:
    """Return the figures of one row over its seeds, and its differences from the target alone."""
    found = [done[cell] for cell in cells if cell in done]
    tests = found[0]["tests"]
    return {
        "seeds": [own["seed"] for own in found],
        "planned_seeds": [cell.seed for cell in cells],
        "peak_lr": found[0]["peak_lr"],
        "best_step": _mean([own["best_step"] for own in found]),
        "tokens": _mean([sum(own["tokens"].values()) for own in found]),
        "processor_seconds": _mean([own["processor_seconds"] for own in found]),
        "curve": _curve([own["curve"] for own in found]),
        "tests": {
            name: {
                unit: _mean([own["tests"][name][unit] for own in found])
                for unit in UNITS
                if unit in tests[name]
            }
            for name in tests
        },
        KIND: {
            name: {
                kind: {
                    "nats": _mean([own["tests"][name][KIND][kind]["nats"] for own in found]),
                    "share": own["share"],
                }
                for kind, own in tests[name][KIND].items()
            }
            for name in tests
        },
        "difference": {name: _paired(cells, done, target, _nats(name)) for name in tests},
        "difference_by_kind": {
            name: {
                kind: _paired(cells, done, target, _nats_of_kind(name, kind))
                for kind in tests[name][KIND]
            }
            for name in tests
        },
    }


def _nats(test: str) -> Callable[[Result], float]:
    return lambda result: float(result["tests"][test]["nats"])


def _nats_of_kind(test: str, kind: str) -> Callable[[Result], float]:
    return lambda result: float(result["tests"][test][KIND][kind]["nats"])


def _paired(
    cells: Sequence[Cell], done: Finished, target: str, figure: Callable[[Result], float]
) -> dict[str, Any] | None:
    """Return the mean difference from the target alone, seed by seed; None for the target's row."""
    values = []
    for cell in cells:
        alone = Cell(cell.shape, (target,), cell.seed, cell.sentences)
        if cell != alone and cell in done and alone in done:
            values.append(figure(done[cell]) - figure(done[alone]))
    return _mean(values) if values else None


def _sizes(config: Reproduce, plan: Sequence[Cell], done: Finished) -> list[dict[str, Any]]:
    """Return by number of target sentences the nats alone and with the related language.

    All of the first seed and the rotary shape.
    """
    rows = (config.target,), (config.target, config.related)
    found = []
    for sentences in dict.fromkeys(cell.sentences for cell in plan):
        own = [Cell("rotary", row, config.seeds[0], sentences) for row in rows]
        if all(cell in done for cell in own):
            alone, beside = (done[cell]["tests"] for cell in own)
            nats = {
                name: {
                    "alone": alone[name]["nats"],
                    "beside": beside[name]["nats"],
                    "difference": beside[name]["nats"] - alone[name]["nats"],
                }
                for name in alone
            }
            found.append({"sentences": sentences, "tests": nats})
    return found


def _mean(values: Sequence[float]) -> dict[str, Any]:
    return asdict(mean_of(values))


def _curve(curves: Sequence[Sequence[Sequence[float]]]) -> list[list[float]]:
    """Return the mean over seeds of validation nats by step, as far as all seeds went."""
    return [
        [steps[0][0], sum(own[1] for own in steps) / len(steps)]
        for steps in zip(*curves, strict=False)
    ]

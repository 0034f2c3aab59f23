"""What analyses find in a TLM model of id-shifted English, where the truth is known.

    python -m benchmarks.studies.analysis_shifted --folder runs/analysis-shifted

Trains as studies/tlm_shifted.py does. For the analyses the second language's sentences are
reversed, as positions alone would align languages of the same order. Figures are those of the layer
that is best on even sentences, measured on odd ones, beside random weights: retrieval, word
alignment, separability, translation by the word table. The gap in accuracy between the true and a
wrong partner is measured in the order of training. A seed that is finished is not run again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.studies.learning import kept
from benchmarks.studies.tlm_shifted import PAIR, run_of, text, tlm
from benchmarks.support import record, shifted
from xlm.analysis.alignment import Gold, cosines, link, link_scores
from xlm.analysis.geometry import scatter
from xlm.analysis.lexicon import Entries, word_translation
from xlm.analysis.nulls import untrained
from xlm.analysis.retrieval import accuracy
from xlm.analysis.states import States, num_layers, piece_states
from xlm.data.corpora import Corpora
from xlm.model.asking import OBJECTIVES, evaluating
from xlm.model.pretrained import PretrainedModel
from xlm.reproduce.shifted import ShiftedTokenizer
from xlm.run.build import held_out_streams
from xlm.run.config import Run
from xlm.run.folder import RunFolder
from xlm.run.session import Session, begin
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.loop import Verdict, train

GOALS = {
    "centered retrieval @1": 0.6,
    "alignment F1": 0.7,
    "sentence / (sentence + rest)": 0.75,
    "gap in accuracy": 0.9,
}
"""The least that the model must reach."""
TABLE = "word table P@1, CSLS"
Sides = tuple[list[States], list[States]]
"""States of the pieces of every sentence, ``[L + 1, n, D]`` each."""


def sides_of(model: PretrainedModel, corpora: Corpora) -> Sides:
    """Return the states of held-out sentences, those of the second language read in reverse."""
    first, second = corpora.pairs("valid", PAIR).sides
    rows = [first.sentence(at).astype(np.int64) for at in range(len(first))]
    others = [second.sentence(at)[::-1].astype(np.int64) for at in range(len(second))]
    x = piece_states(model, rows, shifted.FIRST)
    return x, piece_states(model, others, shifted.SECOND)


def pooled(states: list[States], layer: int) -> States:
    """Return the mean state of each sentence in a layer, ``[N, D]``."""
    return np.stack([own[layer].mean(0) for own in states])


def retrieved(sides: Sides, layer: int) -> float:
    """Return how many sentences find their translation, each side less its mean."""
    return accuracy(pooled(sides[0], layer), pooled(sides[1], layer))


def aligned(sides: Sides, layer: int) -> float:
    """Return F1 of links by argmax; piece i of n is piece n - 1 - i of the reversed sentence."""
    found, gold = [], []
    for x, y in zip(*sides, strict=True):
        num = x.shape[1]
        links = frozenset((at, num - 1 - at) for at in range(num))
        gold.append(Gold(links, links))
        found.append(link(cosines(x[layer], y[layer])))
    return link_scores(found, gold)["F1"].value or 0.0


def parted(sides: Sides, layer: int) -> float:
    """Return the share of sentences in the scatter that is not of languages."""
    own = scatter(np.stack([pooled(side, layer) for side in sides]))
    return own.sentence / (own.sentence + own.rest)


MEASURES: dict[str, Callable[[Sides, int], float]] = dict(
    zip(GOALS, (retrieved, aligned, parted), strict=False)
)


def by_layer(sides: Sides) -> dict[str, dict[str, Any]]:
    """Return each measure on odd sentences by layer, and the layer that is best on even ones."""
    even, odd = ((sides[0][at::2], sides[1][at::2]) for at in (0, 1))
    found = {}
    for name, measure in MEASURES.items():
        layers = range(len(sides[0][0]))
        chosen = max(layers, key=lambda layer: measure(even, layer))  # noqa: B023
        values = [measure(odd, layer) for layer in layers]
        found[name] = {"layer": chosen, "value": values[chosen], "layers": values}
    return found


def by_table(model: PretrainedModel) -> float:
    """Return P@1 of the table's rows: every ordinary piece and its shifted twin."""
    tokenizer = model.tokenizer
    assert isinstance(tokenizer, ShiftedTokenizer)
    table = model.transformer.encoder.words.weight.detach().numpy()
    places = np.arange(tokenizer.first_ordinary, tokenizer.base.vocab_size)
    names = [str(at) for at in places]
    gold = [[at] for at in range(len(places))]
    entries = Entries(
        names, table[places], names, table[places + tokenizer.shift], gold, len(names)
    )
    value = word_translation(entries)["centered CSLS P@1"].value
    assert value is not None
    return value


def gap(session: Session, run: Run, corpora: Corpora) -> dict[str, float]:
    """Return accuracy and nats on masked tokens beside the true and beside a wrong partner."""
    found = {}
    for split, partner in (("valid", "true"), ("test", "wrong")):
        streams = held_out_streams(run, corpora, split)
        trainer = session.trainer
        figures = evaluate(trainer.learner, streams, trainer.parallel, seed=0)[f"tlm/{PAIR}"]
        found[f"accuracy, {partner}"], found[f"nats, {partner}"] = (
            figures["accuracy"], figures["nats"]
        )  # fmt: skip
    found["gap in accuracy"] = found["accuracy, true"] - found["accuracy, wrong"]
    return found


def one_seed(corpora: Corpora, folder: Path, steps: int, every: int, seed: int) -> dict[str, Any]:
    """Train a model and return its figures, those of random weights, and a curve of both."""
    run = run_of({"tlm": tlm("tlm")}, folder, steps=steps, every=every, lr=2e-3, seed=seed)
    session = begin(run, corpora, RunFolder(run.folder, Parallel.start("cpu")))
    transformer = session.trainer.learner.model
    model = PretrainedModel(
        transformer, corpora.tokenizer, dict(corpora.languages), {OBJECTIVES: ["MaskedLM"]}
    )
    curve: list[dict[str, float]] = []
    seconds = 0.0

    def look() -> Verdict:
        nonlocal seconds
        started = time.perf_counter()
        with evaluating(transformer):
            sides = sides_of(model, corpora)
        point: dict[str, float] = {"step": session.trainer.state.step}
        point.update(gap(session, run, corpora))
        point.update({name: own["value"] for name, own in by_layer(sides).items()})
        curve.append(point)
        seconds += time.perf_counter() - started
        sys.stderr.write(f"seed {seed}: {point}\n")
        return Verdict()

    with session.reporter.journal:
        train(session.trainer, report=session.reporter.train, evaluate=look)
    with evaluating(transformer):
        fresh = untrained(model, seed + 1)
        found = {
            name: {**by_layer(sides_of(own, corpora)), TABLE: by_table(own)}
            for name, own in (("trained", model), ("untrained", fresh))
        }
    found["trained"] |= {"gap in accuracy": curve[-1]["gap in accuracy"]}
    return {**found, "layers": num_layers(model), "curve": curve, "seconds looking": seconds}


def rows_of(found: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each figure: each seed's value and layer, and the largest of no training."""
    rows = []
    for name in (*GOALS, TABLE):
        row: dict[str, Any] = {"figure": name}
        for seed, own in found.items():
            value = own["trained"][name]
            row[f"seed {seed}"] = (
                f"{value['value']:.3f} (layer {value['layer']})"
                if isinstance(value, dict)
                else f"{value:.3f}"
            )
        fresh = [_plain(own["untrained"].get(name)) for own in found.values()]
        row["random weights, at most"] = f"{max(fresh):.3f}" if None not in fresh else "0"
        row["expected"] = f"{GOALS[name]} or more" if name in GOALS else "chance"
        rows.append(row)
    return rows


def _plain(value: Any) -> Any:
    return value["value"] if isinstance(value, dict) else value


def draw(found: dict[int, dict[str, Any]], path: Path) -> None:
    """Draw each figure over updates, a line for each seed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    for number, name in enumerate(GOALS):
        for at, own in enumerate(found.values()):
            points = [(point["step"], point[name]) for point in own["curve"]]
            label = None if at else name
            axes.plot(*zip(*points, strict=True), color=f"C{number}", marker=".", label=label)
    axes.set(xlabel="TLM updates", ylabel="share, held-out pairs", ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def corpora_of(quick: bool) -> Corpora:
    """Return id-shifted English of the corpus that ships, as studies/tlm_shifted.py has it."""
    sizes = {"vocab_size": 1000, "num": 20000}
    if quick:
        sizes = {"vocab_size": 400, "num": 60, "num_held_out": 8}
    return shifted.corpora(*text(None), **sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=1000, help="TLM updates")
    parser.add_argument("--every", type=int, default=100, help="updates between two looks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--folder", type=Path, default=Path("runs/analysis-shifted"))
    parser.add_argument("--quick", action="store_true", help="try it with two updates")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.steps, arguments.every, arguments.seeds = 2, 1, [0]
    folder, steps, every = arguments.folder, arguments.steps, arguments.every
    corpora = corpora_of(arguments.quick)
    found = {
        seed: kept(
            folder / f"figures/{seed}-{steps}.json",
            lambda s=seed: one_seed(corpora, folder / f"{s}-{steps}", steps, every, s),  # type: ignore[misc]
        )
        for seed in arguments.seeds
    }
    result = {"updates": steps, "rows": rows_of(found), "seeds": found}
    path = record.write("analysis_shifted", result, folder if arguments.quick else None)
    draw(found, path.with_suffix(".png"))
    for row in result["rows"]:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

"""How time and memory grow: with width, depth, vocabulary, length, languages, text.

    python -m benchmarks.speed.growth

One thing grows, the others stay: processor milliseconds of an update by MLM and CLM over width,
layers, vocabulary and length, each in a process of its own, and the MiB that no file stands behind
and that model and updates take at most; milliseconds to plan a step and to open the streams of 2 to
100 languages; and of 10^5 to 10^9 tokens (2 bytes each, made up) the time to open them, to make a
micro-batch, and the memory that no file stands behind. A page of plots: ``growth.png``.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.speed.analysis import measured
from benchmarks.speed.data import Ids
from benchmarks.speed.many_directions import anonymous_mib
from benchmarks.speed.many_directions import tokenizer as small_tokenizer
from benchmarks.speed.pretrain import ours
from benchmarks.support import record
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.corpus_writer import CorpusWriter
from xlm.data.mixture import Mixture
from xlm.data.sampling import Sampling
from xlm.metrics.scores import TextSize
from xlm.objectives import Denoising, MaskedLM
from xlm.rng import Random

T = TypeVar("T")
BASE = {"dim": 256, "num_layers": 4, "num_heads": 4, "vocab": 8000, "rows": 8, "length": 128}
AXES: dict[str, Sequence[int]] = {
    "dim": (128, 256, 512, 1024),
    "num_layers": (2, 4, 8, 16),
    "vocab": (1000, 8000, 32_000, 95_000, 250_000),
    "length": (64, 128, 256, 512),
}
LANGUAGES = (2, 5, 15, 50, 100)
TOKENS = (10**5, 10**6, 10**7, 10**8, 10**9)
QUICK: dict[str, Any] = {
    "axes": {"dim": (16, 32)}, "languages": (2, 3), "tokens": (2000, 20_000), "rounds": 1,
}  # fmt: skip
SENTENCE = 25
"""Tokens of a sentence of the made-up text."""


def median_ms(step: Callable[[], object], rounds: int) -> float:
    """Return the median processor milliseconds of a call, after a first one."""
    step()
    found = []
    for _ in range(rounds):
        started = time.process_time()
        step()
        found.append(time.process_time() - started)
    return round(1000 * statistics.median(found), 2)


def updates(shape: dict[str, int], objective: str, rounds: int) -> tuple[float, float]:
    """Return the milliseconds of an update, and the most MiB that it and the model take."""
    torch.set_num_threads(1)
    found: list[float] = []
    cost = measured(lambda: found.append(median_ms(ours(shape, objective, "fp32", "2019"), rounds)))
    return found[0], round(cost.rise, 1)


def shapes(axes: dict[str, Sequence[int]], rounds: int, quick: bool) -> list[dict[str, Any]]:
    """Return a row for each value of each axis and objective."""
    rows = []
    for axis, values in axes.items():
        for value in values:
            shape = {**BASE, **({"vocab": 50, "dim": 16, "length": 16} if quick else {})}
            shape[axis] = value
            for objective in ("mlm", "clm"):
                given = shape, objective, rounds
                ms, most = updates(*given) if quick else in_a_process(updates, *given)
                rows.append({"axis": axis, "value": value, "of": objective, "ms": ms, "MiB": most})
    return rows


def in_a_process(function: Callable[..., T], *arguments: Any) -> T:
    """Return the result of a function of a module in a process that has done nothing else."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(function, *arguments).result()


def languages(counts: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Return what streams and plans of many languages cost."""
    made = small_tokenizer()
    rows = []
    for count in counts:
        names = [f"x{at:03d}" for at in range(count)]
        texts = {
            ("train", name): Corpus.from_sentences(
                np.full((200, SENTENCE), 30 + at), language=name, tokenizer=made
            )
            for at, name in enumerate(names)
        }
        corpora = Corpora(made, names, texts=texts)
        objective = MaskedLM(languages=names, rows=8, length=32)
        opened = median_ms(lambda o=objective, c=corpora: o.streams("mlm", c, seed=0), rounds)  # type: ignore[misc]
        mixture = Mixture(
            {"mlm": objective.streams("mlm", corpora, seed=0)}, {"mlm": Sampling()}, {"mlm": 1.0},
            turns={"mlm": 1}, group_size=8, order="rotate", one_language_a_group=False, seed=0,
            num_steps=100,
        )  # fmt: skip
        cursors = dict.fromkeys(mixture.stream_ids, 0)
        planned = median_ms(lambda m=mixture, c=cursors: m.plan(3, c), max(rounds, 3))  # type: ignore[misc]
        rows.append({"axis": "languages", "value": count, "of": "opening", "ms": opened})
        rows.append({"axis": "languages", "value": count, "of": "plan of a step", "ms": planned})
    return rows


def write_text(folder: Path, num_tokens: int) -> None:
    """Write a made-up text of sentences of one length, a few million tokens at a time."""
    made, most = Ids(60_000), 5_000_000 // SENTENCE * SENTENCE
    random = np.random.default_rng(0)
    with CorpusWriter(folder, language="en", tokenizer=made, index=True) as writer:
        for start in range(0, num_tokens, most):
            size = min(most, num_tokens - start) // SENTENCE
            ids = random.integers(14, made.vocab_size, (size, SENTENCE))
            ids[:, -1] = made.end_id
            writer.add(ids.ravel(), np.full(size, SENTENCE), TextSize(0, 0, 0, 0, 0))


def texts(sizes: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Return what opening and reading texts of these numbers of tokens costs."""
    rows = []
    made = Ids(60_000)
    objectives = {
        "rows of text": MaskedLM(languages=["en"], rows=8, length=128),
        "sentences": Denoising(languages=["en"], tokens=1000, length=64),
    }
    for size in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "en"
            write_text(folder, size)
            for kind, objective in objectives.items():
                before, started = anonymous_mib(), time.process_time()
                texts = {("train", "en"): Corpus.open(folder, made)}
                corpora = Corpora(made, ["en"], texts=texts)
                (stream,) = objective.streams("o", corpora, seed=0)
                objective.collate(stream.examples(0), Random(0), train=True)
                opened = round(1000 * (time.process_time() - started), 2)
                at = iter(range(1, 10**6))
                ms = median_ms(
                    lambda o=objective, s=stream, a=at: o.collate(  # type: ignore[misc]
                        s.examples(next(a)), Random(0), train=True
                    ),
                    max(rounds, 3),
                )
                grown = round(anonymous_mib() - before, 1)
                of = {"axis": "tokens", "value": size}
                rows.append({**of, "of": f"opening, {kind}", "ms": opened, "MiB": grown})
                rows.append({**of, "of": f"micro-batch, {kind}", "ms": ms})
    return rows


def plot(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Draw a panel for each axis, both scales logarithmic."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(13, 3.2 * -(-len(axes) // 3)), layout="constrained")
    FigureCanvasAgg(figure)
    for at, axis in enumerate(axes):
        panel = figure.add_subplot(-(-len(axes) // 3), 3, at + 1)
        for of in dict.fromkeys(row["of"] for row in rows if row["axis"] == axis):
            own = [row for row in rows if (row["axis"], row["of"]) == (axis, of)]
            panel.plot([row["value"] for row in own], [row["ms"] for row in own], ".-", label=of)
        panel.set(xscale="log", yscale="log", xlabel=axis.replace("_", " "), ylabel="ms")
        panel.grid(alpha=0.3, which="both")
        panel.legend(fontsize="small")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--most-tokens", type=int, default=TOKENS[-1])
    parser.add_argument("--quick", action="store_true", help="try it on tiny sizes; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.quick:
        axes, counts, sizes, rounds = (QUICK[n] for n in ("axes", "languages", "tokens", "rounds"))
    else:
        axes, counts, rounds = AXES, LANGUAGES, arguments.rounds
        sizes = [size for size in TOKENS if size <= arguments.most_tokens]
    rows = []
    for part in (
        lambda: shapes(axes, rounds, arguments.quick),
        lambda: languages(counts, rounds),
        lambda: texts(sizes, rounds),
    ):
        found = part()
        rows += found
        for row in found:
            sys.stdout.write(f"{row}\n")
    if arguments.quick:
        with tempfile.TemporaryDirectory() as folder:
            plot(rows, Path(folder) / "growth.png")
        return
    record.write("growth", {"threads": 1, "rows": rows})
    plot(rows, record.RESULTS / "growth.png")


if __name__ == "__main__":
    main()

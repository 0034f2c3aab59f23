"""Speed and memory of analyses: neighbors beside faiss, states by length, CKA of all layers.

    python -m benchmarks.speed.analysis [--rows 100000] [--width 512]

Neighbors are the 4 nearest of both directions, beside two exact searches of faiss-cpu with as many
threads, if it is installed; memory is what the search takes beside its arrays (RssAnon). States of
all layers are made in batches by length and, for comparison, in the order of the file. Rows are
printed and written to results/analysis_speed.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from benchmarks.speed.memory import anonymous_kib
from benchmarks.support import record, toy
from xlm.analysis.kernel_alignment import cka_matrix
from xlm.analysis.neighbors import nearest, unit
from xlm.analysis.states import Reading, encode_lines, sentence_states
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer

NEIGHBORS = 4


def measured(act: Callable[[], Any]) -> tuple[float, float]:
    """Return the seconds of a call, and the MiB that it held at most beside what was there."""
    started, before = time.perf_counter(), anonymous_kib(os.getpid())
    peak, done = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_kib(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    act()
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return seconds, (peak - before) / 1024


def neighbors(rows: int, width: int) -> dict[str, Any]:
    """Return the time of both directions, and its ratio to that of faiss."""
    draw = np.random.default_rng(0)
    x, y = (unit(draw.normal(size=(rows, width)).astype(np.float32)) for _ in range(2))
    nearest(x[:100], y[:100], NEIGHBORS)  # threads are there
    seconds, memory = measured(lambda: (nearest(x, y, NEIGHBORS), nearest(y, x, NEIGHBORS)))
    row = {"figure": "neighbors", "rows": rows, "width": width, "seconds": seconds, "MiB": memory}
    try:
        import faiss  # type: ignore[import-not-found]
    except ImportError:
        return row
    faiss.omp_set_num_threads(torch.get_num_threads())

    def theirs() -> None:
        for one, two in ((x, y), (y, x)):
            index = faiss.IndexFlatIP(width)
            index.add(two)
            index.search(one, NEIGHBORS)

    row["faiss seconds"], _ = measured(theirs)
    row["ratio"] = row["seconds"] / row["faiss seconds"]
    return row


def random_model(lines: list[str]) -> PretrainedModel:
    """Return a model of random weights, four layers of 128."""
    tokenizer = learn_fastbpe_tokenizer(lines, 1000)
    shape = ModelConfig(preset="rotary-tiny", language_embeddings=False)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Transformer(
            shape, vocab_size=tokenizer.vocab_size, num_languages=1, pad_id=tokenizer.pad_id
        )
    return PretrainedModel(model.eval(), tokenizer, {"en": 0})


def states(num_lines: int) -> dict[str, Any]:
    """Return tokens a second by length and in the order of the file, and the memory of both."""
    sample = toy.text("train", "en")
    model = random_model(sample)
    lines = [
        " ".join(sample[(at * 7 + k) % len(sample)] for k in range(1 + at % 3))
        for at in range(num_lines)
    ]
    num_tokens = sum(len(ids) for ids in encode_lines(model, lines)[0])
    seconds, memory = measured(lambda: sentence_states(model, lines, "en"))
    tokens = Reading().tokens

    def in_order() -> None:
        longest = max(len(ids) for ids in encode_lines(model, lines)[0]) + 2
        size = max(1, tokens // longest)
        for start in range(0, num_lines, size):
            sentence_states(model, lines[start : start + size], "en")

    plain, _ = measured(in_order)
    return {
        "figure": "states", "lines": num_lines, "tokens/s": num_tokens / seconds,
        "tokens/s in file order": num_tokens / plain, "ratio": plain / seconds, "MiB": memory,
    }  # fmt: skip


def kernels(rows: int, width: int, layers: int) -> dict[str, Any]:
    """Return the time of CKA between all layers of two models."""
    draw = np.random.default_rng(0)
    sides = [
        [draw.normal(size=(rows, width)).astype(np.float32) for _ in range(layers)] for _ in "xy"
    ]
    seconds, memory = measured(lambda: cka_matrix(*sides))
    return {
        "figure": "CKA", "rows": rows, "width": width, "layers": layers, "seconds": seconds,
        "MiB": memory,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="try it on 300 rows")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.width, options.lines, options.layers = 300, 16, 60, 2
    rows = []
    for measure in (
        lambda: neighbors(options.rows, options.width),
        lambda: states(options.lines),
        lambda: kernels(options.rows, options.width, options.layers),
    ):
        rows.append(measure())
        sys.stdout.write(json.dumps(rows[-1]) + "\n")
        sys.stdout.flush()
        if not options.quick:
            record.write("analysis_speed", {"rows": rows})


if __name__ == "__main__":
    main()

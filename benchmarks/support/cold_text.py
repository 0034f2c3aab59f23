"""Bytes that are read from the disk for each byte that micro-batches need, of text in no cache.

Made-up text is written and flushed, the system is asked to forget it (``posix_fadvise``), and the
streams of training are read in random order. A file system in memory forgets nothing: the folder
must be on a disk. Linux counts the bytes in ``/proc/self/io``.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from xlm.data.corpora import Corpora, write_header
from xlm.data.corpus_writer import CorpusWriter
from xlm.data.pairs import SIDES, write_index
from xlm.metrics.scores import TextSize
from xlm.objective import Objective
from xlm.objectives import Denoising, MaskedLM
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer

VOCAB = 95_000
MEAN = 25
"""Tokens of a sentence on average."""
CHUNK = 200_000
"""Sentences that are made at a time."""
GOAL = 5
OBJECTIVES: dict[str, Objective] = {
    "text 64 x 256": MaskedLM(languages=["en"], rows=64, length=256),
    "sentences of 4,000 cells": Denoising(languages=["en"], tokens=4000, length=128),
    "pairs of 4,000 cells": MaskedLM(pairs=["en-hi"], tokens=4000, length=256),
}


def write(folder: Path, mebibytes: float, vocab: int) -> None:
    """Write a text whose ids fill so many MiB, and pairs that together fill as many."""
    words = "".join(f"w{at} {vocab - at}\n" for at in range(vocab))
    made = FastBpeTokenizer(b"", words.encode())
    made.save(folder / "tokenizer")
    size = 2 if made.vocab_size <= 1 << 16 else 4
    num = int(mebibytes * 2**20 / size / (MEAN + 1))
    random = np.random.default_rng(0)

    def corpus(path: Path, language: str, num_sentences: int, index: bool) -> None:
        with CorpusWriter(path, language=language, tokenizer=made, index=index) as writer:
            for start in range(0, num_sentences, CHUNK):
                own = min(CHUNK, num_sentences - start)
                lengths = 1 + random.poisson(MEAN, own).clip(1, 99)
                ids = random.integers(20, made.vocab_size, int(lengths.sum()))
                ids[np.cumsum(lengths) - 1] = made.end_id
                writer.add(ids, lengths, TextSize(0, 0, 0, 0, 0))

    corpus(folder / "train/en", "en", num, True)
    pair = folder / "train/en-hi"
    pair.mkdir()
    for side, language in zip(SIDES, ("en", "hi"), strict=True):
        corpus(pair / side, language, num // 2, False)
    write_index(pair, made)
    write_header(folder, made, ["en", "hi"])


def forget(folder: Path) -> None:
    """Flush the files of a folder, and ask the system to keep none of them in memory."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            try:
                os.fsync(handle)
                os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(handle)


def bytes_read() -> int:
    """Return the bytes that this process has had read from a disk."""
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(": ") for line in lines)["read_bytes"])


def measured(folder: Path, name: str, num_batches: int) -> dict[str, Any]:
    """Return the bytes read for each that was needed, and seconds, of a stream's micro-batches."""
    forget(folder)
    before, started = bytes_read(), time.perf_counter()
    corpora = Corpora.open(folder)
    (stream,) = OBJECTIVES[name].streams("o", corpora, seed=0)
    opened = time.perf_counter() - started
    of_opening, needed = bytes_read() - before, 0
    started = time.perf_counter()
    before = bytes_read()
    for k in range(num_batches):
        examples = stream.examples(k)
        rows = [*examples.first, *(examples.second or [])]
        needed += sum(map(len, rows))
    size = (corpora.text("train", "en")).ids.itemsize
    return {
        "micro-batches": name,
        "ids needed, KiB": round(needed * size / 1024, 1),
        "bytes read per byte needed": round((bytes_read() - before) / (needed * size), 1),
        "goal": GOAL if name.startswith("text") else "",
        "ms a micro-batch": round(1e3 * (time.perf_counter() - started) / num_batches, 1),
        "MiB read to open": round(of_opening / 2**20, 1),
        "s to open": round(opened, 2),
    }


def cold(
    mebibytes: float, num_batches: int, vocab: int, folder: Path | None
) -> list[dict[str, Any]]:
    """Return a row for each kind of stream."""
    with tempfile.TemporaryDirectory(dir=folder) as name:
        write(Path(name), mebibytes, vocab)
        return [measured(Path(name), own, num_batches) for own in OBJECTIVES]

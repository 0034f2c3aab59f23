"""How long the hashes of a large corpus take: at a run's first start, and at later ones."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from benchmarks.fault_trials.common import Tally
from xlm.data.corpora import Corpora, write_header
from xlm.data.corpus_writer import CorpusWriter
from xlm.data.verification import verify_corpora
from xlm.metrics.scores import TextSize
from xlm.text.tokenizers.loading import load_tokenizer

LENGTH = 25
"""Tokens of a sentence."""


def verifying(data: Path, folder: Path, num_tokens: int) -> Tally:
    """Write a corpus of ``num_tokens`` tokens, verify it, and open it again."""
    tokenizer = load_tokenizer(data / "tokenizer")
    rows = (1 << 20) // LENGTH
    ids = np.random.default_rng(0).integers(14, tokenizer.vocab_size, (rows, LENGTH), np.int64)
    ids[:, -1] = tokenizer.end_id
    lengths = np.full(rows, LENGTH)
    with CorpusWriter(folder / "train" / "ne", language="ne", tokenizer=tokenizer) as writer:
        for _ in range(max(num_tokens // ids.size, 1)):
            writer.add(ids.ravel(), lengths, TextSize(0, 0, 0, 0, 0))
    tokenizer.save(folder / "tokenizer")
    write_header(folder, tokenizer, ["ne"])
    started = time.monotonic()
    found = verify_corpora(folder)
    first = time.monotonic() - started
    started = time.monotonic()
    corpora = Corpora.open(folder)
    again = verify_corpora(folder, found.known)
    size = corpora.text("train", "ne").text_size
    later = time.monotonic() - started
    tally = Tally(
        f"{size.tokens / 1e9:.2g} billion tokens: first start {first:.1f} s "
        f"({found.num_bytes / 1e6 / first:,.0f} MB/s), later ones {later:.2f} s",
        "later starts take less than a second",
    )
    tally.started -= first + later
    tally.add("later starts", "" if later < 1 and not again.num_bytes else f"{later:.1f} s")
    return tally

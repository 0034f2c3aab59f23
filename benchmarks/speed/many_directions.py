"""How long a translator of many directions takes to begin, and how much its batches pad.

    python -m benchmarks.speed.many_directions --corpora runs/pairs/data

Pairs of made-up sentences, both directions of each: processor seconds until the streams of training
and of validation are ready, files that stay open, memory that opening adds and no file stands
behind, and processor seconds of the probe that finds out which parameters each objective trains
(128 wide, 3 layers a side). Each size has a process of its own, so that no memory is used again; it
opens a small corpus first, so that imports do not count. With ``--corpora``, prepared pairs, the
share of padding in an epoch of all directions, both sides counted, and the number of padded
lengths; and that of TLM, whose rows are both sentences (goal: at most 5 %, compiled, which changes
no length). ``--quick`` makes six pairs; only printed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.support import record
from xlm.data.corpora import Corpora, write_header
from xlm.data.corpus_writer import CorpusWriter
from xlm.data.mixture import Mixture
from xlm.data.pairs import SIDES, write_index
from xlm.metrics.scores import TextSize
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.objectives import MaskedLM, Translation
from xlm.rng import Random
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.training.learner import Learner, parameter_sets_differ

VOCABULARY = 1500
CENTER = "en"
BUDGET = 2000
"""Cells of the longer side of a micro-batch."""
TLM_BUDGET = 4000
"""Cells of a micro-batch of TLM, as the recipes have it."""
FIELDS: dict[str, dict[str, Any]] = {
    "own lengths": {},
    "shared_lengths": {"shared_lengths": True},
    "shared_lengths, bucket_parts 4": {"shared_lengths": True, "bucket_parts": 4},
}


def tokenizer() -> FastBpeTokenizer:
    """Return a tokenizer of as many words; what they are does not matter."""
    words = "".join(f"w{at} {VOCABULARY - at}\n" for at in range(VOCABULARY))
    return FastBpeTokenizer(b"", words.encode())


def prepare(folder: Path, num_pairs: int, num_rows: int) -> None:
    """Write pairs of the center with as many languages: rows for training, a fiftieth for valid."""
    made = tokenizer()
    made.save(folder / "tokenizer")
    languages = [f"x{at:03d}" for at in range(num_pairs)]
    random = np.random.default_rng(0)
    for split, num in (("train", num_rows), ("valid", max(num_rows // 50, 10))):
        for language in languages:
            path = folder / split / f"{CENTER}-{language}"
            path.mkdir(parents=True)
            for side, name in zip(SIDES, (CENTER, language), strict=True):
                lengths = random.geometric(0.08, num).clip(1, 99) + 1
                ids = random.integers(20, made.vocab_size, int(lengths.sum()))
                ids[np.cumsum(lengths) - 1] = made.end_id
                with CorpusWriter(path / side, language=name, tokenizer=made) as writer:
                    writer.add(ids, lengths, TextSize(0, 0, 0, 0, 0))
            write_index(path, made)
    write_header(folder, made, [CENTER, *languages])


def anonymous_mib() -> float:
    """Return the resident memory of this process that no file stands behind."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    values = [line.split()[1] for line in lines if line.startswith("RssAnon")]
    return int(values[0]) / 1024


def opened(folder: Path) -> dict[str, Any]:
    """Return the figures of beginning with the pairs in ``folder``."""
    names = sorted(path.name for path in (folder / "train").iterdir())
    objective = Translation(pairs=names, directions="m2m", tokens=BUDGET)
    before, files = anonymous_mib(), len(os.listdir("/proc/self/fd"))
    found: dict[str, Any] = {}
    corpora = Corpora.open(folder)
    streams = {}
    for split in ("train", "valid"):
        start = time.process_time()
        streams[split] = objective.streams("mt", corpora, seed=0, split=split)
        found[f"{split}, s"] = round(time.process_time() - start, 2)
    found["files open"] = len(os.listdir("/proc/self/fd")) - files
    found["memory, MiB"] = round(anonymous_mib() - before, 1)
    shape = ModelConfig(dim=128, num_layers=3, num_heads=4, num_decoder_layers=3)
    torch.manual_seed(0)
    model = Transformer(
        shape, vocab_size=corpora.tokenizer.vocab_size, num_languages=len(corpora.languages),
        pad_id=corpora.tokenizer.pad_id,
    )  # fmt: skip
    learner = Learner(model, {"mt": objective}, shape)
    start = time.process_time()
    parameter_sets_differ(learner, Mixture({"mt": streams["train"]}))
    found["probe, s"] = round(time.process_time() - start, 2)
    return found


def opened_after(small: Path, data: Path, threads: int) -> dict[str, Any]:
    """Return the figures of beginning with ``data`` in a process that has opened ``small``."""
    torch.set_num_threads(threads)
    opened(small)
    return opened(data)


def padded(corpora: Corpora, objective: Objective) -> dict[str, Any]:
    """Return the padding of an epoch by pair, in percent, and the number of padded lengths."""
    cells: dict[str, list[int]] = {}
    lengths = set()
    for stream in objective.streams("o", corpora, seed=0):
        own = cells.setdefault("-".join(sorted(stream.languages)), [0, 0])
        for k in range(stream.num_batches):
            batch = objective.collate(stream.examples(k), Random(0), train=True)
            own[0] += batch.num_tokens
            own[1] += batch.tokens.numel()
            own[1] += 0 if batch.source is None else batch.source.tokens.numel()
        lengths |= set(stream.buckets.lengths.tolist())  # type: ignore[attr-defined]
    shares = {
        f"{name}, %": round(100 - 100 * real / all_, 1) for name, (real, all_) in cells.items()
    }
    return {**shares, "lengths": len(lengths)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--rows", type=int, nargs="+", default=[2000, 20_000])
    parser.add_argument("--corpora", type=Path, help="prepared pairs to measure the padding of")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    num_pairs, sizes = (6, [200]) if arguments.quick else (arguments.pairs, arguments.rows)
    rows = []
    for num_rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            small, data = Path(folder) / "small", Path(folder) / "data"
            prepare(small, 1, 50)
            prepare(data, num_pairs, num_rows)
            if arguments.quick:
                figures = opened_after(small, data, arguments.threads)
            else:
                with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                    figures = process.submit(opened_after, small, data, arguments.threads).result()
        rows.append({"directions": 2 * num_pairs, "rows a pair": num_rows, **figures})
        print(rows[-1])
    padding = []
    if arguments.corpora is not None:
        corpora = Corpora.open(arguments.corpora)
        pairs = corpora.names("train")["pairs"]
        objectives: dict[str, Objective] = {
            name: Translation(pairs=pairs, directions="m2m", tokens=BUDGET, **fields)
            for name, fields in FIELDS.items()
        }
        objectives["TLM"] = MaskedLM(pairs=pairs, tokens=TLM_BUDGET, length=256)
        for name, objective in objectives.items():
            padding.append({"what": name, **padded(corpora, objective)})
            print(padding[-1])
    if not arguments.quick:
        record.write("many_directions", {"rows": rows})
        if padding:
            record.write("many_directions_padding", {"rows": padding})


if __name__ == "__main__":
    main()

"""Training a translator of three directions at once against transformers' on this machine, in turn.

    python -m benchmarks.speed.mixed_directions --corpora runs/pairs/data

The models are those of translation_speed.py. Ours trains on the batches of ``Translation`` for all
directions, drawn by their sizes, with ``shared_lengths`` and ``bucket_parts``. The peer trains on
pairs of all directions mixed, as many in a batch, each side padded to its longest row: sorted by
length within fifty batches, as with ``group_by_length``; at random, as its Trainer does by default;
or on the very batches of ours. Real tokens of both sides per second of the
processor, A B A B ...; the median of the ratios pair by pair is what counts. Needs transformers.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed import translation_speed
from benchmarks.speed.translation_speed import compare, many, our_model, peer_model
from benchmarks.support import record, toy
from xlm.batch import IGNORED, Batch
from xlm.data.corpora import Corpora
from xlm.data.streams import Stream
from xlm.freed_memory import freed_memory_kept
from xlm.objectives.translation import Translation
from xlm.rng import Random

GOALS = {"by length": 1.3, "at random": 3.0, "the same": 1.0}
"""Least ratio to the peer, by how its batches are made."""
Counted = Iterator[tuple[Any, int]]


def objective_of(pairs: Sequence[str]) -> Translation:
    """Return the translation that is timed."""
    return Translation(pairs=list(pairs), shared_lengths=True, bucket_parts=4)


def batches_of(objective: Translation, streams: Sequence[Stream]) -> Iterator[Batch]:
    """Yield batches for ever, of a direction drawn by its number of them."""
    random = np.random.default_rng(0)
    sizes = np.array([stream.num_batches for stream in streams], dtype=float)
    counters = [itertools.count() for _ in streams]
    while True:
        at = int(random.choice(len(streams), p=sizes / sizes.sum()))
        examples = streams[at].examples(next(counters[at]))
        yield objective.collate(examples, Random("none"), train=True)


def ours(corpora: Corpora, pairs: Sequence[str], updates: int) -> Callable[[], int]:
    """Train ours on its own batches."""
    objective = objective_of(pairs)
    model = our_model(corpora.tokenizer.vocab_size, len(corpora.languages)).train()
    parameters = [p for n, p in model.named_parameters() if n != "encoder.output_bias"]
    streams = objective.streams("mt", corpora, seed=0)
    counted = ((batch, batch.num_tokens) for batch in batches_of(objective, streams))
    return many(
        parameters,
        lambda batch: objective.loss(model, None, batch).total / batch.count,
        counted,
        updates,
    )


def peer(corpora: Corpora, counted: Counted, updates: int) -> Callable[[], int]:
    """Train the peer on the batches that are given."""
    tokenizer = corpora.tokenizer
    model = peer_model(tokenizer.vocab_size, tokenizer.pad_id, tokenizer.end_id).train()
    return many(list(model.parameters()), lambda given: model(**given).loss, counted, updates)


def same(corpora: Corpora, pairs: Sequence[str]) -> Counted:
    """Yield our batches as the peer reads them."""
    objective, pad = objective_of(pairs), corpora.tokenizer.pad_id
    for batch in batches_of(objective, objective.streams("mt", corpora, seed=0)):
        assert batch.source is not None
        labels = torch.full_like(batch.tokens, IGNORED)
        labels.view(-1)[batch.predict] = batch.targets
        yield (
            {
                "input_ids": batch.source.tokens,
                "attention_mask": (batch.source.tokens != pad).long(),
                "decoder_input_ids": batch.tokens,
                "decoder_attention_mask": (batch.tokens != pad).long(),
                "labels": labels,
            },
            batch.num_tokens,
        )


def mixed(corpora: Corpora, pairs: Sequence[str], *, grouped: bool) -> Counted:
    """Yield batches of pairs of all directions, in random order or of like lengths."""
    tokenizer, random = corpora.tokenizer, np.random.default_rng(0)
    rows: list[tuple[Any, Any]] = []
    num_batches = 0
    for stream in objective_of(pairs).streams("mt", corpora, seed=0):
        num_batches += stream.num_batches
        numbers = np.concatenate([stream.examples(k).rows for k in range(stream.num_batches)])
        sides = corpora.pairs("train", stream.name).sides
        rows += zip(*(side.sentences(numbers) for side in sides), strict=True)
    num_pairs = round(len(rows) / num_batches)
    order = random.permutation(len(rows))
    if grouped:
        sizes = np.array([len(rows[at][0]) for at in order])
        pieces = np.split(np.arange(len(order)), range(50 * num_pairs, len(order), 50 * num_pairs))
        order = order[np.concatenate([piece[np.argsort(-sizes[piece])] for piece in pieces])]

    def padded(sentences: Sequence[Any], value: int) -> torch.Tensor:
        ids = [torch.tensor([*own.tolist(), tokenizer.end_id]) for own in sentences]
        return torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=value)

    cut = np.array_split(order, len(order) // num_pairs)
    for at in itertools.cycle(random.permutation(len(cut))):
        first, second = zip(*(rows[row] for row in cut[at]), strict=True)
        tokens, labels = padded(first, tokenizer.pad_id), padded(second, IGNORED)
        mask = (tokens != tokenizer.pad_id).long()
        num_tokens = int(mask.sum() + (labels != IGNORED).sum())
        yield {"input_ids": tokens, "attention_mask": mask, "labels": labels}, num_tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=Path, help="a prepared folder with the pairs")
    parser.add_argument("--pairs", nargs="+", default=["en-ne", "en-hi", "hi-ne"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=4, help="a round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try a tiny shape; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with freed_memory_kept(), tempfile.TemporaryDirectory() as place:
        if arguments.quick:
            translation_speed.SHAPE.update(translation_speed.QUICK)
            arguments.rounds, arguments.updates, arguments.pairs = 1, 1, ["en-ne"]
            arguments.corpora = toy.corpora(Path(place))
        if arguments.corpora is None:
            parser.error("--corpora names no folder: give prepared pairs")
        corpora, pairs, updates = (
            Corpora.open(arguments.corpora),
            arguments.pairs,
            arguments.updates,
        )
        rows = []
        for name, goal in GOALS.items():
            made = same(corpora, pairs) if name == "the same" else mixed(
                corpora, pairs, grouped=name == "by length"
            )  # fmt: skip
            both = ours(corpora, pairs, updates), peer(corpora, made, updates)
            compared = compare(*both, arguments.rounds, time.process_time)
            rows.append({"the peer's batches": name, **compared, "goal": f"{goal:g}"})
            sys.stdout.write(f"{rows[-1]}\n")
    if not arguments.quick:
        figures = {"threads": arguments.threads, "shape": translation_speed.SHAPE, "rows": rows}
        record.write("mixed_directions", figures)


if __name__ == "__main__":
    main()

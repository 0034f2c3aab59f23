"""Whole updates of the newer shapes: rotary against learned positions, ModernBERT against its peer.

    python -m benchmarks.speed.shapes

The same batches of masked tokens, 15 % of them predicted, in turn (A B A B ...), by processor time
on one thread: the median of an update, and the median of the ratios pair by pair. ``rotary-small``
is compared with the same shape with learned positions, ``modernbert-small`` with transformers'
ModernBertForMaskedLM, as it comes and with its setting ``sparse_prediction``, which projects the
predicted cells alone, as we do. Needs transformers.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.speed.speed import batch, update
from benchmarks.support import record
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.transformer import Transformer
from xlm.training.precision import autocast

VOCAB = 8000
BATCHES = [(16, 128), (4, 512)]
"""Rows and tokens of each."""
NO_DROPOUT: dict[str, Any] = {"dropout": 0.0, "attention_dropout": 0.0}
ROTARY = ModelConfig(preset="rotary-small", **NO_DROPOUT)
LEARNED = dataclasses.replace(ROTARY, positions="learned")
MODERNBERT = ModelConfig(preset="modernbert-small")
Update = Callable[[], None]


def ours(config: ModelConfig, shape: dict[str, int], precision: str) -> Update:
    """Return one whole update of our model."""
    torch.manual_seed(0)
    model = Transformer(config, vocab_size=shape["vocab"], num_languages=1, pad_id=2)
    tokens, cells, targets = batch(shape)
    lengths = torch.full((shape["rows"],), shape["length"])

    def loss() -> torch.Tensor:
        with autocast(torch.device("cpu"), precision):
            hidden = model.encode(tokens, lengths, padded=False)
            return sum_cross_entropy(model.predict(hidden, cells), targets) / len(targets)

    return update(list(model.parameters()), loss)


def peer(config: ModelConfig, shape: dict[str, int], precision: str, sparse: bool) -> Update:
    """Return one whole update of transformers' ModernBERT of the same shape."""
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    settings = ModernBertConfig(
        vocab_size=shape["vocab"], hidden_size=config.dim, num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads, intermediate_size=config.inner_dim,
        max_position_embeddings=config.max_positions, local_attention=config.window,
        global_attn_every_n_layers=config.global_every, sparse_prediction=sparse,
        pad_token_id=2, bos_token_id=0, eos_token_id=1, cls_token_id=0, sep_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = ModernBertForMaskedLM(settings).train()
    tokens, cells, targets = batch(shape)
    labels = torch.full_like(tokens, -100)
    labels.view(-1)[cells] = targets

    def loss() -> torch.Tensor:
        with autocast(torch.device("cpu"), precision):
            value: torch.Tensor = model(input_ids=tokens, labels=labels).loss
            return value

    return update(list(model.parameters()), loss)


COMPARED: dict[str, tuple[Callable[..., Update], Callable[..., Update], float | None]] = {
    "rotary-small / learned positions": (
        lambda *given: ours(ROTARY, *given),
        lambda *given: ours(LEARNED, *given),
        0.9,
    ),
    "modernbert-small / transformers' ModernBERT": (
        lambda *given: ours(MODERNBERT, *given),
        lambda *given: peer(MODERNBERT, *given, sparse=False),
        1.5,
    ),
    "modernbert-small / the same, predicted cells alone": (
        lambda *given: ours(MODERNBERT, *given),
        lambda *given: peer(MODERNBERT, *given, sparse=True),
        None,
    ),
}
"""Two programs each, and how many times as fast the first is meant to be."""


def compare(name: str, shape: dict[str, int], precision: str, rounds: int) -> dict[str, Any]:
    """Time both programs in turn: medians, and the median of the ratios pair by pair."""
    make, make_other, goal = COMPARED[name]
    steps = [make(shape, precision), make_other(shape, precision)]
    for step in steps:
        step()
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for own, step in zip(seconds, steps, strict=True):
            started = time.process_time()
            step()
            own.append(time.process_time() - started)
    ms, ms_other = (round(1000 * statistics.median(own), 1) for own in seconds)
    return {
        "compared": name,
        "rows x tokens": f"{shape['rows']} x {shape['length']}",
        "precision": precision,
        "ms": ms,
        "ms of the other": ms_other,
        "times as fast": round(statistics.median(b / a for a, b in zip(*seconds, strict=True)), 2),
        "goal": "" if goal is None else f"{goal:g}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="one short round; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.quick:
        shape = {"vocab": 50, "rows": 2, "length": 16}
        rows = [compare(name, shape, "fp32", 1) for name in COMPARED]
    else:
        rows = [
            compare(name, {"vocab": VOCAB, "rows": num, "length": length}, precision,
                    arguments.rounds)
            for name in COMPARED
            for num, length in BATCHES
            for precision in ("fp32", "bf16")
        ]  # fmt: skip
        record.write("shapes", {"threads": 1, "rows": rows})
    for row in rows:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

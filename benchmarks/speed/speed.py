"""Training steps against transformers' XLM on this machine: the same shape, ids and masks, in turn.

    python -m benchmarks.speed.speed

Both run a whole update (forward, backward, clip, fused AdamW) on the same masked batches; ours
through Learner, the peer through XLMWithLMHeadModel with labels. A B A B ..., the ratio of medians
is what counts: the machine is shared. Needs transformers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.support import record
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.transformer import Transformer
from xlm.training.precision import autocast

SHAPES = {
    "small": {
        "dim": 256,
        "num_layers": 4,
        "num_heads": 4,
        "vocab": 8000,
        "rows": 16,
        "length": 128,
    },
    "medium": {
        "dim": 512,
        "num_layers": 6,
        "num_heads": 8,
        "vocab": 30000,
        "rows": 8,
        "length": 256,
    },
}


QUICK = {"dim": 16, "num_layers": 1, "num_heads": 2, "vocab": 50, "rows": 8, "length": 16}
"""The shape that ``--quick`` tries."""


def batch(shape: dict[str, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens ``[B, T]``, the flat cells predicted (15 %) and their targets."""
    generator = np.random.default_rng(0)
    size = (shape["rows"], shape["length"])
    tokens = torch.from_numpy(generator.integers(10, shape["vocab"], size))
    cells = np.sort(generator.permutation(tokens.numel())[: int(0.15 * tokens.numel()) // 8 * 8])
    picked = torch.from_numpy(cells)
    targets = tokens.flatten()[picked].clone()
    tokens.view(-1)[picked] = 5
    return tokens, picked, targets


def update(
    parameters: list[torch.nn.Parameter], loss: Callable[[], torch.Tensor]
) -> Callable[[], None]:
    """One whole update of a model."""
    optimizer = torch.optim.AdamW(parameters, lr=1e-4, fused=True)

    def step() -> None:
        loss().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 5.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def ours(shape: dict[str, int], precision: str, attention_dropout: float) -> Callable[[], None]:
    sizes = {name: shape[name] for name in ("dim", "num_layers", "num_heads")}
    config = ModelConfig(**sizes, attention_dropout=attention_dropout)  # type: ignore[arg-type]
    model = Transformer(config, vocab_size=shape["vocab"], num_languages=2, pad_id=2)
    tokens, cells, targets = batch(shape)
    lengths = torch.full((shape["rows"],), shape["length"])
    langs = torch.zeros_like(tokens)

    def loss() -> torch.Tensor:
        with autocast(torch.device("cpu"), precision):
            hidden = model.encode(tokens, lengths, None, langs, padded=False)
            return sum_cross_entropy(model.predict(hidden, cells), targets) / len(targets)

    return update(list(model.parameters()), loss)


def peer(shape: dict[str, int], precision: str, attention_dropout: float) -> Callable[[], None]:
    from transformers import XLMConfig, XLMWithLMHeadModel

    config = XLMConfig(
        vocab_size=shape["vocab"], emb_dim=shape["dim"], n_layers=shape["num_layers"],
        n_heads=shape["num_heads"], dropout=0.1, attention_dropout=attention_dropout,
        n_langs=2, use_lang_emb=True, gelu_activation=True,
    )  # fmt: skip
    model = XLMWithLMHeadModel(config).train()
    tokens, cells, targets = batch(shape)
    labels = torch.full_like(tokens, -100)
    labels.view(-1)[cells] = targets
    langs = torch.zeros_like(tokens)

    def loss() -> torch.Tensor:
        with autocast(torch.device("cpu"), precision):
            value: torch.Tensor = model(input_ids=tokens, langs=langs, labels=labels).loss
            return value

    return update(list(model.parameters()), loss)


def compare(
    name: str, shape: dict[str, int], precision: str, attention_dropout: float, rounds: int
) -> dict[str, object]:
    """Time both programs in turn: medians, and the median of the ratios pair by pair."""
    steps = [make(shape, precision, attention_dropout) for make in (ours, peer)]
    for step in steps:
        step()
    seconds: list[list[float]] = [[], []]
    for _ in range(rounds):
        for own, step in zip(seconds, steps, strict=True):
            started = time.perf_counter()
            step()
            own.append(time.perf_counter() - started)
    tokens = shape["rows"] * shape["length"]
    return {
        "shape": name,
        "precision": precision,
        "attention_dropout": attention_dropout,
        "xlm_tokens_per_second": round(tokens / statistics.median(seconds[0])),
        "transformers_tokens_per_second": round(tokens / statistics.median(seconds[1])),
        "ratio": round(statistics.median(b / a for a, b in zip(*seconds, strict=True)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--shape", choices=SHAPES, action="append")
    parser.add_argument("--quick", action="store_true", help="try it on a tiny shape; only printed")
    arguments = parser.parse_args()
    if arguments.quick:
        rows = [compare("quick", QUICK, "fp32", 0.1, 1)]
    else:
        rows = [
            compare(name, SHAPES[name], precision, dropout, arguments.rounds)
            for name in arguments.shape or SHAPES
            for precision in ("fp32", "bf16")
            for dropout in (0.1, 0.0)
        ]
        record.write("speed", {"threads": torch.get_num_threads(), "rows": rows})
    for row in rows:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

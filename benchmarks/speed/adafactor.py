"""An update by Lingvo's Adafactor beside one by fused AdamW, of a small translator on a CPU.

    python -m benchmarks.speed.adafactor

The same batch, in turn (A B A B ...), by processor time on one thread: the median of whole updates
(forward, backward, step) and of the steps alone, and the median of the ratios pair by pair. Beside
them the numbers that each optimizer keeps, over those of the model.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.support import record
from xlm.freed_memory import freed_memory_kept
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import sum_cross_entropy
from xlm.model.transformer import Transformer
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer

ADAFACTOR = Optimizer(kind="lingvo-adafactor", max_tensor_grad_norm=1.0)
KINDS = {
    "lingvo-adafactor": ADAFACTOR,
    "lingvo-adafactor, momentum 0.9": Optimizer(kind="lingvo-adafactor", momentum=0.9),
}
GOAL = 1.5
"""The longest that an update may take, over one by fused AdamW."""
SHAPE: dict[str, Any] = {
    "dim": 256, "num_layers": 3, "num_decoder_layers": 3, "num_heads": 4, "shared_words": True,
}  # fmt: skip
Step = Callable[[], tuple[float, float]]


def updates(config: Optimizer, vocab: int, rows: int, length: int) -> tuple[Step, float]:
    """Return a function that makes an update, and the share of numbers that it keeps.

    The function returns the processor seconds of the update and of its step alone.
    """
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**SHAPE), vocab_size=vocab, num_languages=1, pad_id=2)
    optimizer = build_optimizer(config, model.named_parameters())
    for group in optimizer.param_groups:
        group["lr"] = 1e-5
    tokens = torch.randint(5, vocab, (rows, length))
    lengths, cells = torch.full((rows,), length), torch.arange(rows * length)

    def update() -> tuple[float, float]:
        started = time.process_time()
        memory = model.encode(tokens, lengths, padded=False)
        hidden = model.decode(tokens, lengths, memory, lengths, padded=False)
        logits = model.predict(hidden, cells, side="decoder")
        (sum_cross_entropy(logits, tokens.flatten()) / len(cells)).backward()
        middle = time.process_time()
        optimizer.step()
        ended = time.process_time()
        optimizer.zero_grad()
        return ended - started, ended - middle

    update()
    kept = sum(own.numel() for state in optimizer.state.values() for own in state.values())
    return update, kept / sum(p.numel() for p in model.parameters())


def compare(name: str, vocab: int, rows: int, length: int, rounds: int) -> dict[str, Any]:
    """Time both in turn: medians, and the median of the ratios pair by pair."""
    own, kept = updates(KINDS[name], vocab, rows, length)
    other, kept_other = updates(Optimizer(), vocab, rows, length)
    pairs = [(own(), other()) for _ in range(rounds)]
    whole = [one[0] / two[0] for one, two in pairs]
    steps = [one[1] / two[1] for one, two in pairs]
    return {
        "optimizer": name,
        "rows x tokens": f"{rows} x {length}",
        "ms": round(1000 * statistics.median(one[0] for one, _ in pairs), 1),
        "ms of AdamW": round(1000 * statistics.median(two[0] for _, two in pairs), 1),
        "times as long": round(statistics.median(whole), 2),
        "goal": f"{GOAL:g}",
        "step alone, times as long": round(statistics.median(steps), 2),
        "state, % of the parameters": round(100 * kept, 2),
        "state of AdamW, %": round(100 * kept_other, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--quick", action="store_true", help="one short round; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with freed_memory_kept():
        if arguments.quick:
            rows = [compare(name, 50, 2, 8, 1) for name in KINDS]
        else:
            rows = [compare(name, 8000, 16, 64, arguments.rounds) for name in KINDS]
            record.write("adafactor", {"threads": 1, "rows": rows})
    for row in rows:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

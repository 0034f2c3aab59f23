"""What an update of a further language's table costs, beside one of the whole model, on a CPU.

    python -m benchmarks.speed.language_modules

The same batch of masked tokens, 15 % of them predicted, in turn (A B C A B C ...), by processor
time on one thread: the median of an update of everything, of a table in a body that stays as it is,
and of the same with adapters of an eighth of the width; medians of the ratios round by round. The
numbers that AdamW keeps, over those that are trained, and the bytes of a module over those of the
formula.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.speed.speed import batch
from benchmarks.support import record
from xlm.freed_memory import freed_memory_kept
from xlm.model.adapters import AdapterConfig, num_adapter_parameters
from xlm.model.config import ModelConfig
from xlm.model.language_modules import without_symbols
from xlm.model.language_tables import ROLES
from xlm.model.tensor_files import write_tensors
from xlm.model.transformer import Transformer
from xlm.run.language_tables import BODY, POSITIONS, SYMBOLS, WORDS, part_of
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer

SHAPE = {"vocab": 8000, "rows": 16, "length": 64}
CONFIG: dict[str, Any] = {
    "dim": 256, "num_layers": 6, "num_heads": 4, "dropout": 0.0, "attention_dropout": 0.0,
}  # fmt: skip
NAME = "ne"
ALL, TABLE, ADAPTED = "the whole model", "a table", "a table with adapters"
GOALS = {TABLE: (ALL, 0.75), ADAPTED: (TABLE, 1.2)}
"""The longest that an update may take, over that of another."""
Step = Callable[[], float]


def update_of(kind: str, shape: dict[str, int], config: ModelConfig) -> tuple[Step, dict[str, Any]]:
    """Return a function that makes an update and returns its processor seconds, and what it keeps.

    The table and what is frozen are those of ``xlm add-language``.
    """
    torch.manual_seed(0)
    model = Transformer(config, vocab_size=shape["vocab"], num_languages=1, pad_id=2)
    roles = tuple(range(len(ROLES)))
    adapters = AdapterConfig(size=config.dim // 8) if kind == ADAPTED else None
    if kind != ALL:
        model.add_table(
            NAME, vocab_size=shape["vocab"], roles=roles, own_positions=False, seed=0,
            adapters=adapters,
        )  # fmt: skip
        model.share_symbols(roles)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(part_of(name) not in (BODY, WORDS, SYMBOLS, POSITIONS))
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    optimizer = build_optimizer(Optimizer(), trained)
    for group in optimizer.param_groups:
        group["lr"] = 1e-5
    tokens, cells, targets = batch(shape)
    lengths = torch.full((shape["rows"],), shape["length"])
    reading = model.reading("" if kind == ALL else NAME)

    def update() -> float:
        started = time.process_time()
        hidden = reading.encode(tokens, lengths, padded=False)
        (reading.cross_entropy(hidden, cells, targets) / len(targets)).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - started

    update()
    moments = sum(
        own.numel() for state in optimizer.state.values() for own in state.values() if own.dim()
    )
    numbers = {
        "trained": sum(p.numel() for _, p in trained),
        "moments, over trained": moments / sum(p.numel() for _, p in trained),
    }
    if kind != ALL:
        numbers["module, over the formula"] = _module_bytes(model) / (
            4 * formula(shape, config, adapters)
        )
    return update, numbers


def formula(shape: dict[str, int], config: ModelConfig, adapters: AdapterConfig | None) -> int:
    """Return the numbers of a module: words without symbols, a bias a piece, adapters."""
    own = (shape["vocab"] - len(ROLES)) * config.dim + shape["vocab"]
    if adapters is not None:
        own += num_adapter_parameters(config.dim, config.num_layers, adapters)
    return own


def _module_bytes(model: Transformer) -> int:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.safetensors"
        write_tensors(path, without_symbols(model.encoder.table(NAME)))
        return path.stat().st_size


def compare(shape: dict[str, int], config: ModelConfig, rounds: int) -> list[dict[str, Any]]:
    """Time the updates in turn: medians, and medians of their ratios round by round."""
    made = {kind: update_of(kind, shape, config) for kind in (ALL, TABLE, ADAPTED)}
    times = [{kind: step() for kind, (step, _) in made.items()} for _ in range(rounds)]
    rows = []
    for kind, (_, numbers) in made.items():
        row: dict[str, Any] = {
            "update of": kind, "ms": round(1000 * statistics.median(t[kind] for t in times), 1)
        }  # fmt: skip
        if kind in GOALS:
            other, goal = GOALS[kind]
            row |= {
                "beside": other,
                "times as long": round(statistics.median(t[kind] / t[other] for t in times), 2),
                "goal": f"{goal:g}",
            }
        else:
            row |= {"beside": "", "times as long": "", "goal": ""}
        module = numbers.get("module, over the formula")
        row |= {
            "trained numbers": f"{numbers['trained']:,}",
            "moments, over trained": round(numbers["moments, over trained"], 3),
            "module's bytes, over the formula": "" if module is None else round(module, 3),
        }
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="one short round; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with freed_memory_kept():
        if arguments.quick:
            small = ModelConfig(**{**CONFIG, "dim": 32, "num_layers": 2})
            rows = compare({"vocab": 60, "rows": 2, "length": 8}, small, 1)
        else:
            rows = compare(SHAPE, ModelConfig(**CONFIG), arguments.rounds)
            record.write("language_modules", {"threads": 1, "rows": rows})
    for row in rows:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

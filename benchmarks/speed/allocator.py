"""What keeping freed memory gives to training on a CPU: runs with it and without, in turn.

    python -m benchmarks.speed.allocator

The same few updates of each objective on random ids (4 layers, 128 wide, vocabulary 8,000), each
run in a process of its own: wall and processor time of the updates after the first few, and the
highest resident memory. A B A B ..., the median of the ratios pair by pair is what counts.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext

SHAPE = {"dim": 128, "num_layers": 4, "num_heads": 4, "vocab": 8000}
CASES = {"clm": (32, 64), "mlm": (32, 64), "translation": (40, 25)}
"""Rows and tokens of each."""
WARM = 3
FIGURES = ("seconds", "processor_seconds", "resident_mib")


def update_of(case: str) -> Callable[[], None]:
    """One whole update."""
    import torch

    from benchmarks.speed.speed import update
    from xlm.model.config import ModelConfig
    from xlm.model.cross_entropy import sum_cross_entropy
    from xlm.model.transformer import Transformer

    num_rows, length = CASES[case]
    sizes = {name: SHAPE[name] for name in ("dim", "num_layers", "num_heads")}
    decoders = SHAPE["num_layers"] if case == "translation" else 0
    config = ModelConfig(**sizes, num_decoder_layers=decoders, attention_dropout=0.0)
    torch.manual_seed(0)
    model = Transformer(config, vocab_size=SHAPE["vocab"], num_languages=2, pad_id=2).train()
    tokens = torch.randint(10, SHAPE["vocab"], (num_rows, length))
    lengths, langs = torch.full((num_rows,), length), torch.zeros_like(tokens)
    cells = torch.arange(tokens.numel())[:: 5 if case == "mlm" else 1]
    targets = tokens.flatten()[cells]

    def loss() -> torch.Tensor:
        hidden = model.encode(tokens, lengths, None, langs, causal=case == "clm", padded=False)
        if case == "translation":
            hidden = model.decode(tokens, lengths, hidden, lengths, None, langs)
        return sum_cross_entropy(model.predict(hidden, cells), targets) / len(targets)

    skipped = "encoder.output_bias" if decoders else ""
    return update([own for name, own in model.named_parameters() if name != skipped], loss)


def measured(case: str, kept: bool, num_updates: int) -> dict[str, float]:
    """This process's figures."""
    import torch

    from xlm.freed_memory import freed_memory_kept

    torch.set_num_threads(1)
    with freed_memory_kept() if kept else nullcontext():
        step = update_of(case)
        for _ in range(WARM):
            step()
        started, before = time.perf_counter(), time.process_time()
        for _ in range(num_updates):
            step()
        seconds, spent = time.perf_counter() - started, time.process_time() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return dict(zip(FIGURES, (seconds, spent, peak), strict=True))


def in_a_process(case: str, kept: bool, num_updates: int) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "benchmarks.speed.allocator",
        "--measure",
        case,
        "--updates",
        str(num_updates),
    ]
    done = subprocess.run(
        command + ["--kept"] * kept, check=True, capture_output=True, text=True, timeout=600
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def compare(case: str, num_updates: int, rounds: int) -> dict[str, object]:
    """Medians with and without, and the median of the ratios round by round."""
    both: list[list[dict[str, float]]] = [[], []]
    for _ in range(rounds):
        for own, kept in zip(both, (True, False), strict=True):
            own.append(in_a_process(case, kept, num_updates))
    row: dict[str, object] = {"objective": case}
    for figure in FIGURES:
        kept, given = ([one[figure] for one in own] for own in both)
        row[f"{figure}_kept"] = round(statistics.median(kept), 2)
        row[f"{figure}_given_back"] = round(statistics.median(given), 2)
        ratios = [other / own for own, other in zip(kept, given, strict=True)]
        row[f"{figure}_ratio"] = round(statistics.median(ratios), 2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--measure", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--kept", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--quick", action="store_true", help="one update of CLM; only printed")
    arguments = parser.parse_args()
    if arguments.measure:
        figures = measured(arguments.measure, arguments.kept, arguments.updates)
        sys.stdout.write(json.dumps(figures))
        return
    from benchmarks.support import record

    if arguments.quick:
        rows = [compare("clm", 1, 1)]
    else:
        rows = [compare(case, arguments.updates, arguments.rounds) for case in CASES]
        record.write("allocator", {"updates": arguments.updates, "shape": SHAPE, "rows": rows})
    for row in rows:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

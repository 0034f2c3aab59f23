"""How long a save stops training on a CPU: waited for, and written in the background.

    python -m benchmarks.speed.saving

Checkpoints of a model with AdamW's moments, by whole runs; the first save of each is left out. In
the background the loop should stand for no longer than the copy of the tensors takes, whose time is
measured beside each save. ``benchmarks.speed.gpu`` has the same as a case. Milliseconds are those
of the clock, so the machine must be quiet.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.support import record
from benchmarks.support.gpu_place import Place
from benchmarks.support.gpu_runs import save
from xlm.model.config import ModelConfig

CPU = torch.device("cpu")
SHAPE = ModelConfig(dim=512, num_layers=6, num_heads=8)
VOCAB = 30_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(CPU, SHAPE, VOCAB, 4, 128, 2, 2000, 2, "fp32", Path(folder))
        if arguments.quick:
            place = Place.made("cpu", "xlm-15", 100, True, Path(folder))
        rows = []
        for row in save(place):
            rows.append({**row, "stall, over the copy": round(row["stall_ms"] / row["copy_ms"], 2)})
            sys.stdout.write(f"{rows[-1]}\n")
    if not arguments.quick:
        record.write("saving", {"rows": rows})


if __name__ == "__main__":
    main()

"""Short trainings in a process of its own, by the ``xlm`` that PYTHONPATH names, older ones too.

    python timed_training.py SETTINGS

SETTINGS is JSON. For each line of standard input, the name of a folder that does not exist, it
trains there, and prints a line of JSON: the processor milliseconds between the beginnings of two
updates, and the SHA-256 of the checkpoint's weights and of what was logged. It imports nothing else
of this folder, so that it runs beside any checkout.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import torch

from xlm.objectives import MaskedLM
from xlm.pretrain import ModelConfig, Run, Schedule, pretrain

LOGGED = ("event", "step", "mlm", "grad_norm", "lr", "mlm/en")
"""Entries of metrics.jsonl that no clock enters."""


def timed(beginnings: list[float]) -> None:
    """Let every loss of a training update note the processor time at which it begins."""
    loss = MaskedLM.loss

    def noting(self: MaskedLM, *arguments: Any, **named: Any) -> Any:
        if torch.is_grad_enabled():
            beginnings.append(time.process_time())
        return loss(self, *arguments, **named)

    MaskedLM.loss = noting  # type: ignore[method-assign]


def trained(settings: dict[str, Any], folder: Path) -> None:
    """Train a new model on prepared text for a few updates."""
    steps = settings["steps"]
    objective = MaskedLM(languages=["en"], rows=settings["rows"], length=settings["length"])
    pretrain(
        Run(
            data=settings["data"],
            folder=str(folder),
            objectives={"mlm": objective},
            model=ModelConfig(**settings["model"]),
            schedule=Schedule("linear", 1e-3, warmup_steps=2),
            steps=steps,
            group_size=1,
            report_every=1,
            evaluate_every=steps,
            save_every=steps,
            tensorboard=False,
            device="cpu",
        )
    )


def figures(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of a run's last weights, and of its losses."""
    (weights,) = folder.glob("checkpoints/*/model.safetensors")
    lines = []
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        own = json.loads(line)
        if own["event"] in ("train", "valid"):
            lines.append({name: own[name] for name in LOGGED if name in own})
    logged = json.dumps(lines, sort_keys=True).encode()
    return {
        "weights": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "losses": hashlib.sha256(logged).hexdigest(),
    }


def serve() -> None:
    """Train in each folder that standard input names."""
    settings = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    beginnings: list[float] = []
    timed(beginnings)
    for line in sys.stdin:
        folder = Path(line.strip())
        beginnings.clear()
        trained(settings, folder)
        # the first updates find their memory
        steps = [later - one for one, later in zip(beginnings[2:], beginnings[3:], strict=False)]
        found = {"ms": [1000 * seconds for seconds in steps], **figures(folder)}
        sys.stdout.write(json.dumps(found) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()

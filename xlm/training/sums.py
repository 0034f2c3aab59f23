"""Sums between two reports of a run."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from xlm.training.distributed.processes import Parallel


@dataclass
class Sums:
    """Sums of this rank between two reports; a checkpoint keeps those not reported yet."""

    started: float = field(default_factory=time.perf_counter)
    waited: float = 0.0
    totals: dict[str, Tensor] = field(default_factory=dict)
    """Summed losses, float64 on the device: restored from JSON they are the same, bit for bit."""
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    tokens: int = 0
    flops: float = 0.0

    def add(self, losses: Mapping[str, tuple[Tensor, int]], tokens: int, flops: float) -> None:
        """Add a micro-batch without waiting for the device: total and count of each part."""
        for label, (loss, count) in losses.items():
            total = loss.detach().double()
            self.totals[label] = self.totals[label] + total if label in self.totals else total
            self.counts[label] += count
        self.tokens += tokens
        self.flops += flops

    def to_json(self) -> dict[str, Any]:
        """Return this rank's sums as plain numbers; wait for the device."""
        return {
            "seconds": time.perf_counter() - self.started,
            "waited": self.waited,
            "totals": {name: float(total) for name, total in self.totals.items()},
            "counts": dict(self.counts),
            "tokens": self.tokens,
            "flops": self.flops,
        }

    @classmethod
    def from_json(cls, of_ranks: list[dict[str, Any]], parallel: Parallel) -> Sums:
        """Return this rank's sums; if the number of ranks has changed, rank 0 takes all of them."""
        if len(of_ranks) != parallel.world:
            mine = of_ranks if parallel.is_main else []
        else:
            mine = [of_ranks[parallel.rank]]
        sums = cls()
        for own in mine:
            sums.started -= own["seconds"] / len(mine)
            sums.waited += own["waited"] / len(mine)
            for name, total in own["totals"].items():
                added = torch.tensor(total, dtype=torch.float64, device=parallel.device)
                sums.totals[name] = sums.totals.get(name, torch.zeros_like(added)) + added
            for name, count in own["counts"].items():
                sums.counts[name] += count
            sums.tokens += own["tokens"]
            sums.flops += own["flops"]
        return sums

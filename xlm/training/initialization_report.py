"""An account of the tensors of a model that starts from others."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_NAMES = 4
"""Largest number of tensors of a source that a line lists by name."""


@dataclass
class InitializationReport:
    """The fate of every tensor: copied, changed or initialized."""

    copied: dict[str, str] = field(default_factory=dict)
    """Tensor of the learner: the tensor it was taken from."""
    left: dict[str, str] = field(default_factory=dict)
    """Tensor of the learner that keeps its own initialization: why."""
    unused: dict[str, str] = field(default_factory=dict)
    """Tensor of a source (``SOURCE: NAME``) that nothing was taken from: why."""
    notes: list[str] = field(default_factory=list)
    """Changes beyond copying: rows cut, averaged or added."""
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    """Rows of each further table by the rule that filled them."""

    def lines(self) -> list[str]:
        """Return the account in lines; tensors with the same reason share one."""
        lines = [f"initialized {len(self.copied)} tensors", *self.notes]
        for reason, names in _by_reason(self.left).items():
            lines.append(f"initialization kept ({reason}): {', '.join(_short(names))}")
        for reason, names in _by_reason(self.unused).items():
            of_source: dict[str, list[str]] = {}
            for name in names:
                source, _, tensor = name.rpartition(": ")
                of_source.setdefault(source, []).append(tensor)
            for source, own in of_source.items():
                lines.append(f"not used ({reason}): {source}: {', '.join(_few(own))}")
        return lines


def _by_reason(tensors: Mapping[str, str]) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in tensors.items():
        reasons.setdefault(reason, []).append(name)
    return reasons


def _few(names: Sequence[str]) -> list[str]:
    """Return short names of tensors, or, if they are many, ``decoder.* (52 tensors)``."""
    short = _short(names)
    if len(short) <= MOST_NAMES:
        return short
    parts = Counter(name.partition(".")[0] for name in names)
    return [f"{part}.* ({num} tensors)" for part, num in parts.items()]


def _short(names: Sequence[str]) -> list[str]:
    """Shorten names of tensors; those that differ only in their layer to ``layers.0-3.norm``."""
    layers: dict[str, list[int]] = {}
    for name in names:
        found = re.search(r"layers\.(\d+)\.", name)
        pattern = re.sub(r"layers\.\d+\.", "layers.*.", name)
        layers.setdefault(pattern, []).extend([int(found[1])] if found else [])
    return [
        pattern.replace("layers.*.", f"layers.{_ranges(numbers)}.") if numbers else pattern
        for pattern, numbers in layers.items()
    ]


def _ranges(numbers: Sequence[int]) -> str:
    """Return ``0-3,5`` for 0, 1, 2, 3 and 5."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(str(p[0]) if len(p) == 1 else f"{p[0]}-{p[-1]}" for p in parts)


def as_record(report: InitializationReport) -> dict[str, Any]:
    """The report for ``metrics.jsonl``."""
    return {
        "notes": report.notes,
        "copied": report.copied,
        "left": report.left,
        "unused": report.unused,
        **({"rows": report.rows} if report.rows else {}),
    }

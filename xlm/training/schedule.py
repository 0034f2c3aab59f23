"""The learning rate: a pure function of the step, so that there is no scheduler state to save."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, get_args

from xlm.errors import ConfigError

ScheduleKind = Literal["constant", "inverse-sqrt", "linear", "cosine", "wsd"]


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up, then the curve that ``kind`` names.

    The fields of another kind are not looked at.
    """

    kind: ScheduleKind = "inverse-sqrt"
    """constant; inverse-sqrt (peak_lr x (warmup_steps / step) ^ exponent, as in the original XLM);
    linear (down to final_lr); cosine (with restarts if period is set, as in the original XLM); wsd
    (warm up, stay, then fall linearly during the last decay_steps)."""
    peak_lr: float = 1e-4
    """The highest learning rate, reached at the end of the warm-up."""
    warmup_steps: int = 4000
    """Number of warm-up updates; 0: none."""
    warmup_init_lr: float = 1e-7
    """Learning rate of the very first update of the warm-up."""
    exponent: float = 0.5
    """With inverse-sqrt: exponent by which the rate falls after the warm-up."""
    final_lr: float = 0.0
    """With linear, cosine and wsd: the rate at the end (the original's cosine: min_lr, 1e-9)."""
    total_steps: int | None = None
    """With linear, wsd and cosine without a period: step at which the schedule ends. None: the
    run's number of steps."""
    decay_steps: int = 0
    """With wsd: length of the last part, in updates."""
    period: int | None = None
    """With cosine: length of the first period, in updates. None: one period up to total_steps."""
    period_factor: float = 1.0
    """With a cosine period: factor by which each period is longer than the one before."""
    shrink: float = 0.75
    """With a cosine period: factor by which both bounds of the rate shrink at each restart."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(ScheduleKind):
            kinds = ", ".join(get_args(ScheduleKind))
            raise ConfigError(f"kind is {self.kind!r}: expected one of {kinds}")
        for name in ("peak_lr", "warmup_init_lr", "final_lr"):
            value = getattr(self, name)
            if not (0 <= value < math.inf):
                raise ConfigError(f"{name} must be a number that is 0 or more: found {value}")
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps must be 0 or more: found {self.warmup_steps}")
        self._check_kind()
        if self.total_steps is not None:
            self._check_total(self.total_steps)

    def _check_kind(self) -> None:
        if self.kind == "inverse-sqrt" and self.warmup_steps < 1:
            raise ConfigError(
                "warmup_steps is 0, but inverse-sqrt measures the rate in warm-ups; set it "
                "to at least 1"
            )
        if self.kind == "wsd" and self.decay_steps < 1:
            raise ConfigError(
                f"decay_steps is {self.decay_steps}, but the schedule wsd needs the length "
                "of its last part: set it to at least 1"
            )
        if self.kind == "cosine" and self.period is not None:
            for name, value, good in (
                ("period", self.period, self.period >= 1),
                ("period_factor", self.period_factor, self.period_factor >= 1),
                ("shrink", self.shrink, 0 < self.shrink <= 1),
            ):
                if not good:
                    raise ConfigError(
                        f"{name} is {value}: the schedule cosine expects period >= 1, "
                        "period_factor >= 1 and 0 < shrink <= 1"
                    )

    def _check_total(self, total: int) -> None:
        needed = self.warmup_steps + (self.decay_steps if self.kind == "wsd" else 0)
        if self.needs_total and total < max(needed, 1):
            raise ConfigError(
                f"total_steps is {total}, but warmup_steps"
                f"{' and decay_steps' if self.kind == 'wsd' else ''} of the schedule {self.kind} "
                f"take {needed}; train longer (steps) or shorten them"
            )

    @property
    def needs_total(self) -> bool:
        """Return whether the rate depends on the end of the run."""
        return self.kind in ("linear", "wsd") or (self.kind == "cosine" and self.period is None)

    def for_run(self, num_steps: int) -> Schedule:
        """Return the schedule with ``total_steps`` filled in if it was left to the run.

        Raises ConfigError if warm-up and decay do not fit into it.
        """
        if self.total_steps is not None:
            return self
        return dataclasses.replace(self, total_steps=num_steps)

    def lr(self, step: int) -> float:
        """Return the rate of update ``step`` (from 0); constant after ``total_steps``.

        Raises ConfigError if ``total_steps`` is needed and was never filled in.
        """
        if step < self.warmup_steps:
            slope = (self.peak_lr - self.warmup_init_lr) / self.warmup_steps
            return self.warmup_init_lr + step * slope
        if self.kind == "constant":
            return self.peak_lr
        if self.kind == "inverse-sqrt":
            factor: float = (self.warmup_steps / step) ** self.exponent
            return self.peak_lr * factor
        if self.kind == "cosine" and self.period is not None:
            return self._restarting_cosine(step - self.warmup_steps, self.period)
        return self._until_total(step)

    def _until_total(self, step: int) -> float:
        if self.total_steps is None:
            raise ConfigError(
                f"schedule {self.kind} has no total_steps: set it, or let for_run fill in "
                "the run's number of steps"
            )
        first = self.warmup_steps
        if self.kind == "wsd":
            first = self.total_steps - self.decay_steps
        part = (step - first) / max(self.total_steps - first, 1)
        part = min(max(part, 0.0), 1.0)
        if self.kind == "cosine":
            part = 0.5 * (1 - math.cos(math.pi * part))
        return self.peak_lr + (self.final_lr - self.peak_lr) * part

    def _restarting_cosine(self, step: int, period: float) -> float:
        """Shrink both bounds at each restart (docs/fidelity.md, B7); ``step`` is past warm-up."""
        restarts = 0
        at = float(step)
        if self.period_factor == 1:
            restarts, at = step // int(period), float(step % int(period))
        else:
            while at >= period:
                at, period, restarts = at - period, period * self.period_factor, restarts + 1
        low, high = (bound * self.shrink**restarts for bound in (self.final_lr, self.peak_lr))
        return low + (high - low) / 2 * (1 + math.cos(math.pi * at / period))

"""When to stop a run: the held-out score that is watched, its best value, and patience."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from xlm.errors import ConfigError
from xlm.metrics.scores import rises
from xlm.training.loop import Verdict
from xlm.training.state import TrainState


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """The held-out score that is watched, and when to give up.

    The score is the mean over the named streams: the perplexity averaged over languages, as in the
    paper (section 5.1).
    """

    metric: str = "perplexity"
    """A figure of the evaluation: perplexity, nats, accuracy, f1, las and so on."""
    streams: list[str] = field(default_factory=list)
    """Ids of streams, such as mlm/ne; empty: those of single languages, else those of pairs."""
    from_step: int = 0
    """Evaluations before this step are shown, but cannot become the best and do not use up patience
    (staged mixtures)."""
    patience: int | None = None
    """Stop after this many evaluations without a new best; null: never."""
    halve: bool = False
    """Halve the learning rate at each evaluation without a new best (mBERT study, section 5)."""
    lowest_lr: float = 0.0
    """With halve: stop when the rate falls below this (mBERT study: 1e-5)."""

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ConfigError(f"stopping.patience must be at least 1: found {self.patience}")
        if self.lowest_lr and not self.halve:
            raise ConfigError(
                f"stopping.lowest_lr is {self.lowest_lr}, but it only applies with "
                "stopping.halve: set both"
            )


UNWATCHED = ("targets", "unigram_perplexity")
"""Figures that do not depend on the model."""


def check_stopping(stopping: Stopping, stream_ids: Iterable[str]) -> None:
    """Raise ConfigError if a watched stream is not evaluated."""
    evaluated = list(stream_ids)
    unknown = [name for name in stopping.streams if name not in evaluated]
    if unknown:
        raise ConfigError(
            f"stopping.streams names {', '.join(unknown)}: expected some of "
            f"{', '.join(evaluated)}, which are evaluated"
        )


def stopping_score(
    stopping: Stopping, figures: Mapping[str, Mapping[str, float]], pairs: Set[str]
) -> tuple[float, list[str]]:
    """Return the watched score, infinite if it is not a number, and the streams that it averages.

    ``pairs`` are the ids of streams of pairs, which are averaged only in the absence of others.
    Lower is better: a figure that rises with the model enters with its sign changed. Raises
    ConfigError if a named stream or the metric does not exist.
    """
    check_stopping(stopping, figures)
    having = [name for name, own in figures.items() if stopping.metric in own]
    single = [name for name in having if name not in pairs]
    names = stopping.streams or single or having
    if stopping.metric in UNWATCHED:
        raise ConfigError(
            f"stopping.metric {stopping.metric!r} does not depend on the model: give perplexity, "
            "nats or accuracy"
        )
    if not names or not set(names) <= set(having):
        raise ConfigError(
            f"stopping.metric {stopping.metric!r} is not a figure of "
            f"{', '.join(names or figures)}: expected one of "
            f"{', '.join(sorted({name for own in figures.values() for name in own}))}"
        )
    score = sum(figures[name][stopping.metric] for name in names) / len(names)
    if rises(stopping.metric):
        score = -score
    return math.inf if math.isnan(score) else score, names


def check_kept(names: Iterable[str], figures: Mapping[str, Mapping[str, float]]) -> None:
    """Raise ConfigError if a figure whose best checkpoint is to be kept is not measured."""
    having = {
        f"{stream}/{name}" for stream, own in figures.items() for name in own
        if name not in UNWATCHED
    }  # fmt: skip
    if unknown := [name for name in names if name not in having]:
        raise ConfigError(
            f"keep_best names {', '.join(unknown)}: expected some of {', '.join(sorted(having))}"
        )


@dataclass(frozen=True)
class Outcome:
    """An evaluation as ``Watch`` judges it."""

    score: float
    """The watched score; the lower, the better."""
    streams: list[str]
    """The streams that the score averages."""
    counted: bool
    """True if the score may become the best (finite, and not before ``from_step``)."""
    better: bool
    """True if it is the best so far."""
    improved: list[str] = field(default_factory=list)
    """Names of the further figures that are the best so far."""


class Watch:
    """Follow the watched score over a run: its best value, patience, and the halved rate.

    Everything that it learns is written to ``state``, so a resumed run watches on.
    """

    def __init__(
        self,
        stopping: Stopping,
        state: TrainState,
        peak_lr: float,
        pairs: Set[str],
        keep_best: Sequence[str] = (),
    ) -> None:
        self.stopping = stopping
        self.keep_best = keep_best
        state.bests = {name: state.bests[name] for name in keep_best if name in state.bests}
        self.state = state
        self.peak_lr = peak_lr
        self.pairs = pairs

    def __call__(self, figures: Mapping[str, Mapping[str, float]]) -> Outcome:
        """Judge one evaluation, at the step of ``state``, by its figures by stream id."""
        stopping, state = self.stopping, self.state
        score, streams = stopping_score(stopping, figures, self.pairs)
        counted = state.step >= stopping.from_step and math.isfinite(score)
        better = counted and (state.best is None or score < state.best)
        if better:
            state.best, state.best_step, state.patience_used = score, state.step, 0
        elif counted:
            state.patience_used += 1
            state.rate *= 0.5 if stopping.halve else 1.0
        return Outcome(score, streams, counted, better, self._improved(figures))

    def _improved(self, figures: Mapping[str, Mapping[str, float]]) -> list[str]:
        """Note the figures of ``keep_best`` that are the best so far, and return their names."""
        state = self.state
        improved = []
        for name in self.keep_best if state.step >= self.stopping.from_step else ():
            stream, _, metric = name.rpartition("/")
            value = figures[stream].get(metric, math.nan)
            best = state.bests.get(name, {}).get("value")
            sign = -1 if rises(metric) else 1
            if math.isfinite(value) and (best is None or sign * value < sign * best):
                state.bests[name] = {"value": value, "step": state.step}
                improved.append(name)
        return improved

    @property
    def stopped(self) -> bool:
        """True if patience ran out or the rate is too low, now or before the run was resumed."""
        stopping, state = self.stopping, self.state
        if stopping.patience is not None and state.patience_used >= stopping.patience:
            return True
        return stopping.halve and state.rate < 1 and self.peak_lr * state.rate < stopping.lowest_lr

    def verdict(self, outcome: Outcome) -> Verdict:
        """Return the consequence of an evaluation for the loop."""
        return Verdict(stop=self.stopped, save=outcome.better or bool(outcome.improved))

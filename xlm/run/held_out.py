"""Measure a run's held-out text on its present weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

from xlm.analysis.convergence import Signs
from xlm.analysis.piece_translation import Known
from xlm.data.corpora import Corpora
from xlm.data.streams import Stream
from xlm.run.build import held_out_streams
from xlm.run.config import Run
from xlm.run.convergence import Guard, load_reference, load_translations, signs_of
from xlm.run.stopping import check_stopping
from xlm.run.watched import Watched
from xlm.training.evaluation import evaluate
from xlm.training.trainer import Trainer

Figures = dict[str, dict[str, float]]
"""Figures by stream id (``mlm/ne``) and name."""
Split = Literal["valid", "test"]


@dataclass(frozen=True)
class HeldOut:
    """The streams of each split, by objective; empty lists if a split is not measured."""

    streams: Mapping[Split, Mapping[str, Sequence[Stream]]]
    watched: Watched | None = None
    """Pairs whose translations are looked for, beside the valid streams."""
    guard: Guard | None = None
    """The signs of convergence that are measured of further tables."""
    reference: Signs | None = None
    """Those of an old language."""
    translations: Known | None = None
    """Pieces with known translations, which the guard looks up too."""

    @classmethod
    def of(cls, run: Run, corpora: Corpora) -> HeldOut:
        """Return the held-out streams of ``run``; the test split only if it is asked for.

        Raises ConfigError if the run evaluates and watches a stream that is not evaluated.
        """
        valid = held_out_streams(run, corpora, "valid")
        watched = Watched.of(run.watch, corpora, run.objectives)
        if run.evaluate_every:
            names = [stream.id for own in valid.values() for stream in own]
            check_stopping(run.stopping, [*names, *watched.streams])
        test = held_out_streams(run, corpora, "test") if run.evaluate_test else {}
        held_out = cls({"valid": valid, "test": test}, watched)
        if run.guard is None:
            return held_out
        return replace(
            held_out, guard=run.guard, reference=load_reference(run.guard),
            translations=load_translations(run.guard),
        )  # fmt: skip

    @property
    def pairs(self) -> frozenset[str]:
        """The ids of the streams of pairs."""
        every = (
            stream for split in self.streams.values() for own in split.values() for stream in own
        )
        return frozenset(stream.id for stream in every if stream.is_pair)

    def has(self, split: Split) -> bool:
        """Return whether anything of ``split`` is measured."""
        return any(self.streams[split].values())

    def measure(
        self, trainer: Trainer, split: Split = "valid", *, averaged: bool,
        most_batches: int | None = None,
    ) -> Figures:  # fmt: skip
        """Return the figures of one split, alike on every rank.

        ``averaged``: on the averaged weights, if the run keeps some. ``most_batches`` ends the pass
        over each stream early.
        """
        weights = trainer.averaged if averaged else None
        with weights.swapped_in() if weights else nullcontext(), trainer.whole() as learner:
            figures = evaluate(
                learner, self.streams[split], trainer.parallel,
                seed=trainer.seed, precision=trainer.precision, most_batches=most_batches,
            )  # fmt: skip
            if split == "valid" and self.guard is not None:
                for name, streams in self.streams[split].items():
                    for stream in streams:
                        if stream.table:
                            figures[stream.id] |= signs_of(
                                learner, name, stream, self.reference, trainer.seed,
                                self.translations,
                            )  # fmt: skip
            if split == "valid" and self.watched is not None:
                first_look = most_batches is not None
                figures.update(self.watched.measure(learner.model, first_look=first_look))
            return figures

"""Checks that a language model has learned more than the frequency of each token.

A unigram model, fitted to the training text, is measured on the same held-out cells; a model that
does not beat it has learned nothing from the context.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from xlm.run.config import Run

GRACE = 0.1
"""Share of the updates after which a run should be better than a unigram model."""
FEW = 200
"""No warning comes before this many updates: no model is expected to be better so soon."""


def nats_below(figures: Mapping[str, float]) -> float | None:
    """Return the nats per token that a stream lies below its unigram model; negative: above.

    None if the figures are not those of a language model.
    """
    if "nats" not in figures or figures.get("unigram_perplexity", 0.0) <= 0:
        return None
    return math.log(figures["unigram_perplexity"]) - figures["nats"]


def shown(figures: Mapping[str, float]) -> str:
    """Return the comparison as a phrase to put behind a stream's figures, empty without one."""
    below = nats_below(figures)
    if below is None or not math.isfinite(below):
        return ""
    return f"  ({abs(below):.3g} nats {'below' if below > 0 else 'ABOVE'} a unigram model)"


def warning(run: Run, step: int, figures: Mapping[str, Mapping[str, float]]) -> str:
    """Return a line on the streams that have not learned by ``step``, with the likely causes.

    Empty before a tenth of the updates or ``FEW`` of them, counted from the first evaluation that
    may be the best (staged mixtures), or if every stream is better than its unigram model.
    """
    if step - run.stopping.from_step < max(GRACE * run.steps, FEW):
        return ""
    leads = {name: nats_below(own) for name, own in figures.items()}
    stuck = [name for name, below in leads.items() if below is not None and not below > 0]
    if not stuck:
        return ""
    causes = []
    masked = any(not objective.causal for objective in run.objectives.values())
    if run.shape.positions == "learned" and masked:
        causes.append(
            "learned positions, which a masked model takes many millions of tokens to make use of "
            "(try model.positions rotary)"
        )
    causes.append(f"a rate that does not suit (schedule.peak_lr is {run.schedule.peak_lr:g})")
    if step <= run.schedule.warmup_steps:
        causes.append(f"a warm-up that has not ended ({run.schedule.warmup_steps:,} updates)")
    listed = ", ".join(causes[:-1]) + (" or " if causes[1:] else "") + causes[-1]
    return (
        f"{', '.join(stuck)}: no better than a unigram model after {step:,} of {run.steps:,} "
        f"updates: the model makes no use of the context; likely causes: {listed}"
    )

"""The gain of a masked model from a translation beside a sentence (XLM section 3.4).

Nats of a sentence's tokens, each masked once: beside its translation (true), beside another
sentence (wrong), and alone. A wrong partner misleads, so that it is worse than none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xlm.analysis import intervals
from xlm.analysis.alignment import wrong_partners
from xlm.analysis.intervals import Estimate
from xlm.model.asking import check_masked
from xlm.model.pretrained import PretrainedModel
from xlm.model.score import Scoring, score

FOLDS = 7
"""Fold number: every seventh token is masked at once, near the 15 % of training."""


def tlm_gap(
    model: PretrainedModel,
    first: Sequence[str],
    second: Sequence[str],
    languages: tuple[str | None, str | None],
    *,
    folds: int = FOLDS,
    tokens: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return mean nats a token of the second sentences: true, wrong, alone, gain and gap.

    gain = alone - true, gap = wrong - true. ``first`` and ``second`` translate each other row by
    row; the wrong partner is that of the sentence next in length. Intervals are by the bootstrap
    over sentences. Raises ConfigError for a model that is not masked.
    """
    check_masked(model)
    partners = wrong_partners([len(line) for line in first])
    beside = {
        "true": list(first),
        "wrong": [first[at] for at in partners],
        "alone": None,
    }
    settings = Scoring(
        language=languages[1], source_language=languages[0], kind="masked", ends=False, folds=folds
    )
    nats, counts = {}, np.zeros(len(second))
    for name, sources in beside.items():
        scored = score(model, second, settings, sources=sources, tokens=tokens)
        nats[name] = np.array([own.nats for own in scored])
        counts = np.array([own.subwords for own in scored], dtype=np.float64)
    columns = {
        **nats,
        "gain": nats["alone"] - nats["true"],
        "gap": nats["wrong"] - nats["true"],
    }
    return {
        name: intervals.ratio(
            np.stack([own, counts], axis=1), lambda means: means[:, 0] / means[:, 1], seed
        )
        for name, own in columns.items()
    }

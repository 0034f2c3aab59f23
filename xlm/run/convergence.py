"""The convergence guard of a run that trains a language's table, and its verdict.

Each evaluation measures gain, order and likeness (``xlm.analysis.convergence``) beside the nats;
``judge`` reads a run's evaluations and names what went wrong, or nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from xlm.analysis import piece_translation
from xlm.analysis.convergence import Signs, from_tensors, measure, unlikeness
from xlm.analysis.piece_translation import Known
from xlm.config.hints import check_types
from xlm.data.streams import Stream
from xlm.errors import ConfigError
from xlm.model.tensor_files import read_tensors
from xlm.training.learner import Learner

DIVERGED, NOT_LEARNT, NO_ORDER, UNLIKE = "diverged", "not learnt", "no order", "unlike"
RISING = 3
"""Evaluations in a row that rise when a run diverges."""
RISE = 0.05
"""Nats that each of them rises by at least."""


@dataclass(frozen=True, kw_only=True)
class Guard:
    """The signs that a table has converged, beside those of a language that the body was trained
    on."""

    reference: str | None = None
    """File with an old language's signs, which xlm add-language writes; null: likeness is not
    measured."""
    translations: str | None = None
    """File with pieces of the new vocabulary and their translations, which xlm add-language writes
    from pairs or a dictionary; null: they are not looked up."""
    least_gain: float = 0.3
    """Sign "not learnt": at the end, the gain over a unigram model is below this share of the old
    language's gain (or, without an old language, of a nat)."""
    least_gain_at_half: float = 0.0
    """Sign "not learnt": the gain is below this share at half of the updates."""
    least_order: float = 0.5
    """Sign "no order": the cost of permuted positions is below this share of the old language's
    cost; used if the old language's cost of permuted words is not known."""
    least_word_order: float = 0.3
    """Sign "no order": the cost of permuted words, whose pieces stay together, is below this share
    of the old language's cost."""
    most_unlike: float = 0.3
    """Sign "unlike": the last layer's states are farther from the old language's than this, in
    units of the trace of their covariance."""

    def __post_init__(self) -> None:
        check_types(self)
        for name in (
            "least_gain",
            "least_gain_at_half",
            "least_order",
            "least_word_order",
            "most_unlike",
        ):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"guard.{name} must be 0 or more: found {getattr(self, name)}")


def load_reference(guard: Guard) -> Signs | None:
    """Return the old language's signs; raise CheckpointError if their file is damaged."""
    return None if guard.reference is None else from_tensors(read_tensors(guard.reference))


def load_translations(guard: Guard) -> Known | None:
    """Return the known translations; raise CheckpointError if their file is damaged."""
    if guard.translations is None:
        return None
    return piece_translation.from_tensors(read_tensors(guard.translations))


def signs_of(
    learner: Learner,
    name: str,
    stream: Stream,
    reference: Signs | None,
    seed: int,
    translations: Known | None = None,
) -> dict[str, float]:
    """Return gain, order and, beside a reference, the unlikeness of each layer.

    With translations there is the share of new pieces that lie nearest to theirs too, and chance.
    """
    was_training = learner.training
    learner.eval()
    try:
        model = learner.model.reading(stream.table)
        head = learner.heads[name] if name in learner.heads else None
        signs = measure(model, learner.objectives[name], stream, head, seed=seed)
    finally:
        learner.train(was_training)
    found = {"order": signs.order}
    if signs.word_order is not None:
        found["word_order"] = signs.word_order
    if signs.gain is not None:
        found["gain"] = signs.gain
    if reference is not None:
        layers = unlikeness(signs.states, reference.states)
        found["unlikeness"] = layers[-1]
        found |= {f"unlikeness_{layer}": value for layer, value in enumerate(layers)}
    if translations is not None:
        encoder = learner.model.encoder
        words = encoder.table(stream.table).words.weight
        share = piece_translation.precision(words, encoder.words.weight, translations)
        if share is not None:
            found |= {"translated": share, "translated_by_chance": translations.chance}
    return found


def _no_order(last: Mapping[str, float], guard: Guard, reference: Signs) -> list[str]:
    what, cost, old, least = "positions", last["order"], reference.order, guard.least_order
    if reference.word_order is not None and "word_order" in last:
        what, cost, old = "words", last["word_order"], reference.word_order
        least = guard.least_word_order
    if cost >= least * old:
        return []
    return [f"{NO_ORDER}: permuted {what} cost {cost:.2f} nats, in the old language {old:.2f}"]


def _not_learnt(gain: float, least: float) -> str:
    side = "below" if gain >= 0 else "above"
    return (
        f"{NOT_LEARNT}: {abs(gain):.2f} nats {side} a unigram model, expected {least:.2f} or more "
        "below it"
    )


def judge(
    valid: Mapping[int, Mapping[str, float]], steps: int, guard: Guard, reference: Signs | None
) -> list[str]:
    """Return the signs that fired in evaluations by step, a line each; none if it converged.

    The held-out nats are looked at in every evaluation, the gain at half of the ``steps`` and at
    the end, the other signs at the end.
    """
    nats = [own.get("nats", math.nan) for own in valid.values()]
    found = []
    if any(not math.isfinite(value) for value in nats):
        found.append(f"{DIVERGED}: the held-out nats are no number")
    for at in range(RISING, len(nats)):
        part = nats[at - RISING : at + 1]
        if all(later > earlier + RISE for earlier, later in zip(part, part[1:], strict=False)):
            found.append(f"{DIVERGED}: {' then '.join(f'{value:.2f}' for value in part)} nats")
            break
    late = {step: own for step, own in valid.items() if 2 * step >= steps}
    if not late:
        return found
    half, last = min(late), late[max(late)]
    own = None if reference is None else reference.gain
    whole = 1.0 if own is None else max(own, 0.0)
    early, least = late[half].get("gain"), guard.least_gain_at_half * whole
    if half < max(late) and early is not None and not early >= least:
        found.append(f"{_not_learnt(early, least)}, at step {half}, half of the updates")
    if "gain" in last and not last["gain"] >= (least := guard.least_gain * whole):
        beside = "" if own is None else f"; the old language's: {own:.2f}"
        found.append(f"{_not_learnt(last['gain'], least)}{beside}")
    if reference is not None:
        found += _no_order(last, guard, reference)
    if not last.get("unlikeness", 0.0) <= guard.most_unlike:
        found.append(
            f"{UNLIKE}: the last layer's states are {last['unlikeness']:.2f} from the old "
            f"language's, expected {guard.most_unlike:g} or less"
        )
    return found

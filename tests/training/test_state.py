"""The state of a run as JSON."""

from __future__ import annotations

import json

import pytest

from xlm.errors import CheckpointError
from xlm.training.state import TrainState


def test_round_trip() -> None:
    state = TrainState(
        step=7, cursors={"mlm/ne": 3}, tokens={"mlm/ne": 96}, best=0.1 + 0.2, best_step=5,
        unreported=[{"totals": {"mlm": float("inf")}, "tokens": 3}],
    )  # fmt: skip
    assert TrainState.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_what_an_older_version_did_not_save_is_as_at_the_start() -> None:
    assert TrainState.from_json({"step": 4}) == TrainState(step=4)


def test_what_a_newer_version_saves_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match="has gadget, which this version .* does not know"):
        TrainState.from_json({"step": 4, "gadget": 1})

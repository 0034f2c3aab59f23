"""The gap of TLM: nats beside the translation, beside another sentence, and alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.analysis.models import lines, tiny
from xlm.analysis.alignment import wrong_partners
from xlm.analysis.tlm_gap import tlm_gap
from xlm.errors import ConfigError
from xlm.model.score import Scoring, score


def test_nats_are_those_of_the_scored_lines() -> None:
    model, first, second = tiny(), lines("en", 6), lines("hi", 6)
    own = tlm_gap(model, first, second, ("en", "hi"))
    settings = Scoring(language="hi", source_language="en", kind="masked", ends=False, folds=7)
    partners = [first[at] for at in wrong_partners(list(map(len, first)))]
    for name, sources in (("true", first), ("wrong", partners), ("alone", None)):
        scored = score(model, second, settings, sources=sources)
        nats = sum(line.nats for line in scored) / sum(line.subwords for line in scored)
        assert own[name].value == pytest.approx(nats, rel=1e-6)
    assert own["gain"].value == pytest.approx(own["alone"].value - own["true"].value)
    assert own["gap"].value == pytest.approx(own["wrong"].value - own["true"].value)


def test_random_weights_gain_nothing() -> None:
    own = tlm_gap(tiny(), lines("en", 30), lines("hi", 30), ("en", "hi"))
    assert own["gap"].low < 0 < own["gap"].high
    assert own["alone"].value == pytest.approx(np.log(600), abs=1)


def test_a_causal_model_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot see what follows a mask"):
        tlm_gap(replace(tiny(), extra={"objectives": ["CausalLM"]}), ["a"], ["b"], ("en", "hi"))

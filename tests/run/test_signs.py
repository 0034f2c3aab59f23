"""What a run records of a language that it learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training import tiny
from xlm.analysis.convergence import from_tensors, measure
from xlm.interchange.load import load
from xlm.objectives.masked import MaskedLM
from xlm.pretrain import pretrain
from xlm.run.build import held_out_streams


def test_a_run_leaves_its_signs_in_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlm.model.pretrained.load_tokenizer", lambda folder: tiny.Words())
    made = tiny.corpora(40)
    mlm = MaskedLM(languages=["en"], rows=4, length=12)
    run = tiny.recipe(tmp_path, objectives={"mlm": mlm}, steps=2, signs=True)
    model = pretrain(run, made).learner.model.eval()
    (stream,) = held_out_streams(run, made, "valid")["mlm"]
    expected = measure(model, mlm, stream, seed=run.seed)
    found = from_tensors(load(tmp_path / "model").signs)
    assert found.gain == pytest.approx(expected.gain, abs=1e-5)
    assert found.order == pytest.approx(expected.order, abs=1e-5)
    assert found.states.mean == pytest.approx(expected.states.mean, abs=1e-5)

"""The models of a study: their order, and when each language is read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.reproduce.conftest import settings
from xlm.objectives.causal import CausalLM
from xlm.reproduce import Reproduce
from xlm.reproduce.cells import OBJECTIVE, TRAINING, Cell, planned
from xlm.reproduce.text import StudyText


def shares(cell: Cell, config: Reproduce, text: StudyText, step: int) -> dict[str, float]:
    corpora = text.corpora(cell.languages, cell.sentences, shifted=False)
    objective = cell.run(config, "x", corpora).objectives[OBJECTIVE]
    assert isinstance(objective, CausalLM)
    return objective.sampling.probabilities(dict.fromkeys(cell.languages, 1), step)


def test_the_paper_s_rows_come_first_and_seeds_stay_together(
    tmp_path: Path, text: StudyText
) -> None:
    config = settings(tmp_path, seeds=[3, 4], old_seeds=[3], shifted_seeds=[3])
    cells = planned(config, text)
    first = ["ne", "ne+en", "ne+hi", "ne+en+hi"]
    assert [cell.row for cell in cells[:8]] == first * 2
    assert [cell.seed for cell in cells[:8]] == [3] * 4 + [4] * 4
    assert [(cell.shape, cell.row) for cell in cells[8:12]] == [("2019", row) for row in first]
    assert [cell.row for cell in cells[12:]] == ["ne+hi shifted", "ne", "ne+hi"]
    assert [cell.sentences for cell in cells[12:]] == [40, 60, 60]
    assert len({cell.name for cell in cells}) == len(cells)


@pytest.mark.parametrize("languages", [("ne", "hi"), ("ne", "en", "hi")])
def test_other_languages_come_first_then_the_target_has_its_share(
    text: StudyText, tmp_path: Path, languages: tuple[str, ...]
) -> None:
    config = replace(settings(tmp_path), quick=False, text="x")
    training, others = TRAINING["rotary"], languages[1:]
    first = training.first * len(others)
    cell = Cell("rotary", languages, 0, 40)
    before = shares(cell, config, text, first - 1)
    assert before == {"ne": 0.0, **dict.fromkeys(others, 1 / len(others))}
    after = shares(cell, config, text, first)
    assert after["ne"] == pytest.approx(training.share, abs=1e-6)
    assert sum(after.values()) == pytest.approx(1)


def test_evaluations_fall_on_epochs_of_the_target(text: StudyText, tmp_path: Path) -> None:
    config = replace(settings(tmp_path), quick=False, text="x")
    tokens = len(text.base.text("train", "ne").ids)
    for languages, share in ((("ne",), 1.0), (("ne", "hi"), TRAINING["rotary"].share)):
        corpora = text.corpora(languages, 40, shifted=False)
        run = Cell("rotary", languages, 0, 40).run(config, "x", corpora)
        assert run.evaluate_every == max(1, round(tokens / 1024 / share))
        assert run.stopping.from_step == (0 if share == 1 else TRAINING["rotary"].first)

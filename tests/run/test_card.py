"""The card of the model that a run leaves, and of a model that is saved by hand."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import yaml

import xlm
from tests import tuned
from tests.training import tiny
from xlm.config.cli import to_yaml
from xlm.digests import SUMS
from xlm.model.card import CARD, MARK
from xlm.pretrain import pretrain


def test_a_run_tells_its_text_figures_and_recipe(tmp_path: Path) -> None:
    run = tiny.recipe(tmp_path / "run", steps=4, evaluate_every=2, save_every=2)
    pretrain(run, tiny.corpora())
    card = (tmp_path / "run/model" / CARD).read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "unknown" and "en" in front["language"]
    corpus = tiny.corpora().text("train", "en")
    row = f"| mlm/en | {corpus.text_size.sentences:,} | {corpus.text_size.tokens:,} |"
    assert row in card
    best = json.loads((tmp_path / "run/model/config.json").read_text())["extra"]["step"]
    (figures,) = [
        line["mlm/en"] for step, line in tiny.journal(tmp_path / "run", "valid").items()
        if step == best
    ]  # fmt: skip
    assert f"| mlm/en | {figures['perplexity']:.4g} |" in card
    resolved = dataclasses.replace(run, compile=False)  # what auto is on a CPU
    assert f"```yaml\n{to_yaml(resolved).strip()}\n```" in card
    assert "Fill in the license" in card
    assert CARD not in (tmp_path / "run/model" / SUMS).read_text()


def test_a_card_that_somebody_edited_is_kept(tmp_path: Path) -> None:
    model = tuned.body("xlm")
    model.save_pretrained(tmp_path, {"Data": "Two books."})
    card = (tmp_path / CARD).read_text(encoding="utf-8")
    assert "## Data\n\nTwo books." in card and "en, hi, ne" in card
    model.save_pretrained(tmp_path)
    assert "Two books." not in (tmp_path / CARD).read_text(encoding="utf-8")
    own = card.replace(MARK, "") + "Apache-2.0\n"
    (tmp_path / CARD).write_text(own, encoding="utf-8")
    xlm.load(tmp_path).save_pretrained(tmp_path)  # the edit breaks no sum
    assert (tmp_path / CARD).read_text(encoding="utf-8") == own

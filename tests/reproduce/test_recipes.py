"""The recipes of the Nepali rows are the runs of the study, in both shapes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from xlm.config.cli import parse
from xlm.prepare import Prepare
from xlm.reproduce import Reproduce
from xlm.reproduce.cells import Cell, Shape
from xlm.reproduce.text import _base
from xlm.run.config import Run

RECIPES = Path(__file__).parents[2] / "recipes" / "nepali"
NEPALI_TOKENS = 91_908
"""Of 3,000 sentences of the text that the recipes were written for: 90 updates an epoch."""
CONFIG = Reproduce(study="nepali", folder="runs/nepali", text="data/mono")
FLAGS: dict[Shape, list[str]] = {
    "rotary": [],
    "2019": ["--model.positions=learned", "--model.initialization=xlm"],
}


@pytest.mark.parametrize("shape", FLAGS)
@pytest.mark.parametrize("row", CONFIG.rows, ids="+".join)
def test_a_recipe_is_a_run_of_the_study(row: tuple[str, ...], shape: Shape) -> None:
    nepali: Any = SimpleNamespace(text=lambda *_: SimpleNamespace(ids=np.zeros(NEPALI_TOKENS)))
    path = RECIPES / f"{'+'.join(row)}.yaml"
    recipe = parse(Run, "pretrain", [f"--config={path}", *FLAGS[shape]])
    expected = Cell(shape, row, 0, 3000).run(CONFIG, recipe.folder, nepali)
    assert recipe == replace(expected, data=recipe.data)
    for words in FLAGS[shape]:
        assert words in path.read_text(encoding="utf-8")


def test_the_recipe_prepares_the_text_of_the_study() -> None:
    recipe = parse(Prepare, "prepare", [f"--config={RECIPES / 'prepare.yaml'}"])
    splits = [("train", name) for name in CONFIG.languages] + [("valid", "ne"), ("test", "ne")]
    sources = {(split, name): f"{name}/{split}.txt" for split, name in splits}
    own = _base(CONFIG, sources, Path(recipe.folder))
    assert replace(own, root="data/mono", workers=recipe.workers) == recipe

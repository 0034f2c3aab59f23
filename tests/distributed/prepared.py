"""A prepared folder and a recipe for processes that are started by the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.training import tiny
from xlm.config.cli import to_yaml
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.run.config import Schedule

WORDS = [consonant + vowel + "n" for consonant in "bdfgklmprt" for vowel in "aeiou"]


def write_corpora(folder: Path) -> str:
    """Words that mostly decide the next one, as text, prepared; returns the prepared folder."""
    text: dict[str, dict[str, str]] = {"train": {}, "valid": {}}
    pairs: dict[str, dict[str, list[str]]] = {"train": {}, "valid": {}}
    for split, num, seed in (("train", 300, 1), ("valid", 60, 2)):
        rows = tiny.sentences(num, seed)
        for language, shift in (("en", 0), ("hi", 23)):
            path = folder / f"{split}.{language}"
            moved = [(row - 14 + shift) % tiny.NUM_WORDS for row in rows]
            lines = (" ".join(WORDS[word] for word in row) for row in moved)
            path.write_text("\n".join(lines) + "\n")
            text[split][language] = str(path)
        pairs[split]["en-hi"] = [text[split]["en"], text[split]["hi"]]
    config = Prepare(
        folder=str(folder / "data"),
        text=Texts(**text),
        pairs=Aligned(**pairs),
        vocabulary=Vocabulary(size=320),
        workers=1,
    )
    prepare(config)
    return config.folder


def settings(data: str) -> dict[str, Any]:
    """MLM+TLM, 200 updates of a small model."""
    return {
        "data": data,
        "objectives": {
            "mlm": MaskedLM(languages=["en", "hi"], rows=8, length=16, evaluation_folds=2),
            "tlm": MaskedLM(pairs=["en-hi"], tokens=8 * 24, length=32, num_lengths=3,
                            evaluation_folds=2),
        },
        "model": tiny.model(dim=32, max_positions=40),
        "schedule": Schedule(kind="linear", peak_lr=1e-2, warmup_steps=10),
        "steps": 200,
        "group_size": 2,
        "order": "rotate",
        "report_every": 50,
        "evaluate_every": 200,
    }  # fmt: skip


def write_recipe(folder: Path, data: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(to_yaml(tiny.recipe(folder / "run", **settings(data))))
    return path

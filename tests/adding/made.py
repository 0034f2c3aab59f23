"""Settings that the tests of adding a language share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.add_language import AddLanguage, NewText
from xlm.finetune import Finetune
from xlm.model.pretrained import PretrainedModel
from xlm.preparation.config import Vocabulary
from xlm.tasks.classification import Classification
from xlm.tasks.heads import Readout
from xlm.tasks.task import Files
from xlm.training.schedule import Schedule

NEW = "नेपाली भाषा नयाँ छ र यो पाठ सानो छ"
WORDS = NEW.split()


def answers(model: PretrainedModel, texts: list[str], language: str) -> Tensor:
    """Return the last states of a batch of lines."""
    with torch.no_grad():
        return model.encode(model.batch(texts, language))


def lines(num: int, words: list[str]) -> list[str]:
    return [
        " ".join(words[(at * 7 + place * (at % 5 + 1)) % len(words)] for place in range(6))
        for at in range(num)
    ]


def settings(model: Path, folder: Path, text: Path, **changes: Any) -> AddLanguage:
    given: dict[str, Any] = {
        "model": str(model), "folder": str(folder), "language": "ne",
        "text": NewText(train=str(text)), "vocabulary": Vocabulary(size=284), "steps": 3,
        "rows": 4, "length": 16, "evaluate_every": 2, "workers": 1, "device": "cpu",
        "start": "copy", "schedule": Schedule(kind="constant", peak_lr=0.01, warmup_steps=0),
    }  # fmt: skip
    return AddLanguage(**{**given, **changes})


def tuned(model: Path, folder: Path, rows: Path, **tested: str) -> Finetune:
    files = Files(train={"en": str(rows)}, valid={"en": str(rows)}, test=tested)
    task = Classification(
        files=files, labels=["a", "b"], rows=4, length=16, readout=Readout(dropout=0.0)
    )
    return Finetune(
        model=str(model), folder=str(folder), tasks={"topic": task}, epochs=1, device="cpu",
        frozen=["words", "positions"],
        schedule=Schedule(kind="constant", peak_lr=0.01, warmup_steps=0),
    )  # fmt: skip

"""The models of a study, each a run of its own: languages, shape, seed and amount of text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from xlm.data.corpora import Corpora
from xlm.data.sampling import Sampling
from xlm.model.config import ModelConfig
from xlm.objectives.causal import CausalLM
from xlm.reproduce.config import Reproduce
from xlm.reproduce.text import StudyText
from xlm.run.config import Run
from xlm.run.stopping import Stopping
from xlm.training.optimizers.config import Optimizer
from xlm.training.schedule import Schedule

Shape = Literal["rotary", "2019"]
OBJECTIVE = "clm"
ROWS, LENGTH = 8, 128
MOST_EPOCHS = 20
"""Passes over the target's text after which a run ends in any case."""
MOST_UPDATES = 3000
"""Updates on the target's text after which a run ends in any case."""
LONGEST_WAIT = 300
"""Updates between two evaluations if an epoch is longer."""


@dataclass(frozen=True)
class Training:
    """Training settings of the models of one shape."""

    model: Mapping[str, Any]
    optimizer: Mapping[str, Any]
    rate: float
    """The highest learning rate."""
    first: int
    """Updates on each other language before the first on the target."""
    share: float
    """The target's share of the text from then on."""


ADAMW = {"kind": "adamw", "betas": (0.9, 0.98), "weight_decay": 0.01}
_ROTARY = {"positions": "rotary", "initialization": "normal"}
TRAINING: Mapping[Shape, Training] = {
    "rotary": Training(model=_ROTARY, optimizer=ADAMW, rate=2e-3, first=600, share=0.75),
    "2019": Training(model={}, optimizer=ADAMW, rate=2e-3, first=600, share=0.75),
}
"""Chosen on validation text, one seed each (benchmarks/results/nepali_search.json)."""
SIZE = {"num_layers": 4, "num_heads": 4, "dropout": 0.1, "attention_dropout": 0.0}
QUICK_SIZE = {**SIZE, "dim": 16, "num_layers": 1, "num_heads": 2}


@dataclass(frozen=True)
class Cell:
    """One model of a study."""

    shape: Shape
    languages: tuple[str, ...]
    """The target first."""
    seed: int
    sentences: int
    """Training sentences of the target."""
    shifted: bool = False
    """True if the other languages' ids have a range of their own."""

    @property
    def row(self) -> str:
        """The languages joined by plus signs, as the paper writes them."""
        return "+".join(self.languages) + (" shifted" if self.shifted else "")

    @property
    def name(self) -> str:
        """The folder of the model below that of the study."""
        return f"{self.shape}/{self.row.replace(' ', '-')}-{self.sentences}-{self.seed}"

    def run(
        self,
        config: Reproduce,
        folder: Path | str,
        corpora: Corpora,
        training: Training | None = None,
    ) -> Run:
        """Return the settings of the run in ``folder`` on ``corpora``.

        ``training`` (None: the shape's) is given to try another.
        """
        training = training or TRAINING[self.shape]
        target, *others = self.languages
        first = training.first * len(others)
        epoch = len(corpora.text("train", target).ids) / (ROWS * LENGTH)
        most = min(MOST_EPOCHS * epoch, MOST_UPDATES)
        share = training.share if others else 1.0
        wait = min(epoch, LONGEST_WAIT) / share
        if config.quick:
            first, most, wait = 2 * len(others), 4, 2
        size = QUICK_SIZE if config.quick else {**SIZE, "dim": config.dim}
        return Run(
            data=str(Path(config.folder) / "text" / "base"),
            folder=str(folder),
            objectives={
                OBJECTIVE: CausalLM(
                    languages=list(self.languages),
                    evaluate=[target],
                    rows=ROWS,
                    length=LENGTH,
                    sampling=Sampling(rule="shares", shares=self._shares(first, share)),
                )
            },
            model=ModelConfig(**{**size, **training.model}),
            steps=first + math.ceil(most / share),
            seed=self.seed,
            group_size=1,
            optimizer=Optimizer(**training.optimizer),
            schedule=Schedule(
                kind="inverse-sqrt",
                peak_lr=training.rate,
                warmup_steps=1 if config.quick else 100,
            ),
            precision="auto",
            average=0.99,
            stopping=Stopping(
                streams=[f"{OBJECTIVE}/{target}"], from_step=first, patience=2
            ),
            report_every=50,
            evaluate_every=max(1, round(wait)),
            save_every=500,
            keep_last=1,
            tensorboard=False,
            device=config.device,
        )  # fmt: skip

    def _shares(self, first: int, share: float) -> dict[str, Any]:
        """Return the share of each language by step: the others alone, then the target too."""
        target, *others = self.languages
        if not others:
            return {target: 1.0}
        own = round(share / (1 - share) * len(others), 6) if share < 1 else 1.0
        beside: Any = 1.0 if share < 1 else [[first - 1, 1.0], [first, 0.0]]
        return {target: [[first - 1, 0], [first, own]], **dict.fromkeys(others, beside)}


def planned(config: Reproduce, text: StudyText) -> list[Cell]:
    """Return the models of a study in the order in which they are trained: the paper's rows first.

    Rows of one seed follow each other, so that a study that was stopped has paired rows.
    """
    number = text.sentences
    target, related, _ = config.languages
    shapes: list[tuple[Shape, list[int]]] = [("rotary", config.seeds), ("2019", config.old_seeds)]
    cells = [
        Cell(shape, row, seed, number)
        for shape, seeds in shapes
        for seed in seeds
        for row in config.rows
    ]
    cells += [
        Cell("rotary", (target, related), seed, number, shifted=True)
        for seed in config.shifted_seeds
    ]
    return cells + [
        Cell("rotary", row, config.seeds[0], size)
        for size in text.larger
        for row in ((target,), (target, related))
    ]

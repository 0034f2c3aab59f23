"""Train a model by a recipe.

Use as ``xlm.pretrain.pretrain(Run(...))``, ``xlm pretrain --config RECIPE.yaml``, ``python -m
xlm.pretrain`` or ``torchrun --nproc_per_node=8 -m xlm.pretrain``. A run that was killed resumes
from its newest sound checkpoint when it is started again with the same folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from xlm.config.cli import run_verb
from xlm.data.corpora import Corpora
from xlm.run.config import (
    BackTranslation,
    CausalLM,
    CausalTLM,
    Denoising,
    Infilling,
    Initialization,
    MaskedLM,
    ModelConfig,
    NextSentence,
    Optimizer,
    Run,
    Schedule,
    Stopping,
    Translation,
)
from xlm.run.launch import Result, sole_training, train_run
from xlm.run.text import open_corpora

# Everything that a recipe of pretraining is made of.
__all__ = [
    "BackTranslation", "CausalLM", "CausalTLM", "Denoising", "Infilling", "Initialization",
    "MaskedLM", "ModelConfig", "NextSentence", "Optimizer", "Result", "Run", "Schedule", "Stopping",
    "Translation", "main", "pretrain",
]  # fmt: skip

log = logging.getLogger("xlm")


def pretrain(run: Run, corpora: Corpora | None = None) -> Result:
    """Train until ``run.steps``, resuming from ``run.folder`` if it holds checkpoints.

    ``corpora`` in memory replace ``run.data``. Raises ConfigError, DataError, CheckpointError or
    TrainingError, each in one line.
    """
    with sole_training(run) as parallel:
        return train_run(run, corpora or open_corpora(run), parallel)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm pretrain``: see ``Run``."""

    def act(run: Run) -> None:
        result = pretrain(run)
        if result.state.step < run.steps and not result.stopped_early:
            log.info(
                "stopped at step %d of %d; the same command goes on", result.state.step, run.steps
            )
            if run.stop_status:
                raise SystemExit(run.stop_status)

    run_verb(Run, "pretrain", act, arguments)


if __name__ == "__main__":
    main()

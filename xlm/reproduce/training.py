"""Train and measure one model of a study, once; finished ones are read again."""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from xlm.errors import ConfigError, TrainingError
from xlm.evaluate import open_learner
from xlm.objectives.language_model import LanguageModel
from xlm.reproduce.cells import OBJECTIVE, Cell
from xlm.reproduce.config import Reproduce
from xlm.reproduce.measure import kinds_of_subwords, measure
from xlm.reproduce.text import StudyText
from xlm.run.config import Run, differences, read_run
from xlm.run.folder import UNMEASURED
from xlm.run.launch import finish_run, sole_training
from xlm.storage import read_json, write_json
from xlm.training.checkpoint import Loaded
from xlm.training.restore import CHECKPOINTS, find_checkpoint

RESULT = "result.json"
"""File of a model's folder that marks the cell as finished: trained and measured."""
MODEL = "model"
Result = dict[str, Any]


def finished(config: Reproduce, cell: Cell, text: StudyText) -> Result | None:
    """Return the figures of a model; None if it is not finished.

    Raises ConfigError if the folder holds a model of other settings.
    """
    own = folder_of(config, cell)
    if not (own / RESULT).exists():
        return None
    saved = (own / "config.yaml").read_text(encoding="utf-8")
    corpora = text.corpora(cell.languages, cell.sentences, shifted=cell.shifted)
    run = cell.run(config, own, corpora)
    changed = differences(saved, run, UNMEASURED | {"data", "precision", "compile"})
    if changed:
        raise ConfigError(
            f"{own} holds a model with other settings ({', '.join(changed[:3])} differ): "
            "give another folder, or remove this one"
        )
    return read_json(own / RESULT, error=ConfigError)


def folder_of(config: Reproduce, cell: Cell) -> Path:
    """Return the folder of a model."""
    return Path(config.folder) / "models" / cell.name


def train(config: Reproduce, cell: Cell, text: StudyText) -> Result:
    """Train and measure a model, from its newest checkpoint if it has one; return the figures.

    Raises TrainingError if a signal stopped it.
    """
    own = folder_of(config, cell)
    corpora = text.corpora(cell.languages, cell.sentences, shifted=cell.shifted)
    run = cell.run(config, own, corpora)
    started = time.process_time()
    with sole_training(run) as parallel:
        if parallel.world > 1:
            raise ConfigError(
                f"{parallel.world} processes were started, but a study trains its models one "
                "after another: start one process"
            )
        with _quiet():
            history = finish_run(run, corpora, parallel, origin={})
        loaded = find_checkpoint(own, "best")
        run = read_run(loaded.path)
        learner = open_learner(loaded, run, corpora).to(parallel.device)
        objective = run.objectives[OBJECTIVE]
        assert isinstance(objective, LanguageModel)
        kinds = kinds_of_subwords(text.base, config.target)
        tests: dict[str, Result] = {}
        for name in text.tests:
            (stream,) = objective.streams(
                OBJECTIVE, text.with_test(corpora, name), seed=run.seed, split="test"
            )
            sums = measure(
                learner, objective, stream,
                seed=run.seed, precision=run.precision, device=parallel.device,
            )  # fmt: skip
            tests[name] = {**sums.figures(stream), "kinds": sums.by_kind(kinds)}
    stream_id = f"{OBJECTIVE}/{config.target}"
    result = {
        "shape": cell.shape,
        "row": cell.row,
        "languages": list(cell.languages),
        "seed": cell.seed,
        "sentences": cell.sentences,
        "shifted": cell.shifted,
        **_training_account(loaded, run),
        "valid_nats": history.valid[loaded.step][stream_id]["nats"],
        "curve": [[step, own[stream_id]["nats"]] for step, own in history.valid.items()],
        "processor_seconds": round(time.process_time() - started, 1),
        "tests": tests,
    }
    if bad := [name for name, figures in tests.items() if not math.isfinite(figures["nats"])]:
        raise TrainingError(
            f"{own}: the figures of {', '.join(bad)} are not finite; remove the folder"
        )
    write_json(own / RESULT, result)
    for name in (CHECKPOINTS, *(() if config.keep_models else (MODEL,))):
        shutil.rmtree(own / name, ignore_errors=True)
    return result


def _training_account(loaded: Loaded, run: Run) -> Result:
    """Return the step of the best weights, the tokens until then, and the rate."""
    tokens = loaded.state["train_state"]["tokens"]
    return {
        "best_step": loaded.step,
        "tokens": {name.split("/")[1]: number for name, number in tokens.items()},
        "peak_lr": run.schedule.peak_lr,
        "precision": run.precision,
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the report of a run: a study says a line for each model."""
    log = logging.getLogger("xlm")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)

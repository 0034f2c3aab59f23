"""Weights out of checkpoints: of the same run, of another one, or for an evaluation."""

from __future__ import annotations

import logging
from pathlib import Path

from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, ConfigError
from xlm.training import checkpoint, retention
from xlm.training.learner import Learner

log = logging.getLogger("xlm")

CHECKPOINTS = "checkpoints"
"""The folder of a run that holds its checkpoints."""


def load_weights(learner: Learner, loaded: checkpoint.Loaded, name: str) -> None:
    """The tensors ``name`` of a checkpoint into the learner, every one of them."""
    tensors = loaded.tensors(name)
    own = learner.state_dict()
    wrong = sorted(set(own) ^ set(tensors)) + [
        key for key in sorted(set(own) & set(tensors)) if own[key].shape != tensors[key].shape
    ]
    if wrong:
        raise CheckpointError(
            f"{loaded.path}: {len(wrong)} tensors do not fit the recipe's model, the first is "
            f"{wrong[0]}; resume with the recipe that wrote it, or give another folder"
        )
    learner.load_state_dict(tensors)


def initialize(learner: Learner, source: str, corpora: Corpora) -> None:
    """Start from the weights of a run's folder (its best checkpoint, else the newest) or of one.

    The model must have the same tokenizer and shape; heads are taken where their names are equal,
    averaged weights where there are some.
    """
    loaded = find_checkpoint(source, "best")
    if loaded.state["tokenizer"] != corpora.tokenizer.digest:
        raise ConfigError(
            f"initialize: {loaded.path} has tokenizer {loaded.state['tokenizer'][:12]}, the data "
            f"{corpora.tokenizer.digest[:12]}: prepare the data with vocabulary.folder set to the "
            "data it was trained on"
        )
    if loaded.state["languages"] != corpora.languages:
        raise ConfigError(
            f"initialize: {loaded.path} knows the languages {loaded.state['languages']}, the data "
            f"has {corpora.languages}"
        )
    tensors = loaded.tensors("model")
    if loaded.has_tensors("averaged"):
        tensors.update((k, v) for k, v in loaded.tensors("averaged").items() if k in tensors)
    own = learner.state_dict()
    wrong = [
        name
        for name, value in own.items()
        if name.startswith("model.") and (name not in tensors or tensors[name].shape != value.shape)
    ]
    if wrong:
        raise ConfigError(
            f"initialize: {loaded.path} does not fit the recipe's model: {len(wrong)} tensors, the "
            f"first is {wrong[0]}; give model the same sizes"
        )
    fitting = {n: t for n, t in tensors.items() if n in own and t.shape == own[n].shape}
    learner.load_state_dict(fitting, strict=False)
    new = sorted({name.split(".")[1] for name in own if name not in fitting})
    log.info("initialized from %s%s", loaded.path, f"; new heads: {', '.join(new)}" if new else "")


def find_checkpoint(source: str | Path, which: str) -> checkpoint.Loaded:
    """The checkpoint at ``source``, or the best (else newest) or the latest of a run's folder."""
    path = Path(source)
    if (path / checkpoint.MANIFEST).exists():
        return checkpoint.load(path)
    folder = path / CHECKPOINTS
    if which == "best":
        best = retention.best(folder)
        if best is not None:
            return best
    found = checkpoint.latest(folder)
    if found.loaded is None:
        reason = f" ({found.skipped[0]})" if found.skipped else ""
        raise CheckpointError(
            f"{path}: no checkpoint that can be read{reason}; expected a run's folder or a "
            "checkpoint step-XXXXXXXX"
        )
    return found.loaded

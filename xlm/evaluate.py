"""Measure a run on held-out text, per language, in every unit.

Use as ``xlm.evaluate.evaluate_run(Evaluate(...))``, ``xlm evaluate RUN`` or
``python -m xlm.evaluate``.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xlm import strict_json
from xlm.config.cli import run_verb
from xlm.config.console import say
from xlm.config.trust import Trust
from xlm.data.corpora import Corpora
from xlm.data.verification import verify_corpora
from xlm.errors import ConfigError, DataError, XlmError
from xlm.run.build import build_learner, held_out_streams
from xlm.run.config import Run, read_run
from xlm.run.text import open_corpora
from xlm.storage import check_writable, write_whole
from xlm.tables import aligned
from xlm.training.checkpoint import Loaded
from xlm.training.curves import check_picture, plot_curves
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.journal import METRICS
from xlm.training.learner import Learner
from xlm.training.restore import find_checkpoint, load_weights

__all__ = ["Evaluate", "evaluate_run", "main", "table"]

log = logging.getLogger("xlm")

COLUMNS = (
    "nats", "perplexity", "word_perplexity", "bits_per_character", "bits_per_byte", "accuracy",
    "unigram_perplexity",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a run on held-out text: nats, perplexity per subword and word, bits, accuracy."""

    folder: str
    """A run's folder, or one of its checkpoints."""
    which: Literal["best", "latest"] = "best"
    """The checkpoint: best (the marked one, else the newest) or latest."""
    split: Literal["valid", "test"] = "valid"
    """The held-out text to measure on."""
    data: str | None = None
    """Other prepared text than the run's own; it needs the same tokenizer."""
    evaluation_tokens: int | None = None
    """Cells (padding included) in a micro-batch; more use a GPU better, and other masks are drawn.
    null: as many as the run's; 0: as many as in training."""
    averaged: bool = True
    """Use the exponentially averaged weights if the run kept them."""
    json: str | None = None
    """Write the figures into this file too."""
    picture: str | None = None
    """Draw the curves of metrics.jsonl into this PNG, SVG or PDF."""
    trust: str | None = None
    """The folder of your own objectives that the run names; nothing is imported from elsewhere.
    Code of strangers runs with your rights: read it first."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: CUDA if there is a GPU."""


def evaluate_run(config: Evaluate) -> dict[str, Any]:
    """Return the figures by stream id under ``figures``, with their checkpoint and split.

    Masks are fixed by the run's seed: every call predicts the same cells. Raises ConfigError,
    DataError or CheckpointError in one line.
    """
    loaded = find_checkpoint(config.folder, config.which)
    run = read_run(loaded.path, Trust(config.trust))
    if config.evaluation_tokens is not None:
        run = replace(run, evaluation_tokens=config.evaluation_tokens)
    corpora = open_corpora(run, loaded, config.data)
    if loaded.state["tokenizer"] != corpora.tokenizer.digest:
        raise DataError(
            f"{config.data or run.data} has tokenizer {corpora.tokenizer.digest[:12]}, but "
            f"the model has {loaded.state['tokenizer'][:12]}: prepare the text with "
            "vocabulary.folder set to the data that the run was trained on"
        )
    if loaded.state.get("tables", {}) != corpora.table_digests:
        raise DataError(
            f"{config.folder}: the text of its tables {', '.join(run.tables)} has different "
            "tokenizers from the checkpoint: give the data that the run was trained on"
        )
    verify_held_out(corpora, config.split)
    learner = open_learner(loaded, run, corpora, averaged=config.averaged)
    streams = held_out_streams(run, corpora, config.split)
    if not any(streams.values()):
        there = [name for part in corpora.names(config.split).values() for name in part]
        raise ConfigError(
            f"{config.data or run.data} has no text in {config.split} for the run's "
            f"objectives: found {', '.join(there) or 'no such text'}"
        )
    parallel = Parallel.start(config.device, deterministic=run.deterministic)
    try:
        learner.to(parallel.device)
        figures = evaluate(learner, streams, parallel, seed=run.seed, precision=run.precision)
    finally:
        parallel.close()
    return {
        "checkpoint": loaded.path.name,
        "step": loaded.step,
        "split": config.split,
        "figures": figures,
    }


def open_learner(loaded: Loaded, run: Run, corpora: Corpora, *, averaged: bool = True) -> Learner:
    """Return model and heads with a checkpoint's weights, the averaged ones if it has them.

    Raises CheckpointError if the tensors do not fit ``run`` and ``corpora``.
    """
    learner = build_learner(run, corpora)
    load_weights(learner, loaded, "model")
    if averaged and loaded.has_tensors("averaged"):
        averages = loaded.tensors("averaged")
        own = learner.state_dict()
        learner.load_state_dict({n: averages.get(n, value) for n, value in own.items()})
    return learner


def verify_held_out(corpora: Corpora, split: str) -> None:
    """Verify the held-out text by its hashes, and the counts of the training text.

    Raises DataError for a file that has changed since it was written.
    """
    for own in corpora.tables.values():
        if own.folder is not None:
            verify_held_out(own, split)
    if corpora.folder is None:
        return
    found = verify_corpora(corpora.folder, splits=[split])
    verify_corpora(corpora.folder, splits=["train"], arrays=["counts.bin"])
    if line := found.line(corpora.folder):
        log.warning("%s", line)


def table(figures: Mapping[str, Mapping[str, float]]) -> str:
    """Return the figures as aligned text, a line for each stream."""
    having = dict.fromkeys(name for own in figures.values() for name in own)
    columns = [c for c in COLUMNS if c in having]
    columns += [name for name in having if name not in (*COLUMNS, "targets")]
    heads = [column.replace("_", " ") for column in columns]
    rows = [["", *heads]]
    for stream_id, own in figures.items():
        rows.append([stream_id, *(f"{own[c]:.4g}" if c in own else "" for c in columns)])
    return "\n".join(aligned(rows))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run ``xlm evaluate``: see ``Evaluate``."""

    def act(config: Evaluate) -> None:
        for path in filter(None, (config.json, config.picture)):
            check_writable(path)
        if config.picture:
            check_picture(config.picture)
        result = evaluate_run(config)
        if os.environ.get("RANK", "0") != "0":
            return
        if config.json:
            write_whole(config.json, strict_json.dumps(result, indent=1) + "\n")
        say(f"{config.folder} {result['checkpoint']}, {result['split']} text")
        say(table(result["figures"]))
        for line in against_unigram(result["figures"]):
            say(line)
        if config.picture:
            _draw(Path(config.folder), config.picture)
            say(f"curves: {config.picture}")

    run_verb(Evaluate, "evaluate", act, arguments, positional="folder")


def _draw(folder: Path, picture: str) -> None:
    """Draw the curves of a run, or of the run that a checkpoint belongs to."""
    run = folder if (folder / METRICS).exists() else folder.parent.parent
    try:
        plot_curves(run / METRICS, picture)
    except XlmError:
        raise
    except (OSError, ValueError) as error:  # a folder, or a format that matplotlib does not know
        raise DataError(f"cannot write {picture}: {error}; give another file") from error


def against_unigram(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return lines that compare perplexities with a unigram model's on the same cells."""
    lines = []
    for stream_id, own in figures.items():
        if "unigram_perplexity" not in own:
            continue
        change = own["perplexity"] / own["unigram_perplexity"] - 1
        lines.append(
            f"{stream_id}: perplexity {own['perplexity']:.1f}, unigram model "
            f"{own['unigram_perplexity']:.1f} on the same {own['targets']:.0f} cells "
            f"({change:+.1%})"
        )
    return lines


if __name__ == "__main__":
    main()

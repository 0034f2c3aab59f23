"""What the measurements of translation share: runs that go on, their translations, their scores.

A run has a folder of its own. What is finished is not run again: of it stay the metrics, the model
and the translations of the test text, which scores are computed from.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import xlm
from benchmarks.support import toy
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, DataError
from xlm.interchange.load import MODEL
from xlm.metrics.translation import (
    copied_tokens,
    copy_rate,
    corpus_scores,
    empty_rate,
    paired_bootstrap,
)
from xlm.model.generate import Generation
from xlm.run.config import Changes, Optimizer, Run, Schedule
from xlm.run.launch import finish_run, sole_training
from xlm.text.normalize import normalize
from xlm.training.initialization import Initialization
from xlm.training.journal import METRICS, read_metrics
from xlm.training.restore import CHECKPOINTS

Figures = dict[str, Any]
NONE = "none"
"""The start of random weights, in the shape of the pretrained model."""


def flags(parser: argparse.ArgumentParser) -> None:
    """The flags that every study of pretrained translators has."""
    parser.add_argument("--tokens", type=int, default=1000, help="of an update, padding included")
    parser.add_argument("--longest", type=int, default=64, help="tokens of a sentence")
    parser.add_argument("--num-lengths", type=int, default=8, help="padded lengths")
    parser.add_argument("--lr", type=float, default=3e-3, help="the highest learning rate")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beam", type=int, default=5, help="of the translations of test text")
    parser.add_argument("--resamples", type=int, default=1000, help="of test lines, for intervals")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")


def try_it(arguments: argparse.Namespace) -> None:
    """Sizes and files for ``--quick``."""
    arguments.data = toy.data(arguments.folder)
    arguments.models = toy.models(arguments.folder / "models")
    arguments.steps, arguments.beam, arguments.resamples = 4, 1, 20
    arguments.tokens, arguments.longest, arguments.num_lengths = 1500, 128, 1


def source_of(models: Path, start: str, starts: Iterable[str]) -> str:
    """The model that a start takes: ``NONE`` has the shape of the last of ``starts`` that is one.

    Raises ConfigError where there is no such model.
    """
    name = start if start != NONE else next((s for s in reversed([*starts]) if s != NONE), "")
    folder = models / name / MODEL
    if not name or not folder.exists():
        raise ConfigError(
            f"{folder} is not there: pretrain it by recipes/small, or give other --models, --starts"
        )
    return str(folder)


def settings(
    arguments: argparse.Namespace, model: str, start: str, steps: int, num_evaluations: int = 4
) -> Figures:
    """Fields of a run of ``steps`` updates: both halves start from ``model``, or have its shape.

    A model that tells no languages apart gets vectors of languages, which start at their mean, for
    a translator of both directions has to be told the language that it is to write.
    """
    each = max(1, steps // num_evaluations)
    shape = xlm.load(model).transformer.config
    return {
        "initialize": Initialization(
            encoder=model, decoder=model, only="nothing" if start == NONE else "all",
            new_languages="refuse" if shape.language_embeddings else "mean",
        ),
        "model": replace(
            shape, language_embeddings=True, num_decoder_layers=shape.num_layers, preset=None
        ),
        "changes": Changes(dropout=arguments.dropout),
        "precision": "auto",
        "steps": steps,
        "seed": arguments.seed,
        "group_size": 1,
        "optimizer": Optimizer(
            kind="muon", betas=(0.9, 0.98), weight_decay=0.01, max_grad_norm=1.0
        ),
        "schedule": Schedule(kind="linear", peak_lr=arguments.lr, warmup_steps=steps // 10),
        "report_every": max(1, steps // 20),
        "evaluate_every": each,
        "save_every": each,
        "keep_last": 1,
        "tensorboard": False,
        "device": "cpu",
    }  # fmt: skip


def trained(run: Run) -> Path:
    """The folder of a run's model: it is trained to its end, unless it was.

    Raises ConfigError where the folder holds a run of other settings.
    """
    folder = Path(run.folder)
    sys.stderr.write(f"== {folder}\n")
    with sole_training(run) as parallel:
        finish_run(run, Corpora.open(run.data), parallel, origin={})
    if (folder / MODEL).exists():
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # thrice the model's size
    return folder


def ended(folder: Path) -> bool:
    """Whether there is a run in ``folder`` that was trained to its end."""
    return (folder / METRICS).exists() and any(
        line["event"] == "end" for line in read_metrics(folder / METRICS)
    )


def seconds(folder: Path) -> float:
    """How long a finished run took from where it was last resumed, evaluations included."""
    ends = [line for line in read_metrics(folder / METRICS) if line["event"] == "end"]
    return float(ends[-1]["seconds"])


def pretrained(folder: Path) -> Figures:
    """Held-out perplexity of a run's encoder before its first update, beside a unigram model's."""
    events = [line for line in read_metrics(folder / METRICS) if line["event"] == "pretrained"]
    names = ("perplexity", "unigram_perplexity")
    return {
        stream: {name: own[name] for name in names if name in own}
        for stream, own in (events[0] if events else {}).items()
        if isinstance(own, Mapping)
    }


def read(path: Path, most: int | None = None) -> list[str]:
    """The lines of a text as preparation has them; the first ``most``."""
    text = path.read_text(encoding="utf-8")
    return [normalize(line) for line in text.removesuffix("\n").split("\n")][:most]


def write(path: Path, lines: Iterable[str]) -> None:
    """A text of one line each, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staging = path.with_name(f".{path.name}")
    staging.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    staging.replace(path)


def translated(
    folder: Path, name: str, direction: str, sources: Sequence[str], beam: int
) -> list[str]:
    """What the run's model makes of ``sources``, translated once and kept as ``NAME.DIRECTION``."""
    path = folder / f"{name}.{direction}.{beam}"
    if not path.exists():
        source, target = direction.split("-")
        model = xlm.load(folder / MODEL)
        write(path, model.translate(sources, source=source, target=target,
                                    settings=Generation(beam=beam)))  # fmt: skip
    found = read(path)
    if len(found) != len(sources):
        raise DataError(
            f"{path} has {len(found)} lines, the text {len(sources)}: remove it, and start again"
        )
    return found


def scored(
    systems: Mapping[str, Sequence[str]],
    references: Sequence[str],
    sources: Sequence[str],
    resamples: int,
) -> dict[str, Figures]:
    """BLEU and chrF of each system with 95 % intervals over resamples of the lines, and its rates.

    All but the first system have the probability that chance alone sets them apart from it.
    """
    found = {}
    for name, hypotheses in systems.items():
        scores = corpus_scores(hypotheses, references, num_resamples=resamples)
        found[name] = {
            "bleu": {"mean": scores.bleu.score, "interval": scores.bleu.interval},
            "chrf": {"mean": scores.chrf.score, "interval": scores.chrf.interval},
            "tokenized_bleu": scores.tokenized_bleu.score,
            "length_ratio": scores.length_ratio,
            "copied": copy_rate(sources, hypotheses),
            "copied_tokens": copied_tokens(sources, hypotheses),
            "empty": empty_rate(hypotheses),
            "signatures": [scores.bleu.signature, scores.chrf.signature],
        }
    if len(systems) > 1:
        compared = paired_bootstrap(systems, references, num_resamples=resamples)
        for name, own in compared.items():
            for figure, metric in (("bleu", "BLEU"), ("chrf", "chrF2")):
                found[name][figure]["p"] = asdict(own[metric])["p_value"]
    return found

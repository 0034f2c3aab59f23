"""One epoch of fine-tuning against the Trainer of transformers: the same model, rows and updates.

    pip install accelerate transformers
    python -m benchmarks.speed.finetuning_speed --models runs/small --data data

The run ``mlm+tlm`` of recipes/small, with a new head of three labels, is trained on sentence pairs
(nli/mnli10k) for one epoch by this library, by ``Trainer`` with its padding collator, and by
``Trainer`` with rows grouped by length, in turn; each reads the same token ids in batches of 32,
drops, clips and updates (AdamW) alike. Real tokens are those of the rows, special ones included and
padding not; the ratio of medians is what counts: the machine is shared, so that the processor's
seconds are counted beside those of the clock. Building models is not
timed; reading batches is. ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch

import xlm
from benchmarks.support import downstream, toy
from xlm.data.corpora import Corpora
from xlm.data.row_streams import RowStream
from xlm.interchange.transformers.roformer import write_transformers_roformer
from xlm.interchange.transformers.xlm import write_transformers_xlm
from xlm.model.pretrained import PretrainedModel
from xlm.run.config import Optimizer, Run, Schedule
from xlm.run.folder import RunFolder
from xlm.run.session import begin
from xlm.tasks.classification import Classification
from xlm.tasks.task import Files
from xlm.training.distributed.processes import Parallel
from xlm.training.initialization import Initialization
from xlm.training.loop import train

NAME, ROWS, RATE, DECAY, CLIP = "nli", 32, 3e-4, 0.01, 1.0


class Timed(NamedTuple):
    """One epoch."""

    seconds: float
    cpu_seconds: float
    """Of all threads of the process: what other programs on the machine do not change."""
    padding: float
    """Share of the cells."""


def timed(act: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock and of the processor."""
    wall, own = time.perf_counter(), time.process_time()
    act()
    return time.perf_counter() - wall, time.process_time() - own


def ours(task: Classification, source: str, corpora: Corpora, seed: int) -> Timed:
    """An epoch of our loop."""
    (stream,) = task.streams(NAME, corpora, seed=seed)
    assert isinstance(stream, RowStream)
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            data="", folder=folder, objectives={NAME: task},
            initialize=Initialization(encoder=source), steps=stream.num_batches, seed=seed,
            group_size=1, evaluate_every=0, save_every=0, report_every=100, tensorboard=False,
            optimizer=Optimizer(
                betas=(0.9, 0.999), weight_decay=DECAY, decay_norms_and_biases=False,
                max_grad_norm=CLIP,
            ),
            schedule=Schedule(kind="linear", peak_lr=RATE, warmup_steps=0), device="cpu",
        )  # fmt: skip
        parallel = Parallel.start("cpu")
        session = begin(run, corpora, RunFolder(run.folder, parallel))
        try:
            with session.reporter.journal:
                seconds = timed(lambda: train(session.trainer, report=session.reporter.train))
        finally:
            parallel.close()
    return Timed(*seconds, stream.padding)


class Collator:
    """transformers' padding collator; models of languages want that of each token too."""

    def __init__(self, model: PretrainedModel, language: int):
        from tokenizers import Tokenizer
        from tokenizers.models import WordLevel
        from transformers import DataCollatorWithPadding, PreTrainedTokenizerFast

        pad = {"<pad>": model.tokenizer.pad_id}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer(WordLevel(pad, unk_token="<pad>")), pad_token="<pad>"
        )
        self.pad = DataCollatorWithPadding(tokenizer)
        self.language = language if model.has_languages else None
        self.cells = self.real = 0

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        batch = dict(self.pad(features))
        if self.language is not None:
            batch["langs"] = torch.full_like(batch["input_ids"], self.language)
        self.cells += batch["input_ids"].numel()
        self.real += int(batch["attention_mask"].sum())
        return batch


def theirs(
    rows: list[dict[str, Any]], exported: Path, collator: Collator, grouped: bool, seed: int
) -> Timed:
    """An epoch of ``Trainer``."""
    from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=AutoModelForSequenceClassification.from_pretrained(exported, num_labels=3),
            args=TrainingArguments(
                output_dir=folder, per_device_train_batch_size=ROWS, num_train_epochs=1, seed=seed,
                learning_rate=RATE, weight_decay=DECAY, max_grad_norm=CLIP, logging_steps=100,
                save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
                train_sampling_strategy="group_by_length" if grouped else "random",
            ),
            train_dataset=rows, data_collator=collator,
        )  # fmt: skip
        collator.cells = collator.real = 0
        seconds = timed(trainer.train)
        return Timed(*seconds, 1 - collator.real / collator.cells)


def task_of(data: Path, limit: int) -> Classification:
    """Pairs of English sentences."""
    task = Classification(
        files=Files(train={"en": str(data / "nli/mnli10k/en.train.tsv")}),
        format="nli", length=128, rows=ROWS, limit=limit,
    )  # fmt: skip
    return task.resolved()


def measure(models: Path, data: Path, limit: int, rounds: int) -> dict[str, Any]:
    """All three in turn."""
    source = str(models / "mlm+tlm")
    model = xlm.load(source)
    corpora = Corpora(model.tokenizer, model.languages)
    task = task_of(data, limit)
    (stream,) = task.streams(NAME, corpora, seed=0)
    assert isinstance(stream, RowStream)
    rows = [
        {"input_ids": row.wrapped.tokens.tolist(), "labels": row.answer} for row in stream.items
    ]
    tokens = sum(len(row["input_ids"]) for row in rows)
    collator = Collator(model, model.languages["en"])
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder)
        if model.transformer.config.positions == "rotary":
            write_transformers_roformer(model, exported)
        else:
            write_transformers_xlm(model, exported, causal=False)
        programs: dict[str, Callable[[int], Timed]] = {
            "xlm": lambda seed: ours(task, source, corpora, seed),
            "Trainer, padding collator": lambda s: theirs(rows, exported, collator, False, s),
            "Trainer, grouped by length": lambda s: theirs(rows, exported, collator, True, s),
        }
        found: dict[str, list[Timed]] = {name: [] for name in programs}
        for seed in range(rounds):
            for name, program in programs.items():
                found[name].append(program(seed))
    return {
        "examples": len(rows), "tokens": tokens, "rounds": rounds,
        "rows": [line(name, own, found["xlm"], tokens) for name, own in found.items()],
        "epochs": {name: [epoch._asdict() for epoch in own] for name, own in found.items()},
    }  # fmt: skip


def line(name: str, own: list[Timed], xlm_own: list[Timed], tokens: int) -> dict[str, Any]:
    """A row of the table, by medians."""

    def median(epochs: list[Timed], at: int) -> float:
        return statistics.median(epoch[at] for epoch in epochs)

    return {
        "": name,
        "real_tokens_per_second": round(tokens / median(own, 0)),
        "per_processor_second": round(tokens / median(own, 1)),
        "padding, % of cells": round(100 * statistics.fmean(epoch.padding for epoch in own), 1),
        "xlm_is_faster_by": round(median(own, 0) / median(xlm_own, 0), 2),
        "by_processor_time": round(median(own, 1) / median(xlm_own, 1), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--models", type=Path, default=Path("runs/small"))
    parser.add_argument("--folder", type=Path, default=Path("runs/finetuning-speed"))
    parser.add_argument("--limit", type=int, default=4000, help="training pairs")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    folder, quick = arguments.folder, arguments.quick
    if quick:
        arguments.data, arguments.rounds = toy.data(folder), 1
        arguments.models = toy.models(folder / "models")
    figures = measure(arguments.models, arguments.data, arguments.limit, arguments.rounds)
    from importlib.metadata import version

    figures = {"threads": arguments.threads, "transformers": version("transformers"), **figures}
    path = downstream.write("finetuning_speed", figures, trial=quick, folder=folder)
    downstream.show("finetuning_speed", path)


if __name__ == "__main__":
    main()

"""A part of ``benchmarks.speed.pretrain``: whole trainings, ours and that of transformers' Trainer.

Both read the same ids, mask as the papers do, and make updates of one micro-batch; the first
half of each training is left out. Processor time counts the threads that make batches too.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.speed.data import Ids
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.model.config import ModelConfig
from xlm.objectives import MaskedLM
from xlm.run.config import Run
from xlm.run.folder import RunFolder
from xlm.run.launch import sole_training
from xlm.run.session import begin
from xlm.training.allocator import garbage_apart
from xlm.training.loop import train
from xlm.training.optimizers.config import Optimizer
from xlm.training.report import TrainReport
from xlm.training.schedule import Schedule

RATE, CLIP, DROPOUT = 1e-4, 5.0, 0.1
SENTENCE = 999


def text(shape: dict[str, int], num_rows: int) -> np.ndarray:
    """Return the ids of as many rows as one text (int64)."""
    random = np.random.default_rng(0)
    size = num_rows * shape["length"]
    drawn = (random.pareto(1.0, size) * 10).astype(np.int64)
    first = min(14, shape["vocab"] - 2)
    found: np.ndarray = first + np.minimum(drawn, shape["vocab"] - first - 1)
    return found


def ours(shape: dict[str, int], precision: str, updates: int) -> float:
    """Return processor seconds an update of the loop, loader included."""
    ids = text(shape, shape["rows"] * (2 * updates + 2))
    sentence = min(SENTENCE, shape["length"])
    tokenizer = Ids(shape["vocab"])
    corpus = Corpus.from_sentences(
        np.array_split(ids, len(ids) // sentence), language="en", tokenizer=tokenizer
    )
    corpora = Corpora(tokenizer, ["en"], texts={("train", "en"): corpus})
    sizes: dict[str, Any] = {name: shape[name] for name in ("dim", "num_layers", "num_heads")}
    objective = MaskedLM(languages=["en"], rows=shape["rows"], length=shape["length"])
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(
            data="", folder=folder, objectives={"mlm": objective}, steps=2 * updates,
            model=ModelConfig(**sizes, dropout=DROPOUT, attention_dropout=DROPOUT),
            precision=precision,  # type: ignore[arg-type]
            group_size=1, evaluate_every=0, save_every=0, report_every=updates, device="cpu",
            optimizer=Optimizer(max_grad_norm=CLIP), tensorboard=False,
            schedule=Schedule(kind="linear", peak_lr=RATE, warmup_steps=0),
        )  # fmt: skip
        with sole_training(run) as parallel:
            session = begin(run, corpora, RunFolder(run.folder, parallel))
            with session.reporter.journal, garbage_apart() as collect:  # as Session.train

                def report(found: TrainReport) -> None:
                    session.reporter.train(found)
                    times.append(time.process_time())
                    collect()

                train(session.trainer, report=report)
    return (times[1] - times[0]) / updates


def theirs(shape: dict[str, int], precision: str, updates: int) -> float:
    """Return processor seconds an update of ``Trainer`` with XLM and the masking collator."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import (
        DataCollatorForLanguageModeling,
        PreTrainedTokenizerFast,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
        XLMConfig,
        XLMWithLMHeadModel,
    )

    ids = text(shape, shape["rows"] * (2 * updates + 2)).reshape(-1, shape["length"])
    names = {"<s>": 0, "</s>": 1, "<pad>": 2, "<unk>": 3, "<mask>": 5}
    words = {f"w{at}": at for at in range(shape["vocab"]) if at not in names.values()}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel({**names, **words}, unk_token="<unk>")),
        pad_token="<pad>", mask_token="<mask>", unk_token="<unk>",
    )  # fmt: skip
    model = XLMWithLMHeadModel(
        XLMConfig(
            vocab_size=shape["vocab"], emb_dim=shape["dim"], n_layers=shape["num_layers"],
            n_heads=shape["num_heads"], dropout=DROPOUT, attention_dropout=DROPOUT,
            use_lang_emb=False, gelu_activation=True,
        )
    )  # fmt: skip
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step in (updates, 2 * updates):
                times.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder, per_device_train_batch_size=shape["rows"],
                max_steps=2 * updates, learning_rate=RATE, max_grad_norm=CLIP, use_cpu=True,
                bf16=precision == "bf16", logging_steps=updates, save_strategy="no",
                report_to=[], disable_tqdm=True, optim="adamw_torch_fused",
            ),
            train_dataset=[{"input_ids": row.tolist()} for row in ids],
            data_collator=DataCollatorForLanguageModeling(tokenizer, mlm_probability=0.15),
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return (times[1] - times[0]) / updates


def has_trainer() -> bool:
    """Return whether transformers' Trainer can be used."""
    try:
        import accelerate  # type: ignore[import-not-found] # noqa: F401
    except ImportError:
        return False
    return True


def compare(
    name: str,
    shape: dict[str, int],
    precision: str,
    bare: Callable[[], None],
    *,
    updates: int,
    rounds: int,
) -> dict[str, Any]:
    """Train in turn; also say what the loop costs over the ``bare`` step of the same shape."""
    whole, peers, steps = [], [], []
    bare()
    for _ in range(rounds):
        whole.append(ours(shape, precision, updates))
        if has_trainer():
            peers.append(theirs(shape, precision, updates))
        started = time.process_time()
        for _ in range(updates):
            bare()
        steps.append((time.process_time() - started) / updates)
    own, step = statistics.median(whole), statistics.median(steps)
    ratios = [b / a for a, b in zip(whole, peers, strict=False)]
    return {
        "shape": name,
        "precision": precision,
        "ms": round(1000 * own, 1),
        "ms of the bare step": round(1000 * step, 1),
        "loop over the bare step, %": round(100 * (own / step - 1), 1),
        "times as fast as Trainer": round(statistics.median(ratios), 2) if ratios else "",
        "goal": 1.9 if precision == "bf16" else 1.7,
    }

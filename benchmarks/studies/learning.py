"""What makes a small masked model learn: positions, initial weights, rate, optimizer.

    python -m benchmarks.studies.learning --corpora runs/small/data --folder runs/learning

Every arm trains the same layers (128 wide, 4 deep) on the same rows (4 times 8 of 64 tokens an
update, each 8 of English, Hindi or Nepali) for the same number of updates, MLM with 30 % of the
tokens as targets, and is measured on the same held-out cells, 15 % hidden at a time: nats per
predicted token *below* the unigram model, the mean of the three languages, 95 % intervals over
seeds. The preset ``rotary-tiny`` has rotary positions, normal first values, an output transform and
no language vectors. ``BERT`` and ``ModernBERT`` are transformers' own classes of that size with
their own first values, trained on batches of the same streams. Every arm and seed that is finished
is not run again; ``--quick`` tries it on the corpus that ships.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.support import downstream, toy
from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.pretrain import MaskedLM, ModelConfig, Optimizer, Run, Schedule, pretrain
from xlm.rng import Random
from xlm.run.build import build_mixture, held_out_streams, training_streams
from xlm.run.selection import mean_of
from xlm.training.precision import autocast

LANGUAGES = ["en", "hi", "ne"]
ROWS, GROUP, LENGTH, MASK_RATE, WARMUP = 8, 4, 64, 0.3, 100
SHAPE = {"dim": 128, "num_layers": 4, "num_heads": 4, "dropout": 0.0, "attention_dropout": 0.0}
ADAMW = {"kind": "adamw", "betas": (0.9, 0.98), "weight_decay": 0.01, "max_grad_norm": 1.0}


@dataclass(frozen=True)
class Arm:
    """A shape, a peak rate and an optimizer, or a class of transformers."""

    rate: float
    shape: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=lambda: dict(ADAMW))
    peer: str = ""
    rows: int = ROWS
    """Of a micro-batch; with fewer there are more updates, of as many tokens in all."""
    more: float = 1.0
    """Times as many tokens as the others have."""
    mask_rate: float | list[list[float]] = MASK_RATE


NORMAL = {"positions": "rotary", "initialization": "normal"}
TINY = {"preset": "rotary-tiny"}
MUON = {**ADAMW, "kind": "muon", "matrix_lr": 0.02}
LEAN = {**NORMAL, "norm": "pre", "language_embeddings": False}
ARMS = {
    "learned positions (2019)": Arm(1e-3),
    "learned positions, rate 3e-3": Arm(3e-3),
    "learned positions, pre-norm, normal initialization": Arm(
        3e-3, {"norm": "pre", "initialization": "normal"}
    ),
    "rotary": Arm(3e-3, {"positions": "rotary"}),
    "rotary, normal initialization": Arm(3e-3, NORMAL),
    "rotary-tiny": Arm(3e-3, TINY),
    "rotary-tiny, Muon": Arm(4e-3, TINY, MUON),
    "rotary-tiny, pre-norm, Muon": Arm(4e-3, {**TINY, "norm": "pre"}, MUON),
    "rotary-tiny, an eighth more updates": Arm(3e-3, TINY, more=1.125),
    "rotary-tiny, LAMB": Arm(1e-2, TINY, {**ADAMW, "kind": "lamb"}),
    "pre-norm, no output transform, Muon": Arm(4e-3, LEAN, MUON),
    "the same, QK-norm, half the update, falling mask rate": Arm(
        4e-3,
        {**LEAN, "qk_norm": True},
        MUON,
        rows=ROWS // 2,
        mask_rate=[[0, 0.3], [2000, 0.15]],
    ),
    "transformers' BERT": Arm(1e-3, peer="bert"),
    "transformers' ModernBERT": Arm(1e-3, peer="modernbert"),
}


def recipe(arm: Arm, seed: int, steps: int, folder: Path) -> Run:
    """Return the run of an arm; for a peer, the run whose batches it takes."""
    mlm = MaskedLM(
        languages=LANGUAGES, rows=arm.rows, length=LENGTH, frequency_exponent=0,
        mask_rate=arm.mask_rate,
        evaluation_mask_rate=0.15, evaluation_folds=2,
    )  # fmt: skip
    steps = round(steps * arm.more * ROWS / arm.rows)
    return Run(
        data="", folder=str(folder), objectives={"mlm": mlm},
        model=ModelConfig(**SHAPE, **arm.shape), steps=steps, seed=seed, group_size=GROUP,
        optimizer=Optimizer(**arm.optimizer),
        schedule=Schedule(kind="linear", peak_lr=arm.rate, warmup_steps=min(WARMUP, steps // 4)),
        precision="bf16", report_every=100, evaluate_every=steps, save_every=0, tensorboard=False,
        device="cpu",
    )  # fmt: skip


def gains(figures: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return by language the nats below the unigram model, and their mean."""
    own = {
        name.split("/")[1]: math.log(each["unigram_perplexity"]) - each["nats"]
        for name, each in figures.items()
    }
    return {**own, "mean": sum(own.values()) / len(own)}


def peer_model(name: str, corpora: Corpora) -> nn.Module:
    """Return transformers' class of the same width and depth, with its own first weights."""
    import transformers

    sizes = {
        "vocab_size": corpora.tokenizer.vocab_size,
        "hidden_size": SHAPE["dim"],
        "num_hidden_layers": SHAPE["num_layers"],
        "num_attention_heads": SHAPE["num_heads"],
        "pad_token_id": corpora.tokenizer.pad_id,
        "max_position_embeddings": 512,
    }
    if name == "bert":
        config = transformers.BertConfig(
            **sizes,
            intermediate_size=512,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        return transformers.BertForMaskedLM(config)
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id"), 0)
    config = transformers.ModernBertConfig(
        **sizes, **ids, intermediate_size=512, global_attn_every_n_layers=1,
        attn_implementation="sdpa",
    )  # fmt: skip
    return transformers.ModernBertForMaskedLM(config)


def peer_loss(model: nn.Module, batch: Batch, precision: str) -> Tensor:
    """Return the summed cross-entropy of a batch's targets."""
    mask = torch.arange(batch.tokens.shape[1]) < batch.lengths[:, None]
    with autocast(torch.device("cpu"), precision):
        logits = model(input_ids=batch.tokens, attention_mask=mask.long()).logits
        predicted = logits.flatten(0, 1)[batch.predict]
    return functional.cross_entropy(
        predicted.float(), batch.targets, ignore_index=-100, reduction="sum"
    )


def train_peer(arm: Arm, run: Run, corpora: Corpora) -> dict[str, dict[str, float]]:
    """Train a class of transformers on the batches of ``run``; return its held-out figures."""
    torch.manual_seed(run.seed)
    model = peer_model(arm.peer, corpora).train()
    objective = run.objectives["mlm"]
    streams = training_streams(run, corpora)
    mixture = build_mixture(run, streams)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=arm.rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    schedule, cursors = run.schedule.for_run(run.steps), dict.fromkeys(mixture.stream_ids, 0)
    for step in range(run.steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr(step)
        batches = []
        for place in range(GROUP):
            stream = streams["mlm"][(GROUP * step + place) % len(LANGUAGES)]
            k = cursors[stream.id]
            cursors[stream.id] += 1
            random = Random(run.seed, stream.id, k)
            batches.append(objective.collate(stream.examples(k), random, train=True))
        count = sum(batch.count for batch in batches)
        for batch in batches:
            (peer_loss(model, batch, run.precision) / count).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    model.eval()
    figures = {}
    for stream in held_out_streams(run, corpora, "valid")["mlm"]:
        nats = unigram = count = 0.0
        for batch in objective.evaluation_batches(stream, run.seed):
            with torch.no_grad():
                nats += float(peer_loss(model, batch, run.precision))
            unigram += objective.baseline(stream, batch)["unigram_nats"]
            count += batch.count
        figures[stream.id] = {
            "nats": nats / count, "unigram_perplexity": math.exp(unigram / count),
        }  # fmt: skip
    return figures


def measure(arm: Arm, seed: int, steps: int, folder: Path, corpora: Corpora) -> dict[str, Any]:
    """Train and measure one arm with one seed; the seconds are of the processor."""
    run = recipe(arm, seed, steps, folder)
    started = time.process_time()
    if arm.peer:
        figures = train_peer(arm, run, corpora)
    else:
        result = pretrain(run, corpora)
        if result.state.step < run.steps:
            raise SystemExit(f"stopped at update {result.state.step}; the same command resumes")
        figures = result.figures
    return {"gain": gains(figures), "seconds": time.process_time() - started, "figures": figures}


def kept(path: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return the JSON of a file, which ``make`` makes if it is not there."""
    if not path.exists():
        value = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpora", type=Path, default=Path("runs/small/data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/learning"))
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--only", nargs="+", help="arms, or how their names begin")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    folder = arguments.folder
    if arguments.quick:
        arguments.steps, arguments.seeds = 4, [0]
        arguments.corpora = toy.corpora(folder)
    corpora = Corpora.open(arguments.corpora)
    rows = []
    for name in downstream.chosen(arguments.only, ARMS):
        found = []
        for seed in arguments.seeds:
            place = folder / name.replace(",", "").replace("'", "").replace(" ", "-") / str(seed)
            sys.stderr.write(f"== {name}, seed {seed}\n")
            result = kept(
                place.with_suffix(".json"),
                lambda: measure(ARMS[name], seed, arguments.steps, place, corpora),  # noqa: B023
            )
            found.append(result)
            sys.stderr.write(f"{result['gain']}\n")
        mean = mean_of([result["gain"]["mean"] for result in found])
        interval = "" if mean.interval is None else f" ±{mean.interval:.2f}"
        rows.append(
            {
                "shape": name,
                "rate": f"{ARMS[name].rate:g}",
                "nats below unigram": f"{mean.mean:.2f}{interval}",
                **{
                    language: f"{sum(r['gain'][language] for r in found) / len(found):.2f}"
                    for language in LANGUAGES
                    if language in found[0]["gain"]
                },
                "processor s": round(sum(r["seconds"] for r in found) / len(found)),
                "seeds": len(found),
            }
        )
    figures = {
        "rows": rows,
        "steps": arguments.steps,
        "tokens": arguments.steps * GROUP * ROWS * LENGTH,
    }
    trial = arguments.quick or bool(arguments.only)
    path = downstream.write("learning", figures, trial=trial, folder=folder)
    downstream.show("learning", path)


if __name__ == "__main__":
    main()

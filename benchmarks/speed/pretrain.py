"""Pretraining against transformers: the bare step, and end to end against its Trainer, in turn.

    python -m benchmarks.speed.pretrain

Updates (forward, backward, clip, fused AdamW, dropout 0.1) of ours, of transformers' XLM and of its
ModernBERT, A B C A B C, on equal ids, masks and lengths: MLM, CLM (the peer is XLM alone), and TLM
on pairs that differ in length. Ours is measured in the shape of 2019 and in ModernBERT's, whose
layers are smaller: the shape of 2019 stands beside a ModernBERT with as many parameters too. End to
end, the loop with its loader stands beside ``Trainer`` with transformers'
collator on the same ids, and beside our own bare step. The unit is processor time, which other
programs change little, beside the time by the clock; the share of the ceiling is of products in the
same precision, the median of half a second of them in the same run. Needs transformers, end to end
``accelerate`` too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.speed import pretrain_end_to_end
from benchmarks.speed.speed import QUICK, SHAPES, update
from benchmarks.support import record
from xlm.model.config import ModelConfig, flops_per_token
from xlm.model.transformer import Transformer
from xlm.training.precision import autocast

CEILING_SECONDS = 0.5
DROPOUT = 0.1
OBJECTIVES = ("mlm", "clm", "tlm")
AS_LARGE = "ModernBERT as large"
GOALS = {"XLM": 1.75, "ModernBERT": 1.65}
"""How many times as fast an update by MLM is meant to be."""
XLM_15 = {
    "dim": 1024, "num_layers": 12, "num_heads": 8, "vocab": 95_000, "rows": 4, "length": 256,
}  # fmt: skip
ALL = {**SHAPES, "xlm-15": XLM_15}
"""Four programs of xlm-15 take 17 GB, so that it has no fifth one."""
CPU = torch.device("cpu")
Step = Callable[[], None]


@dataclass(frozen=True)
class Rows:
    """A micro-batch: ids ``[B, T]``, lengths ``[B]``, flat predicted cells ``[N]``, targets."""

    tokens: torch.Tensor
    lengths: torch.Tensor
    positions: torch.Tensor
    langs: torch.Tensor
    cells: torch.Tensor
    targets: torch.Tensor

    @property
    def is_padded(self) -> bool:
        return bool((self.lengths < self.tokens.shape[1]).any())

    def labels(self) -> torch.Tensor:
        """Return the targets as transformers wants them."""
        labels = torch.full_like(self.tokens, -100)
        labels.view(-1)[self.cells] = self.targets
        return labels


def rows_of(objective: str, shape: dict[str, int]) -> Rows:
    """Return made-up rows: full ones, or for TLM two sentences, padded to the longest."""
    random = np.random.default_rng(0)
    size = (shape["rows"], shape["length"])
    tokens = torch.from_numpy(random.integers(10, shape["vocab"], size))
    lengths = np.full(size[0], size[1])
    positions = np.tile(np.arange(size[1]), (size[0], 1))
    langs = np.zeros(size, dtype=np.int64)
    if objective == "tlm":  # rows of one bucket: padded a little
        lengths = random.integers(size[1] * 15 // 16, size[1] + 1, size[0])
        for row, half in enumerate(lengths // 2):
            langs[row, half:] = 1
            positions[row, half:] -= half
    real = np.flatnonzero(np.arange(size[1]) < lengths[:, None])
    if objective == "clm":
        cells = real[(real + 1) % size[1] != 0]
        targets = tokens.flatten()[torch.from_numpy(cells) + 1].clone()
    else:
        cells = np.sort(random.permutation(real)[: int(0.15 * len(real)) // 8 * 8])
        targets = tokens.flatten()[torch.from_numpy(cells)].clone()
        tokens.view(-1)[torch.from_numpy(cells)] = 5
    tokens[torch.arange(size[1]) >= torch.from_numpy(lengths)[:, None]] = 2
    return Rows(
        tokens, torch.from_numpy(lengths), torch.from_numpy(positions), torch.from_numpy(langs),
        torch.from_numpy(cells), targets,
    )  # fmt: skip


def config_of(shape: dict[str, int], kind: str) -> ModelConfig:
    """Return our configuration of a shape, as in 2019 or as ModernBERT's."""
    sizes: dict[str, Any] = {name: shape[name] for name in ("dim", "num_layers", "num_heads")}
    if kind == "2019":
        return ModelConfig(**sizes, dropout=DROPOUT, attention_dropout=DROPOUT)
    return ModelConfig(
        preset="modernbert-small", **sizes, feed_forward=3 * shape["dim"] // 2,
        max_positions=max(512, shape["length"]),
    )  # fmt: skip


def ours(shape: dict[str, int], objective: str, precision: str, kind: str) -> Step:
    torch.manual_seed(0)
    model = Transformer(
        config_of(shape, kind), vocab_size=shape["vocab"], num_languages=2, pad_id=2
    )
    rows = rows_of(objective, shape)
    embeds = kind == "2019"

    def loss() -> torch.Tensor:
        with autocast(CPU, precision):
            hidden = model.encode(
                rows.tokens, rows.lengths, rows.positions if embeds else None,
                rows.langs if embeds else None,
                causal=objective == "clm", padded=rows.is_padded,
                cells=None if objective == "clm" else rows.cells,
            )  # fmt: skip
            cells = rows.cells if objective == "clm" else None
            return model.cross_entropy(hidden, cells, rows.targets) / len(rows.targets)

    return update(list(model.parameters()), loss)


def peer_xlm(shape: dict[str, int], objective: str, precision: str) -> Step:
    from transformers import XLMConfig, XLMWithLMHeadModel

    config = XLMConfig(
        vocab_size=shape["vocab"], emb_dim=shape["dim"], n_layers=shape["num_layers"],
        n_heads=shape["num_heads"], dropout=DROPOUT, attention_dropout=DROPOUT, n_langs=2,
        use_lang_emb=True, gelu_activation=True, causal=objective == "clm",
        max_position_embeddings=max(512, shape["length"]),
    )  # fmt: skip
    torch.manual_seed(0)
    return _peer(XLMWithLMHeadModel(config).train(), rows_of(objective, shape), precision, True)


def peer_modernbert(
    shape: dict[str, int], objective: str, precision: str, inner_dim: int | None = None
) -> Step:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    own = config_of(shape, "modern")
    config = ModernBertConfig(
        vocab_size=shape["vocab"], hidden_size=own.dim, num_hidden_layers=own.num_layers,
        num_attention_heads=own.num_heads, intermediate_size=inner_dim or own.inner_dim,
        max_position_embeddings=own.max_positions, local_attention=own.window,
        global_attn_every_n_layers=own.global_every, pad_token_id=2, bos_token_id=0,
        eos_token_id=1, cls_token_id=0, sep_token_id=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = ModernBertForMaskedLM(config).train()
    return _peer(model, rows_of(objective, shape), precision, False)


def _peer(model: Any, rows: Rows, precision: str, is_xlm: bool) -> Step:
    given: dict[str, Any] = {"input_ids": rows.tokens, "labels": rows.labels()}
    if is_xlm:
        given |= {"langs": rows.langs, "position_ids": rows.positions, "lengths": rows.lengths}
    elif rows.is_padded:
        given["attention_mask"] = torch.arange(rows.tokens.shape[1]) < rows.lengths[:, None]

    def loss() -> torch.Tensor:
        with autocast(CPU, precision):
            value: torch.Tensor = model(**given).loss
            return value

    return update(list(model.parameters()), loss)


def ceiling(precision: str, seconds: float = CEILING_SECONDS) -> float:
    """Return the median operations a processor second of products of half a second."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    size = 1024 if seconds >= CEILING_SECONDS else 64
    a, b = (torch.rand(size, size).to(dtype) for _ in range(2))
    speeds, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(speeds) < 3:
        started = time.process_time()
        _ = a @ b
        speeds.append(2 * size**3 / max(time.process_time() - started, 1e-6))
    return statistics.median(speeds)


def timed(step: Step) -> tuple[float, float]:
    """Return the processor seconds of a call, and those of the clock."""
    started, clock = time.process_time(), time.perf_counter()
    step()
    return time.process_time() - started, time.perf_counter() - clock


def compare(
    name: str, shape: dict[str, int], objective: str, precision: str, rounds: int, seconds: float
) -> list[dict[str, Any]]:
    """Time all programs in turn; return a row for each of our two shapes."""
    programs: dict[str, Step] = {
        "2019": ours(shape, objective, precision, "2019"),
        "modern": ours(shape, objective, precision, "modern"),
        "XLM": peer_xlm(shape, objective, precision),
    }
    if objective != "clm":  # ModernBERT has no causal form
        programs["ModernBERT"] = peer_modernbert(shape, objective, precision)
        if shape["dim"] < XLM_15["dim"]:
            # three matrices of 8 d²/3 instead of two of 4 d²
            width = round(shape["dim"] / 3) * 8
            programs[AS_LARGE] = peer_modernbert(shape, objective, precision, width)
    found: dict[str, list[float]] = {own: [] for own in programs}
    clock: dict[str, list[float]] = {own: [] for own in programs}
    tops = []
    for step in [*programs.values()] * 2:  # moments, and pages that are used again
        step()
    for _ in range(rounds):
        tops.append(ceiling(precision, seconds))
        for own, step in programs.items():
            busy, seconds_by_the_clock = timed(step)
            found[own].append(busy)
            clock[own].append(seconds_by_the_clock)
    rows = rows_of(objective, shape)
    tokens = int(rows.lengths.sum())
    made = []
    for kind, other in (("2019", "XLM"), ("modern", "ModernBERT")):
        needed = tokens * flops_per_token(
            config_of(shape, kind), shape["vocab"], shape["length"], len(rows.targets) / tokens,
            causal=objective == "clm",
        )  # fmt: skip
        own = statistics.median(found[kind])
        row: dict[str, Any] = {
            "shape": f"{name}, {kind}", "objective": objective, "precision": precision,
            "ms": round(1000 * own, 1),
            "ms by the clock": round(1000 * statistics.median(clock[kind]), 1),
            "real tokens/s": round(tokens / own),
            "share of the ceiling, %": round(100 * needed / own / statistics.median(tops), 1),
        }  # fmt: skip
        for peer in ("XLM", "ModernBERT", AS_LARGE):
            if peer in found and (kind == "2019" or peer == other):
                ratios = (b / a for a, b in zip(found[kind], found[peer], strict=True))
                row[f"times as fast as {peer}"] = round(statistics.median(ratios), 2)
        row["goal"] = GOALS[other] if objective == "mlm" else ""
        made.append(row)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", choices=ALL, nargs="+", default=[*SHAPES])
    parser.add_argument("--precisions", choices=["fp32", "bf16"], nargs="+")
    parser.add_argument("--objectives", choices=OBJECTIVES, nargs="+", default=[*OBJECTIVES])
    parser.add_argument("--rounds", type=int, default=10, help="updates of each program")
    parser.add_argument("--updates", type=int, default=20, help="end to end: updates of a round")
    parser.add_argument("--bare", action="store_true", help="no whole trainings")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", default="pretrain", help="the name of the JSON of results")
    parser.add_argument("--quick", action="store_true", help="try it on a tiny shape; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    shapes = {"quick": QUICK} if arguments.quick else {n: ALL[n] for n in arguments.shapes}
    precisions = arguments.precisions or (["fp32"] if arguments.quick else ["fp32", "bf16"])
    rounds, seconds = (1, 0.01) if arguments.quick else (arguments.rounds, CEILING_SECONDS)
    steps, ends = [], []
    for name, shape in shapes.items():
        for precision in precisions:
            for objective in arguments.objectives:
                steps += compare(name, shape, objective, precision, rounds, seconds)
                for row in steps[-2:]:
                    sys.stdout.write(f"{row}\n")
            if arguments.bare:
                continue
            bare = ours(shape, "mlm", precision, "2019")
            updates = 2 if arguments.quick else arguments.updates
            ends.append(
                pretrain_end_to_end.compare(
                    name, shape, precision, bare, updates=updates, rounds=max(rounds // 3, 1)
                )
            )
            sys.stdout.write(f"{ends[-1]}\n")
    if not arguments.quick:
        name = arguments.record
        record.write(name, {"threads": arguments.threads, "rows": steps})
        if ends:
            record.write(f"{name}_end_to_end", {"threads": arguments.threads, "rows": ends})


if __name__ == "__main__":
    main()

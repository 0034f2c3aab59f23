"""Speed, memory and utilization of a preset on one GPU: MLM, CLM and TLM in bf16 and fp16.

    python -m benchmarks.speed.gpu --preset xlm-15

Random ids in place of text, so that nothing need be carried to the machine: 95,000 ids, rows of
256 tokens, 64 rows an update, dropout 0.1; pairs of 10 to 60 tokens a side for TLM. Real tokens a
second are of the steady state (the median report of the second half); utilization is needed
arithmetic over the matrix-product rate measured in the same run (see xlm.training.speed). Needs
CUDA; ``--quick`` tries the script with a tiny model on any machine.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.support import record
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.model.config import ModelConfig
from xlm.objective import Objective
from xlm.objectives.causal import CausalLM
from xlm.objectives.masked import MaskedLM
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer, Run, Schedule
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.training.journal import read_metrics


class RandomIds(Tokenizer):
    """Ids without text."""

    end_id, pad_id, unk_id, mask_id = 1, 2, 3, 4
    special_ids = frozenset(range(5))

    def __init__(self, vocab_size: int):
        self.vocab_size = vocab_size

    @property
    def digest(self) -> str:
        return f"random ids {self.vocab_size}"

    def encode(self, text: str) -> list[int]:
        raise NotImplementedError

    def decode(self, ids: Any) -> str:
        raise NotImplementedError

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.json").write_text("{}")


def corpora(vocab_size: int, num_sentences: int) -> Corpora:
    """Two languages of random sentences, and their pairs."""
    tokenizer = RandomIds(vocab_size)
    generator = np.random.default_rng(0)
    sides = [
        Corpus.from_sentences(
            [
                generator.integers(5, vocab_size, size)
                for size in generator.integers(10, 60, num_sentences)
            ],
            language=language,
            tokenizer=tokenizer,
        )
        for language in ("aa", "bb")
    ]
    texts = {("train", side.language): side for side in sides}
    return Corpora(tokenizer, ["aa", "bb"], texts=texts, pairs={("train", "aa-bb"): Pairs(*sides)})


def objectives(rows: int) -> dict[str, Objective]:
    """Return the objectives, each in updates of ``rows * 256`` tokens."""
    return {
        "mlm": MaskedLM(languages=["aa", "bb"], rows=rows, length=256),
        "clm": CausalLM(languages=["aa", "bb"], rows=rows, length=256),
        "tlm": MaskedLM(pairs=["aa-bb"], tokens=rows * 256, length=256, num_lengths=8),
    }


QUICK = ModelConfig(dim=16, num_layers=1, num_heads=2)
"""The model that ``--quick`` tries."""


def measure(
    name: str, objective: Objective, model: ModelConfig, precision: str, compiled: bool,
    steps: int, data: Corpora, device: str,
) -> dict[str, Any]:  # fmt: skip
    """Measure the steady state of one objective in one precision."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as folder:
        pretrain(
            Run(
                data="random ids",
                folder=folder,
                objectives={name: objective},
                model=model,
                steps=steps,
                group_size=1,
                optimizer=Optimizer(),
                schedule=Schedule(warmup_steps=min(100, steps // 2)),
                precision=precision,  # type: ignore[arg-type]
                compile=compiled,
                report_every=min(20, steps // 2),
                evaluate_every=0,
                save_every=0,
                tensorboard=False,
                device=device,
            ),
            data,
        )
        lines = [x for x in read_metrics(Path(folder) / "metrics.jsonl") if x["event"] == "train"]
    steady = lines[len(lines) // 2 :]
    return {
        "objective": name,
        "precision": precision,
        "compiled": compiled,
        "tokens_per_second": round(statistics.median(x["tokens_per_second"] for x in steady)),
        "utilization": round(statistics.median(x["utilization"] for x in steady), 4),
        "memory_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2)
        if device == "cuda"
        else 0,
        "loss_first_and_last": [lines[0]["loss"][name], lines[-1]["loss"][name]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="xlm-15")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--vocab", type=int, default=95000)
    parser.add_argument("--quick", action="store_true", help="try it, without CUDA; only printed")
    arguments = parser.parse_args()
    if arguments.quick:
        data = corpora(100, 200)
        rows = [
            measure(name, objective, QUICK, "fp32", False, 4, data, "cpu")
            for name, objective in objectives(2).items()
        ]
    else:
        if not torch.cuda.is_available():
            sys.exit("gpu.py: no CUDA device here; run it on a machine with a GPU, or try --quick")
        data = corpora(arguments.vocab, 50000)
        model = ModelConfig(preset=arguments.preset, attention_dropout=0.0)
        rows = [
            measure(name, objective, model, precision, compiled, arguments.steps, data, "cuda")
            for compiled in (False, True)
            for precision in ("bf16", "fp16")
            for name, objective in objectives(64).items()
        ]
        record.write(f"gpu-{arguments.preset}", {"preset": arguments.preset, "rows": rows})
    for row in rows:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

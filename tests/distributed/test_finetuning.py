"""Fine-tuning on several processes: the figures of one, from a folder that rank 0 alone reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.distributed.pool import Pool
from tests.interchange import peers
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.learn import learn_sentencepiece

WORDS = "the cat river window mountains of men house water stone".split()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, labelled sentences, trees and questions."""
    folder = tmp_path_factory.mktemp("source")
    tokenizer = learn_sentencepiece(peers.lines(), 500)
    shape = ModelConfig(
        dim=16, num_layers=1, num_heads=2, max_positions=64, dropout=0.0, attention_dropout=0.0
    )
    torch.manual_seed(7)
    model = Transformer(
        shape, vocab_size=tokenizer.vocab_size, num_languages=2, pad_id=tokenizer.pad_id
    )
    PretrainedModel(model, tokenizer, {"en": 0, "hi": 1}).save_pretrained(folder / "model")
    random = np.random.default_rng(0)
    rows, trees, paragraphs = [], [], []
    for number in range(23):
        words = random.choice(WORDS, int(random.integers(2, 9))).tolist()
        rows.append(f"{'ab'[words[0] > 'm']}\t{' '.join(words)}\n")
        heads = [int(random.integers(0, at)) if at > 1 else 0 for at in range(1, len(words) + 1)]
        heads = [max(head, 1) if at else 0 for at, head in enumerate(heads)]
        trees += [
            f"{at}\t{word}\t_\tNOUN\t_\t_\t{head}\t{'dep' if head else 'root'}\t_\t_\n"
            for at, (word, head) in enumerate(zip(words, heads, strict=True), 1)
        ] + ["\n"]  # fmt: skip
        context = " ".join(random.choice(WORDS, 40))
        answer = {"text": context.split()[0], "answer_start": 0}
        asked = {"id": str(number), "question": "which ?", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [asked]})
    (folder / "rows.tsv").write_text("".join(rows))
    (folder / "trees.conllu").write_text("".join(trees))
    squad = {"data": [{"title": "one", "paragraphs": paragraphs}]}
    (folder / "squad.json").write_text(json.dumps(squad))
    return folder


def settings(source: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    def task(name: str, file: str, **fields: Any) -> dict[str, Any]:
        own = {"en": str(source / file)}
        files = {"train": own, "valid": own, "test": {"hi": str(source / file)}}
        return {"class_path": name, "init_args": {"files": files, "rows": 4, **fields}}

    return {
        "model": str(source / "model"),
        "folder": str(folder),
        "tasks": {
            "topic": task("Classification", "rows.tsv", length=32, readout={"dropout": 0.0}),
            "dep": task("Parsing", "trees.conllu", length=32, arc_size=8, label_size=4,
                        readout={"dropout": 0.0}),
            "qa": task("Answering", "squad.json", length=40, longest_question=8, stride=9,
                       readout={"dropout": 0.0}),
        },
        "epochs": 1,
        "group_size": 2,
        "seeds": [0, 1],
        "average": 0.5,
        "schedule": {"kind": "constant", "peak_lr": 5e-3, "warmup_steps": 0},
        "device": "cpu",
        **changes,
    }  # fmt: skip


def test_two_processes_give_the_figures_of_one(pool: Pool, source: Path, tmp_path: Path) -> None:
    (one,) = pool.run("tuned", 1, settings=settings(source, tmp_path / "one"))
    two = pool.run("tuned", 2, settings=settings(source, tmp_path / "two"))
    assert two[0] == two[1]
    assert set(one["streams"]) == {"topic/hi", "dep/hi", "qa/hi"} == set(two[0]["streams"])
    for name, rules in one["streams"].items():
        for rule, own in rules.items():
            assert two[0]["streams"][name][rule]["values"] == pytest.approx(own["values"]), name
    assert (tmp_path / "two/report.json").exists()
    again = pool.run("tuned", 2, settings=settings(source, tmp_path / "two"))
    assert again == two


def test_what_rank_0_finds_in_a_folder_ends_all(pool: Pool, source: Path, tmp_path: Path) -> None:
    pool.run("tuned", 2, settings=settings(source, tmp_path / "run", seeds=[0]))
    statuses, _, errors = pool.attempt(
        "tuned", 2, settings=settings(source, tmp_path / "run", seeds=[0], epochs=2)
    )
    assert 0 not in statuses and "holds a run of another recipe: steps" in "".join(errors)

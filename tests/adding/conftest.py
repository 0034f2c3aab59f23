"""A small model, a language that was added to it, and a task that it learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.adding.made import NEW, WORDS, lines, settings, tuned
from xlm.add_language import add_language
from xlm.finetune import finetune
from xlm.model.adapters import AdapterConfig
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.learn import learn_sentencepiece


@pytest.fixture(scope="package")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of en and hi that was never trained, with language vectors and a begin symbol."""
    folder = tmp_path_factory.mktemp("model") / "model"
    text = lines(60, "the language is new and this text is small as a house".split())
    tokenizer = learn_sentencepiece(text, 284, layout={"begins": 1, "num_separators": 2})
    torch.manual_seed(0)
    config = ModelConfig(
        dim=16, num_layers=2, num_heads=2, max_positions=32, dropout=0.0, attention_dropout=0.0
    )
    transformer = Transformer(
        config, vocab_size=tokenizer.vocab_size, num_languages=2, pad_id=tokenizer.pad_id
    )
    PretrainedModel(transformer, tokenizer, {"en": 0, "hi": 1}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="package")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "ne.txt"
    path.write_text("".join(f"{line}\n" for line in lines(450, WORDS)), encoding="utf-8")
    return path


@pytest.fixture(scope="package")
def added(pretrained: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("added") / "en-ne"
    config = settings(
        pretrained, folder, text, positions="copy", start="focus",
        adapters=AdapterConfig(size=4), old_text={"en": str(text)},
    )  # fmt: skip
    report = add_language(config)
    assert report["proof"]["unchanged"] and report["proof"]["rows"]["en"]["rows"] == 450
    assert report["tries"][0]["start_rule"] == "focus"
    assert report["likeness_measured"] and "unlikeness" in report["tries"][0]["signs"]
    assert report["old"]["nats"] > 0 and report["chosen"]["zero_shot"]
    assert not report["converged"]  # three updates teach nothing, and the guard says so
    assert any(line.startswith("not learnt") for line in report["tries"][0]["fired"])
    assert sum(report["tries"][0]["start"].values()) == 284
    assert json.loads((folder / "report.json").read_text()) == report
    before = (folder / "report.json").stat().st_mtime_ns
    assert add_language(config) == report  # nothing is done again
    assert (folder / "report.json").stat().st_mtime_ns == before
    return folder


@pytest.fixture(scope="package")
def topic(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of a task in English, in a folder with its rows and some of the new language."""
    folder = tmp_path_factory.mktemp("topic")
    rows = folder / "rows.tsv"
    rows.write_text(
        "".join(
            f"{'ab'[at % 2]}\tthis is a {'new' if at % 2 else 'small'} house\n" for at in range(12)
        )
    )
    (folder / "new.tsv").write_text("".join(f"{kind}\t{NEW}\n" for kind in "abab"))
    finetune(tuned(pretrained, folder, rows, en=str(rows)))
    return folder / "seed-0" / "model"

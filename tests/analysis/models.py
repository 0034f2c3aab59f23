"""A model of random weights over a vocabulary of the corpus that ships, for every test here."""

from __future__ import annotations

import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from xlm import sample
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

LANGUAGES = {"en": 0, "hi": 1, "ne": 2}


@lru_cache
def tokenizer() -> Tokenizer:
    """A unigram vocabulary of 600 pieces."""
    with tempfile.TemporaryDirectory() as folder:
        text = {language: f"sample:train.{language}.txt" for language in LANGUAGES}
        prepare(
            Prepare(
                folder=f"{folder}/data", text=Texts(train=text),
                vocabulary=Vocabulary(kind="unigram", size=600), workers=1,
            )
        )  # fmt: skip
        return load_tokenizer(Path(folder) / "data/tokenizer")


def tiny(**fields: Any) -> PretrainedModel:
    """An encoder of two layers with vectors of languages."""
    settings = {"dim": 16, "num_layers": 2, "num_heads": 2, "max_positions": 256, **fields}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformer = Transformer(
            ModelConfig(**settings), vocab_size=tokenizer().vocab_size, num_languages=3,
            pad_id=tokenizer().pad_id,
        )  # fmt: skip
    return PretrainedModel(transformer.eval(), tokenizer(), dict(LANGUAGES))


def lines(language: str, num: int = 12, split: str = "valid") -> list[str]:
    """Sentences of the corpus that ships; the same line says the same in each language."""
    text = sample.path(f"{split}.{language}.txt").read_text(encoding="utf-8")
    return text.splitlines()[:num]

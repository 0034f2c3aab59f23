"""Random tiny models and tokenizers learnt on the sample, for interchange.py."""

from __future__ import annotations

import functools
import io
from typing import Any

import sentencepiece
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, normalizers, pre_tokenizers, trainers

from xlm import sample
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.normalize import normalize
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer, learn_sentencepiece
from xlm.text.tokenizers.sentencepiece import SentencePieceTokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

LANGUAGES = {"en": 0, "hi": 1, "ne": 2}


@functools.cache
def lines() -> tuple[str, ...]:
    """Normalized lines of the sample in en, hi and ne."""
    texts = (sample.path(f"train.{name}.txt").read_text(encoding="utf-8") for name in LANGUAGES)
    return tuple(normalize(line) for text in texts for line in text.splitlines()[:300])


@torch.no_grad()
def shake(model: Any, seed: int = 0, scale: float = 0.2) -> Any:
    """Move every parameter away from where it starts: biases, normalizations, rows of padding."""
    random = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        noise = scale * torch.randn(value.shape, generator=random)
        value.copy_(noise + 1 if "norm" in name.lower() and name.endswith("weight") else noise)
    return model.eval()


def ours(tokenizer: Tokenizer, languages: dict[str, int], **shape: Any) -> PretrainedModel:
    """A random model of ours."""
    sizes: dict[str, Any] = {"dim": 32, "num_layers": 2, "num_heads": 4, "max_positions": 96}
    config = ModelConfig(**{**sizes, **shape})
    model = Transformer(
        config,
        vocab_size=tokenizer.vocab_size,
        num_languages=len(languages) or 1,
        pad_id=tokenizer.pad_id,
    )
    return PretrainedModel(shake(model), tokenizer, languages)


@functools.cache
def fast() -> FastBpeTokenizer:
    return learn_fastbpe_tokenizer(lines(), 400)


@functools.cache
def pieces(kind: str) -> SentencePieceTokenizer:
    return learn_sentencepiece(lines(), 700, kind=kind)  # type: ignore[arg-type]


@functools.cache
def unigram() -> bytes:
    """A SentencePiece model with XLM-R's settings."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines()), model_writer=written, minloglevel=2, vocab_size=700,
        character_coverage=0.999, model_type="unigram",
    )  # fmt: skip
    return written.getvalue()


@functools.cache
def word_pieces(lowercase: bool) -> bytes:
    """A vocab.txt as BERT has it."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    backend.train_from_iterator(
        lines(),
        trainers.WordPieceTrainer(vocab_size=700, show_progress=False, special_tokens=specials),
    )
    ids = backend.get_vocab()
    return "".join(f"{piece}\n" for piece in sorted(ids, key=ids.__getitem__)).encode()

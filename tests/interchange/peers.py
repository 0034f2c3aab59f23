"""Tiny random models of transformers, tokenizers learnt on the sample, and what compares them."""

from __future__ import annotations

import functools
import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from xlm import sample
from xlm.batch import Batch
from xlm.model.pretrained import PretrainedModel
from xlm.text.normalize import normalize

TOLERANCE = 1e-5
SIZES = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
}  # fmt: skip


@functools.cache
def lines() -> tuple[str, ...]:
    """Normalized lines of the sample in en, hi and ne."""
    found = []
    for language in sample.LANGUAGES:
        text = sample.path(f"train.{language}.txt").read_text(encoding="utf-8")
        found += [normalize(line) for line in text.split("\n") if line][:300]
    return tuple(found)


def real_lines(shared: Path, language: str, num: int) -> list[str]:
    """The first lines of real text, normalized; skips where it is absent."""
    path = shared / "data/mono" / language / "train.txt"
    if not path.exists():
        pytest.skip(f"needs {path.name} of real text in {language}")
    with open(path, encoding="utf-8") as file:
        return [normalize(line) for line in itertools.islice(file, num)]


@functools.cache
def unigram(**changes: Any) -> bytes:
    """A SentencePiece model as XLM-R's was made: unigram, NFKC, <unk> <s> </s> first."""
    written = io.BytesIO()
    settings = {"vocab_size": 700, "character_coverage": 0.999, "model_type": "unigram"}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines()), model_writer=written, minloglevel=2,
        **{**settings, **changes},
    )  # fmt: skip
    return written.getvalue()


@functools.cache
def wordpieces(lowercase: bool = False) -> bytes:
    """A vocab.txt of BERT's kind."""
    backend = Backend(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=700, show_progress=False, special_tokens=specials
    )
    backend.train_from_iterator(lines(), trainer)
    ids = backend.get_vocab()
    return "".join(f"{piece}\n" for piece in sorted(ids, key=ids.__getitem__)).encode()


GEMMA_PAIRS = {
    # both are met: the template of the model's authors, and that of transformers' own class
    "shared": "<bos> $A <eos> $B:1 <eos>:1",
    "apart": "<bos> $A <eos> <bos>:1 $B:1 <eos>:1",
}


@functools.cache
def gemma(pair: str = "apart") -> bytes:
    """A tokenizer.json of mmBERT's kind: Gemma's BPE with a metaspace and bytes, and a mask."""
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    letters = [f"<0x{byte:02X}>" for byte in range(256)]
    backend = Backend(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    backend.normalizer = normalizers.Replace(" ", "\u2581")
    backend.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    backend.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=specials + letters, show_progress=False, max_token_length=12
    )
    backend.train_from_iterator(lines(), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", pair=GEMMA_PAIRS[pair],
        special_tokens=[("<eos>", 1), ("<bos>", 2)],
    )  # fmt: skip
    description = json.loads(backend.to_str())
    added = description["added_tokens"]
    description["added_tokens"] = [token for token in added if token["content"] in specials]
    return json.dumps(description).encode()


def write(folder: Path, **files: bytes | dict[str, Any]) -> Path:
    """Files by name, ``_`` in it standing for a point."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        if isinstance(content, dict):
            content = json.dumps(content).encode()
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


@torch.no_grad()
def shake(peer: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Every parameter away from where it starts: biases, normalizations and unused rows too."""
    random = torch.Generator().manual_seed(seed)
    for name, value in peer.named_parameters():
        noise = torch.randn(value.shape, generator=random)
        value.copy_(1 + 0.2 * noise if "norm" in name.lower() and "weight" in name else 0.2 * noise)
    return peer.eval()


def batch(model: PretrainedModel, num_pairs: int = 3) -> Batch:
    """Sentences and pairs of different lengths, padded together."""
    texts = lines()
    firsts = [texts[at] for at in (0, 310, 620)][:num_pairs]
    seconds = [texts[at] for at in (5, 320, 621)][:num_pairs]
    return model.batch(firsts, seconds=seconds)


def feed(given: Batch, *, token_types: bool) -> dict[str, torch.Tensor]:
    """The same batch for a peer: an attention mask for lengths, no positions."""
    real = torch.arange(given.tokens.shape[1]) < given.lengths[:, None]
    inputs = {"input_ids": given.tokens, "attention_mask": real.long()}
    if token_types:
        inputs["token_type_ids"] = given.segments
    return inputs


def difference(model: PretrainedModel, peer: Any, given: Batch, *, token_types: bool) -> float:
    """The largest of any logit and any hidden state at a real token, the logits being no zeros."""
    inputs = feed(given, token_types=token_types)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        hidden = model.encode(given)
        found = peer(**inputs, output_hidden_states=True)
        logits = model.transformer.predict(hidden, real.flatten().nonzero()[:, 0])
        expected = found.logits if hasattr(found, "logits") else found.prediction_logits
        assert float(expected[real].std()) > 0.5, "too weak to tell models apart"
        worst = (logits - expected[real]).abs().max()
        return float(torch.maximum(worst, (hidden - found.hidden_states[-1])[real].abs().max()))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file of a folder."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

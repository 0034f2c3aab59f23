"""Compare an encoder-decoder with the same model in transformers: memory, logits, ids of lines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from xlm import sample
from xlm.interchange.tokenizer_parity import Lines, compare_ids
from xlm.model.asking import layout_of
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.normalize import normalize
from xlm.text.tokenizers.published_tokens import language_of

_ROWS, _LENGTH = 4, 24
_Batch = tuple[str, Tensor, Tensor]


@torch.no_grad()
def compare_translators(
    model: PretrainedModel, transformer: Transformer, peer: Any
) -> tuple[float, float, int, list[str]]:
    """Return the largest differences of logits and of memory, cells, and the names of batches.

    ``transformer`` is the model's, in fp32. Full rows, padded rows and a whole window are read on
    both sides, sources and targets being random.
    """
    logits, memory, cells, names = 0.0, 0.0, 0, []
    random = torch.Generator().manual_seed(0)
    most = transformer.config.max_positions
    for (name, source, lengths), (_, target, sizes) in zip(
        _batches(model, most, random), _batches(model, most, random), strict=True
    ):
        names.append(name)
        read = torch.arange(source.shape[1]) < lengths[:, None]
        written = torch.arange(target.shape[1]) < sizes[:, None]
        own = transformer.encode(source, lengths)
        hidden = transformer.decode(target, sizes, own, lengths)
        flat = written.flatten().nonzero()[:, 0]
        found = transformer.predict(hidden, flat, side="decoder")
        theirs = peer(
            input_ids=source, attention_mask=read.long(), decoder_input_ids=target,
            decoder_attention_mask=written.long(),
        )  # fmt: skip
        memory = _worst(memory, own[read], theirs.encoder_last_hidden_state[read])
        logits = _worst(logits, found, theirs.logits[written])
        cells += len(flat)
    return logits, memory, cells, names


def _batches(model: PretrainedModel, most: int, random: torch.Generator) -> Iterator[_Batch]:
    length = min(_LENGTH, most)
    pad_id, size = model.tokenizer.pad_id, model.tokenizer.vocab_size
    allowed = torch.tensor([at for at in range(size) if at != pad_id])
    for name, lengths in (
        ("full rows", [length] * _ROWS),
        ("padding", [max(1, length - 5 * row) for row in range(_ROWS)]),
        ("a whole window", [most]),
    ):
        sizes = torch.tensor(lengths)
        drawn = torch.randint(len(allowed), (len(sizes), max(lengths)), generator=random)
        tokens = allowed[drawn]
        tokens[torch.arange(max(lengths)) >= sizes[:, None]] = pad_id
        yield name, tokens, sizes


def compare_sources(model: PretrainedModel, peer: Any) -> Lines:
    """Compare the encoder's rows of the sample's lines, in the language that the peer is set to."""
    layout, tokenizer = layout_of(model), model.tokenizer
    lines = [
        normalize(line)
        for language in sample.LANGUAGES
        for line in sample.path(f"train.{language}.txt").read_text(encoding="utf-8").splitlines()
    ]
    token = str(peer.src_lang)
    language = language_of(token) or token
    ours = [
        layout.source_row(tokenizer, torch.tensor(row).numpy(), language, language).tokens.tolist()
        for row in tokenizer.encode_lines(lines)
    ]
    what = f"{type(peer).__name__} with src_lang {token}"
    return compare_ids(what, lines, ours, peer(lines)["input_ids"])


def _worst(so_far: float, ours: Tensor, theirs: Tensor) -> float:
    found = float((ours - theirs).abs().max())
    return max(so_far, found) if found == found else float("inf")

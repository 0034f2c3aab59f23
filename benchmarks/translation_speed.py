"""Training and decoding of an encoder-decoder against transformers' on this machine, in turn.

    python benchmarks/translation_speed.py

The peer is MarianMTModel, the translation model of transformers, with as many layers, heads and
units: post-norm, one table of words for both sides (ours has one a side). Weights are random, the
same sentences of like length go to both.

- Training: whole updates (forward, backward, clip, fused AdamW) on padded pairs; real tokens of
  both sides per second.
- Decoding: beam 5 with kept keys and values; the end symbol is kept from both, so that each writes
  as many tokens, and tokens of the best hypotheses per second are counted.

A B A B ..., the ratio of medians pair by pair is what counts. Needs transformers.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import record
import torch
from speed import update

from xlm.batch import IGNORED, Batch
from xlm.model.config import ModelConfig
from xlm.model.generate import Generation, generate
from xlm.model.transformer import Transformer
from xlm.objectives.translation import Translation

END, PAD = 1, 2
SHAPE = {"dim": 256, "num_layers": 4, "num_heads": 4, "vocab": 8000, "rows": 64}
LENGTHS = (18, 26)
"""Tokens of the shortest and the longest sentence of a batch, end symbols included."""
WRITTEN = 24
"""Tokens that are decoded, after the first symbol."""


def sentences(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows ``</s> s </s>`` with padding, int64 ``[B, T]``, and their lengths ``[B]``."""
    generator = np.random.default_rng(seed)
    lengths = torch.from_numpy(generator.integers(LENGTHS[0], LENGTHS[1] + 1, SHAPE["rows"]))
    tokens = torch.from_numpy(generator.integers(10, SHAPE["vocab"], (SHAPE["rows"], LENGTHS[1])))
    tokens[:, 0] = END
    for row, length in enumerate(lengths.tolist()):
        tokens[row, length - 1] = END
        tokens[row, length:] = PAD
    return tokens, lengths


def rows_of(tokens: torch.Tensor, lengths: torch.Tensor, language: int, **settings: Any) -> Batch:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Batch(
        tokens=tokens, lengths=lengths, langs=torch.full_like(tokens, language),
        positions=torch.arange(tokens.shape[1]).expand_as(tokens),
        segments=torch.zeros_like(tokens), rows=torch.arange(len(tokens)),
        **{"predict": nothing, "targets": nothing, **settings},
    )  # fmt: skip


def pairs() -> Batch:
    """A batch of ``Translation``."""
    source, (target, lengths) = rows_of(*sentences(0), language=0), sentences(1)
    inputs, shorter = target[:, :-1].contiguous(), lengths - 1
    predict = (torch.arange(inputs.shape[1]) < shorter[:, None]).flatten().nonzero()[:, 0]
    targets = target[:, 1:].flatten()[predict]
    return rows_of(inputs, shorter, 1, predict=predict, targets=targets, source=source)


def our_model() -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(
        dim=SHAPE["dim"], num_layers=SHAPE["num_layers"], num_heads=SHAPE["num_heads"],
        num_decoder_layers=SHAPE["num_layers"], attention_dropout=0.0,
    )  # fmt: skip
    return Transformer(config, vocab_size=SHAPE["vocab"], num_languages=2, pad_id=PAD)


def peer_model() -> Any:
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=SHAPE["vocab"], d_model=SHAPE["dim"], encoder_layers=SHAPE["num_layers"],
        decoder_layers=SHAPE["num_layers"], encoder_attention_heads=SHAPE["num_heads"],
        decoder_attention_heads=SHAPE["num_heads"], encoder_ffn_dim=4 * SHAPE["dim"],
        decoder_ffn_dim=4 * SHAPE["dim"], dropout=0.1, attention_dropout=0.0,
        activation_function="gelu", max_position_embeddings=512, pad_token_id=PAD,
        eos_token_id=END, decoder_start_token_id=END, forced_eos_token_id=None,
        scale_embedding=False,
    )  # fmt: skip
    return MarianMTModel(config)


def train_ours() -> Callable[[], None]:
    model, batch = our_model().train(), pairs()
    # a decoder's model never uses the encoder's output bias
    parameters = [p for n, p in model.named_parameters() if n != "encoder.output_bias"]
    objective = Translation(pairs=["a-b"])
    return update(parameters, lambda: objective.loss(model, None, batch).total / batch.count)


def train_peer() -> Callable[[], None]:
    model, batch = peer_model().train(), pairs()
    assert batch.source is not None
    labels = torch.full_like(batch.tokens, IGNORED)
    labels.view(-1)[batch.predict] = batch.targets
    source = batch.source.tokens
    arguments = {
        "input_ids": source, "attention_mask": (source != PAD).long(),
        "decoder_input_ids": batch.tokens,
        "decoder_attention_mask": (batch.tokens != PAD).long(), "labels": labels,
    }  # fmt: skip
    return update(list(model.parameters()), lambda: model(**arguments).loss)


def decode_ours() -> Callable[[], None]:
    model, source = our_model().eval(), rows_of(*sentences(0), language=0)
    assert model.decoder is not None
    with torch.no_grad():
        model.decoder.output_bias[END] = -1e9  # nothing ends before its limit
    langs, limits = torch.ones(SHAPE["rows"]).long(), torch.full((SHAPE["rows"],), WRITTEN + 1)
    settings = Generation(beam=5)

    def step() -> None:
        found = generate(model, source, langs, end_id=END, settings=settings, limits=limits)
        assert (found.lengths[:, 0] == WRITTEN + 1).all()

    return step


def decode_peer() -> Callable[[], None]:
    model, (source, _) = peer_model().eval(), sentences(0)
    mask = (source != PAD).long()

    def step() -> None:
        found = model.generate(
            input_ids=source, attention_mask=mask, num_beams=5, do_sample=False,
            min_new_tokens=WRITTEN, max_new_tokens=WRITTEN, length_penalty=1.0,
            early_stopping=False,
        )  # fmt: skip
        assert found.shape[1] == WRITTEN + 1

    return step


def compare(ours: Callable[[], None], peer: Callable[[], None], tokens: int, rounds: int) -> Any:
    """Tokens per second of both in turn, and the median of the ratios pair by pair."""
    seconds: list[list[float]] = [[], []]
    for round_number in range(rounds + 1):
        for own, step in zip(seconds, (ours, peer), strict=True):
            started = time.perf_counter()
            step()
            if round_number:  # the first warms up
                own.append(time.perf_counter() - started)
    return {
        "xlm_tokens_per_second": round(tokens / statistics.median(seconds[0])),
        "transformers_tokens_per_second": round(tokens / statistics.median(seconds[1])),
        "ratio": round(statistics.median(b / a for a, b in zip(*seconds, strict=True)), 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    num_trained, num_written = pairs().num_tokens, SHAPE["rows"] * WRITTEN
    training = compare(train_ours(), train_peer(), num_trained, arguments.rounds)
    decoding = compare(decode_ours(), decode_peer(), num_written, arguments.rounds)
    rows = [{"what": "training", **training}, {"what": "decoding, beam 5", **decoding}]
    record.write("translation_speed", {"threads": arguments.threads, "shape": SHAPE, "rows": rows})
    for row in rows:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

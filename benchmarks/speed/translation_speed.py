"""Training and decoding of an encoder-decoder against transformers' on this machine, in turn.

    python -m benchmarks.speed.translation_speed --corpora runs/small/data

The peer is MarianMTModel, the translation model of transformers, with as many layers, heads and
units: post-norm, one table of words for both sides (ours has one a side). Weights are random, the
same sentences of like length go to both.

- Training: whole updates (forward, backward, clip, fused AdamW) on padded pairs; real tokens of
  both sides per second.
- Training on real pairs, where ``--corpora`` names a prepared folder: ours in the batches of
  ``Translation`` (2,000 cells of like length), the peer's in batches of as many pairs, each side
  padded to its longest as DataCollatorForSeq2Seq does it: drawn at random, as its Trainer does by
  default, or sorted by length within fifty batches, as with ``group_by_length``.
- Decoding: beam 5 with kept keys and values; the end symbol is kept from both, so that each writes
  as many tokens, and tokens of the best hypotheses per second are counted.

A B A B ..., the ratio of medians pair by pair is what counts. Needs transformers.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.speed.speed import update
from benchmarks.support import record, toy
from xlm.batch import IGNORED, Batch
from xlm.data.corpora import Corpora
from xlm.freed_memory import freed_memory_kept
from xlm.model.config import ModelConfig
from xlm.model.generate import Generation, generate
from xlm.model.transformer import Transformer
from xlm.objectives.translation import Translation
from xlm.rng import Random

END, PAD = 1, 2
SHAPE = {"dim": 256, "num_layers": 4, "num_heads": 4, "vocab": 8000, "rows": 64}
LENGTHS = (18, 26)
"""Tokens of the shortest and the longest sentence of a batch, end symbols included."""
WRITTEN = 24
"""Tokens that are decoded, after the first symbol."""
QUICK = {"dim": 16, "num_layers": 1, "num_heads": 2, "vocab": 100, "rows": 4}
"""The shape that ``--quick`` tries."""


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


def our_model(vocab_size: int = SHAPE["vocab"], num_languages: int = 3) -> Transformer:
    torch.manual_seed(0)
    config = ModelConfig(
        dim=SHAPE["dim"], num_layers=SHAPE["num_layers"], num_heads=SHAPE["num_heads"],
        num_decoder_layers=SHAPE["num_layers"], attention_dropout=0.0,
    )  # fmt: skip
    return Transformer(config, vocab_size=vocab_size, num_languages=num_languages, pad_id=PAD)


def peer_model(vocab_size: int = SHAPE["vocab"], pad_id: int = PAD, end_id: int = END) -> Any:
    from transformers import MarianConfig, MarianMTModel

    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=vocab_size, d_model=SHAPE["dim"], encoder_layers=SHAPE["num_layers"],
        decoder_layers=SHAPE["num_layers"], encoder_attention_heads=SHAPE["num_heads"],
        decoder_attention_heads=SHAPE["num_heads"], encoder_ffn_dim=4 * SHAPE["dim"],
        decoder_ffn_dim=4 * SHAPE["dim"], dropout=0.1, attention_dropout=0.0,
        activation_function="gelu", max_position_embeddings=512, pad_token_id=pad_id,
        eos_token_id=end_id, decoder_start_token_id=end_id, forced_eos_token_id=None,
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


def real_ours(corpora: Corpora, pair: str, updates: int) -> tuple[Callable[[], int], int]:
    """Trains ``updates`` more batches and says how many tokens they had; pairs in a batch."""
    model, objective = our_model(corpora.tokenizer.vocab_size).train(), Translation(pairs=[pair])
    (stream,) = objective.streams("mt", corpora, seed=0)
    batches = (
        objective.collate(stream.examples(number), Random("none"), train=True)
        for number in itertools.count()
    )

    def loss(batch: Batch) -> torch.Tensor:
        return objective.loss(model, None, batch).total / batch.count

    parameters = [p for n, p in model.named_parameters() if n != "encoder.output_bias"]
    counted = ((batch, batch.num_tokens) for batch in batches)
    return many(parameters, loss, counted, updates), round(stream.num_rows / stream.num_batches)


def real_peer(
    corpora: Corpora, pair: str, updates: int, num_pairs: int, *, grouped: bool
) -> Callable[[], int]:
    """The peer's, in batches of ``num_pairs`` in random order, or of like lengths."""
    tokenizer = corpora.tokenizer
    model = peer_model(tokenizer.vocab_size, tokenizer.pad_id, tokenizer.end_id).train()
    sides = corpora.pairs("train", pair).sides
    objective = Translation(pairs=[pair])
    (stream,) = objective.streams("mt", corpora, seed=0)
    fitting = np.concatenate(
        [stream.examples(k).rows for k in range(stream.num_batches)]  # ours leaves the same out
    )
    random = np.random.default_rng(0)
    order = random.permutation(fitting)
    if grouped:
        sizes = np.array([len(ids) for ids in sides[0].sentences(order)])
        pieces = np.split(np.arange(len(order)), range(50 * num_pairs, len(order), 50 * num_pairs))
        order = order[np.concatenate([piece[np.argsort(-sizes[piece])] for piece in pieces])]

    def padded(sentences: Sequence[Any], value: int) -> torch.Tensor:
        rows = [torch.tensor([*ids.tolist(), tokenizer.end_id]) for ids in sentences]
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value)

    def batches() -> Iterator[tuple[dict[str, torch.Tensor], int]]:
        cut = np.array_split(order, len(order) // num_pairs)
        for at in itertools.cycle(random.permutation(len(cut))):
            rows = cut[at]
            first, second = (side.sentences(rows) for side in sides)
            tokens, labels = padded(first, tokenizer.pad_id), padded(second, IGNORED)
            mask = (tokens != tokenizer.pad_id).long()
            num_tokens = int(mask.sum() + (labels != IGNORED).sum())
            yield {"input_ids": tokens, "attention_mask": mask, "labels": labels}, num_tokens

    return many(list(model.parameters()), lambda given: model(**given).loss, batches(), updates)


def many(
    parameters: list[torch.nn.Parameter],
    loss: Callable[[Any], torch.Tensor],
    batches: Iterator[tuple[Any, int]],
    updates: int,
) -> Callable[[], int]:
    """``updates`` whole updates, each of the next batch; says how many tokens they had."""
    counted: list[int] = []

    def next_loss() -> torch.Tensor:
        batch, num_tokens = next(batches)
        counted.append(num_tokens)
        return loss(batch)

    one = update(parameters, next_loss)

    def step() -> int:
        counted.clear()
        for _ in range(updates):
            one()
        return sum(counted)

    return step


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


def compare(
    ours: Callable[[], int],
    peer: Callable[[], int],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Any]:
    """Tokens per second of both in turn, and the median of the ratios pair by pair."""
    speeds: list[list[float]] = [[], []]
    for round_number in range(rounds + 1):
        for own, step in zip(speeds, (ours, peer), strict=True):
            started = clock()
            num_tokens = step()
            if round_number:  # the first warms up
                own.append(num_tokens / (clock() - started))
    return {
        "xlm_tokens_per_second": round(statistics.median(speeds[0])),
        "transformers_tokens_per_second": round(statistics.median(speeds[1])),
        "ratio": round(statistics.median(a / b for a, b in zip(*speeds, strict=True)), 2),
    }


def counting(step: Callable[[], None], num_tokens: int) -> Callable[[], int]:
    """A step that says how many tokens it had."""

    def counted() -> int:
        step()
        return num_tokens

    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--corpora", type=Path, help="a prepared folder, for real pairs")
    parser.add_argument("--pair", default="en-ne", help="of --corpora")
    parser.add_argument("--updates", type=int, default=8, help="on real pairs, a round")
    parser.add_argument("--quick", action="store_true", help="try a tiny shape; only printed")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with freed_memory_kept(), tempfile.TemporaryDirectory() as place:
        if arguments.quick:
            SHAPE.update(QUICK)
            arguments.rounds, arguments.updates = 1, 1
            arguments.corpora = toy.corpora(Path(place))
        rows = [
            {"what": name, **compare(*(counting(own, tokens) for own in both), arguments.rounds)}
            for name, both, tokens in (
                ("training", (train_ours(), train_peer()), pairs().num_tokens),
                ("decoding, beam 5", (decode_ours(), decode_peer()), SHAPE["rows"] * WRITTEN),
            )
        ]
        if arguments.corpora is not None:
            corpora = Corpora.open(arguments.corpora)
            for name in ("at random", "by length"):
                ours, num_pairs = real_ours(corpora, arguments.pair, arguments.updates)
                peer = real_peer(
                    corpora, arguments.pair, arguments.updates, num_pairs,
                    grouped=name == "by length",
                )  # fmt: skip
                what = f"training on {arguments.pair}, the peer's batches {name}"
                rows.append({"what": what, **compare(ours, peer, arguments.rounds)})
    if not arguments.quick:
        figures = {"threads": arguments.threads, "shape": SHAPE, "rows": rows}
        record.write("translation_speed", figures)
    for row in rows:
        sys.stdout.write(f"{row}\n")


if __name__ == "__main__":
    main()

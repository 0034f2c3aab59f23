"""What a model is asked, against transformers' pipelines, in processor time of one thread.

    python -m benchmarks.speed.using [--lines 300] [--rounds 3]

One model of random weights in BERT's shape answers lines of mixed lengths by our verbs, and as its
own export by transformers: ``fill-mask``, ``text-generation`` (the export as a decoder) and
``feature-extraction``. There is no pipeline that scores: the masked peer reads each line's masked
copies as a batch, the causal one lines in batches as they come. Each peer is measured in batches
of 1 (what a pipeline does unless told otherwise), 8 and 32, in turn with ours; what is written is
how many times our time each takes. A tenth of the lines is scored by masks.

Search: a hundred thousand queries among as many lines, against the bare product of the two.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.support import record
from xlm import sample
from xlm.analysis.neighbors import nearest_in_blocks
from xlm.interchange.transformers.bert import write_transformers_bert
from xlm.model.config import ModelConfig
from xlm.model.continuation import Writing
from xlm.model.pretrained import PretrainedModel
from xlm.model.score import Scoring
from xlm.model.transformer import Transformer
from xlm.text.normalize import normalize
from xlm.text.tokenizers.learn import learn_sentencepiece

SHAPE = {"dim": 256, "num_layers": 6, "num_heads": 4, "max_positions": 256}
VOCABULARY, WRITTEN, TOP = 4000, 20, 5
SIZES = (1, 8, 32)
"""Batch sizes of a peer."""
VECTORS = {"rows": 100_000, "dim": 256, "top": 10}
QUICK = {"dim": 16, "num_layers": 1, "num_heads": 2, "max_positions": 256}

Step = Callable[[], Any]


def mixed_lines(num: int) -> list[str]:
    """Return lines of 2 to 70 words, drawn from the sample in all its languages."""
    random = np.random.default_rng(0)
    words = [
        word
        for language in sample.LANGUAGES
        for word in sample.path(f"train.{language}.txt").read_text(encoding="utf-8").split()
    ]
    lengths = np.exp(random.uniform(np.log(2), np.log(70), num)).astype(int)
    starts = random.integers(0, len(words) - 80, num)
    return [
        normalize(" ".join(words[at : at + length]))
        for at, length in zip(starts.tolist(), lengths.tolist(), strict=True)
    ]


def build(place: Path, quick: bool) -> tuple[PretrainedModel, Any, Any, Any]:
    """Return our model, and its export as a masked model, a decoder and a tokenizer."""
    from transformers import AutoTokenizer, BertForMaskedLM, BertLMHeadModel

    lines = [
        line
        for language in sample.LANGUAGES
        for line in sample.path(f"train.{language}.txt").read_text(encoding="utf-8").split("\n")
        if line
    ]
    tokenizer = learn_sentencepiece(
        map(normalize, lines), 1200 if quick else VOCABULARY, kind="bpe"
    )
    shape: dict[str, Any] = {**(QUICK if quick else SHAPE), "num_segments": 2}
    config = ModelConfig(**shape, output_transform=True, language_embeddings=False)
    torch.manual_seed(0)
    transformer = Transformer(
        config, vocab_size=tokenizer.vocab_size, num_languages=1, pad_id=tokenizer.pad_id
    )
    with torch.no_grad():
        transformer.encoder.output_bias[tokenizer.end_id] = -1e4  # so that all write alike
    model = PretrainedModel(transformer.eval(), tokenizer, {})
    write_transformers_bert(model, place)
    own = AutoTokenizer.from_pretrained(place, padding_side="left", model_max_length=256)
    masked = BertForMaskedLM.from_pretrained(place).eval()
    decoder = BertLMHeadModel.from_pretrained(place, is_decoder=True).eval()
    return model, masked, decoder, own


def peers(
    masked: Any, decoder: Any, tokenizer: Any, lines: list[str], texts: list[str]
) -> dict[str, Callable[[int], Any]]:
    """Return what transformers does of each verb, given a batch size."""
    from transformers import pipeline

    fill = pipeline("fill-mask", model=masked, tokenizer=tokenizer, top_k=TOP, device=-1)
    write = pipeline("text-generation", model=decoder, tokenizer=tokenizer, device=-1)
    states = pipeline("feature-extraction", model=masked.bert, tokenizer=tokenizer, device=-1)

    def embed(size: int) -> None:
        for found in states(lines, batch_size=size, return_tensors=True):
            found[0].mean(0)

    def written(size: int) -> Any:
        return write(
            lines, batch_size=size, max_new_tokens=WRITTEN, do_sample=False,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=None,
        )  # fmt: skip

    return {
        "fill": lambda size: fill(texts, batch_size=size),
        "generate": written,
        "score, masked": lambda size: score_masked(masked, tokenizer, tenth(lines), size),
        "score, causal": lambda size: score_causal(decoder, tokenizer, lines, size),
        "embed": embed,
    }


def tenth(lines: list[str]) -> list[str]:
    """Return every tenth line."""
    return lines[::10]


@torch.inference_mode()
def score_masked(model: Any, tokenizer: Any, lines: Sequence[str], size: int) -> list[float]:
    """Return the pseudo-log-likelihood of each line, ``size`` masked copies at a time."""
    found = []
    for line in lines:
        row = torch.tensor(tokenizer(line)["input_ids"])
        cells, total = torch.arange(1, len(row) - 1), 0.0
        for own in cells.split(size):
            copies = row.repeat(len(own), 1)
            copies[torch.arange(len(own)), own] = tokenizer.mask_token_id
            logits = model(copies).logits[torch.arange(len(own)), own]
            total += float(logits.log_softmax(-1).gather(1, row[own][:, None]).sum())
        found.append(total)
    return found


@torch.inference_mode()
def score_causal(model: Any, tokenizer: Any, lines: Sequence[str], size: int) -> list[float]:
    """Return the log-likelihood of each line, ``size`` lines at a time, as they come."""
    found: list[float] = []
    for start in range(0, len(lines), size):
        given = tokenizer(
            list(lines[start : start + size]), padding=True, padding_side="right",
            return_tensors="pt",
        )  # fmt: skip
        logs = model(**given).logits[:, :-1].log_softmax(-1)
        own = logs.gather(2, given["input_ids"][:, 1:, None])[..., 0]
        found += (own * given["attention_mask"][:, 1:]).sum(1).tolist()
    return found


def ours(model: PretrainedModel, lines: list[str], texts: list[str]) -> dict[str, Step]:
    """Return what we do of each verb."""
    causal = Scoring(kind="causal")
    writing = Writing(length=WRITTEN)
    return {
        "fill": lambda: model.fill(texts, top=TOP),
        "generate": lambda: model.generate(lines, settings=writing),
        "score, masked": lambda: model.score(tenth(lines)),
        "score, causal": lambda: model.score(lines, settings=causal),
        "embed": lambda: model.embed(lines),
    }


def seconds(step: Step) -> float:
    """Return the processor time of a step."""
    started = time.process_time()
    step()
    return time.process_time() - started


def compare(name: str, own: Step, peer: Callable[[int], Any], rounds: int) -> dict[str, Any]:
    """Return our median, and for each batch size of the peer its median over ours."""
    seconds(own)
    peer(SIZES[0])
    runs: list[list[float]] = [[] for _ in range(len(SIZES) + 1)]
    for _ in range(rounds):
        runs[0].append(seconds(own))
        for column, size in zip(runs[1:], SIZES, strict=True):
            column.append(seconds(lambda size=size: peer(size)))  # type: ignore[misc]
    mine, *theirs = (statistics.median(column) for column in runs)
    ratios = {
        f"transformers, batches of {size}": round(value / mine, 2)
        for size, value in zip(SIZES, theirs, strict=True)
    }
    return {"verb": name, "xlm seconds": round(mine, 2), **ratios}


def search(rows: int, width: int, top: int) -> dict[str, Any]:
    """Return the processor time of a search and of the bare product, in the same tiles."""
    random = np.random.default_rng(0)
    x, y = (random.standard_normal((rows, width), dtype=np.float32) for _ in range(2))
    left, right, tile = torch.from_numpy(x), torch.from_numpy(y), min(256, rows)
    product = torch.empty(tile, rows)

    def bare() -> None:
        for start in range(0, rows, tile):
            own = left[start : start + tile]
            torch.mm(own, right.T, out=product[: len(own)])

    bare()
    found = {"search": seconds(lambda: nearest_in_blocks(x, y, top)), "product": seconds(bare)}
    return {
        "verb": f"search, {rows:,} x {rows:,} of {width}", "xlm seconds": round(found["search"], 2),
        "bare product, seconds": round(found["product"], 2),
        "over the product": round(found["search"] / found["product"], 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lines", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--vectors", type=int, default=VECTORS["rows"], help="of the search")
    parser.add_argument("--only", nargs="*", help="verbs of the table, such as fill; only printed")
    parser.add_argument("--quick", action="store_true", help="try a tiny shape; only printed")
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    if options.quick:
        options.lines, options.rounds, options.vectors = 12, 1, 3000
    lines = mixed_lines(options.lines)
    texts = [f"{line} <mask>" for line in lines]
    with tempfile.TemporaryDirectory() as place:
        model, masked, decoder, tokenizer = build(Path(place), options.quick)
        theirs = peers(masked, decoder, tokenizer, lines, texts)
        rows = []
        for name, own in ours(model, lines, texts).items():
            if options.only is not None and name not in options.only:
                continue
            with contextlib.redirect_stderr(None):
                rows.append(compare(name, own, theirs[name], options.rounds))
            sys.stdout.write(f"{rows[-1]}\n")
            sys.stdout.flush()
    found = search(options.vectors, VECTORS["dim"], VECTORS["top"])
    sys.stdout.write(f"{found}\n")
    lengths = [len(model.tokenizer.encode(line)) for line in lines]
    if not options.quick and options.only is None:
        figures = {
            "lines": len(lines), "shape": {**SHAPE, "vocabulary": VOCABULARY}, "threads": 1,
            "subwords of a line": [min(lengths), max(lengths)], "rows": [*rows, found],
        }  # fmt: skip
        record.write("using", figures)


if __name__ == "__main__":
    main()

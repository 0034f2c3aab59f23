"""What the original made of text, against what xlm makes of it: BPE, ids, streams, pairs, masks.

The files and their conventions are described in the README of the golden folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.support.agreement import Table
from xlm.data.collate import pad
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.masking import frequency_weights, replace_targets
from xlm.data.mixture import Mixture
from xlm.data.original_masks import choose_targets_as_original
from xlm.data.original_pairs import OriginalPairStream
from xlm.data.pairs import Pairs
from xlm.data.sampling import Sampling
from xlm.data.streams import TextStream
from xlm.rng import Random
from xlm.tasks.task import cut
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer, Segmenter
from xlm.text.tokenizers.learn_fastbpe import count_words, fastbpe_vocabulary, learn_fastbpe
from xlm.text.tokenizers.tokenizer import Ids

NUM_DRAWS = 4000
LANGUAGES = ("en", "fr", "hi")


def read_json(golden: Path, name: str) -> Any:
    """A JSON file of the folder."""
    return json.loads((golden / name).read_text("utf-8"))


def read_lines(path: Path) -> list[str]:
    """The lines of a segmented text, put together again; an empty line is one."""
    text = path.read_text("utf-8").removesuffix("\n")
    return [line.replace("@@ ", "") for line in text.split("\n")]


def tokenizer_of(golden: Path) -> FastBpeTokenizer:
    """The tokenizer of the toy data."""
    folder = golden / "data"
    return FastBpeTokenizer((folder / "codes").read_bytes(), (folder / "vocab").read_bytes())


def corpus_of(path: Path, language: str, tokenizer: FastBpeTokenizer) -> Corpus:
    """A text of the folder as xlm makes ids of it."""
    sentences = tokenizer.encode_lines(read_lines(path))
    return Corpus.from_sentences(sentences, language=language, tokenizer=tokenizer)


def corpora_of(golden: Path, folder: str) -> Corpora:
    """All texts and pairs of ``data`` or ``data_seen``."""
    tokenizer = tokenizer_of(golden)
    texts, pairs = {}, {}
    for path in sorted((golden / folder).glob("*.*")):
        split, *rest = path.name.split(".")
        if path.suffix == ".pth" or split not in ("train", "valid", "test"):
            continue
        if len(rest) == 1:
            texts[split, rest[0]] = corpus_of(path, rest[0], tokenizer)
        elif rest[0].startswith(rest[1]):
            sides = [
                corpus_of(path.with_suffix(f".{language}"), language, tokenizer)
                for language in rest[0].split("-")
            ]
            pairs[split, rest[0]] = Pairs(*sides)
    return Corpora(tokenizer, LANGUAGES, texts=texts, pairs=pairs)


def bpe(golden: Path, table: Table) -> None:
    """Codes and vocabulary as fastBPE learns them; words and sentences as it segments them."""
    folder = golden / "data"
    names = ("train.en", "train.en-fr.fr", "train.en-hi.hi")
    counts = count_words(line for name in names for line in read_lines(folder / name))
    num_merges, num_kept = (
        (folder / name).read_bytes().count(b"\n") for name in ("codes", "vocab.small")
    )
    codes = learn_fastbpe(counts, num_merges)
    vocabulary = fastbpe_vocabulary(counts, codes)
    small = b"".join(vocabulary.splitlines(keepends=True)[:num_kept])
    for name, found in (("codes", codes), ("vocab", vocabulary), ("vocab.small", small)):
        expected = (folder / name).read_bytes()
        what = "learnt on the three training texts: lines"
        table.exact(f"data/{name}", what, [(found.splitlines(), expected.splitlines())])
    content = read_json(golden, "bpe.json")
    given = {"with_vocab": vocabulary, "without_vocab": None, "with_small_vocab": small}
    for name, own in given.items():
        segment = Segmenter(codes, own)
        table.exact(
            "bpe.json",
            f"segmentation {name.replace('_', ' ')}",
            [(" ".join(segment.line(i["text"])), i[name]) for i in content["items"]],
        )
    segment = Segmenter(codes, vocabulary)
    cases = content["whitespace_cases_python_binding"]
    compared = [(" ".join(segment.line(c["text"])), c["with_vocab"]) for c in cases]
    table.exact("bpe.json", "odd white space", compared)


def dictionary(golden: Path, table: Table) -> None:
    """Ids, counts, and the ids of every text."""
    tokenizer = tokenizer_of(golden)
    content = read_json(golden, "data/dictionary.json")
    table.exact(
        "data/dictionary.json", "piece of each id", [(list(tokenizer.pieces), content["id2word"])]
    )
    table.exact(
        "data/dictionary.json", "count of each id", [(list(tokenizer.counts), content["counts"])]
    )
    unknown = []
    for name, expected in content["unk_words"].items():
        if name == "edge.pth":
            continue  # segmented by hand: words there that fastBPE would have taken apart
        path = golden / "data" / name.removesuffix(".pth")
        pieces = [piece for line in read_lines(path) for piece in tokenizer.segment.line(line)]
        found = Counter(piece for piece in pieces if piece not in tokenizer.pieces)
        unknown.append((dict(found), expected))
    table.exact("data/dictionary.json", "unknown pieces of each text", unknown)
    ids, borders = [], []
    with np.load(golden / "data" / "binarised.npz") as arrays:
        for name in sorted({key.rpartition(".")[0] for key in arrays.files} - {"edge.pth"}):
            path = golden / "data" / name.removesuffix(".pth")
            corpus = corpus_of(path, path.suffix[1:], tokenizer)
            ids.append((corpus.ids, arrays[f"{name}.sentences"]))
            found = np.stack([corpus.offsets[:-1], corpus.offsets[1:] - 1], axis=1)
            borders.append((found, arrays[f"{name}.positions"]))
        edge = arrays["edge.pth.sentences"], arrays["edge.pth.positions"]
    what = f"of the {len(ids)} texts beside it"
    table.exact("data/binarised.npz", f"ids {what}", ids)
    table.exact("data/binarised.npz", f"sentence borders {what}", borders)
    lines = read_lines(golden / "data" / "edge")
    compared = []
    for number in (0, 1, 4, 5):
        start, end = edge[1][number]
        compared.append((tokenizer.encode(lines[number]), edge[0][start:end].tolist()))
    table.exact("data/edge", "ids of the 4 lines without special or unknown words", compared)


def streams(golden: Path, table: Table) -> None:
    """The original's chunks of text, to the token."""
    tokenizer = tokenizer_of(golden)
    chunks, halves, rest = [], [], []
    for case in read_json(golden, "streams.json")["streams"]:
        sentences = [case["tokens"][start:end] for start, end in case["positions"]]
        corpus = Corpus.from_sentences(sentences, language="en", tokenizer=tokenizer)
        corpora = Corpora(tokenizer, ["en"], texts={("train", "en"): corpus})
        settings: dict[str, Any] = {"rows": case["batch_size"], "length": case["bptt"]}
        stream = TextStream(
            corpora, "en", objective="mlm", **settings, layout="original", shuffle=False
        )
        served = [np.stack(stream.examples(k).first).T for k in range(stream.num_batches)]
        chunks.append((np.stack(served), np.array(case["batches"])))
        if half := case["batches_subsample_2"]:
            stream = TextStream(
                corpora,
                "en",
                objective="mlm",
                **settings,
                layout="original",
                shuffle=False,
                one_in=2,
            )
            found = [np.stack(stream.examples(k).first).T for k in range(stream.num_batches)]
            halves.append((np.stack(found), np.array(half)))
        # What the text, its filler and the row of end symbols before it hold beside what is served.
        num_cells = sum(chunk.size for chunk in served) + case["batch_size"]
        cells = Counter(case["tokens"]) + Counter({1: num_cells - len(case["tokens"])})
        cells.subtract(np.concatenate(served).ravel().tolist())
        rest.append((sorted(cells.elements()), sorted(case["last_row_never_served"])))
    table.exact("streams.json", f"chunks of {len(chunks)} toy texts", chunks)
    table.exact("streams.json", "half of the chunks (subsample 2)", halves)
    table.exact("streams.json", "the last row, which is never served", rest)


def pair_order(golden: Path, table: Table) -> None:
    """Which sentence pairs form which batch."""
    content = read_json(golden, "streams.json")["pair_order"]
    tokenizer = tokenizer_of(golden)
    sides = [
        Corpus.from_sentences(
            [[20] * length for length in content[name]], language=language, tokenizer=tokenizer
        )
        for name, language in (("lengths1", "en"), ("lengths2", "hi"))
    ]
    corpora = Corpora(tokenizer, LANGUAGES, pairs={("train", "en-hi"): Pairs(*sides)})
    kept, batches = [], []
    for order in content["orders"]:
        tokens = order["tokens_per_batch"]
        stream = OriginalPairStream(
            corpora,
            "en-hi",
            objective="tlm",
            rows=order["batch_size"],
            tokens=tokens if tokens > 0 else None,
            num_specials=4,
            longest_side=order["max_len"] or None,
            sort=order["group_by_size"],
            shuffle=False,
        )
        found = [stream.examples(k).rows.tolist() for k in range(stream.num_batches)]
        kept.append((sorted(row for batch in found for row in batch), order["kept"]))
        batches.append((found, [[order["kept"][i] for i in batch] for batch in order["batches"]]))
    table.exact("streams.json", f"pairs that are kept, {len(kept)} settings", kept)
    table.exact("streams.json", f"pairs of each batch, {len(batches)} settings", batches)


def layouts(golden: Path, table: Table) -> None:
    """TLM and merged pairs, padding included, but for the positions of padding."""
    tokenizer = tokenizer_of(golden)
    compared: dict[str, list[tuple[Any, Any]]] = {}
    with np.load(golden / "concat.npz") as arrays:
        cases = sorted({key.split(".")[0] for key in arrays.files} - {"truncate_to_8"})
        for case in cases:
            sides = [
                [row[1 : size - 1] for row, size in zip(tokens.T, sizes, strict=True)]
                for tokens, sizes in (
                    (arrays[f"{case}.{side}"], arrays[f"{case}.{side}_lengths"])
                    for side in ("first", "second")
                )
            ]
            languages = [int(arrays[f"{case}.lang_{side}"]) for side in ("first", "second")]
            for layout in ("tlm", "merged", "merged_same_language"):
                own = [languages[0]] * 2 if layout.endswith("language") else languages
                wrapped = [
                    tokenizer.wrap(first, second, layout.partition("_")[0])
                    for first, second in zip(*sides, strict=True)
                ]
                cells = pad(wrapped, own, 0, tokenizer.pad_id)
                expected = {
                    name: arrays[f"{case}.{layout}.{name}"].T
                    for name in ("tokens", "langs", "positions", "lengths")
                }
                real = cells.real
                compared.setdefault(layout, []).extend(
                    [
                        (cells.tokens, expected["tokens"]),
                        (cells.langs, expected["langs"]),
                        (cells.lengths, expected["lengths"]),
                        (cells.positions[real], expected["positions"][real]),
                    ]
                )
        truncated = _truncated(arrays, tokenizer)
    for layout, pairs in compared.items():
        what = f"{layout.replace('_', ' ')}: tokens, languages, lengths; positions of real cells"
        table.exact("concat.npz", what, pairs)
    table.exact("concat.npz", "sentences cut to 8 tokens", truncated)


def _truncated(arrays: Any, tokenizer: FastBpeTokenizer) -> list[tuple[Any, Any]]:
    given, sizes = arrays["truncate_to_8.tokens"], arrays["truncate_to_8.lengths"]
    sentences = [row[1 : size - 1] for row, size in zip(given.T, sizes, strict=True)]
    wrapped = [tokenizer.wrap(cut([ids], 8 - 2)[0]) for ids in sentences]
    cells = pad(wrapped, [0], 0, tokenizer.pad_id)
    return [
        (cells.tokens, arrays["truncate_to_8.out_tokens"].T),
        (cells.lengths, arrays["truncate_to_8.out_lengths"]),
    ]


@dataclass(frozen=True)
class Sized:
    """Of a stream, all that sampling looks at."""

    id: str
    name: str
    num_sentences: int


def sampling(golden: Path, table: Table) -> None:
    """Probabilities of languages and pairs, and what one iteration of the original draws."""
    shares, draws, turns = [], [], []
    for case in read_json(golden, "sampling.json"):
        factor = case["factor"]
        rule = Sampling(rule="uniform") if factor == -1 else Sampling(alpha=factor)
        for sizes, kind in ((case["sentences"], "mono"), (case["pairs"], "pair")):
            if sizes:
                uniform = dict.fromkeys(sizes, 1 / len(sizes))
                expected = case[f"{kind}_probabilities"] or uniform
                found = rule.probabilities(sizes)
                shares.append(([found[n] for n in expected], list(expected.values())))
        mixture, options = _mixture(case, rule)
        steps = range(sum(draw["draws"] for draw in case["one_iteration"]["draws"]))
        order = [mixture.plan(step, {})[0].objective for step in steps]
        for name, draw in zip(options, case["one_iteration"]["draws"], strict=True):
            expected = draw["probabilities"] or [1 / draw["options"]] * draw["options"]
            draws.append((mixture.probabilities(name), np.array(expected)))
            turns.append((order.count(name), draw["draws"]))
    table.close("sampling.json", "probability of each language and pair", shares, 1e-12)
    table.close("sampling.json", "probability of each step of one iteration", draws, 1e-12)
    table.exact("sampling.json", "draws of each kind in one iteration (order original)", turns)


def _mixture(case: dict[str, Any], rule: Sampling) -> tuple[Mixture, list[str]]:
    """The steps of one iteration as objectives: those of languages, then those of pairs."""
    given: dict[str, list[Any]] = {"mono": [], "pair": []}
    for step in case["one_iteration"]["steps"]:
        kind = "pair" if "-" in step else "mono"
        sizes = case["pairs" if kind == "pair" else "sentences"]
        size = sizes.get(step) or sizes.get("-".join(reversed(step.split("-"))))
        given[kind].append(Sized(f"{kind}/{step}", step, size))
    given = {kind: streams for kind, streams in given.items() if streams}
    mixture = Mixture(given, dict.fromkeys(given, rule), group_size=1, order="original")
    return mixture, list(given)


def position_scores(golden: Path, table: Table) -> None:
    """The weight of each id in the choice of targets."""
    folder = golden / "data"
    with np.load(golden / "masks.npz") as arrays:
        counts = arrays["scores.counts"]
        toy = FastBpeTokenizer(
            (folder / "codes").read_bytes(), (folder / "vocab").read_bytes(), max_vocab=len(counts)
        )
        exponents = (0, 0.3, 0.5, 0.7)
        compared = [
            (frequency_weights(counts, a, toy), arrays[f"scores.alpha_{a}"]) for a in exponents
        ]
    table.close("masks.npz", "weight of each id at 4 exponents", compared, 1e-12)


def training_masks(golden: Path, table: Table) -> None:
    """4,000 draws of targets by the original's rule, beside as many of its own."""
    tokenizer = tokenizer_of(golden)
    counts = np.array(tokenizer.counts)
    eligible, times, sizes, replaced, weighed = [], [], [], [], []
    with np.load(golden / "masks.npz") as arrays:
        for batch in ("stream_en", "sent_hi", "tlm_en_hi"):
            tokens = np.ascontiguousarray(arrays[f"train.{batch}.tokens"].T)
            lengths = arrays[f"train.{batch}.lengths"]
            for exponent in (0, 0.5):
                name = f"train.{batch}.alpha_{exponent}"
                weights = frequency_weights(counts, exponent, tokenizer) if exponent else None
                if weights is not None:
                    weighed.append((weights[tokens], arrays[f"{name}.cell_scores"].T))
                found = _draw(tokens, lengths, weights, tokenizer, name)
                expected = arrays[f"{name}.times_drawn"].T
                eligible.append((found.times > 0, arrays[f"{name}.eligible"].T))
                times.append(_deviations(found.times, expected))
                sizes.append(_mean_deviation(found.sizes, arrays[f"{name}.targets_per_draw"]))
                replaced.append(_share_deviations(found, arrays[f"{name}.mask_keep_other"]))
    table.close("masks.npz", "weight of each cell in training", weighed, 1e-12)
    table.exact("masks.npz", "cells that training ever predicts", eligible)
    table.chance("masks.npz", "times that each cell is drawn", np.concatenate(times), 4.5)
    table.chance("masks.npz", "mean number of targets", np.array(sizes), 4.5)
    table.chance("masks.npz", "masked, kept and other", np.concatenate(replaced), 4.5)


@dataclass(frozen=True)
class Drawn:
    """What many draws of targets gave."""

    times: NDArray[np.int64]
    sizes: NDArray[np.int64]
    shown: NDArray[np.int64]
    """Targets that were masked, kept, and other."""


def _draw(
    tokens: Ids,
    lengths: NDArray[np.int64],
    weights: NDArray[np.float64] | None,
    tokenizer: FastBpeTokenizer,
    name: str,
) -> Drawn:
    columns = np.arange(tokens.shape[1])
    allowed = (columns > 0) & (columns < lengths[:, None])
    random, times = Random(0, name), np.zeros(tokens.size, dtype=np.int64)
    sizes, shown = [], np.zeros(3, dtype=np.int64)
    flat = tokens.ravel()
    for _ in range(NUM_DRAWS):
        chosen = choose_targets_as_original(tokens, allowed, weights, 0.15, random)
        seen = replace_targets(flat, chosen, tokenizer, random, from_all=True)[chosen]
        masked, kept = seen == tokenizer.mask_id, seen == flat[chosen]
        shown += [masked.sum(), kept.sum(), (~masked & ~kept).sum()]
        times[chosen] += 1
        sizes.append(len(chosen))
    return Drawn(times.reshape(tokens.shape), np.array(sizes), shown)


def _deviations(found: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Differences of two counts in ``NUM_DRAWS`` draws, in standard deviations."""
    both = np.stack([found, expected]).astype(np.float64)
    variance = (both * (1 - both / NUM_DRAWS)).sum(0)
    deviations: NDArray[np.float64] = (both[0] - both[1]) / np.sqrt(np.maximum(variance, 1))
    return deviations[both.sum(0) > 20]


def _mean_deviation(found: NDArray[Any], expected: NDArray[Any]) -> float:
    error = np.sqrt((found.var() + expected.var()) / NUM_DRAWS)
    return float((found.mean() - expected.mean()) / max(error, 1e-9))


def _share_deviations(found: Drawn, expected: NDArray[Any]) -> NDArray[np.float64]:
    totals = found.shown.sum(), expected.sum()
    shares = found.shown / totals[0], expected / totals[1]
    pooled = (found.shown + expected) / sum(totals)
    error = np.sqrt(pooled * (1 - pooled) * (1 / totals[0] + 1 / totals[1]))
    deviations: NDArray[np.float64] = (shares[0] - shares[1]) / error
    return deviations


def families() -> Iterator[Any]:
    """Everything of this module, in the order of the table."""
    yield from (bpe, dictionary, streams, pair_order, layouts, sampling)
    yield from (position_scores, training_masks)

"""What the original's translator writes, greedily and by beam search, decoded anew.

The files and their conventions are described in the README of the golden folder: time first there,
batch first here.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.equality.golden_data import corpora_of, read_json
from benchmarks.equality.golden_models import load_model, translator_file
from benchmarks.support.agreement import Table
from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.data.original_pairs import OriginalPairStream
from xlm.metrics.translation import multi_bleu
from xlm.model.generate import Generated, Generation, generate
from xlm.model.pretrained import PretrainedModel

FILE = "mt/forward_and_decode.npz"
SCORE_TOLERANCE = 1e-4


def decoding(golden: Path, table: Table) -> None:
    """Tokens, lengths and texts of every decoding; tokens and scores of every hypothesis."""
    file = translator_file(golden)
    pretrained = load_model(golden, file)
    tokens, texts, kept, scores = [], [], [], []
    content = read_json(golden, "mt/decode.json")
    with np.load(golden / FILE) as arrays:
        for batch, entries in content.items():
            for entry in entries:
                found = _decoded(pretrained, arrays, batch, entry)
                lengths = arrays[f"{entry['array']}.lengths"].astype(np.int64)
                expected = arrays[f"{entry['array']}.tokens"].T.astype(np.int64)
                best = found.tokens[:, 0, : expected.shape[1]].numpy()
                tokens += [(best, expected), (found.lengths[:, 0].numpy(), lengths)]
                rows = range(len(lengths))
                texts.append(
                    ([_text(pretrained, found.texts(row)[0]) for row in rows], entry["text"])
                )
                for row, hypotheses in enumerate(entry.get("hypotheses", [])):
                    kept.append((found.texts(row), [own["tokens"][1:] for own in hypotheses]))
                    own = np.array([own["score"] for own in hypotheses])
                    scores.append((found.scores[row].numpy(), own))
    num = f"{sum(map(len, content.values()))} decodings of {Path(file).name}"
    table.exact(FILE, f"tokens and lengths, {num}", tokens)
    table.exact("mt/decode.json", f"texts, {num}", texts)
    table.exact("mt/decode.json", "tokens of the beams' hypotheses", kept)
    table.close("mt/decode.json", "scores of the beams' hypotheses", scores, SCORE_TOLERANCE)


def bleu(golden: Path, table: Table) -> None:
    """Held-out text translated as the original's evaluator does it, and the BLEU of that."""
    described = read_json(golden, "eval.json")
    known = described["hypotheses_and_references"]
    texts, scores = [], []
    for run in described["runs"]:
        wanted = {name: v for name, v in run["scores"].items() if name.endswith("_mt_bleu")}
        if not wanted:
            continue
        pretrained, settings = load_model(golden, run["model_file"]), run["settings"]
        corpora = corpora_of(golden, settings["data_path"])
        for name, value in wanted.items():
            split, pair = name.split("_")[:2]
            found, references = _translated(pretrained, corpora, settings, split, pair)
            scores.append((multi_bleu(found, references), value))
            file = f"{run['name']}/hyp0.{pair}.{split}.txt"
            if file in known:
                texts.append((found, known[file]))
    table.exact("eval.json", f"{len(texts)} files of translations, decoded anew", texts)
    table.close("eval.json", "BLEU of held-out text, decoded anew, percent", scores, 0.01)


def _translated(
    pretrained: PretrainedModel, corpora: Corpora, settings: dict[str, Any], split: str, pair: str
) -> tuple[list[str], list[str]]:
    """Translations and references, whole words, in the original's order: batches by length."""
    stream = OriginalPairStream(
        corpora, pair, objective="mt", split=split, rows=settings["batch_size"], tokens=None,
        num_specials=4, max_length=512, longest_side=None, most_pairs=None, sort=True, seed=0,
        shuffle=False,
    )  # fmt: skip
    found, references = [], []
    for k in range(stream.num_batches):
        examples = stream.examples(k)
        assert examples.second is not None
        wrapped = [stream.tokenizer.wrap(ids).tokens for ids in examples.first]
        longest = max(map(len, wrapped))
        tokens = torch.full((len(wrapped), longest), stream.tokenizer.pad_id)
        for row, own in enumerate(wrapped):
            tokens[row, : len(own)] = torch.from_numpy(own)
        result = _generated(
            pretrained, tokens, torch.tensor([len(own) for own in wrapped]), pair.split("-"),
            Generation(
                beam=settings["beam_size"], length_penalty=settings["length_penalty"],
                early_stopping=settings["early_stopping"],
            ),
            limit=int(1.5 * longest + 10),  # of the longest row of the batch
        )  # fmt: skip
        found += [_words(pretrained, result.texts(row)[0]) for row in range(len(wrapped))]
        references += [_words(pretrained, ids.tolist()) for ids in examples.second]
    return found, references


def _decoded(
    pretrained: PretrainedModel, arrays: Any, batch: str, entry: dict[str, Any]
) -> Generated:
    return _generated(
        pretrained,
        torch.from_numpy(arrays[f"{batch}.source"].T.astype(np.int64)),
        torch.from_numpy(arrays[f"{batch}.source_lengths"].astype(np.int64)),
        [entry["source_language"], entry["target_language"]],
        Generation(
            beam=entry.get("beam_size", 1), length_penalty=entry.get("length_penalty", 1.0),
            early_stopping=entry.get("early_stopping", False),
        ),
        limit=entry["max_len"],
    )  # fmt: skip


def _generated(
    pretrained: PretrainedModel, tokens: torch.Tensor, lengths: torch.Tensor,
    languages: list[str], settings: Generation, limit: int,
) -> Generated:  # fmt: skip
    source_id, target_id = (pretrained.languages[name] for name in languages)
    nothing = torch.zeros(0, dtype=torch.int64)
    source = Batch(
        tokens=tokens, positions=torch.arange(tokens.shape[1]).expand_as(tokens),
        langs=torch.full_like(tokens, source_id), segments=torch.zeros_like(tokens),
        lengths=lengths, rows=torch.arange(len(lengths)), predict=nothing, targets=nothing,
    )  # fmt: skip
    return generate(
        pretrained.transformer, source, torch.full_like(lengths, target_id),
        end_id=pretrained.tokenizer.end_id, settings=settings,
        limits=torch.full_like(lengths, limit),
    )  # fmt: skip


def _text(pretrained: PretrainedModel, ids: list[int]) -> str:
    """The pieces as the original writes them, not put together."""
    return " ".join(pretrained.tokenizer.pieces[at] for at in ids)  # type: ignore[attr-defined]


def _words(pretrained: PretrainedModel, ids: list[int]) -> str:
    return _text(pretrained, ids).replace("@@ ", "")


def families() -> Iterator[Any]:
    """Everything of this module, in the order of the table."""
    yield from (decoding, bleu)

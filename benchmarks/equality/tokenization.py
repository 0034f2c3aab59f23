"""Lines of real text through xlm's tokenizers and through their exports to transformers: same ids?

    python -m benchmarks.equality.tokenization FOLDER [--languages en hi ne] [--lines 5000]

``FOLDER/LANG/train.txt`` holds the text. Each tokenizer is learnt on the first lines of every
language, a model of that vocabulary is exported in XLM's shape, and ``AutoTokenizer`` opens what
was written. Then the following lines, which nothing was learnt on, are encoded by both.
``XLMTokenizer`` is called as users call it, on text that Moses' rules had prepared for xlm too, and
with Moses left out. Lines that differ are counted by whether ``<unk>`` explains them; a few are
printed, none is kept.
Needs the extra ``hf``.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks.support import record, toy
from xlm.interchange.transformers.xlm import read_transformers_xlm, write_transformers_xlm
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.readers import ReadReport, open_lines
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.learn_fastbpe import learn_fastbpe_tokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer

Encode = Callable[[str], Sequence[int]]
SHOWN = 2
"""Lines that differ, of each row, that are printed."""


def read_lines(path: Path, start: int, number: int) -> list[str]:
    """Normalized lines ``start`` to ``start + number`` of a file."""
    lines = open_lines(str(path), ReadReport(), invalid="drop")
    return list(itertools.islice(lines, start, start + number))


def exported(tokenizer: Tokenizer, languages: Sequence[str], folder: Path) -> Any:
    """What AutoTokenizer makes of a model with this tokenizer, and how it came back to us."""
    from transformers import AutoTokenizer

    shape = ModelConfig(dim=8, num_layers=1, num_heads=1, max_positions=1 << 16)
    ids = {language: at for at, language in enumerate(sorted(languages))}
    transformer = Transformer(
        shape, vocab_size=tokenizer.vocab_size, num_languages=len(ids), pad_id=tokenizer.pad_id
    )
    write_transformers_xlm(PretrainedModel(transformer, tokenizer, ids), folder)
    return AutoTokenizer.from_pretrained(folder)


def moses(peer: Any, line: str) -> str:
    """A line as XLMTokenizer prepares it, its words between spaces."""
    return " ".join(peer.moses_tokenize(peer.moses_pipeline(line, lang="en"), lang="en"))


def compare(
    what: str, language: str, lines: list[str], ours: Encode, theirs: Encode, unk: int
) -> dict[str, Any]:
    """How many lines have the same ids, and what the others differ in."""
    identical, explained, tokens, num_shown = 0, 0, 0, 0
    for line in lines:
        own, found = list(ours(line)), list(theirs(line))
        tokens += len(own)
        if own == found:
            identical += 1
            continue
        by_unk = found.count(unk) > own.count(unk)
        explained += by_unk
        if num_shown < SHOWN:
            num_shown += 1
            at = next((i for i, (a, b) in enumerate(zip(own, found, strict=False)) if a != b), 0)
            print(f"differs: {line}\n  xlm {own[at : at + 6]}, there {found[at : at + 6]}")
    return {
        "tokenizer": what,
        "language": language,
        "lines": len(lines),
        "identical": identical,
        "differ_by_unknown_pieces": explained,
        "differ_otherwise": len(lines) - identical - explained,
        "tokens": tokens,
    }


def pairs(
    kind: str, ours: Tokenizer, peer: Any, again: Tokenizer
) -> list[tuple[str, Encode, Encode]]:
    """Each way in which the two are called: its name, our ids of a line, theirs."""

    def plain(line: str) -> Sequence[int]:
        ids: Sequence[int] = peer(line, add_special_tokens=False)["input_ids"]
        return ids

    ways = [
        (f"{kind}, AutoTokenizer", ours.encode, plain),
        (f"{kind}, read again by xlm", ours.encode, again.encode),
    ]
    if type(peer).__name__ != "XLMTokenizer":
        return ways

    def bypassed(line: str) -> Sequence[int]:
        ids: Sequence[int] = peer.convert_tokens_to_ids(peer._tokenize(line, bypass_tokenizer=True))
        return ids

    return [
        (f"{kind}, XLMTokenizer", ours.encode, plain),
        (
            f"{kind}, XLMTokenizer, text prepared by Moses for both",
            lambda line: ours.encode(moses(peer, line)),
            plain,
        ),
        (f"{kind}, XLMTokenizer without Moses", ours.encode, bypassed),
        ways[1],
    ]


def byte_identical(folder: Path, peer: Any) -> bool:
    """Whether vocab.json and merges.txt come out of transformers as they went in."""
    peer.save_pretrained(folder / "saved")
    names = ("vocab.json", "merges.txt")
    return all((folder / n).read_bytes() == (folder / "saved" / n).read_bytes() for n in names)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compare lines of every language with every tokenizer, called in every way."""
    paths = {name: options.folder / name / "train.txt" for name in options.languages}
    learnt_on = [line for path in paths.values() for line in read_lines(path, 0, options.learnt_on)]
    texts = {
        name: read_lines(path, options.learnt_on, options.lines) for name, path in paths.items()
    }
    made = {
        "fastBPE": learn_fastbpe_tokenizer(learnt_on, options.vocabulary),
        "SentencePiece unigram": learn_sentencepiece(learnt_on, options.vocabulary),
        "SentencePiece BPE": learn_sentencepiece(learnt_on, options.vocabulary, kind="bpe"),
    }
    rows, round_trip = [], None
    for kind, tokenizer in made.items():
        with tempfile.TemporaryDirectory() as place:
            peer = exported(tokenizer, options.languages, Path(place))
            again = read_transformers_xlm(place).tokenizer
            if kind == "fastBPE":
                round_trip = byte_identical(Path(place), peer)
        for what, ours, theirs in pairs(kind, tokenizer, peer, again):
            for language, lines in texts.items():
                rows.append(compare(what, language, lines, ours, theirs, tokenizer.unk_id))
                print(rows[-1], flush=True)
    return {
        "transformers": version("transformers"),
        "tokenizers": version("tokenizers"),
        "learnt_on_lines": len(learnt_on),
        "vocabulary": options.vocabulary,
        "vocab_json_and_merges_txt_byte_identical": round_trip,
        "rows": rows,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="holds LANG/train.txt")
    parser.add_argument("--languages", nargs="+", default=["en", "hi", "ne"])
    parser.add_argument("--lines", type=int, default=5000, help="compared, per language")
    parser.add_argument("--learnt-on", type=int, default=10_000, help="lines before them, each")
    parser.add_argument("--vocabulary", type=int, default=8000, help="merges, or pieces")
    parser.add_argument(
        "--quick", action="store_true", help="try the corpus that ships; only printed"
    )
    options = parser.parse_args()
    if options.folder is None and not options.quick:
        parser.error("give the folder of the text, or --quick")
    with tempfile.TemporaryDirectory() as place:
        if options.quick:
            options.folder = toy.data(Path(place)) / "mono"
            options.learnt_on, options.lines, options.vocabulary = 50, 10, 500
        figures = measure(options)
    if not options.quick:
        print(record.write("tokenization", figures).name)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()

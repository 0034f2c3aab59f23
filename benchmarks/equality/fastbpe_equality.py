"""Segmentation of every word of a folder of text by the fastBPE package and by xlm: the same?

    python -m benchmarks.equality.fastbpe_equality FOLDER [--languages en hi ne] [--merges 8000]

``FOLDER/LANG/*.txt`` holds the text. Codes are learnt by xlm on the first lines of each language,
so that most words were not learnt on; every different word is then segmented without a vocabulary,
with that of the text, and with its frequent half, after which many words are split again. Words
that differ are printed, not kept.
Needs the compiled package: pip install cython setuptools wheel && pip install
--no-build-isolation fastBPE
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from itertools import chain, islice
from pathlib import Path
from typing import Any

from benchmarks.support import record, toy
from xlm.text.readers import ReadReport, open_lines
from xlm.text.tokenizers.fastbpe import Segmenter
from xlm.text.tokenizers.learn_fastbpe import count_words, fastbpe_vocabulary, learn_fastbpe

BLOCK = 10_000


def read_words(folder: Path, language: str) -> Counter[str]:
    """Every different word of a language, in the order of first occurrence, with its count."""
    files = sorted((folder / language).glob("*.txt"))
    lines = chain.from_iterable(
        open_lines(str(file), ReadReport(), invalid="drop") for file in files
    )
    return count_words(lines)


def learn(
    folder: Path, languages: list[str], num_lines: int, num_merges: int
) -> tuple[bytes, bytes]:
    """Codes and vocabulary from the first lines of each language."""
    counts: Counter[str] = Counter()
    for language in languages:
        file = sorted((folder / language).glob("*.txt"))[0]
        lines = open_lines(str(file), ReadReport(), invalid="drop")
        counts.update(count_words(islice(lines, num_lines)))
    codes = learn_fastbpe(counts, num_merges)
    return codes, fastbpe_vocabulary(counts, codes)


def compare(words: list[str], codes: bytes, vocabulary: bytes | None) -> dict[str, object]:
    """How many of ``words`` both segment alike, and the seconds that each took."""
    import fastBPE

    with tempfile.TemporaryDirectory() as place:
        paths = [Path(place, "codes"), Path(place, "vocab")]
        paths[0].write_bytes(codes)
        paths[1].write_bytes(vocabulary or b"")
        peer = fastBPE.fastBPE(str(paths[0]), str(paths[1]) if vocabulary else "")
    segment = Segmenter(codes, vocabulary)
    num_equal, num_split, theirs_seconds, ours_seconds = 0, 0, 0.0, 0.0
    for start in range(0, len(words), BLOCK):
        block = words[start : start + BLOCK]
        clock = time.perf_counter()
        theirs = peer.apply(block)
        theirs_seconds += time.perf_counter() - clock
        clock = time.perf_counter()
        ours = [" ".join(segment(word)) for word in block]
        ours_seconds += time.perf_counter() - clock
        num_split += sum(" " in text for text in ours)
        for found, expected in zip(ours, theirs, strict=True):
            num_equal += found == expected
            if found != expected:
                print(f"differs: {found} | {expected}")
    return {
        "words": len(words),
        "split_into_pieces": num_split,
        "identical": num_equal,
        "fastbpe_seconds": round(theirs_seconds, 2),
        "xlm_seconds": round(ours_seconds, 2),
    }


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Compare every word of every language under three vocabularies."""
    codes, vocabulary = learn(options.folder, options.languages, options.lines, options.merges)
    entries = vocabulary.splitlines(keepends=True)
    vocabularies = {
        "without vocabulary": None,
        "with the vocabulary": vocabulary,
        "with its frequent half": b"".join(entries[: len(entries) // 2]),
    }
    runs = []
    for language in options.languages:
        words = list(read_words(options.folder, language))
        for name, chosen in vocabularies.items():
            runs.append({"language": language, "what": name, **compare(words, codes, chosen)})
            print(json.dumps(runs[-1], ensure_ascii=False), flush=True)
    return {
        "fastbpe": version("fastBPE"),
        "merges": codes.count(b"\n"),
        "vocabulary": len(entries),
        "different_words": sum(run["words"] for run in runs) // len(vocabularies),
        "all_identical": all(run["words"] == run["identical"] for run in runs),
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="holds LANG/*.txt")
    parser.add_argument("--languages", nargs="+", default=["en", "hi", "ne"])
    parser.add_argument("--merges", type=int, default=8000)
    parser.add_argument("--lines", type=int, default=10_000, help="learned on, per language")
    parser.add_argument(
        "--quick", action="store_true", help="try the corpus that ships; only printed"
    )
    options = parser.parse_args()
    if options.folder is None and not options.quick:
        parser.error("give the folder of the text, or --quick")
    with tempfile.TemporaryDirectory() as place:
        if options.quick:
            options.folder, options.merges = toy.data(Path(place)) / "mono", 300
        figures = measure(options)
    if not options.quick:
        record.write("fastbpe_equality", figures)
    print(json.dumps({key: figures[key] for key in ("different_words", "all_identical")}))


if __name__ == "__main__":
    main()

"""A folder with everything that ``xlm analyze`` takes, small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.analysis.models import lines, tiny
from xlm.analyze import Analyze

NUM = 24
SMALL: dict[str, Any] = {"only": ["overlap", "anisotropy"], "untrained": False}


def fill(folder: Path) -> Path:
    """Write a model, another of its shape, and a small file for every setting."""
    tiny().save_pretrained(folder / "model")
    tiny(dropout=0.3).save_pretrained(folder / "other")
    for language in ("en", "hi", "ne"):
        write(folder / f"{language}.txt", lines(language, NUM))
    words = [(a.split()[0], b.split()[0]) for a, b in zip(lines("en"), lines("hi"), strict=True)]
    write(folder / "dictionary.txt", [f"{a} {b}" for a, b in words])
    write(folder / "scored.txt", [f"{a}\t{b}\t{at % 4}" for at, (a, b) in enumerate(words)])
    links = [f"0-0 {len(line.split()) - 1}p0" for line in lines("en", NUM)]
    write(folder / "links.txt", links)
    write(folder / "wic.txt", ["the\tN\t0-0\tthe water\tthe soil"] * 4 + ["a\tN\t0-0\ta b\ta"] * 4)
    write(folder / "wic.gold.txt", ["T", "F"] * 4)
    context = "1\ta\tn\tb\tn\tthe <b> water </b> is\tin <b> soil </b>\t{}\t1"
    write(folder / "scws.txt", [context.format(at) for at in range(4)]
          + [context.replace("soil", "air").format(9)])  # fmt: skip
    write(folder / "pairs.tsv", ["agreement\tthe water the\tthe water of"])
    labeled = [f"{'odd' if at // 2 % 2 else 'even'}\t{line}" for at, line in enumerate(lines("en"))]
    write(folder / "labeled.tsv", ["label\ttext", *labeled])
    write(folder / "scores.tsv", ["en\t90", "hi\t50", "ne\t40"])
    write(folder / "distance.tsv", ["en\t0", "hi\t0.4", "ne\t0.5"])
    vectors = [f"{word} {at} 1 {at % 3}" for at, pair in enumerate(words) for word in pair]
    write(folder / "vectors.vec", vectors)
    write(folder / "narrow.vec", ["water 1 2"])
    write(folder / "blank.txt", ["", " "])
    return folder


def write(path: Path, text: list[str]) -> None:
    path.write_text("\n".join(text) + "\n", encoding="utf-8")


def settings(root: Path, folder: Path, **fields: Any) -> Analyze:
    texts = {language: f"{language}.txt" for language in ("en", "hi", "ne")}
    given: dict[str, Any] = {
        "model": str(root / "model"), "folder": str(folder), "root": str(root), "texts": texts,
        "pairs": {"en-hi": ["en.txt", "hi.txt"]}, "parallel": texts, "device": "cpu",
    }  # fmt: skip
    return Analyze(**{**given, **fields})


def everything(root: Path) -> dict[str, Any]:
    return {
        "compare": {"other": str(root / "other")}, "parent": str(root / "other"),
        "dictionaries": {"en-hi": "dictionary.txt"}, "similarity": {"en-hi": "scored.txt"},
        "alignments": {"en-hi": ["en.txt", "hi.txt", "links.txt"]},
        "wic": {"train": ["wic.txt", "wic.gold.txt"], "dev": ["wic.txt", "wic.gold.txt"]},
        "scws": "scws.txt", "minimal_pairs": {"en": "pairs.tsv"},
        "probes": {"parity": {"en": "labeled.tsv", "hi": "labeled.tsv"}},
        "scores": {"task": "scores.tsv"}, "indicators": {"distance": "distance.tsv"},
        "embeddings": {"en": "vectors.vec", "hi": "vectors.vec"},
    }  # fmt: skip

"""Data as the original's preprocess.py leaves it, made from the corpus that ships."""

from __future__ import annotations

import sys
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm import sample
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer

LANGUAGES = {"en": 0, "hi": 1, "ne": 2}


def lines_of(name: str) -> list[str]:
    return sample.path(name).read_text(encoding="utf-8").splitlines()


def learn() -> FastBpeTokenizer:
    """Learn a small fastBPE tokenizer."""
    lines = [line for name in LANGUAGES for line in lines_of(f"valid.{name}.txt")]
    return learn_fastbpe_tokenizer(lines, 250)


def binarize(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tokenizer: FastBpeTokenizer
) -> Callable[[str, list[str]], None]:
    """Write lines as the original's preprocess.py does (docs/fidelity.md, A11): made anew here."""
    module = types.ModuleType("xlm.data.dictionary")
    module.Dictionary = type("Dictionary", (), {"__module__": module.__name__})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    numbers = {piece: at for at, piece in enumerate(tokenizer.pieces)}

    def write(name: str, lines: list[str]) -> None:
        dictionary = module.Dictionary()
        dictionary.id2word = dict(enumerate(tokenizer.pieces))
        dictionary.word2id = numbers
        dictionary.counts = dict(zip(tokenizer.pieces, tokenizer.counts, strict=True))
        ids, positions, unknown = [], [], Counter[str]()
        for line in lines:
            start = len(ids)
            for piece in tokenizer.segment.line(line):
                ids.append(numbers.get(piece, 3))
                unknown.update([piece] if ids[-1] == 3 else [])
            positions.append([start, len(ids)])
            ids.append(1)
        content = {
            "dico": dictionary, "sentences": np.array(ids, np.uint16),
            "positions": np.array(positions, np.int64), "unk_words": dict(unknown),
        }  # fmt: skip
        torch.save(content, folder / f"{name}.pth")

    return write


def write_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fast: FastBpeTokenizer) -> Path:
    """Make a folder of the original's data; beside it stands the text it was made from."""
    folder = tmp_path / "data"
    folder.mkdir()
    write = binarize(folder, monkeypatch, fast)
    english, nepali = (lines_of(f"train.{name}.txt")[:40] for name in ("en", "ne"))
    english[4] = ""
    for name, lines in (("en", english), ("ne", nepali)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        write(f"valid.en-ne.{name}", lines)
    write("train.ne", nepali)
    write("train.en.0", english[:15])
    write("train.en.1", english[15:])
    (folder / "codes").write_bytes(fast.codes)
    (folder / "vocab").write_bytes(fast.vocabulary)
    return folder

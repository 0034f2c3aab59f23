"""Damage to checkpoints, prepared text and model directories: noticed, or without consequence."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

import xlm
from benchmarks.fault_trials.common import Tally
from xlm.data.corpora import SPLITS, Corpora
from xlm.data.verification import verify_corpora
from xlm.errors import XlmError
from xlm.training import checkpoint

Damage = Callable[[Path, random.Random], None]


def flip(path: Path, choose: random.Random) -> None:
    """Change one bit, anywhere."""
    content = bytearray(path.read_bytes())
    content[choose.randrange(len(content))] ^= 1 << choose.randrange(8)
    path.write_bytes(content)


def cut(path: Path, choose: random.Random) -> None:
    """Keep the beginning."""
    content = path.read_bytes()
    path.write_bytes(content[: choose.randrange(len(content))])


def zero(path: Path, choose: random.Random) -> None:
    """Zero up to 64 bytes, as a disk that lost a block."""
    content = bytearray(path.read_bytes())
    at = choose.randrange(len(content))
    content[at : at + 64] = bytes(len(content[at : at + 64]))
    path.write_bytes(content)


def grow(path: Path, choose: random.Random) -> None:
    """Append bytes that do not belong there."""
    with path.open("ab") as file:
        file.write(bytes(choose.randrange(1, 256) for _ in range(8)))


def remove(path: Path, _: random.Random) -> None:
    """Take the file away."""
    path.unlink()


DAMAGES: tuple[Damage, ...] = (flip, flip, cut, zero, grow, remove)


def cases(
    whole: Path, num: int, choose: random.Random
) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield ``num`` damages to the files of a folder, each with its name, then exchanges."""
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    files = [name for name in files if (whole / name).stat().st_size and name.name != ".lock"]
    for at in range(num):
        name, damage = files[at % len(files)], DAMAGES[(at // len(files) + at) % len(DAMAGES)]
        yield f"{damage.__name__} {name}", lambda f, d=damage, n=name: d(f / n, choose)  # type: ignore[misc]


def exchanges(whole: Path) -> Iterator[tuple[str, Callable[[Path], None]]]:
    """Yield exchanges of two corpora or of two of their files."""
    parts = sorted(path.parent.relative_to(whole) for path in whole.rglob("header.json"))
    for at, one in enumerate(parts):
        for other in parts[at + 1 :]:
            if one not in other.parents:
                yield f"{one} <-> {other}", lambda f, a=one, b=other: _exchange(f / a, f / b)  # type: ignore[misc]
    for name in ("ids.bin", "offsets.bin", "counts.bin"):
        texts = [part / name for part in parts if (whole / part / name).exists()]
        for at, one in enumerate(texts):
            for other in texts[at + 1 :]:
                yield f"{one} <-> {other}", lambda f, a=one, b=other: _exchange(f / a, f / b)  # type: ignore[misc]


def _exchange(one: Path, other: Path) -> None:
    aside = one.with_name("aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def same_files(one: Path, other: Path) -> bool:
    """Whether two folders hold the same bytes, but for space at a text's end."""
    names = [{p.relative_to(f) for p in f.rglob("*") if p.is_file()} for f in (one, other)]
    return names[0] == names[1] and all(
        (one / name).read_bytes().rstrip() == (other / name).read_bytes().rstrip()
        for name in names[0]
    )


def damaged(data: Path, run: Path, folder: Path, num: int) -> Tally:
    """Damage each of the three kinds of folder ``num // 3`` times, and use it."""
    tally = Tally(
        "damage to checkpoints, corpora, model directories", "noticed, or without consequence"
    )
    choose = random.Random(2)
    step = max((run / "checkpoints").glob("step-*"))
    for whole, use in ((step, use_checkpoint), (data, use_corpora), (run / "model", use_model)):
        expected = use(whole)
        every = list(cases(whole, num // 3, choose))
        every += list(exchanges(whole)) if whole == data and num > 30 else []
        for name, apply in every:
            target = folder / whole.name
            shutil.copytree(whole, target)
            apply(target)
            problem = ""
            try:
                if use(target) != expected and not same_files(whole, target):
                    problem = "used in silence"
            except XlmError as error:
                problem = "" if len(str(error).splitlines()) == 1 else "several lines"
            except Exception as error:
                problem = f"{type(error).__name__}: {error}"
            tally.add(f"{whole.name}: {name}", problem)
            shutil.rmtree(target)
    return tally


def use_checkpoint(path: Path) -> object:
    """The content of a checkpoint as a resume reads it."""
    loaded = checkpoint.load(path)
    tensors = loaded.tensors("model")
    return sorted((name, tensor.double().sum().item()) for name, tensor in tensors.items())


def use_corpora(path: Path) -> object:
    """Everything of a folder of corpora as a run uses it, verified as at its first start."""
    corpora = Corpora.open(path)
    verify_corpora(path)
    found: list[object] = [sorted(corpora.languages.items())]
    for split in SPLITS:
        names = corpora.names(split)
        texts = [corpora.text(split, name) for name in names["texts"]]
        pairs = [corpora.pairs(split, name) for name in names["pairs"]]
        sides = [side for pair in pairs for side in pair.sides]
        for text in [*texts, *sides]:
            found += [text.language, text.text_size, bytes(text.ids), bytes(text.offsets)]
        found += [bytes(pair.order()) for pair in pairs]
    return found


def use_model(path: Path) -> object:
    """What a model says."""
    model = xlm.load(path)
    with torch.no_grad():
        hidden = model.encode(model.batch(["a b c"], "en"))
    return hidden.double().sum().item()

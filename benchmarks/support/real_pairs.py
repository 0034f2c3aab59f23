"""Real pairs of English, Hindi and Nepali, prepared once for translators and language models.

Pairs of user interfaces, and verses in English and Hindi: their sides are the text of each language
too, so all kinds of pretraining read the same sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.support import translators
from benchmarks.support.many_languages_lab import Lab
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare

CENTER = "en"
LANGUAGES = ("hi", "ne")
"""The languages that have pairs with English."""
WITH_ENGLISH = tuple(f"{CENTER}-{language}" for language in LANGUAGES)
WITHOUT = "-".join(LANGUAGES)
"""The pair that a translator of the others was never trained on."""
MORE = {"en-hi": ("quran",)}
"""Further files of a pair beside ``train``."""
HELD_OUT = 200
"""Most held-out pairs, and lines of text, that a model is measured on at its end."""


def prepared(lab: Lab, data: Path, pieces: int) -> None:
    """Write and prepare text and all pairs, with a vocabulary of their own, if not yet there."""
    if (lab.data / "corpora.json").exists():
        return
    pairs = (*WITH_ENGLISH, WITHOUT)
    files = {
        split: {pair: sides(lab.folder / "text", data, pair, split) for pair in pairs}
        for split in ("train", "valid")
    }
    text: dict[str, dict[str, list[str]]] = {split: {} for split in files}
    for split, own in files.items():
        for pair in WITH_ENGLISH:  # the third pair is no text of its own: it is held out
            for language, file in zip(pair.split("-"), own[pair], strict=True):
                text[split].setdefault(language, []).append(file)
    prepare(
        Prepare(
            folder=str(lab.data),
            text=Texts(**{split: {name: paths if len(paths) > 1 else paths[0]
                                  for name, paths in own.items()} for split, own in text.items()}),
            pairs=Aligned(**files),
            vocabulary=Vocabulary(size=pieces, language_tokens=True),
            max_valid_sentences=HELD_OUT,
            workers=1,
        )
    )  # fmt: skip


def sides(folder: Path, data: Path, pair: str, split: str) -> list[str]:
    """Return the files of both sides of a split, all parts of it in one."""
    root = data / f"parallel/{pair}"
    parts = ("train", *MORE.get(pair, ())) if split == "train" else (f"{split}.ui",)
    found = []
    for language in pair.split("-"):
        path = folder / f"{split}.{pair}.{language}"
        if not path.exists():
            own = [root / f"{part}.{language}" for part in parts]
            translators.write(
                path, [line for one in own if one.exists() for line in translators.read(one)]
            )
        found.append(str(path))
    return found


def tested(data: Path, pair: str, languages: Sequence[str]) -> list[list[str]]:
    """Return the lines of the test of a pair in each of the languages."""
    return [translators.read(data / f"parallel/{pair}/test.ui.{name}") for name in languages]

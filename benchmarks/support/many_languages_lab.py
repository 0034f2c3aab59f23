"""A laboratory for translators of many languages: English, and x01 to xn with the truth known.

    drawn English --respelled in an alphabet of each language--> text, pairs, tasks --> models

Every word of x01 has one true twin in English and in every other language; in languages of odd
number the words stand in the order of English, in those of even number each two neighbors change
places. Names are copied, or respelled too. Each language has pairs with English of its own, so no
sentence is in two pairs.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import xlm
from benchmarks.support import entailment, small_english
from benchmarks.support.shifted import PLANE
from xlm.interchange.load import MODEL
from xlm.metrics.translation import corpus_scores
from xlm.model.config import ModelConfig
from xlm.model.generate import Generation
from xlm.objective import Objective
from xlm.objectives.translation import Translation
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer, Run, Schedule
from xlm.text.tokenizers.layouts import LayoutName
from xlm.training.initialization import Initialization
from xlm.training.restore import CHECKPOINTS

ENGLISH = "en"
STUDY = "models.json"
NUM_BYTES = 261
"""Pieces of a vocabulary that are bytes or special."""
WARMUP = 0.1


@dataclass(frozen=True)
class Size:
    """How large the laboratory is."""

    dim: int = 64
    num_layers: int = 2
    """Of the encoder, and of the decoder."""
    updates: int = 500
    languages: int = 4
    pairs: int = 4000
    """Training pairs of each language with English."""
    held_out: int = 60
    """Pairs of each language, for validation and as many for the test of translation."""
    tokens: int = 1000
    """Cells of the longer side of a micro-batch, of which an update has two."""
    pieces: int = 135
    """Of the vocabulary, for each language."""
    rate: float = 4e-3
    examples: int = 2400
    """Of entailment, in English; the other tasks, which are easier, have a third of it."""
    tested: int = 500
    """Examples of a task in each language."""
    epochs: int = 3
    """Of fine-tuning."""


QUICK = Size(
    dim=16, num_layers=1, updates=2, languages=2, pairs=40, held_out=4, tokens=400,
    pieces=60, examples=30, tested=15, epochs=1,
)  # fmt: skip


def spoken(size: Size) -> list[str]:
    """Return the languages beside English."""
    return [f"x{number:02}" for number in range(1, size.languages + 1)]


def respelled(word: str, language: str) -> str:
    """Return a word in the alphabet of a language; English is as it is."""
    if language == ENGLISH:
        return word
    return "".join(chr(PLANE + 0x100 * int(language[1:]) + ord(c)) for c in word)


def order_of(num_words: int, language: str) -> list[int]:
    """Return which word of English stands at each place: neighbors of even languages change."""
    places = list(range(num_words))
    if language != ENGLISH and int(language[1:]) % 2 == 0:
        return [at ^ 1 if at ^ 1 < num_words else at for at in places]
    return places


@dataclass(frozen=True)
class Lab:
    """A folder with all text, tasks and models of one size."""

    folder: Path
    size: Size
    copy_names: bool = True
    shuffled: bool = False
    """The training pairs have wrong partners; all other text is the same."""
    most: tuple[int, ...] = ()
    """The most training pairs of each language, if not as many as the size says."""

    @property
    def data(self) -> Path:
        """The prepared text."""
        return self.folder / ("data" + ("" if self.copy_names else "-respelled")
                              + ("-shuffled" if self.shuffled else ""))  # fmt: skip

    @property
    def tasks(self) -> Path:
        """The files of the tasks."""
        return self.folder / ("tasks" if self.copy_names else "tasks-respelled")

    def say(self, words: Sequence[str], language: str) -> str:
        """Return a sentence in a language, as text."""
        return " ".join(self.word(words[at], language) for at in order_of(len(words), language))

    def word(self, text: str, language: str) -> str:
        """Return a word in a language."""
        copied = self.copy_names and text in small_english.NAMES
        return text if copied else respelled(text, language)


def english(num: int, seed: int) -> list[list[str]]:
    """Return different sentences: two thirds of the small English, one of statements."""
    generator = random.Random(f"many languages {seed}")
    speaker = small_english.Speaker(f"many languages {seed}")
    found: dict[tuple[str, ...], None] = {}
    while len(found) < num:
        if generator.random() < 2 / 3:
            found[tuple(word.text for word in speaker.sentence())] = None
        else:
            found[tuple(str(entailment.statement(generator)).split())] = None
    return [list(words) for words in found]


def make_data(lab: Lab) -> None:
    """Write and prepare the text of a laboratory, unless it is there."""
    if (lab.data / "corpora.json").exists():
        return
    size, languages = lab.size, spoken(lab.size)
    each = size.pairs + 2 * size.held_out
    sentences = english(each * len(languages), 0)
    place = lab.folder / "text" / lab.data.name
    place.mkdir(parents=True, exist_ok=True)
    pairs: dict[str, dict[str, list[str]]] = {"train": {}, "valid": {}, "test": {}}
    texts: dict[str, dict[str, list[str]]] = {"train": {ENGLISH: []}, "valid": {ENGLISH: []}}
    for at, language in enumerate(languages):
        own = sentences[at * each : (at + 1) * each]
        cuts = (("valid", 0), ("test", size.held_out), ("train", 2 * size.held_out))
        for split, start in cuts:
            most = size.held_out if split != "train" else (*lab.most, *[size.pairs] * 99)[at]
            part = own[start : start + most]
            sides = [[lab.say(words, name) for words in part] for name in (ENGLISH, language)]
            if lab.shuffled and split == "train":
                random.Random(at).shuffle(sides[1])
            files = []
            for name, lines in zip((ENGLISH, language), sides, strict=True):
                path = place / f"{split}.{ENGLISH}-{language}.{name}"
                path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
                files.append(str(path))
            pairs[split][f"{ENGLISH}-{language}"] = files
            if split != "test":
                texts[split][ENGLISH].append(files[0])
                texts[split][language] = [files[1]]
    known = lab.folder / "data" if lab.shuffled else None
    prepare(
        Prepare(
            folder=str(lab.data),
            text=Texts(**{s: {n: f[0] if len(f) == 1 else f for n, f in own.items()}
                          for s, own in texts.items()}),
            pairs=Aligned(**pairs),
            vocabulary=Vocabulary(folder=str(known)) if known else Vocabulary(
                size=NUM_BYTES + size.pieces * (1 + size.languages), language_tokens=True
            ),
            workers=1,
        )
    )  # fmt: skip


def shape(size: Size, *, decoder: bool, vectors: bool) -> ModelConfig:
    """Return the shape of the laboratory's models; ``vectors`` are those of languages."""
    return ModelConfig(
        preset="rotary-tiny", dim=size.dim, num_layers=size.num_layers, num_heads=4,
        num_decoder_layers=size.num_layers if decoder else 0, shared_words=decoder,
        language_embeddings=vectors, dropout=0.0, attention_dropout=0.0, max_positions=64,
    )  # fmt: skip


def translation(
    size: Size, layout: LayoutName, directions: str = "m2m", **settings: Any
) -> Translation:
    """Return translation between English and all other languages."""
    return Translation(
        pairs=[f"{ENGLISH}-{language}" for language in spoken(size)],
        directions=directions,  # type: ignore[arg-type]
        center=None if directions == "m2m" else ENGLISH,
        layout=layout, tokens=size.tokens, length=32, num_lengths=4, shared_lengths=True,
        **settings,
    )  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """A model of a study: what it is trained with, and the arm that it begins from."""

    objectives: Mapping[str, Objective]
    parent: str = ""
    decoder: bool = True
    vectors: bool = False
    times: float = 1.0
    """As many updates as others have, times this."""
    shuffled: bool = False
    """It is trained on pairs with wrong partners."""
    directions: tuple[str, ...] = ()
    shape: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the model's shape that differ from the laboratory's."""


def model_folder(lab: Lab, name: str, seed: int) -> Path:
    """Return the folder of an arm's run."""
    return lab.folder / "models" / f"{name.replace(' ', '-').replace('+', '-')}-{seed}"


def trained(lab: Lab, arms: Mapping[str, Arm], name: str, seed: int) -> Path:
    """Train an arm, and its parent before it, unless it is finished; return its model's folder."""
    size, folder, arm = lab.size, model_folder(lab, name, seed), arms[name]
    if (folder / MODEL).exists() and (folder / "seconds").exists():
        return folder / MODEL
    parent = str(trained(lab, arms, arm.parent, seed)) if arm.parent else None
    start = Initialization(encoder=parent, decoder=parent if arm.decoder else None)
    steps = round(size.updates * arm.times)
    started = time.process_time()
    result = pretrain(
        Run(
            data=str((replace(lab, shuffled=True) if arm.shuffled else lab).data),
            folder=str(folder), seed=seed, steps=steps, group_size=2,
            objectives=dict(arm.objectives), initialize=start if parent else None,
            model=None if parent else replace(
                shape(size, decoder=arm.decoder, vectors=arm.vectors), **arm.shape
            ),
            optimizer=Optimizer(
                kind="muon", betas=(0.9, 0.98), weight_decay=0.01, max_grad_norm=1.0
            ),
            schedule=Schedule(
                kind="linear", peak_lr=size.rate, warmup_steps=max(1, round(WARMUP * steps))
            ),
            precision="auto", report_every=max(1, steps // 4), evaluate_every=steps,
            save_every=max(1, steps // 2), keep_last=1, tensorboard=False, device="cpu",
        )
    )  # fmt: skip
    if result.state.step < steps:
        raise SystemExit(f"stopped at update {result.state.step}; the same command resumes")
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # thrice the model's size
    (folder / "seconds").write_text(f"{time.process_time() - started:.1f}\n", encoding="utf-8")
    return folder / MODEL


def seconds(model: Path) -> float:
    """Return the processor time that the training of a model took."""
    return float((model.parent / "seconds").read_text(encoding="utf-8"))


def held_out(lab: Lab, language: str) -> tuple[list[str], list[str]]:
    """Return the test text of a language's pairs, English first."""
    place = lab.folder / "text" / lab.data.name
    first, second = (
        (place / f"test.{ENGLISH}-{language}.{name}").read_text(encoding="utf-8").splitlines()
        for name in (ENGLISH, language)
    )
    return first, second


def translation_figures(lab: Lab, path: Path, directions: str = "m2m") -> dict[str, Any]:
    """Return greedy BLEU by direction, and the share of words in the alphabet asked for."""
    model = xlm.load(path)
    bleu: dict[str, float] = {}
    alphabet: dict[str, float] = {}
    for language in spoken(lab.size):
        both = dict(zip((ENGLISH, language), held_out(lab, language), strict=True))
        ways = {"m2o": [(language, ENGLISH)], "o2m": [(ENGLISH, language)]}
        for source, target in ways.get(directions, [way for own in ways.values() for way in own]):
            found = model.translate(
                both[source], source=source, target=target, settings=Generation()
            )
            bleu[f"{source}-{target}"] = corpus_scores(found, both[target]).bleu.score
            alphabet[f"{source}-{target}"] = in_alphabet(found, target)
    return {"bleu": bleu, "in the alphabet": alphabet}


def in_alphabet(lines: Iterable[str], language: str) -> float:
    """Return the share of the words, copied names apart, that are in a language's alphabet."""
    words = [word for line in lines for word in line.split() if word not in small_english.NAMES]
    first = 0 if language == ENGLISH else PLANE + 0x100 * int(language[1:])
    inside = [all(first <= ord(c) < first + 0x100 for c in word) for word in words]
    return sum(inside) / len(inside) if inside else 0.0


def write_models(lab: Lab, arms: Mapping[str, Arm], seeds: Iterable[int]) -> Path:
    """List the models that are finished, in the file that ``xlm analyze --study`` reads."""
    entries = [
        {
            "arm": name, "seed": seed, "parent": arm.parent or None,
            "directions": list(arm.directions), "updates": round(lab.size.updates * arm.times),
            "folder": str((model_folder(lab, name, seed) / MODEL).relative_to(lab.folder)),
        }
        for seed in seeds
        for name, arm in arms.items()
        if (model_folder(lab, name, seed) / MODEL).exists()
    ]  # fmt: skip
    path = lab.folder / STUDY
    path.write_text(json.dumps(entries, indent=1) + "\n", encoding="utf-8")
    return path

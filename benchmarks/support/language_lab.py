"""A laboratory for language modules: English, and the same English in another alphabet.

The new language is the text's second half, respelled letter by letter (``shifted.respelled``), with
its words in the order of English, with neighbors exchanged, or reversed. So every piece of it has a
true twin, no line is a translation of another, and nothing is shared but spaces and symbols.

English is a file of it, or lines drawn from a chain: each word follows the one before as often as
in the corpus that ships. Models that train for seconds learn the chain, and hardly any English.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from sentencepiece import sentencepiece_model_pb2

from benchmarks.support.shifted import PLANE, respelled
from xlm import sample
from xlm.add_language import AddLanguage, NewText
from xlm.analysis.piece_translation import Known, precision
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.objectives.masked import MaskedLM
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.rng import Random
from xlm.run.config import Optimizer, Run, Schedule
from xlm.run.convergence import Guard
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.training.precision import PrecisionSetting

OLD, NEW = "en", "xx"
RATE = 5e-3
"""Peak learning rate of a table."""
ORDERS = ("same", "exchanged", "reversed", "shuffled")
"""The order of a line's words: English, neighbors exchanged, reversed, or drawn (the sabotage)."""
WORD = "\u2581"
"""SentencePiece's mark of the beginning of a word."""
SHORTEST, LONGEST = 4, 40
"""Words of the lines that are read."""
CHAIN_WORDS, CHAIN_FREE, CHAIN_LONGEST = 250, 0.1, 20


@dataclass(frozen=True)
class Size:
    """How large the laboratory is."""

    vocabulary: int = 520
    """Pieces, 256 of which are bytes: enough for the words of the chain to be pieces."""
    dim: int = 48
    num_layers: int = 2
    lines: int = 8_000
    """Lines of English, half of which are the new language's."""
    held_out: int = 300
    """Held-out lines of each language."""
    rows: int = 64
    length: int = 12
    """Tokens in a row, and positions of the model: few of them are learned in seconds."""
    old_steps: int = 1200
    steps: int = 500
    positions: Literal["learned", "rotary"] = "learned"
    plain_first: bool = True
    """Learned positions alone: the opening symbol has none (MonoTrans, section 2.2)."""
    old_rate: float = 4e-3
    """Peak learning rate of the model of English."""
    rate: float = RATE
    """Peak learning rate of a table."""
    precision: PrecisionSetting = "fp32"
    twin: bool = False
    """The new vocabulary is English's, respelled; else it is learned."""


ENGLISH = Size(
    vocabulary=1000, dim=96, num_layers=3, lines=120_000, rows=64, length=32, old_steps=1500,
    steps=1500, positions="rotary", plain_first=False, rate=1e-2, precision="auto", twin=True,
)  # fmt: skip
"""That of English text (``studies/monotrans_search.py``)."""
QUICK = Size(vocabulary=320, dim=16, num_layers=1, lines=400, held_out=40, rows=4, old_steps=3,
             steps=4)  # fmt: skip


def english(source: Path | None, size: Size) -> list[str]:
    """Return lines of English: of a file, or drawn from the chain of the corpus that ships.

    Those of a file are words in small letters, without punctuation, and stand in a drawn order, so
    that both halves are of the same kinds of text.
    """
    if source is None:
        return chain(sample.path("train.en.txt").read_text(encoding="utf-8"), size.lines)
    lines = [words(line) for line in source.read_text(encoding="utf-8").splitlines()]
    fitting = [" ".join(line) for line in lines if SHORTEST <= len(line) <= LONGEST]
    order = Random("lines of English").uniform(len(fitting)).argsort(kind="stable")
    return [fitting[at] for at in order[: size.lines]]


def words(line: str) -> list[str]:
    """Return the words of a line in small letters, without anything but letters."""
    spelled = ("".join(c for c in word.lower() if c.isalpha()) for word in line.split())
    return [word for word in spelled if word]


def chain(text: str, num_lines: int) -> list[str]:
    """Return lines in which a word follows another as often as in ``text``.

    Only the ``CHAIN_WORDS`` most frequent words are drawn; a share of ``CHAIN_FREE`` is drawn by
    frequency alone, whatever stands before it.
    """
    words = ["".join(c for c in word.lower() if c.isalpha()) for word in text.split()]
    common = [word for word, _ in Counter(filter(None, words)).most_common(CHAIN_WORDS)]
    number = {word: at for at, word in enumerate(common)}
    ids = [number[word] for word in words if word in number]
    follows = np.zeros((len(common), len(common)))
    np.add.at(follows, (ids[:-1], ids[1:]), 1.0)
    frequency = np.bincount(ids, minlength=len(common)) / len(ids)
    own = follows / np.maximum(follows.sum(1, keepdims=True), 1.0)
    steps = np.cumsum((1 - CHAIN_FREE) * own + CHAIN_FREE * frequency, axis=1)
    random = Random("chain")
    # lines of many lengths, or the model would know where each ends
    lengths = SHORTEST + random.integers(num_lines, CHAIN_LONGEST - SHORTEST + 1)
    now = random.choice(frequency, num_lines)
    lines = [now]
    for _ in range(CHAIN_LONGEST - 1):
        drawn = random.uniform(num_lines)[:, None]
        now = np.minimum((steps[now] < drawn).sum(1), len(common) - 1)
        lines.append(now)
    return [
        " ".join(common[at] for at in line[:length])
        for line, length in zip(np.stack(lines, 1), lengths, strict=True)
    ]


def in_order(line: str, order: str, number: int) -> str:
    """Return a line's words in one of ``ORDERS``; ``number`` addresses the drawn one."""
    words = line.split()
    if order == "reversed":
        words.reverse()
    elif order == "exchanged":
        words = [words[at ^ 1] if at ^ 1 < len(words) else words[at] for at in range(len(words))]
    elif order == "shuffled":
        drawn = np.argsort(Random("shuffled words", number).uniform(len(words)), kind="stable")
        words = [words[at] for at in drawn]
    return " ".join(words)


def write_texts(folder: Path, lines: Sequence[str], size: Size) -> None:
    """Write the texts of English and of the new language in every order, unless they are there."""
    half = len(lines) // 2
    texts = {OLD: lines[:half]}
    for order in ORDERS:
        own = [in_order(line, order, at) for at, line in enumerate(lines[half:])]
        texts[f"{NEW}-{order}"] = [respelled(line) for line in own]
    for name, text in texts.items():
        for split, part in (("train", text[: -size.held_out]), ("valid", text[-size.held_out :])):
            path = folder / "text" / f"{name}.{split}.txt"
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(f"{line}\n" for line in part), encoding="utf-8")


def text_of(folder: Path, name: str) -> NewText:
    """Return the text of a language that ``write_texts`` wrote."""
    return NewText(**{
        split: str(folder / "text" / f"{name}.{split}.txt") for split in ("train", "valid")
    })  # fmt: skip


def old_model(folder: Path, size: Size, seed: int) -> Path:
    """Pretrain the model of English, unless it is there; return its run."""
    data, run = folder / "old-data", old_run(folder, size, seed)
    place = Path(run.folder)
    if (place / "model" / "SHA256SUMS").exists():
        return place
    if not (data / "corpora.json").exists():
        text = text_of(folder, OLD)
        prepare(
            Prepare(
                folder=str(data),
                text=Texts(train={OLD: text.train}, valid={OLD: text.valid}),
                vocabulary=Vocabulary(size=size.vocabulary, begins=True),
                workers=1,
            )
        )
    pretrain(run)
    return place


def old_run(folder: Path, size: Size, seed: int) -> Run:
    """Return the run that pretrains the model of English."""
    return Run(
        data=str(folder / "old-data"), folder=str(folder / f"old-{seed}"), seed=seed,
        objectives={"lm": MaskedLM(
            languages=[OLD], rows=size.rows, length=size.length, frequency_exponent=0.0,
            mask_rate=0.3, evaluation_mask_rate=0.15, evaluation_folds=1,
        )},
        model=shape(size),
        steps=size.old_steps, group_size=1, precision=size.precision,
        optimizer=Optimizer(
            kind="muon", betas=(0.9, 0.98), weight_decay=0.01, max_grad_norm=1.0
        ),
        schedule=Schedule(
            kind="linear", peak_lr=size.old_rate, warmup_steps=min(100, size.old_steps // 4)
        ),
        evaluate_every=size.old_steps, save_every=size.old_steps, keep_last=1,
        report_every=500, tensorboard=False, device="cpu",
    )  # fmt: skip


def shape(size: Size) -> ModelConfig:
    """Return the shape of the laboratory's models."""
    return ModelConfig(
        preset="rotary-tiny", positions=size.positions, dim=size.dim,
        num_layers=size.num_layers, num_heads=4, max_positions=size.length, dropout=0.0,
        attention_dropout=0.0, plain_first=size.plain_first and size.positions == "learned",
    )  # fmt: skip


def adding(
    folder: Path, size: Size, place: str, *, order: str = "same", seed: int, body: int,
    **changes: Any,
) -> AddLanguage:  # fmt: skip
    """Return the settings that add the new language, in an order of words, to a model of English.

    The words start anew, drawn with the mean and deviation of English's: no piece is equal.
    """
    given: dict[str, Any] = {
        "model": str(folder / f"old-{body}"),
        "folder": str(folder / place),
        "language": NEW,
        "text": text_of(folder, f"{NEW}-{order}"),
        "vocabulary": Vocabulary(folder=str(vocabulary_of(folder, size))),
        "start": "copy",
        "steps": size.steps,
        "rows": size.rows,
        "length": size.length,
        "group_size": 1,
        "mask_rate": 0.3,
        "precision": size.precision,
        "schedule": Schedule(kind="linear", peak_lr=size.rate, warmup_steps=50),
        "evaluate_every": max(1, size.steps // 4),
        "seed": seed,
        "guard": Guard(),
        "workers": 1,
        "device": "cpu",
    }
    return AddLanguage(**{**given, **changes})


def vocabulary_of(folder: Path, size: Size) -> Path:
    """Prepare the new language's vocabulary, unless it is there; return its folder.

    That of a twin has English's pieces, respelled, in a drawn order, so that a respelled line is
    cut as the line is; the text of English must be prepared. Else it is learned on respelled text
    that English's was learned on, so that nearly all pieces have a twin.
    """
    place = folder / "new-vocabulary"
    if not (place / "corpora.json").exists():
        source, target = folder / "text" / f"{OLD}.train.txt", folder / "text" / "twin.txt"
        target.write_text(respelled_lines(source), encoding="utf-8")
        vocabulary = Vocabulary(size=size.vocabulary, begins=True)
        if size.twin:
            model = folder / "twin.model"
            old = folder / "old-data/tokenizer/sentencepiece.model"
            model.write_bytes(twin_model(old.read_bytes()))
            vocabulary = Vocabulary(model=str(model), begins=True)
        prepare(
            Prepare(
                folder=str(place), text=Texts(train={NEW: str(target)}), vocabulary=vocabulary,
                workers=1,
            )
        )  # fmt: skip
    return place


def twin_model(old: bytes) -> bytes:
    """Return a SentencePiece model with respelled pieces, those of text in a drawn order."""
    protobuf: Any = sentencepiece_model_pb2
    model = protobuf.ModelProto()
    model.ParseFromString(old)
    own = [at for at, piece in enumerate(model.pieces) if piece.type == piece.NORMAL]
    twins = [(WORD.join(map(respelled, model.pieces[at].piece.split(WORD))), model.pieces[at].score)
             for at in own]  # fmt: skip
    order = Random("twins").uniform(len(own)).argsort(kind="stable")
    for at, source in zip(own, order, strict=True):
        model.pieces[at].piece, model.pieces[at].score = twins[source]
    return bytes(model.SerializeToString())


def respelled_lines(source: Path) -> str:
    """Return the lines of a file in the new language."""
    lines = source.read_text(encoding="utf-8").splitlines()
    return "".join(f"{respelled(line)}\n" for line in lines)


def twins(new: Tokenizer, old: Tokenizer) -> dict[int, int]:
    """Return the true id in English of each respelled piece that has one.

    Pieces that both vocabularies have, such as those of bytes, are none: a start keeps their rows.
    """
    known = {piece: at for at, piece in enumerate(old.pieces) if at not in old.special_ids}
    plain = {
        at: "".join(chr(ord(c) - PLANE) if ord(c) >= PLANE else c for c in piece)
        for at, piece in enumerate(new.pieces)
        if at not in new.special_ids and any(ord(c) >= PLANE for c in piece)
    }
    return {at: known[piece] for at, piece in plain.items() if piece in known}


def twins_found(model: PretrainedModel, counts: NDArray[np.int64] | None = None, most: int = 100
                ) -> float:  # fmt: skip
    """Return the share of new pieces that lie nearest to their twin, by the cosine of their rows.

    With ``counts`` of the new pieces only the ``most`` frequent are asked.
    """
    truth = twins(model.tables[NEW].tokenizer, model.tokenizer)
    ids = list(truth)
    if counts is not None:
        ids = sorted(ids, key=lambda at: -int(counts[at]))[:most]
    special = model.tokenizer.special_ids
    own = set(model.tables[NEW].tokenizer.pieces)
    pieces = model.tokenizer.pieces
    others = [at for at in range(len(pieces)) if at not in special and pieces[at] not in own]
    known = Known(np.array(ids), np.array([truth[at] for at in ids]), np.array(others))
    encoder = model.transformer.encoder
    return precision(encoder.table(NEW).words.weight, encoder.words.weight, known) or 0.0

"""Table 2 of XLM where the truth is known: unsupervised translation of English and its shift.

    python -m benchmarks.studies.unsupervised_shifted --data data --folder runs/unsupervised-shifted

The second language is English whose words are written in another alphabet (shifted.py) and in each
``--every`` of which the middle two change places; digits and punctuation stay as they are. The two
sides are different sentences, the held-out pairs exact translations. What the source is worth as
its own translation, and what a translator of single words would reach, is printed first. Encoder
and decoder start from nothing, CLM or MLM, or from the embeddings of MLM alone (EMB): ten cells
with equally many updates of denoising and back-translation. ``--data`` holds mono/en/train.txt.
Pretraining is done once a seed and objective. Everything that is finished is not run again;
``--only`` runs some cells, and ``--quick`` tries it on the corpus that ships. ``--searched`` names
folders of such trials of MLM in both, whose settings and scores it sets beside each other.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F

import xlm
from benchmarks.studies.finetuning_shifted import BOTH, spoken
from benchmarks.support import downstream, record, shifted, toy, translators
from benchmarks.support.shifted_sentences import DIRECTIONS, files
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError
from xlm.evaluate import Evaluate, evaluate_run
from xlm.interchange.load import MODEL
from xlm.model.config import ModelConfig
from xlm.model.generate import Generation
from xlm.objective import Objective
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.causal import CausalLM
from xlm.objectives.denoising import Denoising
from xlm.objectives.masked import MaskedLM
from xlm.pretrain import pretrain
from xlm.run.config import Optimizer, Run, Schedule
from xlm.run.selection import mean_of
from xlm.training.initialization import Initialization

STARTS = ("none", "clm", "mlm")
CELLS = ("emb-emb", *(f"{encoder}-{decoder}" for encoder in STARTS for decoder in STARTS))
"""Encoder and decoder, in the order of the paper's table."""
REPEATED = ("none-none", "clm-clm", "mlm-none", "none-mlm", "mlm-mlm")
"""The cells that conclusions rest on: every seed. The others have the first."""
SECONDS = "seconds.txt"
SHAPES: dict[str, dict[str, Any]] = {
    "2019": {},
    "rotary": {"positions": "rotary", "initialization": "normal"},
}
SIZES = ("lines", "shortest", "longest", "words", "most", "merges", "every")
SETTINGS = (
    "shape", "dim", "layers", "dropout", "rows", "length", "masks", "pretraining_steps",
    "pretraining_lr", "steps", "lr", "tokens", "num_lengths", "denoising",
)  # fmt: skip
FIGURES = ("bleu", "chrf", "copied", "empty")


def hold(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note what a folder is made with; raises ConfigError where it was made with other settings."""
    path = folder / "settings.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else settings
    other = [name for name, own in settings.items() if before.get(name) != own]
    if other:
        found = ", ".join(f"{name} {before.get(name)}, now {settings[name]}" for name in other)
        raise ConfigError(f"{folder} was made with {found}: give another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def shape(arguments: argparse.Namespace, *, translator: bool) -> ModelConfig:
    """A translator has a decoder, and has to be told the language that it is to write.

    What is pretrained tells none apart, as in finetuning_shifted.py: states of the two languages
    are nearer to each other so. The translator's table of languages then starts at zero.
    """
    return ModelConfig(
        dim=arguments.dim, num_layers=arguments.layers, num_heads=4,
        num_decoder_layers=arguments.layers if translator else 0,
        dropout=arguments.dropout if translator else 0.0, attention_dropout=0.0,
        language_embeddings=translator, **SHAPES[arguments.shape],
    )  # fmt: skip


def common(arguments: argparse.Namespace, steps: int, seed: int, lr: float) -> dict[str, Any]:
    """What all runs share."""
    return {
        "data": str(arguments.folder / "corpora"), "steps": steps, "seed": seed, "group_size": 1,
        "optimizer": Optimizer(
            kind="muon" if arguments.shape == "rotary" else "adamw",
            weight_decay=0.01, max_grad_norm=1.0,
        ),
        "schedule": Schedule(kind="linear", peak_lr=lr, warmup_steps=max(1, steps // 10)),
        "evaluate_every": max(1, steps // 4), "save_every": max(1, steps // 4),
        "report_every": max(1, steps // 20), "keep_last": 1, "tensorboard": False, "device": "cpu",
    }  # fmt: skip


def language_model(arguments: argparse.Namespace, corpora: Corpora, name: str, seed: int) -> Path:
    """Pretrain an objective with a seed, or go on with it."""
    rows = {"languages": list(BOTH), "rows": arguments.rows, "length": arguments.length}
    objective: Objective = (
        CausalLM(**rows)
        if name == "clm"
        else MaskedLM(mask_rate=arguments.masks, frequency_exponent=0.0, evaluation_folds=1, **rows)
    )
    folder = Path(arguments.folder / f"models/{name}-{seed}")
    settings = common(arguments, arguments.pretraining_steps, seed, arguments.pretraining_lr)
    model = shape(arguments, translator=False)
    train(Run(folder=str(folder), objectives={name: objective}, model=model, **settings), corpora)
    return folder


def translator(
    arguments: argparse.Namespace, corpora: Corpora, cell: str, seed: int, sources: dict[str, Path]
) -> Path:
    """Train a cell with a seed, or go on with it; ``sources`` are the models it starts from."""
    encoder, decoder = (
        str(sources[source]) if source in sources else None
        for source in ("mlm" if side == "emb" else side for side in cell.split("-"))
    )
    start = Initialization(
        encoder=encoder,
        decoder=decoder,
        only="embeddings" if cell == "emb-emb" else "all",
        new_languages="mean",
    )
    before, after = arguments.denoising
    objectives: dict[str, Objective] = {
        "ae": Denoising(
            languages=list(BOTH), tokens=arguments.tokens, num_lengths=arguments.num_lengths,
            weight=[[0, before], [arguments.steps, after]],
        ),
        "bt": BackTranslation(
            pairs=list(DIRECTIONS), tokens=arguments.tokens, num_lengths=arguments.num_lengths,
            decode=Generation(),
        ),
    }  # fmt: skip
    folder = Path(arguments.folder / f"cells/{cell}/seed-{seed}")
    train(
        Run(
            folder=str(folder), objectives=objectives,
            model=shape(arguments, translator=True),
            initialize=start if encoder or decoder else None,
            **common(arguments, arguments.steps, seed, arguments.lr),
        ),
        corpora,
    )  # fmt: skip
    return folder


def train(run: Run, corpora: Corpora) -> None:
    """Train, or go on, and add the processor time that it took to what the run's folder says of it.

    Its evaluations count, and so does an end by an error; what a kill cut off does not. A signal
    that stops the run ends the script.
    """
    before, started = seconds(Path(run.folder)), time.process_time()
    try:
        pretrain(run, corpora)
    finally:
        Path(run.folder).mkdir(parents=True, exist_ok=True)
        spent = before + time.process_time() - started
        (Path(run.folder) / SECONDS).write_text(f"{spent}\n", encoding="utf-8")
    if not translators.ended(Path(run.folder)):
        sys.exit(f"{run.folder} was stopped before its end: start again to go on")


def seconds(folder: Path) -> float:
    """The processor time that a run took so far, over all its starts."""
    path = folder / SECONDS
    return float(path.read_text(encoding="utf-8")) if path.exists() else 0.0


def measured(folder: Path) -> dict[str, Any]:
    """Test figures of the last weights by direction (no pair chooses them), measured once."""
    path = folder / "test.json"
    if not path.exists():
        result = evaluate_run(
            Evaluate(folder=str(folder), which="latest", split="test", device="cpu")
        )
        found = {
            direction: {name: result["figures"][f"bt/{direction}"][name] for name in FIGURES}
            for direction in DIRECTIONS
        }
        own = {"figures": found, "seconds": seconds(folder)}
        path.write_text(json.dumps(own, indent=1) + "\n", encoding="utf-8")
    known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return known


def gathered(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    """Every finished cell over its seeds, what pretraining took, and encoder against decoder."""
    cells: dict[str, Any] = {}
    for cell in CELLS:
        places = [folder / f"cells/{cell}/seed-{seed}" for seed in seeds]
        runs = [measured(place) for place in places if (place / "test.json").exists()]
        if runs:
            cells[cell] = {
                "seconds": mean_of([run["seconds"] for run in runs]).mean,
                "figures": {
                    direction: {
                        name: asdict(mean_of([run["figures"][direction][name] for run in runs]))
                        for name in FIGURES
                    }
                    for direction in DIRECTIONS
                },
            }
    spent = {
        name: mean_of([seconds(own) for own in sorted((folder / "models").glob(f"{name}-*"))])
        for name in STARTS[1:]
        if any((folder / "models").glob(f"{name}-*"))
    }
    words = frequent_words(folder)
    nearest = {
        name: [
            nearest_translations(folder / f"models/{name}-{seed}", words)
            for seed in seeds
            if (folder / f"models/{name}-{seed}" / MODEL).exists()
        ]
        for name in spent
    }
    found = {
        "cells": cells,
        "pretraining_seconds": {name: own.mean for name, own in spent.items()},
        "nearest_translations": nearest,
    }
    return {**found, "encoder above decoder": encoder_above_decoder(cells)}


def nearest_translations(folder: Path, words: Sequence[str]) -> float:
    """The share of words whose nearest embedding of the other language is their translation.

    Cosine of centered embeddings, the mean of both ways; words of one piece in both languages.
    """
    model = xlm.load(folder / MODEL)
    both = [(word, shifted.respelled(word)) for word in words]
    ids = [tuple(model.tokenizer.encode(word) for word in own) for own in both]
    single = [(one[0], other[0]) for one, other in ids if len(one) == len(other) == 1]
    table = model.transformer.encoder.words.weight.detach()
    sides = [table[list(own)] for own in zip(*single, strict=True)]
    first, second = (F.normalize(own - own.mean(0)) for own in sides)
    similar, true = first @ second.T, torch.arange(len(single))
    ways = (similar.argmax(1) == true, similar.argmax(0) == true)
    return float(torch.stack(ways).float().mean())


def frequent_words(folder: Path, most: int = 400) -> list[str]:
    """The commonest words of letters of the first language's training text."""
    lines = spoken(folder / "text/train", BOTH[0]).read_text(encoding="utf-8").splitlines()
    counts = Counter(word for line in lines for word in line.split(" ") if word.isalpha())
    return [word for word, _ in counts.most_common(most)]


def encoder_above_decoder(cells: Mapping[str, Any]) -> dict[str, Any]:
    """BLEU of a pretrained encoder alone above that of a decoder alone, seed by seed."""
    if not {"mlm-none", "none-mlm"} <= set(cells):
        return {}
    found = {}
    for direction in DIRECTIONS:
        encoder, decoder = (
            cells[cell]["figures"][direction]["bleu"] for cell in ("mlm-none", "none-mlm")
        )
        if len(encoder["values"]) == len(decoder["values"]):
            found[direction] = {
                **downstream.paired(encoder["values"], decoder["values"]),
                "apart": len(encoder["values"]) > 1 and downstream.apart(encoder, decoder),
            }
    return found


def searched(folders: Sequence[Path]) -> dict[str, Any]:
    """Settings and BLEU of trials of MLM in encoder and decoder, in the folders' order."""
    rows = []
    for folder in folders:
        found = json.loads((folder / "unsupervised_shifted.json").read_text(encoding="utf-8"))
        figures = found["cells"]["mlm-mlm"]["figures"]
        bleu = {direction: figures[direction]["bleu"]["mean"] for direction in DIRECTIONS}
        rows.append({"settings": found["settings"], "data": found["data"], "bleu": bleu})
    return {"rows": rows}


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--folder", type=Path, default=Path("runs/unsupervised-shifted"))
    parser.add_argument("--only", nargs="+", help="ENCODER-DECODER, or how some of these begin")
    parser.add_argument("--searched", type=Path, nargs="+", help="folders of trials: gather them")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--lines", type=int, default=240000, help="lines of text that are read")
    parser.add_argument("--most", type=int, default=40000, help="sentences a side")
    parser.add_argument("--shortest", type=int, default=4, help="words of a sentence")
    parser.add_argument("--longest", type=int, default=10, help="words of a sentence")
    parser.add_argument("--words", type=int, default=500, help="that there are, the commonest")
    parser.add_argument("--merges", type=int, default=2000, help="of the vocabulary, a language")
    parser.add_argument("--every", type=int, default=5, help="words that hold one change of order")
    parser.add_argument("--shape", choices=list(SHAPES), default="rotary")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2, help="of encoder and decoder each")
    parser.add_argument("--dropout", type=float, default=0.2, help="of translators")
    parser.add_argument("--rows", type=int, default=32, help="of an update of pretraining")
    parser.add_argument("--length", type=int, default=16, help="tokens of these rows")
    parser.add_argument("--masks", type=float, default=0.15, help="share of tokens that MLM hides")
    parser.add_argument("--pretraining-steps", type=int, default=8000)
    parser.add_argument("--pretraining-lr", type=float, default=3e-3)
    parser.add_argument("--steps", type=int, default=3800, help="updates of translators, each")
    parser.add_argument("--lr", type=float, default=2e-3, help="of translators")
    parser.add_argument("--tokens", type=int, default=500, help="of a translator's update")
    parser.add_argument(
        "--denoising", type=float, nargs=2, default=[1.0, 0.1],
        metavar=("FIRST", "LAST"), help="weight of denoising at the start and at the end",
    )  # fmt: skip
    parser.add_argument("--num-lengths", type=int, default=8, help="padded lengths")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it, on the corpus that ships")
    arguments = parser.parse_args()
    if arguments.quick:
        small = {"lines": 60, "most": 100, "shortest": 2, "longest": 30, "words": 1000}
        small |= {"merges": 100, "dim": 32, "layers": 1, "pretraining_steps": 4, "steps": 4}
        small |= {"tokens": 1500, "num_lengths": 1}
        vars(arguments).update(small, seeds=[0, 1])
    return arguments


def main() -> None:
    arguments = parsed()
    downstream.begin(arguments.threads)
    folder, quick, seeds = arguments.folder, arguments.quick, arguments.seeds
    if arguments.searched:
        path = record.write("unsupervised_shifted_search", searched(arguments.searched))
        downstream.show("unsupervised_shifted_search", path)
        return
    data = toy.data(folder) if quick else arguments.data
    sizes = {name: vars(arguments)[name] for name in SIZES}
    sizes |= {"valid": 5, "test": 5} if quick else {"valid": 300, "test": 500}
    settings = {name: vars(arguments)[name] for name in SETTINGS}
    hold(folder, {**sizes, **settings})
    known = files(folder, data, sizes)
    sys.stdout.write(f"{json.dumps(known)}\n")
    corpora = Corpora.open(folder / "corpora")
    wanted = downstream.chosen(arguments.only, CELLS)
    for seed in seeds:
        own = [
            cell
            for cell in wanted
            if (seed == seeds[0] or cell in REPEATED)
            and not (folder / f"cells/{cell}/seed-{seed}/test.json").exists()
        ]
        needed = {side for cell in own for side in cell.replace("emb", "mlm").split("-")}
        sources = {
            name: language_model(arguments, corpora, name, seed)
            for name in STARTS[1:]
            if name in needed
        }
        for cell in own:
            sys.stderr.write(f"== {cell}, seed {seed}\n")
            measured(translator(arguments, corpora, cell, seed, sources))
    figures = {"data": known, "settings": {**sizes, **settings}, **gathered(folder, seeds)}
    trial = quick or bool(arguments.only)
    path = downstream.write("unsupervised_shifted", figures, trial=trial, folder=folder)
    downstream.show("unsupervised_shifted", path)


if __name__ == "__main__":
    main()

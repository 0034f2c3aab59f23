"""Table 11 of MMTE where the truth is known: a translator's encoder with and without the token.

    python -m benchmarks.studies.language_token --folder runs/many-languages

Four languages that are English in other alphabets (many_languages_lab.py), translated both ways
with language vectors (``xlm``), with the target's token in the source (``target``), apart from it
(``target-apart``) and in the decoder alone (``decoder``). Each encoder is then fine-tuned in
English on entailment and tags, and tested in all languages; that of ``target`` also with a token
kept in its rows. First widths and numbers of updates are tried with ``xlm`` on one seed: the
smallest that passes 20 BLEU into English is the size of all. Everything that is finished is not run
again; ``--quick`` tries a tiny size. The models stay, listed in models.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import xlm
from benchmarks.studies.learning import kept
from benchmarks.support import many_languages_lab as laboratory
from benchmarks.support import many_languages_tasks as learnt
from benchmarks.support import seeded_study
from benchmarks.support.many_languages_figures import differences, summary
from benchmarks.support.many_languages_lab import ENGLISH, Arm, Lab, Size
from xlm.interchange.load import MODEL
from xlm.metrics.translation import corpus_scores
from xlm.run.selection import mean_of
from xlm.text.tokenizers.layouts import LayoutName

LAYOUTS: tuple[LayoutName, ...] = ("xlm", "target", "target-apart", "decoder")
TASKS = ("entailment", "tags")
KEPT = {"target, own token kept": "own", "target, en token kept": ENGLISH}
RANDOM = "random"
PASSES = 20.0
"""BLEU into English that the smallest size has to reach."""
TRIED = (
    (16, 300, 1000), (32, 300, 1000), (32, 600, 1000), (64, 300, 1000), (64, 400, 1000),
    (64, 500, 600), (64, 500, 1000), (64, 600, 1000),
)  # fmt: skip
"""Width, updates and cells of a micro-batch, from small to large."""
COMPARED = (
    ("target-apart", "target"), ("decoder", "target"), ("xlm", "target"), ("xlm", "target-apart"),
    ("target, own token kept", "target"), ("target, en token kept", "target"),
    ("target", RANDOM),
)  # fmt: skip


def arms(size: Size) -> dict[str, Arm]:
    """Return the translators of the study."""
    ways = tuple(
        way
        for language in laboratory.spoken(size)
        for way in (f"{ENGLISH}-{language}", f"{language}-{ENGLISH}")
    )
    return {
        layout: Arm(
            {"mt": laboratory.translation(size, layout)}, vectors=layout == "xlm", directions=ways
        )
        for layout in LAYOUTS
    }


def searched(folder: Path, sizes: Sequence[Size], passes: float) -> tuple[Size, list[Any]]:
    """Return the first size whose translator passes, and the rows of those that were tried."""
    rows: list[Any] = []
    for size in sizes:
        lab = Lab(folder / f"search/{size.dim}-{size.updates}-{size.tokens}", size)

        def tried(lab: Lab = lab) -> dict[str, Any]:
            laboratory.make_data(lab)
            path = laboratory.trained(lab, arms(lab.size), "xlm", 0)
            return {
                **laboratory.translation_figures(lab, path),
                "seconds": laboratory.seconds(path),
            }

        found = kept(lab.folder / "figures.json", tried)
        into = [value for way, value in found["bleu"].items() if way.endswith(f"-{ENGLISH}")]
        bleu = sum(into) / len(into)
        rows.append({
            "width": size.dim, "layers a side": size.num_layers, "updates": size.updates,
            "cells": size.tokens,
            "BLEU into English": round(bleu, 1), "processor s": round(found["seconds"]),
        })  # fmt: skip
        if bleu > passes:
            return size, rows
    raise SystemExit(f"no size passes {passes:g} BLEU into English: {rows}")


def other_tokens(lab: Lab, path: Path) -> dict[str, float]:
    """Return by language the words in its alphabet when the same English is to be written in it."""
    lines, _ = laboratory.held_out(lab, laboratory.spoken(lab.size)[0])
    model = xlm.load(path)
    return {
        language: laboratory.in_alphabet(
            model.translate(lines, source=ENGLISH, target=language), language
        )
        for language in laboratory.spoken(lab.size)
    }


def zero_shot(lab: Lab, path: Path) -> dict[str, float]:
    """Return BLEU between languages beside English, which no pair has, direct and by way of it."""
    languages, model = laboratory.spoken(lab.size), xlm.load(path)
    english = [line.split() for line in laboratory.held_out(lab, languages[0])[0]]
    found: dict[str, list[float]] = {}
    for source, target in zip(languages, [*languages[1:], languages[0]], strict=True):
        lines, references = ([lab.say(words, own) for words in english] for own in (source, target))
        direct = model.translate(lines, source=source, target=target)
        pivot = model.translate(lines, source=source, target=ENGLISH)
        both = model.translate(pivot, source=ENGLISH, target=target)
        for kind, own in (("direct", direct), ("by way of English", both), ("copied", lines)):
            found.setdefault(f"BLEU, {kind}", []).append(corpus_scores(own, references).bleu.score)
        share = 100 * laboratory.in_alphabet(direct, target)
        found.setdefault("direct: words in the target's alphabet, %", []).append(share)
    return {kind: sum(own) / len(own) for kind, own in found.items()}


def between(lab: Lab, seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Return the rows of the table of untrained directions, of the models that are there."""
    rows = []
    for layout in LAYOUTS:
        own = []
        for seed in seeds:
            model = laboratory.model_folder(lab, layout, seed) / MODEL
            if model.exists():
                path = lab.folder / "figures" / f"zero-shot-{layout}-{seed}.json"
                own.append(kept(path, lambda: zero_shot(lab, model)))  # noqa: B023
        if own:
            means = {kind: mean_of([one[kind] for one in own]).mean for kind in own[0]}
            rows.append({"layout": layout, **{k: round(v, 1) for k, v in means.items()}})
    return rows


def measure(lab: Lab, name: str, seed: int) -> dict[str, Any]:
    """Train what a row needs, and return its figures."""
    token = KEPT.get(name)
    layout = "target" if token or name == RANDOM else name
    path = laboratory.trained(lab, arms(lab.size), layout, seed)
    found: dict[str, Any] = {
        "tasks": learnt.transfer(
            lab, path, name.replace(", ", "-").replace(" ", "-"), TASKS, seed,
            random_weights=name == RANDOM, language_token=token,
        )
    }  # fmt: skip
    if name in LAYOUTS:
        found |= laboratory.translation_figures(lab, path)
        found["another token"] = other_tokens(lab, path)
        found["seconds"] = laboratory.seconds(path)
    return found


def main() -> None:
    arguments = seeded_study.begun(seeded_study.parser_of(__doc__, "runs/many-languages"))
    quick, seeds = arguments.quick, arguments.seeds
    sizes = [laboratory.QUICK] if quick else [
        replace(Size(), dim=dim, updates=updates, tokens=tokens)
        for dim, updates, tokens in TRIED
    ]  # fmt: skip
    size, rows = searched(arguments.folder, sizes, -1.0 if quick else PASSES)
    lab = Lab(arguments.folder / "token", size)
    laboratory.make_data(lab)
    learnt.make_tasks(lab)
    found = seeded_study.by_seed(
        arguments, (*LAYOUTS, *KEPT, RANDOM),
        lambda name, seed: (
            seeded_study.figures_file(lab.folder, name, seed), lambda: measure(lab, name, seed)
        ),
        lambda: laboratory.write_models(lab, arms(size), seeds),
    )  # fmt: skip
    means = summary(found)
    others = [
        share
        for name in LAYOUTS
        for figures in found.get(name, [])
        for share in figures["another token"].values()
    ]
    result = {
        "size": asdict(size), "seeds": len(seeds), "search": rows, "arms": means,
        "differences": differences(means, COMPARED),
        "commonest": {name: learnt.commonest(lab, name) for name in TASKS},
        "zero-shot": between(lab, seeds),
        "least share in the alphabet asked for": min(others, default=None),
    }  # fmt: skip
    seeded_study.finish("language_token", result, arguments)


if __name__ == "__main__":
    main()

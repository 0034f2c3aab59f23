"""Sabotage of the convergence guard: sound tables give no alarm, spoilt ones are named.

    python -m benchmarks.studies.guard

In the laboratory of ``support/language_lab.py``: tables for English in another alphabet, learned in
two bodies. Sound runs; runs at thirty times the rate, of a twentieth of the updates, on shuffled
words; sound tables whose rows are permuted afterwards, or that are read with positions drawn anew;
and a language of reversed words that shares the positions. Everything that is finished is not run
again; ``--quick`` tries it.
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.studies.learning import kept
from benchmarks.support import downstream, record
from benchmarks.support import language_lab as lab
from xlm.add_language import AddLanguage, add_language
from xlm.adding.reference import REFERENCE
from xlm.adding.text import DATA
from xlm.adding.training import objective
from xlm.analysis.convergence import Signs, measure, unlikeness
from xlm.data.corpora import Corpora
from xlm.interchange.load import load
from xlm.model.transformer import Transformer
from xlm.rng import Random
from xlm.run.config import Schedule
from xlm.run.convergence import DIVERGED, NO_ORDER, NOT_LEARNT, UNLIKE, Guard, judge, load_reference
from xlm.training.journal import METRICS, read_metrics

SIGNS = ("gain", "order", "word_order", "unlikeness")
EXPECTED = {
    "sound": set(),
    "rate x 30": {DIVERGED, NOT_LEARNT},
    "too short": {NOT_LEARNT},
    "shuffled words": {NO_ORDER},
    "rows permuted": {NOT_LEARNT},
    "positions anew": {NO_ORDER},
    "reversed": {UNLIKE},
}
"""One of these must be named; none may be for sound runs."""
BODIES = 2
PLAN = {
    "sound": 5, "rate x 30": 1, "too short": 1, "shuffled words": 1, "rows permuted": 1,
    "positions anew": 1, "reversed": 3,
}  # fmt: skip
"""Tables of each kind in each body; the reversed ones are cut to five."""
SABOTAGED = [kind for kind in EXPECTED if kind not in ("sound", "reversed")]


def settings(kind: str, folder: Path, size: lab.Size, body: int, seed: int) -> AddLanguage:
    """Return the run of a kind; tables that are spoilt afterwards are those of sound runs."""
    changes: dict[str, Any] = {}
    order = {"shuffled words": "shuffled", "reversed": "reversed"}.get(kind, "same")
    own = kind if kind in ("rate x 30", "too short") or order != "same" else "sound"
    if kind == "rate x 30":
        changes["schedule"] = Schedule(kind="linear", peak_lr=30 * lab.RATE, warmup_steps=50)
    if kind == "too short":
        short = max(1, size.steps // 20)
        changes |= {"steps": short, "evaluate_every": max(1, short // 4)}
    place = f"{own.replace(' ', '-')}-{body}-{seed}"
    return lab.adding(folder, size, place, order=order, seed=seed, body=body, **changes)


def trained(config: AddLanguage) -> dict[str, Any]:
    """Return the evaluations of a run by step, which is trained if need be."""
    add_language(config)
    lines = read_metrics(Path(config.folder) / f"seed-{config.seed}" / METRICS)
    stream = f"lm/{lab.NEW}"
    return {
        str(line["step"]): {
            name: value
            for name, value in line[stream].items()
            if name == "nats" or name.startswith(SIGNS)
        }
        for line in lines
        if line["event"] == "valid"
    }


@torch.no_grad()
def permuted(transformer: Transformer, roles: tuple[int, ...], seed: int) -> None:
    """Permute the rows of pieces of text, in place."""
    words = transformer.encoder.words.weight
    text = torch.tensor([at for at in range(len(words)) if at not in roles])
    drawn = torch.from_numpy(Random(seed, "sabotage").uniform(len(text))).argsort()
    words[text] = words[text[drawn]]


@torch.no_grad()
def with_new_positions(transformer: Transformer, roles: tuple[int, ...], seed: int) -> None:
    """Draw positions anew, as large as they were, in place."""
    positions = transformer.encoder.positions
    assert positions is not None, "the laboratory's positions are learned"
    weight = positions.weight
    generator = torch.Generator().manual_seed(seed)
    weight.copy_(torch.randn(weight.shape, generator=generator) * weight.std())


Spoiling = Callable[[Transformer, tuple[int, ...], int], None]
AFTERWARDS: Mapping[str, Spoiling] = {
    "rows permuted": permuted, "positions anew": with_new_positions,
}  # fmt: skip


def spoilt(kind: str, config: AddLanguage, evaluations: dict[str, Any]) -> dict[str, Any]:
    """Return the evaluations of a sound run, the last of them measured on the spoilt table."""
    model = load(Path(config.folder) / "model")
    own = objective(config, model)
    transformer = copy.deepcopy(model.transformer.reading(lab.NEW))
    AFTERWARDS[kind](transformer, model.transformer.encoder.table(lab.NEW).roles, config.seed)
    corpora = Corpora.open(Path(config.folder) / DATA)
    (stream,) = own.streams("lm", corpora, seed=config.seed, split="valid")
    signs = measure(transformer.eval(), own, stream, seed=config.seed)
    layers = unlikeness(signs.states, reference_of(config).states)
    figures = {
        "nats": signs.nats,
        "gain": signs.gain,
        "order": signs.order,
        "word_order": signs.word_order,
        "unlikeness": layers[-1],
    }
    return {**evaluations, str(config.steps): figures}


def reference_of(config: AddLanguage) -> Signs:
    """Return the signs of English in a run's folder."""
    found = load_reference(Guard(reference=str(Path(config.folder) / REFERENCE)))
    assert found is not None
    return found


def tried(kind: str, config: AddLanguage) -> dict[str, Any]:
    """Return the evaluations of a kind's table, English's signs, and how many twins it found."""
    evaluations = trained(config)
    if kind in AFTERWARDS:
        evaluations = spoilt(kind, config, evaluations)
    model = load(Path(config.folder) / "model")
    own = reference_of(config)
    return {
        "kind": kind, "steps": config.steps, "evaluations": evaluations,
        "twins found, %": None if kind in AFTERWARDS else 100 * lab.twins_found(model),
        "English": {"nats": own.nats, "gain": own.gain, "order": own.order},
        "reference": str(Path(config.folder).name),
    }  # fmt: skip


def judged(one: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Return the last signs of a table as shares of English's, and the names that fired."""
    reference = load_reference(Guard(reference=str(folder / one["reference"] / REFERENCE)))
    assert reference is not None and reference.gain is not None
    valid = {int(step): own for step, own in one["evaluations"].items()}
    last = valid[max(valid)]
    fired = [line.split(":")[0] for line in judge(valid, one["steps"], Guard(), reference)]
    wanted = EXPECTED[one["kind"]]
    return {
        "kind": one["kind"],
        "nats": round(last["nats"], 3),
        "gain, share": round(last["gain"] / reference.gain, 3),
        "order, share": round(last["order"] / reference.order, 3),
        **_of_words(last, reference),
        "unlikeness": round(last["unlikeness"], 3),
        "twins found, %": one["twins found, %"],
        "fired": fired,
        "right": bool(wanted & set(fired)) if wanted else not fired,
    }


def _of_words(last: Mapping[str, float], reference: Signs) -> dict[str, float]:
    """Return the share of permuted words; nothing for tables that were measured without it."""
    if reference.word_order is None or "word_order" not in last:
        return {}
    return {"word order, share": round(last["word_order"] / reference.word_order, 3)}


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a line for each kind: the range of each sign, and how many were judged rightly."""
    lines = []
    for kind in EXPECTED:
        own = [row for row in rows if row["kind"] == kind]
        if not own:
            continue
        line: dict[str, Any] = {"table": kind, "tables": len(own)}
        for sign in ("gain, share", "order, share", "word order, share", "unlikeness"):
            values = [row[sign] for row in own if sign in row]
            if not values:
                continue
            line[sign] = f"{min(values):.2f} to {max(values):.2f}"
        twins = [row["twins found, %"] for row in own if row["twins found, %"] is not None]
        line["twins found, %"] = f"{min(twins):.1f} to {max(twins):.1f}" if twins else ""
        line["expected"] = " or ".join(sorted(EXPECTED[kind])) or "no alarm"
        line["rightly"] = f"{sum(row['right'] for row in own)} of {len(own)}"
        lines.append(line)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/guard"))
    parser.add_argument("--only", nargs="+", help="bodies, such as 0, or tables, such as 0/sound")
    parser.add_argument("--steps", type=int, default=lab.Size.steps, help="updates of a table")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try it with four updates")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    size, plan, bodies = lab.Size(steps=arguments.steps), PLAN, BODIES
    if arguments.quick:
        size, plan, bodies = lab.QUICK, {"sound": 1, "rows permuted": 1, "positions anew": 1}, 1
    folder: Path = arguments.folder
    lab.write_texts(folder, lab.english(None, size), size)
    jobs = {
        f"{body}/{kind}/{seed}": (kind, body, seed)
        for body in range(bodies)
        for kind, num in plan.items()
        for seed in range(num - (kind == "reversed" and body == bodies - 1))
    }
    rows = []
    for name in downstream.chosen(arguments.only, jobs):
        kind, body, seed = jobs[name]
        lab.old_model(folder, size, body)
        config = settings(kind, folder, size, body, seed)
        result = folder / "tables" / f"{name.replace('/', '-').replace(' ', '-')}.json"
        rows.append(judged(kept(result, lambda: tried(kind, config)), folder))  # noqa: B023
        sys.stderr.write(f"{name}: {json.dumps(rows[-1])}\n")
    figures = {"rows": summary(rows), "tables": rows, "thresholds": vars(Guard())}
    place = folder if arguments.quick or arguments.only else None
    record.write("guard", figures, place)
    for line in figures["rows"]:
        sys.stdout.write(f"{json.dumps(line)}\n")


if __name__ == "__main__":
    main()

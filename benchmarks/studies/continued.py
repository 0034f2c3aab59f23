"""Tables 1 and 4 of Ji et al. where the truth is known: translation as a second pretraining.

    python -m benchmarks.studies.continued --folder runs/continued

Four languages that are English in other alphabets (many_languages_lab.py). A parent learns to fill
in hidden spans of their text; its children learn, for as many updates of the same text, to
translate both ways (m2m), into English (m2o), out of it (o2m), both ways between wrong partners
(shuffled m2m), or go on as before (more denoising). ``joint`` has both objectives from random
weights, as many updates of each in turn. An encoder that is pretrained as a masked language model
goes on as one. All are fine-tuned in English on entailment and tags, and tested in all languages.
The size is that of language_token.py unless ``--dim`` and ``--updates`` say otherwise. Everything
that is finished is not run again; ``--quick`` tries a tiny size. The models stay, listed in
models.json: ``xlm analyze MODEL --study FOLDER/models.json``.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.studies.learning import kept
from benchmarks.support import downstream
from benchmarks.support import many_languages_lab as laboratory
from benchmarks.support import many_languages_tasks as learnt
from benchmarks.support.many_languages_figures import differences, summary
from benchmarks.support.many_languages_lab import ENGLISH, Arm, Lab, Size
from xlm.objectives.infilling import Infilling
from xlm.objectives.masked import MaskedLM

PARENT, MORE, SHUFFLED, RANDOM = "parent", "more denoising", "m2m of shuffled pairs", "random"
MLM, MORE_MLM = "MLM", "MLM, more MLM"
TRANSLATORS = ("m2m", "m2o", "o2m", SHUFFLED, "joint")
TASKS = ("entailment", "tags")
COMPARED = (
    *((name, PARENT) for name in ("m2m", "m2o", "o2m", MORE)),
    *((name, MORE) for name in ("m2m", "m2o", "o2m", SHUFFLED)),
    ("m2m", SHUFFLED), ("m2m", "joint"), ("o2m", "m2m"), ("o2m", "m2o"), (MORE_MLM, MLM),
    (PARENT, RANDOM),
)  # fmt: skip


def arms(size: Size) -> dict[str, Arm]:
    """Return the models of the study, each after its parent."""
    languages = [ENGLISH, *laboratory.spoken(size)]
    others = languages[1:]
    into = tuple(f"{language}-{ENGLISH}" for language in others)
    out = tuple(f"{ENGLISH}-{language}" for language in others)
    filling = Infilling(
        languages=languages, layout="mbart", tokens=size.tokens, length=32, num_lengths=4
    )
    mlm = MaskedLM(
        languages=languages, rows=size.tokens // 32, length=32, mask_rate=0.3,
        frequency_exponent=0.0, evaluation_folds=1,
    )  # fmt: skip
    found = {PARENT: Arm({"ae": filling})}
    for name, rule, ways in (("m2m", "m2m", into + out), ("m2o", "m2o", into), ("o2m", "o2m", out)):
        translation = laboratory.translation(size, "mbart", rule)
        found[name] = Arm({"mt": translation}, parent=PARENT, directions=ways)
    both = found["m2m"].objectives
    return {
        **found,
        MORE: Arm({"ae": filling}, parent=PARENT),
        SHUFFLED: Arm(both, parent=PARENT, shuffled=True, directions=into + out),
        MLM: Arm({"mlm": mlm}, decoder=False),
        MORE_MLM: Arm({"mlm": mlm}, decoder=False, parent=MLM),
        "joint": Arm({"ae": filling, **both}, times=2, directions=into + out),
    }


def measure(lab: Lab, name: str, seed: int) -> dict[str, Any]:
    """Train a model, and return its figures; ``random`` has the parent's shape."""
    path = laboratory.trained(lab, arms(lab.size), PARENT if name == RANDOM else name, seed)
    found: dict[str, Any] = {
        "tasks": learnt.transfer(
            lab, path, name.replace(", ", "-").replace(" ", "-"), TASKS, seed,
            random_weights=name == RANDOM,
        )
    }  # fmt: skip
    if name in TRANSLATORS:
        rule = name if name in ("m2o", "o2m") else "m2m"
        found |= laboratory.translation_figures(lab, path, rule)
    if name != RANDOM:
        found["seconds"] = laboratory.seconds(path)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("runs/continued"))
    parser.add_argument("--only", nargs="+", help="arms, or how their names begin")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--finished", action="store_true", help="train nothing: show the arms that are finished"
    )
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--updates", type=int, default=500)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try a tiny size")
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    quick, seeds = arguments.quick, [0] if arguments.quick else arguments.seeds
    size = (
        laboratory.QUICK if quick else replace(Size(), dim=arguments.dim, updates=arguments.updates)
    )
    lab = Lab(arguments.folder, size)
    for own in (lab, replace(lab, shuffled=True)):
        laboratory.make_data(own)
    learnt.make_tasks(lab)
    found: dict[str, list[dict[str, Any]]] = {}
    parent, *children = arms(size)
    wanted = downstream.chosen(arguments.only, (parent, RANDOM, *children))
    for seed in seeds:
        for name in wanted:
            path = lab.folder / "figures" / f"{name.replace(' ', '-')}-{seed}.json"
            if arguments.finished and not path.exists():
                continue
            sys.stderr.write(f"== {name}, seed {seed}\n")
            result = kept(path, lambda: measure(lab, name, seed))  # noqa: B023
            found.setdefault(name, []).append(result)
            laboratory.write_models(lab, arms(size), seeds)
    means = summary(found)
    result = {
        "size": asdict(size), "seeds": len(seeds), "arms": means,
        "differences": differences(means, COMPARED),
        "commonest": {name: learnt.commonest(lab, name) for name in TASKS},
    }  # fmt: skip
    trial = quick or bool(arguments.only)
    path = downstream.write("continued", result, trial=trial, folder=arguments.folder)
    downstream.show("continued", path)


if __name__ == "__main__":
    main()

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

from dataclasses import asdict, replace
from typing import Any

from benchmarks.support import many_languages_lab as laboratory
from benchmarks.support import many_languages_tasks as learnt
from benchmarks.support import seeded_study
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
    parser = seeded_study.parser_of(__doc__, "runs/continued")
    arguments = seeded_study.begun(seeded_study.with_size(parser, Size()))
    size, seeds = seeded_study.size_of(arguments, Size()), arguments.seeds
    lab = Lab(arguments.folder, size)
    for own in (lab, replace(lab, shuffled=True)):
        laboratory.make_data(own)
    learnt.make_tasks(lab)
    parent, *children = arms(size)
    found = seeded_study.by_seed(
        arguments, (parent, RANDOM, *children),
        lambda name, seed: (
            seeded_study.figures_file(lab.folder, name, seed), lambda: measure(lab, name, seed)
        ),
        lambda: laboratory.write_models(lab, arms(size), seeds),
    )  # fmt: skip
    means = summary(found)
    result = {
        "size": asdict(size), "seeds": len(seeds), "arms": means,
        "differences": differences(means, COMPARED),
        "commonest": {name: learnt.commonest(lab, name) for name in TASKS},
    }  # fmt: skip
    seeded_study.finish("continued", result, arguments)


if __name__ == "__main__":
    main()

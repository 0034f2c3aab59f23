"""Tables 2 to 6 and 10 of MMTE where the truth is known: what pretrains an encoder best.

    python -m benchmarks.studies.translation_encoders --folder runs/encoders

Languages that are English in other alphabets (many_languages_lab.py). Encoders of random weights,
of MLM, of MLM and TLM, and of translators with the token apart, for equally many updates of the
same text, are fine-tuned in English on entailment, tags and names. All of it once with names that
are copied from English and once with names that are respelled as every word is: the paper's second
explanation of its Table 6 is that a translator copies names. Translators of 2, 4 and 8 languages
have one width; x01 and x02 are measured, which all of them know. The size is that of
language_token.py unless ``--dim`` and ``--updates`` say otherwise. Everything that is finished is
not run again; ``--quick`` tries a tiny size. The models stay, listed in models.json.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.support import many_languages_lab as laboratory
from benchmarks.support import many_languages_tasks as learnt
from benchmarks.support import seeded_study
from benchmarks.support.many_languages_figures import differences, summary
from benchmarks.support.many_languages_lab import ENGLISH, Arm, Lab, Size
from benchmarks.support.many_languages_tasks import TASKS
from xlm.objectives.masked import MaskedLM

MLM, TLM, MT, RANDOM = "MLM", "MLM+TLM", "target-apart", "random"
KNOWN = ["x01", "x02"]
"""The languages that every laboratory has."""
COPIED, RESPELLED = "copied", "respelled"
NUMBERS = (2, 4, 8)
MIDDLE = 4
"""Languages of the laboratory that all kinds of pretraining are compared in."""
ROWS = {
    **{f"{arm}, names {names}": (arm, MIDDLE, names)
       for names in (COPIED, RESPELLED) for arm in (RANDOM, MLM, TLM, MT)},
    **{f"{MT}, names {COPIED}, {number} languages": (MT, number, COPIED)
       for number in NUMBERS if number != MIDDLE},
}  # fmt: skip
"""By the name of a row: how it is pretrained, among how many languages, with which names."""
COMPARED = tuple(
    (f"{first}, names {names}", f"{second}, names {names}")
    for names in (COPIED, RESPELLED)
    for first, second in ((MT, MLM), (MT, TLM), (TLM, MLM), (MT, RANDOM))
) + tuple(
    (f"{MT}, names {COPIED}{first}", f"{MT}, names {COPIED}{second}")
    for first, second in ((", 2 languages", ""), ("", ", 8 languages"))
)


def arms(size: Size) -> dict[str, Arm]:
    """Return the kinds of pretraining."""
    others = laboratory.spoken(size)
    ways = tuple(way for x in others for way in (f"{ENGLISH}-{x}", f"{x}-{ENGLISH}"))
    common: dict[str, Any] = {"mask_rate": 0.3, "frequency_exponent": 0.0, "evaluation_folds": 1}
    mlm = MaskedLM(languages=[ENGLISH, *others], rows=size.tokens // 32, length=32, **common)
    tlm = MaskedLM(
        pairs=[f"{ENGLISH}-{x}" for x in others], tokens=size.tokens, length=48, num_lengths=4,
        **common,
    )  # fmt: skip
    return {
        MLM: Arm({"mlm": mlm}, decoder=False),
        TLM: Arm({"mlm": mlm, "tlm": tlm}, decoder=False),
        MT: Arm({"mt": laboratory.translation(size, "target-apart")}, directions=ways),
    }


def lab_of(folder: Path, size: Size, number: int, names: str) -> Lab:
    """Return the laboratory of a row; its text is made if it is not there."""
    size = replace(size, languages=number)
    lab = Lab(folder / f"{number}-{names}", size, copy_names=names == COPIED)
    laboratory.make_data(lab)
    learnt.make_tasks(lab)
    return lab


def measure(lab: Lab, arm: str, seed: int) -> dict[str, Any]:
    """Train a row's model, and return its figures; ``random`` has MLM's shape."""
    path = laboratory.trained(lab, arms(lab.size), MLM if arm == RANDOM else arm, seed)
    found: dict[str, Any] = {
        "tasks": learnt.transfer(
            lab, path, arm.replace("+", "-"), TASKS, seed, random_weights=arm == RANDOM
        )
    }
    if arm == MT:
        found |= laboratory.translation_figures(lab, path)
    if arm != RANDOM:
        found["seconds"] = laboratory.seconds(path)
    return found


def write_models(folder: Path, labs: list[Lab], seeds: list[int]) -> None:
    """List the models of all laboratories in one file, by arm and laboratory."""
    entries = []
    for lab in dict.fromkeys(labs):
        path = laboratory.write_models(lab, arms(lab.size), seeds)
        for entry in json.loads(path.read_text(encoding="utf-8")):
            entry["arm"] += f", {lab.folder.name}"
            entry["folder"] = f"{lab.folder.name}/{entry['folder']}"
            entries.append(entry)
    text = json.dumps(entries, indent=1)
    (folder / laboratory.STUDY).write_text(text + "\n", encoding="utf-8")


def main() -> None:
    parser = seeded_study.parser_of(__doc__, "runs/encoders")
    arguments = seeded_study.begun(seeded_study.with_size(parser, Size()))
    folder, size = arguments.folder, seeded_study.size_of(arguments, Size())
    labs: list[Lab] = []

    def measured(name: str, seed: int) -> tuple[Path, Callable[[], dict[str, Any]]]:
        arm, number, names = ROWS[name]
        lab = lab_of(folder, size, number, names)
        path = seeded_study.figures_file(lab.folder, arm, seed)
        if path.exists() or not arguments.finished:
            labs.append(lab)
        return path, lambda: measure(lab, arm, seed)

    found = seeded_study.by_seed(
        arguments, ROWS, measured, lambda: write_models(folder, labs, arguments.seeds)
    )
    means = summary(found, KNOWN)
    result = {
        "size": {**asdict(size), "languages": "2, 4 or 8"}, "seeds": len(arguments.seeds),
        "arms": means,
        "differences": differences(means, COMPARED),
        "commonest": {name: learnt.commonest(labs[0], name) for name in TASKS},
    }  # fmt: skip
    seeded_study.finish("translation_encoders", result, arguments)


if __name__ == "__main__":
    main()

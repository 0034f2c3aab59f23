#!/usr/bin/env python3
"""Train the same recipes in two checkouts and compare what they leave behind, bit for bit.

    tools/equal.py OLD NEW                    every case
    tools/equal.py OLD NEW --only mlm tlm     some of them, and the cases that they start from
    tools/equal.py OLD NEW --list             the names of the cases

A refactoring must not change what a recipe computes. Every case runs one verb of `xlm` with the
code and the recipes of a checkout, in an empty folder of that checkout's own, on one thread. Equal
must be: `metrics.jsonl` (but for times), the bytes of `model/` and of checkpoints' tensors,
`report.json`, translations, predictions and prepared ids. The exit status is 1 if anything differs.

Both checkouts run under the interpreter that runs this script, so torch and every other package are
the same; only `xlm` itself comes from the checkout.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TIMES = {"seconds", "tokens_per_second", "utilization", "wait", "memory_gib", "machine"}
"""Values of metrics.jsonl that depend on the clock or the machine."""

COMPARED = (
    "metrics.jsonl", "report.json", "*.txt", "*.tsv", "*.ids", "*.offsets", "*.counts",
    "*.safetensors", "*.bin",
)  # fmt: skip
"""The files of a case that must be equal; configurations may be spelled otherwise."""

SMALL = (
    "--model.dim=16", "--model.num_layers=1", "--model.num_heads=2", "--precision=fp32",
    "--steps=4", "--evaluate_every=2", "--save_every=0", "--group_size=2", "--device=cpu",
    "--schedule.warmup_steps=2", "--tensorboard=false",
)  # fmt: skip
"""A preset of 12 layers and 64 GPUs, cut down to a second."""

TEXT = ("languages=[en, ne]", "rows=4", "length=32")
PAIRS = ("pairs=[en-ne]", "rows=4", "length=128")


@dataclass(frozen=True)
class Case:
    """One call of `xlm`; it runs after the cases that it `needs`."""

    verb: str
    arguments: tuple[str, ...]
    """With {recipes} for the checkout's recipes and {CASE} for the folder of another case."""
    needs: tuple[str, ...] = ("data",)
    writes_folder: bool = True
    """Whether the verb takes --folder; else its standard output is compared."""


def small(preset: str, objectives: dict[str, tuple[str, ...]]) -> Case:
    """A preset of recipes/xlm, small, on the corpora of recipes/debug."""
    fields = (
        f"--objectives.{name}.{setting}" for name, own in objectives.items() for setting in own
    )
    config = f"--config={{recipes}}/xlm/{preset}.yaml"
    return Case("pretrain", (config, "--data={data}", *SMALL, *fields))


def debug(name: str) -> Case:
    return Case("pretrain", (f"--config={{recipes}}/debug/{name}.yaml", "--data={data}"))


def finetune(*arguments: str, needs: tuple[str, ...] = ("mlm+tlm",)) -> Case:
    config = "--config={recipes}/debug/classification.yaml"
    return Case("finetune", (config, "--model={mlm+tlm}", *arguments), needs)


def cases(checkout: Path) -> dict[str, Case]:
    """Every case, in an order in which they can run."""
    preset = "original" if (checkout / "recipes/xlm/original").is_dir() else "code"
    vocabulary = ("counts=corpora",)
    return {
        "data": Case("prepare", ("--config={recipes}/debug/prepare.yaml",), needs=()),
        **{
            name: debug(name)
            for name in (
                "mlm", "clm", "tlm", "mlm+tlm", "causal-tlm", "denoising", "translation",
                "backtranslation",
            )
        },
        "initialized": Case(
            "pretrain",
            (
                "--config={recipes}/debug/mlm.yaml", "--data={data}",
                "--initialize.encoder={mlm+tlm}",
            ),
            needs=("data", "mlm+tlm"),
        ),
        **{
            f"{kind}-{name}": small(f"{folder}/{recipe}", objectives)
            for kind, folder, more in (("paper", "paper", ()), ("original", preset, vocabulary))
            for name, recipe, objectives in (
                ("clm", "clm-en-fr", {"clm": TEXT}),
                ("mlm", "mlm-en-fr", {"mlm": TEXT + more}),
                ("mlm+tlm", "mlm+tlm-15", {"mlm": TEXT + more, "tlm": PAIRS + more}),
            )
        },
        "classification": finetune(),
        "features": finetune("--frozen_layers=1", "--seeds=[1]", "--halve_on_plateau=true"),
        "classification-grid": finetune("--grid.learning_rates=[1e-3, 3e-3]", "--seeds=[0, 1]"),
        "predict": Case(
            "predict",
            (
                "{classification}/seed-0/model", "{predict}/pairs.tsv",
                "--language=ne",
            ),
            needs=("classification",),
            writes_folder=False,
        ),
        "translate": Case(
            "translate",
            (
                "{translation}", "{recipes}/../xlm/sample/valid.en.txt", "--source=en",
                "--target=ne", "--output={here}/translated.txt",
            ),
            needs=("translation",),
            writes_folder=False,
        ),
        "evaluate": Case("evaluate", ("{mlm+tlm}",), needs=("mlm+tlm",), writes_folder=False),
    }  # fmt: skip


@dataclass
class Side:
    """One checkout and the folder that its cases write into."""

    checkout: Path
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self, name: str, case: Case) -> str:
        """Run one case; returns the end of what it printed if it failed, else nothing."""
        here = self.folder / name
        here.mkdir(parents=True)
        places = {each.name: str(each) for each in self.folder.iterdir()}
        places |= {"recipes": str(self.checkout / "recipes"), "here": str(here)}
        if name == "predict":  # the pairs alone, without their labels
            lines = (self.checkout / "xlm/sample/follows.valid.ne.tsv").read_text(encoding="utf-8")
            pairs = ["\t".join(line.split("\t")[:2]) for line in lines.splitlines()]
            (here / "pairs.tsv").write_text("\n".join(pairs) + "\n", encoding="utf-8")
        words = [fill(word, places) for word in case.arguments]
        if case.writes_folder:
            words.append(f"--folder={here}")
        environment = {
            **os.environ,
            "PYTHONPATH": str(self.checkout),
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
        }
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "xlm", case.verb, *words],
            cwd=self.folder, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        self.seconds[name] = time.perf_counter() - started
        if not case.writes_folder:
            text = done.stdout.replace(str(self.folder), "FOLDER")
            (here / "output.txt").write_text(text.replace(str(self.checkout), "CHECKOUT"))
        return "" if done.returncode == 0 else (done.stderr or done.stdout)[-2000:]


def fill(word: str, places: dict[str, str]) -> str:
    for name, place in places.items():
        word = word.replace(f"{{{name}}}", place)
    return word


def contents(side: Side, case: str) -> dict[str, str]:
    """By relative path: the digest of each file that must be equal, or each line of metrics."""
    folder = side.folder / case
    found: dict[str, str] = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = str(path.relative_to(folder))
        if not any(path.match(pattern) for pattern in COMPARED):
            continue
        if path.suffix in (".json", ".jsonl"):
            text = path.read_text(encoding="utf-8").replace(str(side.folder), "FOLDER")
            records = text.splitlines() if path.suffix == ".jsonl" else [text]
            for number, record in enumerate(records, start=1):
                value = timeless(json.loads(record))
                found[f"{name}:{number}"] = json.dumps(value, sort_keys=True)
        else:
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def difference(old: str, new: str) -> str:
    """The two texts from shortly before the first character in which they differ."""
    shared = len(os.path.commonprefix([old, new]))
    start = max(0, shared - 40)
    return f"old {old[start : start + 160]!r}\n      new {new[start : start + 160]!r}"


def timeless(value: Any) -> Any:
    """A record without the values that depend on the clock."""
    if isinstance(value, dict):
        return {name: timeless(own) for name, own in value.items() if name not in TIMES}
    return value


def chosen(every: dict[str, Case], only: list[str]) -> dict[str, Case]:
    """The cases of these names and those that they need, in the order of `every`."""
    if unknown := sorted(set(only) - set(every)):
        raise SystemExit(f"equal.py: no case {', '.join(unknown)}: known are {', '.join(every)}")
    wanted: set[str] = set()
    left = list(only or every)
    while left:
        name = left.pop()
        wanted.add(name)
        left += [needed for needed in every[name].needs if needed not in wanted]
        if every[name].needs == ("mlm+tlm",):
            left.append("data")
    return {name: case for name, case in every.items() if name in wanted}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", type=Path, help="the checkout from before")
    parser.add_argument("new", type=Path, help="the checkout to compare with it")
    parser.add_argument("--only", nargs="+", default=[], help="names of cases")
    parser.add_argument("--list", action="store_true", help="list the cases and end")
    options = parser.parse_args()
    checkouts = [options.old.resolve(), options.new.resolve()]
    for checkout in checkouts:
        if not (checkout / "xlm" / "__init__.py").is_file():
            parser.error(f"{checkout} is no checkout of xlm: it has no xlm/__init__.py")
    if options.list:
        print("\n".join(cases(checkouts[0])))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        sides = [
            Side(checkout, Path(temporary) / name)
            for checkout, name in zip(checkouts, ("old", "new"), strict=True)
        ]
        lists = [chosen(cases(side.checkout), options.only) for side in sides]
        different = num_compared = 0
        for name in lists[0]:
            for side, own in zip(sides, lists, strict=True):
                if failure := side.run(name, own[name]):
                    print(f"{name}: {side.checkout} failed:\n{failure}")
                    return 1
            old, new = (contents(side, name) for side in sides)
            wrong = sorted(each for each in {**old, **new} if old.get(each) != new.get(each))
            different += len(wrong)
            num_compared += len(old)
            times = " and ".join(f"{side.seconds[name]:.1f} s" for side in sides)
            verdict = f"{len(wrong)} DIFFER" if wrong else "equal"
            print(f"{name:22} {len(old):4} values {verdict}  ({times})", flush=True)
            for each in wrong[:5]:
                print(f"    {each}\n      {difference(old.get(each, ''), new.get(each, ''))}")
            if not old:
                print(f"{name}: nothing was compared")
                different += 1
    print(f"{num_compared} values of {len(lists[0])} cases compared, {different} differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

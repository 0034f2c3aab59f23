"""What the studies of translators share: their arguments, arms by seed, and their result.

An arm is measured once with each seed and its figures are kept in a file, so a study that was
stopped goes on, more seeds may be asked for later, and parts may be shown before the rest is there.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.studies.learning import kept
from benchmarks.support import downstream
from benchmarks.support.many_languages_lab import QUICK, Size


def parser_of(text: str, folder: str, *, seeds: bool = True) -> argparse.ArgumentParser:
    """Return the arguments of a study; those of arms and seeds unless it has one seed alone."""
    parser = argparse.ArgumentParser(description=text.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(folder))
    if seeds:
        parser.add_argument("--only", nargs="+", help="arms, or how their names begin")
        parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
        parser.add_argument(
            "--finished", action="store_true", help="train nothing: show the arms that are finished"
        )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="try a tiny size")
    return parser


def with_size(parser: argparse.ArgumentParser, size: Size) -> argparse.ArgumentParser:
    """Add the arguments of the models' size."""
    parser.add_argument("--dim", type=int, default=size.dim)
    parser.add_argument("--updates", type=int, default=size.updates)
    return parser


def begun(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Return the arguments that the script was given; a trial has one seed."""
    arguments = parser.parse_args()
    downstream.begin(arguments.threads)
    if arguments.quick:
        arguments.seeds = [0]
    return arguments


def size_of(arguments: argparse.Namespace, size: Size, **fields: Any) -> Size:
    """Return the size that was asked for; ``fields`` are as given even in a trial."""
    asked = replace(size, dim=arguments.dim, updates=arguments.updates)
    return replace(QUICK if arguments.quick else asked, **fields)


def by_seed(
    arguments: argparse.Namespace, names: Iterable[str],
    measured: Callable[[str, int], tuple[Path, Callable[[], dict[str, Any]]]],
    done: Callable[[], object] = lambda: None,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Return the figures of the arms that are asked for, seed by seed, and measure those missing.

    ``measured`` gives the file of an arm and a seed and the function that makes its content;
    ``done`` is called after each.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for seed in arguments.seeds:
        for name in downstream.chosen(arguments.only, names):
            path, make = measured(name, seed)
            if arguments.finished and not path.exists():
                continue
            sys.stderr.write(f"== {name}, seed {seed}\n")
            found.setdefault(name, []).append(kept(path, make))
            done()
    return found


def figures_file(folder: Path, name: str, seed: int) -> Path:
    """Return the file of the figures of an arm and a seed."""
    return folder / "figures" / f"{name.replace(' ', '-')}-{seed}.json"


def finish(name: str, result: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Write a result, into the folder if only a part was asked for, and print its table."""
    trial = arguments.quick or bool(getattr(arguments, "only", None))
    downstream.show(name, downstream.write(name, result, trial=trial, folder=arguments.folder))

"""Prepare text on many machines: the parts of `xlm prepare` run under datatrove.

    python recipes/cluster/prepare_parts.py recipe.yaml --parts 64 --workers 8

reads the text in 64 parts, learns the vocabulary, tokenizes in 64 parts, and joins them. The engine
is datatrove (pip install datatrove): it starts the parts on this machine (``--executor local``),
under SLURM or with Ray, repeats those that failed, and passes over those that are done. The folder
of the recipe and its sources lie on a disk that every machine sees.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

from datatrove.pipeline.base import PipelineStep

from xlm.config.cli import read
from xlm.prepare import Prepare, prepare_part


class PreparePart(PipelineStep):
    """One part of ``num_parts``, or the join of all."""

    name, type = "xlm prepare", "tokenizer"

    def __init__(self, recipe: str, *, joins: bool = False) -> None:
        super().__init__()
        self.recipe, self.joins = str(Path(recipe).resolve()), joins

    def run(self, data: Any, rank: int = 0, world_size: int = 1) -> Any:
        """Make part ``rank`` of ``world_size``; nothing flows from step to step."""
        config = read(Prepare, Path(self.recipe))
        part = {"join": True} if self.joins else {"part": f"{rank + 1}/{world_size}"}
        # the parts are the processes of a machine; the join uses all cores
        prepare_part(dataclasses.replace(config, **part, workers=None if self.joins else 1))
        return data


def executors(
    recipe: str, num_parts: int, workers: int, logs: str, kind: str, **settings: Any
) -> list[Any]:
    """Return what reads, learns the vocabulary, tokenizes and joins, each after the one before."""
    if kind == "slurm":
        from datatrove.executor import SlurmPipelineExecutor as Executor
    elif kind == "ray":
        from datatrove.executor import RayPipelineExecutor as Executor
    else:
        from datatrove.executor import LocalPipelineExecutor as Executor
    made: list[Any] = []
    for name, joins in (("read", False), ("learn", True), ("tokenize", False), ("join", True)):
        own = {**settings, "depends": made[-1]} if made else dict(settings)
        made.append(
            Executor(
                [PreparePart(recipe, joins=joins)],
                tasks=1 if joins else num_parts,
                workers=1 if joins else workers,
                logging_dir=f"{logs}/{name}",
                **own,
            )
        )
    return made


def main() -> None:
    """Run it; see the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", help="a recipe of `xlm prepare`")
    parser.add_argument("--parts", type=int, default=64)
    parser.add_argument("--workers", type=int, default=8, help="parts at the same time")
    parser.add_argument("--logs", default="prepare-logs", help="a folder that every machine sees")
    parser.add_argument("--executor", choices=["local", "slurm", "ray"], default="local")
    parser.add_argument("--partition", help="slurm: the partition")
    parser.add_argument("--time", default="04:00:00", help="slurm: the time limit of a part")
    arguments = parser.parse_args()
    slurm = {"partition": arguments.partition, "time": arguments.time}
    made = executors(
        arguments.recipe,
        arguments.parts,
        arguments.workers,
        arguments.logs,
        arguments.executor,
        **(slurm if arguments.executor == "slurm" else {}),
    )
    made[-1].run()  # runs those that it depends on first


if __name__ == "__main__":
    main()

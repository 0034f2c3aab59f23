"""Ranks that fail: a run under torchrun, one rank of which hangs, dies or is stopped in update 4.

torchrun --nproc_per_node=2 -m tests.distributed.misbehaving FOLDER {hang,die,stop,slow}
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import Any
from unittest import mock

from tests.training import tiny
from xlm.config.cli import run_verb
from xlm.errors import XlmError
from xlm.pretrain import pretrain
from xlm.run.config import Run
from xlm.training import loop
from xlm.training.prefetch import Prefetcher


def main() -> None:
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    folder, how = sys.argv[1:]
    update = loop._update

    def misbehave(trainer: loop.Trainer, *rest: Any) -> Any:
        if trainer.state.step == 3 and trainer.parallel.rank == 1:
            if how == "hang":
                time.sleep(1000)
            elif how in ("die", "stop"):
                os.kill(os.getpid(), signal.SIGKILL if how == "die" else signal.SIGSTOP)
        if how == "slow":
            time.sleep(0.3)
        return update(trainer, *rest)

    loop._update = misbehave  # type: ignore[assignment]
    run = tiny.recipe(folder, steps=200, save_every=1000, hang_seconds=4)

    def act(_: Run) -> None:
        pretrain(run, tiny.corpora(40))

    arguments = ["--data=d", "--folder=f", "--objectives.o=MaskedLM", "--model.preset=tiny"]
    run_verb(Run, "pretrain", act, [*arguments, "--objectives.o.languages=[en]"])


def without_batches(folder: str, at: int, **settings: Any) -> str:
    """Train; rank 1 cannot make its batches of the update after step ``at``. Return the error."""
    collate = Prefetcher._collate

    def failing(self: Prefetcher, number: int, cursors: dict[str, int]) -> Any:
        if number == at and self._parallel.rank == 1:
            raise XlmError("line 6 is damaged")
        return collate(self, number, cursors)

    with mock.patch.object(Prefetcher, "_collate", failing):
        try:
            pretrain(tiny.recipe(folder, **settings), tiny.corpora())
        except XlmError as error:
            return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    main()

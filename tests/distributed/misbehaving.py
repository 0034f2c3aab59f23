"""A run under torchrun, one rank of which hangs, dies or is stopped in the update of step 3.

torchrun --nproc_per_node=2 -m tests.distributed.misbehaving FOLDER {hang,die,stop,slow}
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from typing import Any

from tests.training import tiny
from xlm.config.cli import run_verb
from xlm.pretrain import pretrain
from xlm.run.config import Run
from xlm.training import loop


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


if __name__ == "__main__":
    main()

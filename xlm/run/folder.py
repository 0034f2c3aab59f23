"""The folder of a run: one process at a time, one recipe for good.

.lock          held while the run trains
config.yaml    the resolved recipe
origin.json    digests of the sources of a fine-tuning run
verified.json  the files of the prepared text as they were verified
metrics.jsonl, tensorboard/    the journal
checkpoints/   step-00001234, best.json
model/         the best weights, for `xlm.load`
before-restart-1/    everything from before the run started again at step 0
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, get_args

import torch
import yaml

from xlm import disk, strict_json
from xlm.config import strict_yaml
from xlm.data.corpora import Corpora
from xlm.data.verification import verify_corpora
from xlm.errors import ConfigError, DataError, XlmError, one_line
from xlm.interchange.load import MODEL
from xlm.model.pretrained import PretrainedModel
from xlm.run.build import without_auto
from xlm.run.config import Run, differences, write_run
from xlm.storage import read_json, refusing, target_of, write_json
from xlm.training.distributed.processes import Parallel
from xlm.training.journal import METRICS, Journal, read_metrics
from xlm.training.precision import Precision
from xlm.training.restore import CHECKPOINTS

log = logging.getLogger("xlm")

VERIFIED = "verified.json"
"""Size and time of change of each file of the prepared text, as it was when it was verified."""
ORIGIN = "origin.json"
"""Sources of a run, in its folder: a digest of the model and of each file."""
ASIDE = "before-restart"
"""The folders, numbered from 1, of the files from before a run started again."""
MOST_SHOWN = 3
"""Differences that a message lists."""
UNMEASURED = {
    "folder", "model", "report_every", "save_every", "save_in_background", "keep_last",
    "keep_best", "keep_every", "restart", "hang_seconds", "tensorboard", "device", "sharding",
    "wandb", "recompute_activations", "stop_status",
}  # fmt: skip
"""Fields that do not change what a finished run has measured; its shape is that of its origin."""


class RunFolder:
    """The files of one run; only rank 0 writes."""

    def __init__(self, path: Path | str, parallel: Parallel) -> None:
        self.path = Path(path)
        self.parallel = parallel

    @property
    def checkpoints(self) -> Path:
        """The folder of the run's checkpoints."""
        return self.path / CHECKPOINTS

    @contextmanager
    def locked(self) -> Iterator[RunFolder]:
        """Hold the folder, on rank 0; raise ConfigError as ``locked`` does."""
        with locked(self.path) if self.parallel.is_main else nullcontext():
            yield self

    def resolve(self, run: Run) -> Run:
        """Return ``run`` with values for each ``auto``, the same on every rank.

        They are those of the folder's own run if there is one, else the best for the device.
        """
        automatic = [name for name in ("precision", "compile") if getattr(run, name) == "auto"]
        if not automatic:
            return run
        values = {}
        if self.parallel.is_main:
            best = without_auto(run, self.parallel.device)
            saved = self._saved(needed="precision" in automatic)
            for name in automatic:
                known = saved.get(name)
                fits = known in get_args(Precision) or isinstance(known, bool)
                values[name] = known if fits else getattr(best, name)
        return replace(run, **self.parallel.broadcast(values))

    def _saved(self, *, needed: bool) -> dict[str, Any]:
        """Return the settings in config.yaml, none if there is no such file.

        Raises ConfigError if it cannot be read and is ``needed``.
        """
        try:
            saved = strict_yaml.load((self.path / "config.yaml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, yaml.YAMLError) as error:
            if not needed:
                return {}
            raise ConfigError(
                f"{self.path / 'config.yaml'} cannot be read ({one_line(error)}): give another "
                "folder, or set precision, which auto takes from it"
            ) from error
        return saved if isinstance(saved, dict) else {}

    def open_journal(self, run: Run, step: int) -> Journal:
        """Write config.yaml if there is something to train; open the journal at ``step``.

        Metrics of saved steps are put aside, not cut, if the run begins at step 0.
        """
        main = self.parallel.is_main
        if main and step == 0 and self._last_step() > (run.save_every or run.steps):
            self.put_aside()
        if main and step < run.steps:
            write_run(run, self.path)
        return Journal.open(
            self.path,
            step=step,
            total_steps=run.steps,
            tensorboard=run.tensorboard,
            active=main,
            wandb=run.wandb,
        )

    def _last_step(self) -> int:
        """Return the last step in the metrics, 0 if there are none."""
        if not (self.path / METRICS).exists():
            return 0
        return max((line["step"] for line in read_metrics(self.path / METRICS)), default=0)

    def put_aside(self) -> None:
        """Move a run's files into a folder ``before-restart-N``; rank 0 alone does it."""
        if not self.parallel.is_main:
            return
        taken = [path.name for path in self.path.glob(f"{ASIDE}-*")]
        aside = self.path / next(
            name for number in count(1) if (name := f"{ASIDE}-{number}") not in taken
        )
        with refusing(aside, ConfigError, place="folder"):
            aside.mkdir()
            for name in (CHECKPOINTS, METRICS, "tensorboard", MODEL):
                if os.path.lexists(self.path / name):
                    os.rename(self.path / name, aside / name)
        log.warning("files left from before this restart at step 0 are now in %s", aside)

    def verify(self, corpora: Corpora) -> None:
        """Verify the prepared text by its hashes, on rank 0, if it was not before or has changed.

        Raises DataError, on every rank, for a file that was changed.
        """
        for name, own in corpora.tables.items():
            self._verify(own.folder, VERIFIED.replace(".json", f"-{name}.json"))
        self._verify(corpora.folder, VERIFIED)

    def _verify(self, data: Path | None, file: str) -> None:
        failure = ""
        if data is None:
            return  # made in memory
        if self.parallel.is_main:
            noted = self.path / file
            try:
                before = read_json(noted) if noted.exists() else {}
                known = before.get("files") if before.get("folder") == str(data) else None
                known = known if isinstance(known, dict) else None
                found = verify_corpora(data, known, tick=self.parallel.beat)
                if line := found.line(data):
                    log.warning("%s", line)
                if found.known != known:
                    with suppress(ConfigError):  # a full disk: it is read again next time
                        content = {"folder": str(data), "files": found.known}
                        write_json(noted, content, error=ConfigError)
            except XlmError as error:
                failure = str(error)
        if failure := self.parallel.broadcast(failure):
            raise DataError(failure)

    def has_ended(self) -> bool:
        """Return whether the metrics say that the run ended, on every rank.

        They do not if the run was killed after its last save.
        """
        lines = read_metrics(self.path / METRICS) if self.parallel.is_main else []
        return bool(self.parallel.broadcast(any(line.get("event") == "end" for line in lines)))

    def check_same(self, run: Run, origin: Mapping[str, str]) -> None:
        """Raise ConfigError if the folder holds another run; note the origin of a new one."""
        config, noted = self.path / "config.yaml", self.path / ORIGIN
        if not config.exists():
            write_json(noted, origin, error=ConfigError)
            return
        try:
            changed = differences(config.read_text(encoding="utf-8"), run, UNMEASURED)
            before = strict_json.parse(noted.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or one_line(error)
            raise ConfigError(
                f"{self.path}: the source it was trained from cannot be read ({reason}); "
                "give another folder, or remove this one"
            ) from error
        changed += [
            f"another {name}" for name, own in origin.items() if before.get(name, own) != own
        ]
        if changed:
            more = f" and {len(changed) - MOST_SHOWN} more" if len(changed) > MOST_SHOWN else ""
            raise ConfigError(
                f"{self.path} holds a run of another recipe: {', '.join(changed[:MOST_SHOWN])}"
                f"{more}; give another folder, or remove this one"
            )


def origin_of(model: PretrainedModel, files: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 (hex) of a model (weights, tokenizer, languages) and of each file."""
    digest = hashlib.sha256(f"{model.tokenizer.digest} {model.languages}".encode())
    for name, tensor in sorted({**model.transformer.state_dict(), **model.heads}.items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    found = {"the model": digest.hexdigest()}
    for name in files:
        if Path(name).is_file():  # a data set of the hub is no file
            with open(name, "rb") as file:
                found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder; raise ConfigError if another process does, or if it cannot be made."""
    try:
        target_of(folder).mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w")
    except OSError as error:
        raise ConfigError(
            f"folder {folder} cannot be written ({error.strerror}); {disk.advice(error, 'folder')}"
        ) from error
    with file:
        try:
            disk.lock(file)
        except BlockingIOError as error:
            raise ConfigError(
                f"{folder} is being written by another run: wait for it, or give another folder"
            ) from error
        yield

"""Save the state of a run, restore it bit for bit, and leave its best model."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlm.config import strict_yaml
from xlm.config.cli import to_yaml
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, DataError
from xlm.interchange.load import DESCENT, MODEL, checkpoint_shape, read_checkpoint
from xlm.model.model_directory import TABLES
from xlm.model.tensor_files import not_finite
from xlm.run.card import card_details
from xlm.run.config import Run, differences
from xlm.run.folder import RunFolder
from xlm.run.held_out import Figures, HeldOut
from xlm.run.layout import translator_facts
from xlm.run.reporter import warn
from xlm.run.signs import with_signs
from xlm.training import checkpoint, retention
from xlm.training.checkpoint import Entries
from xlm.training.distributed.sharding import Shards
from xlm.training.initialization import COMPUTED_WITH
from xlm.training.optimizers.state import flatten_optimizer, restore_optimizer
from xlm.training.pieces import Rows, pieces_of
from xlm.training.restore import find_checkpoint, load_weights
from xlm.training.saving import Copies, Job
from xlm.training.state import TrainState
from xlm.training.trainer import Trainer


class Checkpoints:
    """The checkpoints of one run, written and read back."""

    def __init__(
        self, folder: RunFolder, run: Run, corpora: Corpora, trainer: Trainer, held_out: HeldOut
    ) -> None:
        self.folder = folder
        self.run = run
        self.corpora = corpora
        self.trainer = trainer
        self.held_out = held_out
        self.before: Figures = {}
        """The figures of the initial weights, if the run compares them with its last ones."""
        self.descent: dict[str, Any] = {}
        """The record of the bodies that the weights descend from."""
        self._copies = Copies()

    @property
    def unsaved(self) -> str:
        """Why the last state could not be saved; empty if it was."""
        return self.trainer.saver.failure

    def save(self) -> None:
        """Write a checkpoint of this step; every rank calls it.

        With the saver in the background only the copies are waited for. A failure is logged and
        kept in ``unsaved``: the older checkpoints are intact, so the run continues and tries again
        at its next save.
        """
        saver = self.trainer.saver
        saver.finish()
        saver.begin(self._job())

    def _job(self) -> Job:
        trainer, shards = self.trainer, self.trainer.shards
        if shards is None and not trainer.parallel.is_main:
            return Job(None, lambda entries: None)
        step, (tensors, numbers) = trainer.state.step, self._tensors()
        state, texts = self._state(numbers), {"config.yaml": to_yaml(self.run)}
        directories, pruned, filled = self._directories(), self._pruning(), _at_once
        if shards is not None:
            return self._job_of_rows(shards, tensors, (state, texts, directories), pruned)
        if trainer.saver.background:
            tensors, filled = self._copies.take(tensors)
        folder = self.folder.checkpoints

        def commit(entries: Entries) -> None:
            filled()
            _check_finite(step, tensors)
            pruned(checkpoint.save(folder, step, tensors, state, texts, directories))

        return Job(None, commit)

    def _job_of_rows(
        self,
        shards: Shards,
        tensors: dict[str, dict[str, Tensor]],
        rest: tuple[Any, Any, Any],
        pruned: Callable[[Path], None],
    ) -> Job:
        """Return the save in which each rank writes its rows; collective."""
        parallel, saver, filled = self.trainer.parallel, self.trainer.saver, _at_once
        step = self.trainer.state.step
        pieces = {name: pieces_of(name, shards.of_how_many) for name in tensors}
        rows = {name: _rows_of(shards, own) for name, own in tensors.items()}
        tensors = {
            name: {
                key: tensor
                for key, tensor in own.items()
                # of what every rank has, the first is the one that writes it
                if (rows[name][key].num if key in rows[name] else shards.number == 0)
            }
            for name, own in tensors.items()
        }
        needed = checkpoint.size_of(tensors) if shards.writes else 0
        writers = parallel.gather([os.getpid(), needed])
        draft = checkpoint.Draft(self.folder.checkpoints, step, writer=writers[0][0])
        problem = ""
        if parallel.is_main:
            try:
                draft.open(sum(bytes_of_rank for _, bytes_of_rank in writers))
            except CheckpointError as error:
                problem = str(error)
        if problem := parallel.broadcast(problem):
            return Job(lambda: _refused(problem), lambda entries: None, draft.discard)
        if saver.background and shards.writes:
            tensors, filled = self._copies.take(tensors)

        def write() -> Entries:
            if not shards.writes:
                return {}
            filled()
            _check_finite(step, tensors)
            return draft.write(tensors, rows, (shards.number, shards.of_how_many))

        def commit(entries: Entries) -> None:
            try:
                pruned(draft.commit(*rest, entries=entries, pieces=pieces))
            finally:
                draft.discard()

        return Job(write, commit, draft.discard)

    def _tensors(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Return the tensors that this rank saves, by file and name, and the optimizer's numbers.

        Sharded tensors are rows.
        """
        trainer = self.trainer
        moments, numbers = flatten_optimizer(trainer.optimizer, trainer.named_parameters.items())
        own = trainer.learner if trainer.shards is None else trainer.shards
        tensors = {"model": dict(own.state_dict()), "optimizer": moments}
        if trainer.averaged is not None:
            tensors["averaged"] = trainer.averaged.state_dict()
        return {name: own for name, own in tensors.items() if own}, numbers

    def _state(self, numbers: dict[str, Any]) -> dict[str, Any]:
        return {
            "train_state": self.trainer.state.to_json(),
            "optimizer": numbers,
            "languages": self.corpora.own_languages,
            "tokenizer": self.corpora.tokenizer.digest,
            **({"tables": self.corpora.table_digests} if self.corpora.tables else {}),
            **self.descent,
            "environment": self._environment(),
            **translator_facts(self.run, self.corpora.languages),
            **({"before": self.before} if self.before else {}),
        }

    def _directories(self) -> dict[str, checkpoint.Source]:
        tables = self.corpora.tables.items()
        return {
            "tokenizer": self.corpora.tokenizer.save,
            **{f"{TABLES}/{name}": own.tokenizer.save for name, own in tables},
        }

    def _pruning(self) -> Callable[[Path], None]:
        """Return the function that notes the best checkpoint and prunes, given the one just saved.

        It uses the state as it is now.
        """
        state, folder = self.trainer.state, self.folder.checkpoints
        # while updates are skipped, older weights may be needed
        keeps_all, best = bool(state.skipped_in_a_row), state.best_step
        last, every = self.run.keep_last, self.run.keep_every
        also = {int(own["step"]) for own in state.bests.values()}

        def prune(path: Path) -> None:
            with suppress(CheckpointError):  # a note for people: the states say which is the best
                retention.note_best(folder)
            if not keeps_all:
                retention.prune(folder, last, keep_every=every, trusted=path, best=best, also=also)

        return prune

    def resume(self, loaded: checkpoint.Loaded) -> None:
        """Fill the trainer from a checkpoint of this run.

        Logs a warning if results cannot be equal bit for bit, or if the recipe has changed. Raises
        CheckpointError if tokenizer, tensors or values computed with them do not fit.
        """
        trainer, saved = self.trainer, loaded.state
        if saved["tokenizer"] != self.corpora.tokenizer.digest:
            raise CheckpointError(
                f"{loaded.path} was trained with tokenizer {saved['tokenizer'][:12]}, but "
                f"the data has {self.corpora.tokenizer.digest[:12]}: give the data it was "
                "trained on, or another folder"
            )
        if (there := saved.get("tables", {})) != (here := self.corpora.table_digests):
            name = next(n for n in {**there, **here} if there.get(n) != here.get(n))
            raise CheckpointError(
                f"{loaded.path} has the table {name} with tokenizer "
                f"{there.get(name, 'none')[:12]}, but the data has "
                f"{here.get(name, 'none')[:12]}: give the data it was trained on, or another "
                "folder"
            )
        self._check_shape(loaded)
        warn(trainer.parallel, self._changes(loaded))
        self.before = saved.get("before", {})
        self.descent = {key: saved[key] for key in DESCENT if key in saved}
        load_weights(trainer.learner, loaded, "model", trainer.shards)
        moments = self._read(loaded, "optimizer") if loaded.has_tensors("optimizer") else {}
        own = trainer.named_parameters.items()
        restore_optimizer(trainer.optimizer, own, moments, saved["optimizer"])
        if trainer.averaged is not None:
            if not loaded.has_tensors("averaged"):
                raise CheckpointError(
                    f"{loaded.path} has no averaged weights: resume with average 0"
                )
            trainer.averaged.load_state_dict(self._read(loaded, "averaged"))
        restored = TrainState.from_json(saved["train_state"])
        for name, value in vars(restored).items():
            setattr(trainer.state, name, value)
        if trainer.scaler is not None:
            trainer.scaler.load_state_dict(restored.scaler)
        trainer.restore_counters()
        self._forget_another_score(loaded)

    def _read(self, loaded: checkpoint.Loaded, name: str) -> dict[str, Tensor]:
        """Return the tensors of a file, or the rows of them that this rank holds."""
        shards = self.trainer.shards
        if shards is None:
            return loaded.tensors(name)
        return loaded.tensors(name, wanted=lambda key, _: shards.rows_of_key(key))

    def _check_shape(self, loaded: checkpoint.Loaded) -> None:
        """Raise CheckpointError if equal tensors would compute something else than they did."""
        was = checkpoint_shape(loaded)
        changed = [
            f"model.{name} {getattr(self.run.shape, name)} (was {getattr(was, name)})"
            for name in COMPUTED_WITH
            if getattr(self.run.shape, name) != getattr(was, name)
        ]
        if changed:
            raise CheckpointError(
                f"{loaded.path} belongs to another model: the recipe has "
                f"{', '.join(changed)}; resume with the recipe that wrote it, or give "
                "another folder, in which initialize.partial can still take its weights"
            )

    def _forget_another_score(self, loaded: checkpoint.Loaded) -> None:
        """Forget the best score if it is of another metric or of other streams than are watched."""
        state, now = self.trainer.state, self.run.stopping
        was = strict_yaml.load(loaded.text("config.yaml")).get("stopping") or {}
        changed = [
            n for n in ("metric", "streams") if was.get(n, getattr(now, n)) != getattr(now, n)
        ]
        if changed and state.best is not None:
            warn(
                self.trainer.parallel,
                [
                    f"stopping.{changed[0]} was {was[changed[0]]}, now it is "
                    f"{getattr(now, changed[0])}: the best of step {state.best_step} is forgotten, "
                    "as the two cannot be compared"
                ],
            )
            state.best, state.best_step, state.patience_used = None, None, 0

    def _changes(self, loaded: checkpoint.Loaded) -> list[str]:
        """Return a line for each difference between the saved run and this one."""
        lines = []
        for name, here in self._environment().items():
            was = loaded.state["environment"].get(name, here)
            if was != here:
                lines.append(
                    f"resuming with {name} {here}, the run had {was}: losses will not be equal "
                    "bit for bit"
                )
        if changed := differences(loaded.text("config.yaml"), self.run):
            lines.append(
                f"resuming at step {loaded.step} with {', '.join(changed)}: what was trained until "
                "now is another recipe's; give another folder to start anew"
            )
        return lines

    def _environment(self) -> dict[str, Any]:
        """Return everything that bitwise equality of a resumed run depends on."""
        parallel = self.trainer.parallel
        device = parallel.device
        training = self.trainer.mixture.streams.values()
        num_tokens = sum(stream.text_size.tokens for own in training for stream in own)
        counts = self.corpora.counts().tobytes()
        counts += b"".join(self.corpora.counts(name).tobytes() for name in self.corpora.tables)
        held_out = self.held_out.streams["valid"].values()
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processor": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
            "processes": parallel.world,
            **({"sharding": self.run.sharding} if self.trainer.shards is not None else {}),
            "training text": f"{num_tokens} tokens, {hashlib.sha256(counts).hexdigest()[:12]}",
            "held-out text": [[s.id, s.text_size.tokens] for own in held_out for s in own],
        }

    def leave_model(self) -> str:
        """Write the best weights as a self-contained directory, which ``xlm.load`` opens anywhere.

        Returns a line for the user on rank 0. Raises CheckpointError, on every rank, if that fails.
        """
        parallel, failure, line = self.trainer.parallel, "", ""
        if parallel.is_main:
            folder = self.folder.path / MODEL
            try:
                best = find_checkpoint(self.folder.path, "best")
                # the weights that were measured when it was found to be the best
                model = read_checkpoint(
                    best,
                    self.corpora.tokenizer,
                    tables={name: own.tokenizer for name, own in self.corpora.tables.items()},
                    prefer_averaged=self.run.evaluate_averaged,
                )
                if self.run.signs:
                    model = with_signs(model, self.run, self.corpora)
                streams = self.trainer.mixture.streams
                details = card_details(self.run, streams, self.folder.path, best.step)
                model.save_pretrained(folder, details)
                line = f"the model of step {best.step} is in {folder}, for xlm.load"
                if self.trainer.state.best_step not in (None, best.step):
                    line += f" (the best, of step {self.trainer.state.best_step}, was not saved)"
            except (CheckpointError, DataError) as error:
                failure = str(error)
        if failure := parallel.broadcast(failure):
            raise CheckpointError(failure)
        return line


def _rows_of(shards: Shards, tensors: Mapping[str, Tensor]) -> dict[str, Rows]:
    """Return the rows of those tensors of a file that this rank has not whole."""
    found = {}
    for key, tensor in tensors.items():
        rows = shards.rows_of_key(key)
        if rows is not None and tensor.ndim:
            found[key] = rows
    return found


def _refused(problem: str) -> Entries:
    raise CheckpointError(problem)


def _at_once() -> None:
    """Wait for nothing: the tensors are there."""


def _check_finite(step: int, tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
    for name, own in tensors.items():
        if found := not_finite(own):
            raise CheckpointError(
                f"step {step} is not saved: its {name} holds {found}; earlier checkpoints are "
                "intact: resume from one with a lower learning rate"
            )

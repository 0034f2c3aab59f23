"""One run while it lasts: its parts, where it starts, and what the loop calls."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import logging
import math
import platform
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from xlm.batch import Batch
from xlm.config.cli import to_yaml
from xlm.data.corpora import Corpora
from xlm.data.mixture import render_table
from xlm.errors import CheckpointError, DataError
from xlm.interchange.load import MODEL, read_checkpoint
from xlm.run import config as building
from xlm.run import translation_checks as checks
from xlm.run.config import Run
from xlm.run.start import find_start
from xlm.training import checkpoint, retention
from xlm.training.averaging import AveragedWeights
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.wrap import wrap
from xlm.training.evaluation import evaluate
from xlm.training.initialization import InitializationReport, as_record, initialize
from xlm.training.journal import METRICS, Journal, read_metrics, short
from xlm.training.learner import parameter_sets_differ
from xlm.training.loop import Trainer, TrainReport, Verdict, train
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.state import flatten_optimizer, restore_optimizer
from xlm.training.precision import LossScaler
from xlm.training.restore import CHECKPOINTS, find_checkpoint, load_weights
from xlm.training.speed import emulated, flops, matmul_ceiling
from xlm.training.state import TrainState

log = logging.getLogger("xlm")


class Session:
    """The parts of one run, and what the loop calls: report, evaluate, save."""

    def __init__(self, run: Run, corpora: Corpora, parallel: Parallel) -> None:
        parallel.check_group_size(run.group_size)
        self.start = find_start(run, corpora)
        run, corpora = self.start.run, self.start.corpora
        self.run, self.corpora, self.parallel = run, corpora, parallel
        self.folder = Path(run.folder)
        self.config_text = to_yaml(run)
        parallel.same_on_all("the resolved config", self.config_text)
        streams = building.training_streams(run, corpora)
        self.mixture = building.build_mixture(run, streams)
        checks.check_budget(run, self.mixture)
        self.held_out = building.held_out_streams(run, corpora, "valid")
        self.tests = building.held_out_streams(run, corpora, "test") if run.evaluate_test else {}
        if run.evaluate_every:
            ids = [stream.id for streams in self.held_out.values() for stream in streams]
            building.check_stopping(run.stopping, ids)
        self.learner = building.build_learner(run, corpora).to(parallel.device)
        self.state = TrainState()
        self.figures: dict[str, dict[str, float]] = {}
        self.before: dict[str, dict[str, float]] = {}
        self.initialized: InitializationReport | None = None
        self._from_language_model = False
        self._unsaved = ""
        self._started = time.monotonic()
        self._build_trainer()
        self._start_or_resume()
        if parallel.is_main and self.state.step < run.steps:
            building.write_run(run, self.folder)
        self.journal = Journal(
            self.folder,
            step=self.state.step,
            total_steps=run.steps,
            tensorboard=run.tensorboard,
            active=parallel.is_main,
        )
        self._ceiling = matmul_ceiling(parallel.device, run.precision)
        if slow := emulated(parallel.device, run.precision, self._ceiling):
            self._warn(slow)
        self._announce()
        self._judge_pretrained()
        self._try_evaluation()

    def _build_trainer(self) -> None:
        run, parallel = self.run, self.parallel
        building.freeze(self.learner, run.frozen_layers)
        differ = parameter_sets_differ(self.learner, self.mixture)
        wrapped = wrap(self.learner, parallel, find_unused_parameters=differ)
        self.optimizer = build_optimizer(run.optimizer, self.learner.named_parameters())
        if run.compile:
            building.compile_stacks(self.learner.model)
        named = list(self.learner.named_parameters())
        self.averaged = AveragedWeights(named, run.average) if run.average else None
        self.scaler = LossScaler(parallel.device) if run.precision == "fp16" else None
        self.trainer = Trainer(
            learner=self.learner,
            wrapped=wrapped,
            mixture=self.mixture,
            optimizer=self.optimizer,
            schedule=run.schedule.for_run(run.steps),
            parallel=parallel,
            state=self.state,
            seed=run.seed,
            steps=run.steps,
            precision=run.precision,
            max_grad_norm=run.optimizer.max_grad_norm,
            scaler=self.scaler,
            averaged=self.averaged,
            report_every=run.report_every,
            evaluate_every=run.evaluate_every,
            save_every=run.save_every,
            report=self.report,
            evaluate=self.evaluate,
            save=self.save,
            flops=self._flops,
        )

    def _flops(self, objective: str, batch: Batch) -> float:
        return flops(
            self.run.shape, self.corpora.tokenizer.vocab_size, self.run.objectives[objective], batch
        )

    # Where a run starts.

    def _start_or_resume(self) -> None:
        start = self.start
        for line in start.skipped:
            self._warn(f"passed over a checkpoint: {line}")
        step = start.resumed.step if start.resumed else -1
        self.parallel.same_on_all("the checkpoint to resume from", step)
        if start.resumed is not None:
            self._resume(start.resumed)
        elif self.run.initialize is not None:
            # the encoder of a translator predicts no tokens of its own: it is no language model
            self._from_language_model = (
                self.run.initialize.only == "all"
                and start.encoder is not None
                and start.encoder.transformer.decoder is None
            )
            self.initialized = initialize(
                self.learner,
                self.run.initialize,
                encoder=start.encoder,
                decoder=start.decoder,
                tokenizer=self.corpora.tokenizer,
                languages=self.corpora.languages,
            )
            if start.kept:
                self.initialized.notes.append(
                    f"languages kept that the data has not: {', '.join(start.kept)}"
                )
            if self.averaged is not None:
                self.averaged.reset()
        # the sources' weights are not needed twice
        self.start = dataclasses.replace(start, encoder=None, decoder=None)

    def _resume(self, loaded: checkpoint.Loaded) -> None:
        saved = loaded.state
        if saved["tokenizer"] != self.corpora.tokenizer.digest:
            raise CheckpointError(
                f"{loaded.path} was trained with tokenizer {saved['tokenizer'][:12]}, the data has "
                f"{self.corpora.tokenizer.digest[:12]}: give the data it was trained on, or "
                "another folder"
            )
        for name, here in self._environment().items():
            was = saved["environment"].get(name, here)
            if was != here:
                self._warn(
                    f"resuming with {name} {here}, the run had {was}: losses will not be equal "
                    "bit for bit"
                )
        if changed := building.differences(loaded.text("config.yaml"), self.run):
            self._warn(
                f"resuming at step {loaded.step} with {', '.join(changed)}: what was trained until "
                "now is another recipe's; give another folder to start anew"
            )
        self.before = saved.get("before", {})
        load_weights(self.learner, loaded, "model")
        restore_optimizer(
            self.optimizer,
            self.learner.named_parameters(),
            loaded.tensors("optimizer") if loaded.has_tensors("optimizer") else {},
            saved["optimizer"],
        )
        if self.averaged is not None:
            if not loaded.has_tensors("averaged"):
                raise CheckpointError(
                    f"{loaded.path} has no averaged weights: resume with average 0"
                )
            self.averaged.load_state_dict(loaded.tensors("averaged"))
        restored = TrainState.from_json(saved["train_state"])
        for name, value in vars(restored).items():
            setattr(self.state, name, value)
        if self.scaler is not None:
            self.scaler.load_state_dict(restored.scaler)
        self.trainer.restore_counters()
        if self.parallel.is_main:
            log.info("resuming at step %d from %s", self.state.step, loaded.path)

    def _environment(self) -> dict[str, Any]:
        """What bitwise equality of a resumed run depends on."""
        device = self.parallel.device
        streams = (stream for own in self.mixture.streams.values() for stream in own)
        num_tokens = sum(stream.text_size.tokens for stream in streams)
        counts = self.corpora.counts().tobytes()
        held_out = self.held_out.values()
        return {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processor": torch.cuda.get_device_name(device)
            if device.type == "cuda"
            else f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
            "processes": self.parallel.world,
            "training text": f"{num_tokens} tokens, {hashlib.sha256(counts).hexdigest()[:12]}",
            "held-out text": [[s.id, s.text_size.tokens] for own in held_out for s in own],
        }

    def _announce(self) -> None:
        run = self.run
        num = sum(p.numel() for p in self.learner.parameters())
        self.journal.say(
            f"{num / 1e6:.2f} M parameters; {self.parallel.world} process(es) on "
            f"{self.parallel.device.type}, {run.precision}; steps {self.state.step} to {run.steps}"
        )
        self.journal.say(render_table(self.mixture.table(run.steps)))
        training, held_out = self.mixture.streams.values(), self.held_out.values()
        for split, every in (("train", training), ("valid", held_out)):
            for stream in itertools.chain(*every):
                if num_dropped := getattr(stream, "num_dropped", 0):
                    why = getattr(stream, "why_dropped", "are longer than the objective's length")
                    self.journal.say(
                        f"{stream.id}, {split}: {num_dropped:,} rows {why} and left out "
                        f"({stream.num_rows:,} stay)"
                    )
        self.journal.record("start", self.state.step, {"parameters": num})
        if self.initialized is not None:
            for line in self.initialized.lines():
                self.journal.say(line)
            self.journal.record("initialized", self.state.step, as_record(self.initialized))

    def _judge_pretrained(self) -> None:
        """What a language model that a translator starts from knows of its languages."""
        if not self._from_language_model:
            return
        figures = checks.pretrained_figures(self.learner, self.run, self.corpora, self.parallel)
        lines, warnings = checks.pretrained_lines(figures)
        if lines:
            self.journal.record("pretrained", self.state.step, figures)
        for line in lines:
            self.journal.say(line)
        for line in warnings:
            self._warn(line)

    def _try_evaluation(self) -> None:
        """One batch of each held-out stream: a metric that is not there is said before training.

        All of them where the weights come from elsewhere and no head is new: what they were worth
        is compared with what they are at the end.
        """
        if not self.run.evaluate_every or not any(self.held_out.values()):
            return
        whole = self.initialized is not None and not self.learner.heads
        figures = self._measure(most_batches=None if whole else 1)
        building.stopping_score(self.run.stopping, figures)
        if whole:
            self.before = figures
            self.journal.record("before", self.state.step, figures)
            self.journal.say("before the first update:")
            for stream_id, own in figures.items():
                self.journal.say(f"  {stream_id:20} " + short(own))

    def _measure(
        self, most_batches: int | None = None, split: str = "valid"
    ) -> dict[str, dict[str, float]]:
        """The held-out figures, of averaged weights if there are any."""
        averaged = self.averaged if self.run.evaluate_averaged else None
        with averaged.swapped_in() if averaged else nullcontext():
            return evaluate(
                self.learner, self.held_out if split == "valid" else self.tests, self.parallel,
                seed=self.run.seed, precision=self.run.precision, most_batches=most_batches,
            )  # fmt: skip

    def _warn(self, message: str) -> None:
        if self.parallel.is_main:
            log.warning("%s", message)

    @property
    def stopped_early(self) -> bool:
        """Whether patience is used up, in this call or before it was started again."""
        stopping, state = self.run.stopping, self.state
        if stopping.patience is not None and state.patience_used >= stopping.patience:
            return True
        lowest = self.run.schedule.peak_lr * state.rate
        return stopping.halve and state.rate < 1 and lowest < stopping.lowest_lr

    def train(self, stop: threading.Event) -> None:
        """Run the loop until the end, or until ``stop`` is set on some rank.

        Raises CheckpointError where the last state could not be saved.
        """
        if self.state.step >= self.run.steps:
            self.journal.say(f"finished already, at step {self.state.step}: nothing is trained")
        elif self.stopped_early:
            self.journal.say(
                f"stopped at step {self.state.step} after {self.state.patience_used} evaluations "
                "without a new best; raise stopping.patience to go on"
            )
            if not self._has_ended():
                self._leave_model()
                self._end()
            return
        self.trainer.stop_requested = stop.is_set
        train(self.trainer)
        # Not after a signal, whose sender waits; the step, unlike ``stop``, is alike on all ranks.
        ended = self.state.step >= self.run.steps
        if ended and not self.figures and self.run.evaluate_every:
            self.figures = self._measure()  # a run that had ended is started again
        if self._unsaved:
            raise CheckpointError(self._unsaved)
        if ended or self.stopped_early:
            self._compare_with_before()
            self._leave_model()
            self._end()

    def _has_ended(self) -> bool:
        """Whether the metrics say so: those of a run that was killed after its last save do not."""
        lines = read_metrics(self.folder / METRICS) if self.parallel.is_main else []
        return bool(self.parallel.broadcast(any(line.get("event") == "end" for line in lines)))

    def _compare_with_before(self) -> None:
        """What each held-out stream was worth at the start and is at the end."""
        if not self.before or not self.figures:
            return
        both = {"before": self.before, "after": self.figures}
        self.journal.record("change", self.state.step, both)
        self.journal.say("before -> after, on held-out text:")
        for stream_id, own in self.figures.items():
            self.journal.say(f"  {stream_id:20} " + short(own, self.before.get(stream_id)))

    def _end(self) -> None:
        """The last line of the metrics; averaged weights are measured where they were not yet."""
        values: dict[str, Any] = {"seconds": time.monotonic() - self._started}
        if self.averaged is not None and not self.run.evaluate_averaged:
            with self.averaged.swapped_in():
                values["averaged"] = {
                    split: self._measure(split=split)
                    for split, streams in (("valid", self.held_out), ("test", self.tests))
                    if any(streams.values())
                }
        self.journal.record("end", self.state.step, values)

    def _leave_model(self) -> None:
        """The best weights as a self-contained directory, for ``xlm.load`` on any machine."""
        failure = ""
        if self.parallel.is_main:
            folder = self.folder / MODEL
            try:
                best = find_checkpoint(self.folder, "best")
                # the weights that were measured when it was found to be the best
                model = read_checkpoint(
                    best, self.corpora.tokenizer, prefer_averaged=self.run.evaluate_averaged
                )
                model.save_pretrained(folder)
                self.journal.say(f"the model of step {best.step} is in {folder}, for xlm.load")
            except (CheckpointError, DataError) as error:
                failure = str(error)
        if failure := self.parallel.broadcast(failure):
            raise CheckpointError(failure)

    # What the loop calls.

    def report(self, report: TrainReport) -> None:
        """One line of the journal."""
        seconds = max(report.seconds, 1e-9)
        tokens_per_second = report.tokens / seconds
        utilization = report.flops / seconds / (self._ceiling * self.parallel.world)
        values: dict[str, Any] = {
            "loss": report.losses,
            "lr": report.lr,
            "grad_norm": report.grad_norm,
            "tokens_per_second": tokens_per_second,
            "utilization": utilization,
            "wait": report.wait,
            "skipped": report.skipped,
        }
        if report.scale is not None:
            values["scale"] = report.scale
        if self.parallel.device.type == "cuda":
            values["memory_gib"] = torch.cuda.max_memory_allocated() / 2**30
        self.journal.record("train", report.step, values)
        self.journal.advance(report.step, **report.losses)
        losses = "  ".join(f"{name} {value:.4f}" for name, value in report.losses.items())
        self.journal.say(
            f"step {report.step:>7}  {losses}  lr {report.lr:.2e}  |g| {report.grad_norm:.2f}  "
            f"{tokens_per_second:,.0f} tokens/s  {utilization:.0%} of the matmul ceiling"
            + (f"  {report.skipped} skipped" if report.skipped else "")
        )

    def evaluate(self) -> Verdict:
        """Held-out figures on averaged weights if there are any; best score, patience."""
        if not any(self.held_out.values()):
            return Verdict()
        self.figures = self._measure()
        stopping, state = self.run.stopping, self.state
        score, names = building.stopping_score(stopping, self.figures)
        counted = state.step >= stopping.from_step
        counted = counted and math.isfinite(score)
        better = counted and (state.best is None or score < state.best)
        if better:
            state.best, state.best_step, state.patience_used = score, state.step, 0
        elif counted:
            state.patience_used += 1
            state.rate *= 0.5 if stopping.halve else 1.0
        self.journal.record("valid", state.step, {**self.figures, "score": score, "streams": names})
        for stream_id, own in self.figures.items():
            self.journal.say(f"  {stream_id:20} " + short(own))
        known = (
            f" (best {abs(state.best):.4g} at step {state.best_step})"
            if state.best is not None
            else ""
        )
        compared = " (best)" if better else known if counted else " (not counted yet)"
        self.journal.say(
            f"  {stopping.metric} averaged over {', '.join(names)}: {abs(score):.4g}{compared}"
        )
        for line in checks.translation_warnings(self.figures):
            self._warn(line)
        if any(self.tests.values()):
            self._evaluate_test()
        if self.stopped_early:
            self.journal.say(f"  no better for {state.patience_used} evaluations: stopping")
        return Verdict(stop=self.stopped_early, save=better)

    def _evaluate_test(self) -> None:
        figures = self._measure(split="test")
        self.journal.record("test", self.state.step, figures)
        for stream_id, own in figures.items():
            self.journal.say(f"  test {stream_id:15} " + short(own))

    def save(self) -> None:
        """A checkpoint of this step; rank 0 writes, the others wait."""
        failure = ""
        if self.parallel.is_main:
            try:
                self._write()
            except CheckpointError as error:
                failure = str(error)
        self._unsaved = self.parallel.broadcast(failure)
        if self._unsaved:
            # The old checkpoints are intact: go on, and say it until there is room again.
            self._warn(self._unsaved)

    def _write(self) -> None:
        named = list(self.learner.named_parameters())
        tensors, numbers = flatten_optimizer(self.optimizer, named)
        files = {"model": dict(self.learner.state_dict()), "optimizer": tensors}
        if self.averaged is not None:
            files["averaged"] = self.averaged.state_dict()
        state = {
            "train_state": self.state.to_json(),
            "optimizer": numbers,
            "languages": self.corpora.languages,
            "tokenizer": self.corpora.tokenizer.digest,
            "environment": self._environment(),
            **({"before": self.before} if self.before else {}),
        }
        path = checkpoint.save(
            self.folder / CHECKPOINTS,
            self.state.step,
            {name: own for name, own in files.items() if own},
            state,
            texts={"config.yaml": self.config_text},
            directories={"tokenizer": self.corpora.tokenizer.save},
        )
        if self.state.best_step == self.state.step and self.state.best is not None:
            retention.mark_best(self.folder / CHECKPOINTS, self.state.step, self.state.best)
        retention.prune(self.folder / CHECKPOINTS, self.run.keep_last, trusted=path)

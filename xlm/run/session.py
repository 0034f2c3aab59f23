"""A run that is ready to train: its parts, put together, and the loop's call to evaluate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from xlm.config.cli import to_yaml
from xlm.data.corpora import Corpora
from xlm.errors import ConfigError, SaidByMain
from xlm.model.asking import NO_HEAD
from xlm.model.language_modules import BODIES, KNOWN
from xlm.run.bad_updates import keep_batches
from xlm.run.build import build_mixture, build_trainer, training_streams
from xlm.run.checkpointing import Checkpoints
from xlm.run.config import Run
from xlm.run.folder import RunFolder
from xlm.run.held_out import Figures, HeldOut
from xlm.run.layout import example_rows
from xlm.run.reporter import Reporter, warn
from xlm.run.start import Start, find_start
from xlm.run.start_tables import start_tables
from xlm.run.stopping import Watch, check_kept, stopping_score
from xlm.run.translation_checks import check_budget, check_pretrained, check_targets
from xlm.run.word_vectors import start_words
from xlm.tasks.task import Task
from xlm.training.allocator import garbage_apart
from xlm.training.initialization import initialize
from xlm.training.initialization_report import InitializationReport
from xlm.training.learner import Learner
from xlm.training.loop import Verdict, train
from xlm.training.report import TrainReport
from xlm.training.speed import ceiling_seconds, emulated, matmul_ceiling
from xlm.training.trainer import Trainer

log = logging.getLogger("xlm")


@dataclass
class Session:
    """The parts of one run, each filled in; see ``begin``."""

    run: Run
    """The run with the model's shape filled in."""
    corpora: Corpora
    """The data, with the languages under the ids of the model."""
    folder: RunFolder
    trainer: Trainer
    held_out: HeldOut
    watch: Watch
    reporter: Reporter
    checkpoints: Checkpoints
    started: float
    """The clock when the run began (seconds, ``time.monotonic``)."""
    figures: Figures = field(default_factory=dict)
    """The last evaluation."""

    def measure(self, most_batches: int | None = None) -> Figures:
        """Return the validation figures, of averaged weights if the run evaluates those."""
        return self.held_out.measure(
            self.trainer, averaged=self.run.evaluate_averaged, most_batches=most_batches
        )

    def train(self, stop_requested: Callable[[], bool] = lambda: False) -> None:
        """Run the loop to the run's last step, or until told to stop."""
        parallel = self.trainer.parallel
        with garbage_apart() as collect:

            def report(found: TrainReport) -> None:
                self.reporter.train(found)
                collect()

            train(
                self.trainer,
                report=report,
                evaluate=self.evaluate,
                save=self.checkpoints.save,
                stop_requested=stop_requested,
                keep=lambda step: keep_batches(self.folder.path, step, parallel.rank),
            )

    def evaluate(self) -> Verdict:
        """Measure held-out text now; say whether to stop and whether to save."""
        if not self.held_out.has("valid"):
            return Verdict()
        self.figures = self.measure()
        outcome = self.watch(self.figures)
        self.reporter.evaluation(self.figures, outcome, self.run)
        if self.held_out.has("test"):
            averaged = self.run.evaluate_averaged
            self.reporter.test(self.held_out.measure(self.trainer, "test", averaged=averaged))
        if self.watch.stopped:
            used = self.trainer.state.patience_used
            self.reporter.journal.say(f"  no better for {used} evaluations: stopping")
        return self.watch.verdict(outcome)


def begin(run: Run, corpora: Corpora, folder: RunFolder) -> Session:
    """Build the parts of ``run``; resume its newest sound checkpoint, or initialize its weights.

    Evaluates once before the first update, and opens the journal, which the caller closes. Raises
    ConfigError, DataError, CheckpointError or TrainingError in one line.
    """
    started, parallel = time.monotonic(), folder.parallel
    folder.verify(corpora)
    start = find_start(run, corpora, parallel)
    if start.resumed is None and start.skipped:
        folder.put_aside()
    run, corpora = start.run, start.corpora
    parallel.same_on_all("the resolved config", to_yaml(run))
    mixture = build_mixture(run, training_streams(run, corpora))
    check_budget(run, mixture)
    check_targets(run, corpora)
    held_out = HeldOut.of(run, corpora)
    trainer = build_trainer(run, corpora, mixture, parallel)
    checkpoints = Checkpoints(folder, run, corpora, trainer, held_out)
    initialized = resume_or_initialize(start, trainer, checkpoints)
    ceiling = matmul_ceiling(parallel.device, run.precision, ceiling_seconds(run.steps))
    journal = folder.open_journal(run, trainer.state.step)
    session = Session(
        run, corpora, folder, trainer, held_out,
        watch=Watch(
            run.stopping, trainer.state, run.schedule.peak_lr, held_out.pairs, run.keep_best
        ),
        reporter=Reporter(journal, trainer, ceiling),
        checkpoints=checkpoints,
        started=started,
    )  # fmt: skip
    if slow := emulated(parallel.device, run.precision, ceiling):
        warn(parallel, [slow])
    session.reporter.start(run.precision, held_out, initialized)
    if not parallel.is_wrapped and (idle := between_processes(run)):
        journal.say(f"one process: {' and '.join(idle)} without effect")
    for line in example_rows(run, mixture.streams):
        journal.say(line)
    if initialized is not None and from_language_model(start):
        warn(parallel, check_pretrained(trainer, run, corpora, journal))
    evaluate_start(session, initialized)
    return session


def between_processes(run: Run) -> list[str]:
    """Return the settings given, such as ``sharding full``, that only work between processes."""
    given = {"sharding": (run.sharding, "none"), "gradient_sums": (run.gradient_sums, "fp32")}
    return [f"{name} {own}" for name, (own, usual) in given.items() if own != usual]


def resume_or_initialize(
    start: Start, trainer: Trainer, checkpoints: Checkpoints
) -> InitializationReport | None:
    """Fill the trainer from the run's checkpoint or from other models' weights.

    Returns the account of the tensors of other models, None if there are none.
    """
    parallel = trainer.parallel
    warn(parallel, (f"passed over a checkpoint: {line}" for line in start.skipped))
    step = start.resumed.step if start.resumed else -1
    parallel.same_on_all("the checkpoint to resume from", step)
    if start.resumed is not None:
        checkpoints.resume(start.resumed)
        if parallel.is_main:
            log.info("resuming at step %d from %s", trainer.state.step, start.resumed.path)
        return None
    run = start.run
    if run.initialize is None and not (run.tables or run.word_vectors):
        return None
    with trainer.whole() as learner:
        initialized = _initialize(start, learner, is_main=parallel.is_main)
        if trainer.shards is not None:
            trainer.shards.take(learner)
    if trainer.averaged is not None:
        trainer.averaged.reset()
    if initialized is None:
        return None
    checkpoints.descent = descent_of(start)
    if start.kept:
        initialized.notes.append(f"languages kept that the data has not: {', '.join(start.kept)}")
    return initialized


def _initialize(start: Start, learner: Learner, *, is_main: bool) -> InitializationReport | None:
    """Fill a learner from other models' weights; return None if there are none."""
    if start.run.initialize is None:
        _start_alone(start, learner, is_main=is_main)
        return None
    initialized = initialize(
        learner,
        start.run.initialize,
        encoder=start.encoder,
        decoder=start.decoder,
        tokenizer=start.corpora.tokenizer,
        languages=start.corpora.own_languages,
    )
    start_tables(learner, start.run, start.corpora, start.encoder, initialized)
    return initialized


def _start_alone(start: Start, learner: Learner, *, is_main: bool) -> None:
    """Fill what starts neither at random nor from another model: vectors of words, and tables."""
    run = start.run
    if run.word_vectors:
        num = start_words(learner.model.encoder.words.weight, start.corpora, run.seed)
        if is_main:
            log.info("words: %d start as vectors learned on the training text", num)
    if run.tables:
        start_tables(learner, run, start.corpora, None, InitializationReport())


def descent_of(start: Start) -> dict[str, Any]:
    """Return the record of the bodies that the weights descend from, for the model that is left."""
    source, settings = start.encoder, start.run.initialize
    if (
        source is None
        or settings is None
        or settings.only != "all"
        or start.run.shape.num_decoder_layers
    ):
        return {}
    kept = {key: source.extra[key] for key in (KNOWN, NO_HEAD) if key in source.extra}
    if not all(isinstance(own, Task) for own in start.run.objectives.values()):
        kept.pop(NO_HEAD, None)  # a language model's objective learns an output
    return {BODIES: source.bodies, **kept}


def from_language_model(start: Start) -> bool:
    """Return whether the encoder is a language model's: a translator's predicts no tokens."""
    return (
        start.run.initialize is not None
        and start.run.initialize.only == "all"
        and start.encoder is not None
        and start.encoder.transformer.decoder is None
    )


def evaluate_start(session: Session, initialized: InitializationReport | None) -> None:
    """Evaluate one batch per held-out stream, so that a missing metric fails before training.

    If the weights come from elsewhere and no head is new, evaluate all of them: the figures are
    compared with the last ones at the end.
    """
    run, trainer = session.run, session.trainer
    if not run.evaluate_every or not session.held_out.has("valid"):
        return
    whole = initialized is not None and not trainer.learner.heads
    figures = session.measure(most_batches=None if whole else 1)
    try:
        stopping_score(run.stopping, figures, session.held_out.pairs)
        check_kept(run.keep_best, figures)
    except ConfigError as error:  # figures are alike on every rank
        raise error if trainer.parallel.is_main else SaidByMain(str(error)) from None
    if whole:
        session.checkpoints.before = figures
        session.reporter.before(figures)

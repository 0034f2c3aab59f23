"""Build the parts of a run from its settings: model and heads, streams, mixture, trainer.

Nothing here reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.data.mixture import Mixture
from xlm.data.streams import Stream
from xlm.errors import ConfigError
from xlm.model.transformer import Transformer
from xlm.run.config import Run
from xlm.training.averaging import AveragedWeights
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.wrap import wrap
from xlm.training.learner import Learner, parameter_sets_differ
from xlm.training.loop import Trainer
from xlm.training.optimizers.build import build_optimizer
from xlm.training.precision import LossScaler
from xlm.training.speed import flops
from xlm.training.state import TrainState


def build_learner(run: Run, corpora: Corpora) -> Learner:
    """Return model and heads with initial weights that depend on the seed alone."""
    torch.manual_seed(run.seed)
    model = Transformer(
        run.shape,
        vocab_size=corpora.tokenizer.vocab_size,
        num_languages=len(corpora.languages),
        pad_id=corpora.tokenizer.pad_id,
    )
    learner = Learner(model, run.objectives, run.shape)
    return learner.to(getattr(torch, run.dtype))


def freeze(learner: Learner, num_layers: int | None) -> None:
    """Freeze the embeddings and the lowest ``num_layers`` layers of the encoder (None: nothing).

    Raises ConfigError if the encoder has fewer layers.
    """
    if num_layers is None:
        return
    encoder = learner.model.encoder
    if num_layers > len(encoder.layers):
        raise ConfigError(
            f"frozen_layers is {num_layers}: the encoder has {len(encoder.layers)} layers"
        )
    tables = (encoder.words, encoder.positions, encoder.languages, encoder.segments)
    for module in (*tables, encoder.embedding_norm, *encoder.layers[:num_layers]):
        if module is not None:
            module.requires_grad_(False)


def compile_stacks(model: Transformer) -> None:
    """Compile encoder and decoder, one graph a shape; gathering and projecting cells stay outside.

    A padded length comes with two numbers of rows (a bucket's last batch is shorter), and training
    and evaluation differ: torch's own limit of 8 graphs would turn to eager mode with a warning.
    """
    settings = torch._dynamo.config
    name = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"
    setattr(settings, name, max(getattr(settings, name), 128))
    for stack in (model.encoder, model.decoder):
        if stack is not None:
            stack.compile(dynamic=False)


def training_streams(run: Run, corpora: Corpora) -> dict[str, list[Stream]]:
    """Return the streams that every objective draws from."""
    return {
        name: objective.streams(name, corpora, seed=run.seed)
        for name, objective in run.objectives.items()
    }


def held_out_streams(run: Run, corpora: Corpora, split: str) -> dict[str, list[Stream]]:
    """Return the streams of evaluation: each objective's languages that have the split."""
    return {
        name: objective.streams(name, corpora, seed=run.seed, split=split)
        for name, objective in run.objectives.items()
    }


def build_mixture(run: Run, streams: Mapping[str, Sequence[Stream]]) -> Mixture:
    """Return the mixture, which decides the micro-batches of step s."""
    return Mixture(
        {name: list(own) for name, own in streams.items()},
        {name: objective.sampling for name, objective in run.objectives.items()},
        {name: objective.weight for name, objective in run.objectives.items()},
        turns={name: objective.turns for name, objective in run.objectives.items()},
        group_size=run.group_size,
        order=run.order,
        one_language_a_group=run.one_language_a_group,
        seed=run.seed,
        num_steps=run.steps,
    )


def build_trainer(run: Run, corpora: Corpora, mixture: Mixture, parallel: Parallel) -> Trainer:
    """Return everything that the loop works with, at step 0 and with random weights.

    Learner, optimizer, loss scaler and averaged weights lie on the device of ``parallel``;
    ``run.shape`` must be known, ``corpora.languages`` must have the ids of the model.
    """
    learner = build_learner(run, corpora).to(parallel.device)
    freeze(learner, run.frozen_layers)
    differ = parameter_sets_differ(learner, mixture)
    wrapped = wrap(learner, parallel, find_unused_parameters=differ)
    optimizer = build_optimizer(
        run.optimizer, learner.named_parameters(), run.schedule.peak_lr, run.precision
    )
    if run.compile:
        compile_stacks(learner.model)
    named = list(learner.named_parameters())

    def arithmetic(objective: str, batch: Batch) -> float:
        return flops(run.shape, corpora.tokenizer.vocab_size, run.objectives[objective], batch)

    return Trainer(
        learner=learner,
        wrapped=wrapped,
        mixture=mixture,
        optimizer=optimizer,
        schedule=run.schedule.for_run(run.steps),
        parallel=parallel,
        state=TrainState(),
        seed=run.seed,
        steps=run.steps,
        precision=run.precision,
        max_grad_norm=run.optimizer.max_grad_norm,
        scaler=LossScaler(parallel.device) if run.precision == "fp16" else None,
        averaged=AveragedWeights(named, run.average) if run.average else None,
        report_every=run.report_every,
        evaluate_every=run.evaluate_every,
        save_every=run.save_every,
        flops=arithmetic,
    )

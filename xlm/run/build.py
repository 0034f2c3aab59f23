"""Build the parts of a run from its settings: model and heads, streams, mixture, trainer.

Nothing here reads or writes a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.fx.experimental._config
from torch import nn
from torch.utils._triton import has_triton

from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.data.mixture import Mixture
from xlm.data.streams import Stream
from xlm.errors import ConfigError
from xlm.model.language_tables import check_layouts, roles_of, symbol_rows
from xlm.model.transformer import Transformer
from xlm.run.config import Run
from xlm.run.language_tables import freeze_parts, shares_symbols
from xlm.training.averaging import AveragedWeights
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.sharding import Shards
from xlm.training.distributed.wrap import wrap
from xlm.training.forgetting import build_forgetting
from xlm.training.learner import Learner, check_alike, freeze_untrained, parameter_sets
from xlm.training.optimizers.build import build_optimizer
from xlm.training.precision import LossScaler
from xlm.training.speed import best_precision, flops
from xlm.training.spikes import Spikes
from xlm.training.state import TrainState
from xlm.training.trainer import Trainer

MOST_GRAPHS = 64
LEAST_STEPS = 2000
"""Updates of a run from which `compile: auto` compiles."""


def build_learner(run: Run, corpora: Corpora) -> Learner:
    """Return model and heads with initial weights that depend on the seed alone."""
    torch.manual_seed(run.seed)
    model = Transformer(
        run.shape,
        vocab_size=corpora.tokenizer.vocab_size,
        num_languages=max(len(corpora.own_languages), 1),
        pad_id=corpora.tokenizer.pad_id,
    )
    add_tables(model, run, corpora)
    learner = Learner(model, run.objectives, run.shape)
    return learner.to(getattr(torch, run.dtype))


def add_tables(model: Transformer, run: Run, corpora: Corpora) -> None:
    """Add the run's further tables, with first values of their own, and part off the symbols.

    Raises ConfigError for a vocabulary that does not go with the first.
    """
    roles = model.roles = roles_of(corpora.tokenizer)
    model.encoder.begin_id = corpora.tokenizer.begin_id
    tokenizers = {"": corpora.tokenizer}
    for name, settings in run.tables.items():
        tokenizers[name] = tokenizer = corpora.tokenizer_of(name)
        symbol_rows(roles_of(tokenizer), roles)
        check_layouts(name, tokenizer, corpora.tokenizer)
        model.add_table(
            name,
            vocab_size=tokenizer.vocab_size,
            roles=roles_of(tokenizer),
            own_positions=settings.positions != "shared",
            seed=run.seed,
            adapters=settings.adapters,
        )
    if run.shape.plain_first:
        for tokenizer in tokenizers.values():
            if tokenizer.begin_id == tokenizer.end_id:
                raise ConfigError(
                    "model.plain_first is true, but the vocabulary uses one symbol for "
                    "begin and end, which occurs throughout the text: learn it with "
                    "vocabulary.begins true"
                )
    if shares_symbols(run.tables, run.frozen):
        model.share_symbols(roles)


def freeze(learner: Learner, num_layers: int | None) -> None:
    """Freeze the embeddings and the lowest ``num_layers`` layers of the encoder (None: nothing).

    Raises ConfigError if the encoder has fewer layers.
    """
    if num_layers is None:
        return
    encoder = learner.model.encoder
    if num_layers > len(encoder.layers):
        raise ConfigError(
            f"frozen_layers is {num_layers}, but the encoder has {len(encoder.layers)} layers"
        )
    tables = (encoder.words, encoder.positions, encoder.languages, encoder.segments)
    for module in (*tables, encoder.embedding_norm, *encoder.layers[:num_layers]):
        if module is not None:
            module.requires_grad_(False)


def compile_model(model: Transformer, **options: Any) -> None:
    """Compile the layers and the loss, with graphs that serve every padded length and batch.

    A run has about six: with and without a mask, in training and evaluation. More objectives
    have a few more, for which torch's own limit of 8 would turn to eager mode with a warning.
    ``options`` are those of ``torch.compile``.
    """
    settings = torch._dynamo.config
    name = "recompile_limit" if hasattr(settings, "recompile_limit") else "cache_size_limit"
    setattr(settings, name, max(getattr(settings, name), MOST_GRAPHS))
    # As many rows as tokens in the first batch do not mean that they are equal in others.
    torch.fx.experimental._config.use_duck_shape = False
    model.compile_layers(**options)


def compiling_pays(device: torch.device, num_steps: int) -> bool:
    """Return whether a run is long enough for its minutes of compilation; on a CPU none is."""
    return device.type == "cuda" and has_triton() and num_steps >= LEAST_STEPS


def without_auto(run: Run, device: torch.device) -> Run:
    """Return ``run`` with the best values for ``device`` in place of each ``auto``."""
    if run.precision == "auto":
        run = replace(run, precision=best_precision(device))
    if run.compile == "auto":
        run = replace(run, compile=compiling_pays(device, run.steps))
    return run


def saves_in_background(run: Run, device: torch.device) -> bool:
    """Return whether checkpoints are written by a thread during the training."""
    if run.save_in_background == "auto":
        return device.type == "cuda"
    return run.save_in_background


def training_streams(run: Run, corpora: Corpora) -> dict[str, list[Stream]]:
    """Return the streams that every objective draws from."""
    return {
        name: objective.streams(name, corpora, seed=run.seed)
        for name, objective in run.objectives.items()
    }


def held_out_streams(run: Run, corpora: Corpora, split: str) -> dict[str, list[Stream]]:
    """Return the streams of evaluation: each objective's languages that have the split."""
    tokens = run.evaluation_tokens
    return {
        name: (objective.in_evaluation(tokens) if tokens else objective).streams(
            name, corpora, seed=run.seed, split=split
        )
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
    freeze_parts(learner, run.frozen, run.tables)
    sets = parameter_sets(learner, mixture, run.precision)
    differ = freeze_untrained(learner, sets)
    wrapped: nn.Module = learner
    shards = rows = None
    if run.sharding != "none" and parallel.is_wrapped:
        check_alike(sets)
        shards = Shards(learner, parallel, run.sharding, run.precision, run.gradient_sums)
        named, rows = list(shards.own.items()), shards.rows_of_ranks()
    else:
        wrapped = wrap(learner, parallel, find_unused_parameters=differ, sums=run.gradient_sums)
        named = list(learner.named_parameters())
    optimizer = build_optimizer(run.optimizer, named, run.schedule.peak_lr, run.precision, rows)
    if run.recompute_activations:
        learner.model.recompute_layers()
    if run.compile is True:
        compile_model(learner.model)
    forgetting = None
    if run.forget_every:
        symbols = roles_of(corpora.tokenizer)
        forgetting = build_forgetting(learner.model, run.shape, symbols, run.forget_every, run.seed)

    def arithmetic(objective: str, batch: Batch) -> float:
        vocab_size = corpora.of_table(batch.table).tokenizer.vocab_size
        return flops(run.shape, vocab_size, run.objectives[objective], batch)

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
        forgetting=forgetting,
        spikes=Spikes(parallel.device, run.skip_spikes) if run.skip_spikes else None,
        report_every=run.report_every,
        evaluate_every=run.evaluate_every,
        save_every=run.save_every,
        save_in_background=saves_in_background(run, parallel.device),
        shards=shards,
        flops=arithmetic,
    )

"""The model and its heads behind one forward, so that DDP wraps them once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn

from xlm.batch import Batch, Loss
from xlm.data.mixture import Mixture
from xlm.data.streams import Stream
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.rng import Random
from xlm.training.precision import autocast


class Learner(nn.Module):
    """``forward(name, batch)``: the loss of the objective of that name."""

    def __init__(
        self, model: Transformer, objectives: Mapping[str, Objective], config: ModelConfig
    ) -> None:
        super().__init__()
        for name in objectives:
            if not name.isidentifier():
                raise ConfigError(
                    f"objective name {name!r}: it becomes the name of a head, metrics and "
                    "streams, so it must consist of letters, digits and _ and not start "
                    "with a digit"
                )
        self.model = model
        self.objectives = dict(objectives)
        heads = {name: objective.head(config) for name, objective in objectives.items()}
        self.heads = nn.ModuleDict({name: head for name, head in heads.items() if head is not None})

    def forward(self, name: str, batch: Batch) -> Loss:
        """Return the summed loss of objective ``name`` over ``batch``."""
        head = self.heads[name] if name in self.heads else None
        return self.objectives[name].loss(self.model.reading(batch.table), head, batch)


def _tried(streams: Sequence[Stream], *, each: bool) -> list[Stream]:
    """Return the streams to try: all, or the first of each table of words."""
    first: dict[object, Stream] = {}
    for stream in streams:
        first.setdefault(stream.id if each else getattr(stream, "table", ""), stream)
    return list(first.values())


def parameter_sets(
    learner: Learner, mixture: Mixture, precision: str = "fp32"
) -> dict[str, list[set[str]]]:
    """Return the names of the parameters that each objective trains, a set for each stream tried.

    Found by one backward pass of each objective, in the training's ``precision``, over the first
    micro-batch of its first stream, or of each if a language may have parameters of its own
    (``Objective.streams_differ``, the default of classes outside of xlm, which so need not declare
    anything). Gradients and torch's random numbers are left as they were.
    """
    device = next(learner.parameters()).device
    used: dict[str, list[set[str]]] = {}
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        for name, streams in mixture.streams.items():
            for stream in _tried(streams, each=learner.objectives[name].streams_differ):
                random = Random(0, "probe", stream.id)
                objective = learner.objectives[name].at_step(0)
                batch = objective.collate(stream.examples(0), random, train=True)
                batch = batch.of_table(stream.table)
                with autocast(device, precision):
                    loss = learner(name, batch.to(device))
                loss.total.backward()
                own = {n for n, p in learner.named_parameters() if p.grad is not None}
                used.setdefault(name, []).append(own)
                learner.zero_grad(set_to_none=True)
    return used


def parameter_sets_differ(learner: Learner, mixture: Mixture, precision: str = "fp32") -> bool:
    """Return whether the objectives' parameter sets differ; freeze parameters that none trains."""
    return freeze_untrained(learner, parameter_sets(learner, mixture, precision))


def freeze_untrained(learner: Learner, sets: Mapping[str, Sequence[set[str]]]) -> bool:
    """Freeze the parameters that are in none of ``sets``; return whether the sets differ."""
    every = [own for of_objective in sets.values() for own in of_objective]
    trained = set[str]().union(*every)
    for name, parameter in learner.named_parameters():
        if name not in trained:
            parameter.requires_grad_(False)
    return any(own != trained for own in every)


def check_alike(sets: Mapping[str, Sequence[set[str]]]) -> None:
    """Raise ConfigError if an objective trains other parameters by another of its streams.

    Ranks that are given different streams would sum different gradients.
    """
    for name, own in sets.items():
        if different := next((one ^ own[0] for one in own if one != own[0]), None):
            raise ConfigError(
                f"sharding: the languages of objectives.{name} train different parameters, such as "
                f"{min(different)}, so that processes would sum different gradients; choose "
                "sharding none"
            )

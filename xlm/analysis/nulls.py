"""Figures of a model that learned nothing: random weights, permuted rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from xlm.analysis.intervals import Null
from xlm.analysis.states import is_causal
from xlm.model.asking import NO_HEAD
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.rng import Part, Random

NUM_PERMUTATIONS = 200
UNTRAINED = "random weights"
"""The ``source`` of a model without training."""


def untrained(model: PretrainedModel, seed: int) -> PretrainedModel:
    """Return a model of the same shape, vocabulary and languages, initialized with ``seed``.

    The state of torch's generators is left unchanged.
    """
    own = model.transformer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Transformer(
            own.config, vocab_size=own.vocab_size, num_languages=own.num_languages,
            pad_id=own.pad_id,
        )  # fmt: skip
        for name in own.encoder.tables:
            table = own.encoder.table(name)
            fresh.add_table(
                name, vocab_size=len(table.words.weight), roles=table.roles, seed=seed,
                own_positions=table.positions is not None,
                adapters=None if table.adapters is None else table.adapters.config,
            )  # fmt: skip
    device = next(own.parameters()).device
    return replace(model, transformer=fresh.to(device).eval(), source=UNTRAINED, heads={})


def shape_of(model: PretrainedModel) -> tuple[object, ...]:
    """Return all that random weights and their reading depend on: equal for models that share them.

    That is the architecture, the vocabularies, the languages, whether the model is causal, and
    whether it has an output.
    """
    own = model.transformer
    config = replace(own.config, preset=None, dropout=0.0, attention_dropout=0.0)
    tables = [
        (name, model.tables[name].tokenizer.digest, own.encoder.table(name).positions is None,
         own.encoder.table(name).adapters is None)
        for name in sorted(model.tables)
    ]  # fmt: skip
    return (
        config, own.vocab_size, own.num_languages, model.tokenizer.digest,
        sorted(model.languages.items()), tables, is_causal(model), bool(model.extra.get(NO_HEAD)),
    )  # fmt: skip


def untrained_of(models: Mapping[str, PretrainedModel], seed: int) -> dict[str, PretrainedModel]:
    """Return ``untrained`` of each model by its name, the same object for models of one shape."""
    made: list[tuple[tuple[object, ...], PretrainedModel]] = []
    found = {}
    for name, model in models.items():
        shape = shape_of(model)
        fresh = next((own for other, own in made if other == shape), None)
        if fresh is None:
            fresh = untrained(model, seed)
            made.append((shape, fresh))
        found[name] = fresh
    return found


def permutations(
    num_rows: int, *address: Part, groups: ArrayLike | None = None, num: int = NUM_PERMUTATIONS
) -> Iterator[NDArray[np.int64]]:
    """Yield ``num`` permutations of ``range(num_rows)`` drawn at ``address``.

    With ``groups`` (``[num_rows]``) rows are only exchanged with rows of their own group.
    """
    labels = np.zeros(num_rows, np.int64) if groups is None else np.asarray(groups)
    random = Random("permutation", *address)
    places = np.argsort(labels, kind="stable")
    for _ in range(num):
        drawn = np.lexsort((random.words(num_rows), labels))
        permutation = np.empty(num_rows, np.int64)
        permutation[places] = drawn
        yield permutation


def permuted(
    observed: float | None,
    measure: Callable[[NDArray[np.int64]], float | None],
    num_rows: int,
    *address: Part,
    groups: ArrayLike | None = None,
    num: int = NUM_PERMUTATIONS,
) -> Null:
    """Return the null of ``measure`` over permutations of one side's rows.

    ``measure`` takes the permutation. p = (1 + permutations that reach ``observed``) / (num + 1).
    """
    drawn = [measure(own) for own in permutations(num_rows, *address, groups=groups, num=num)]
    return of_draws(observed, [own for own in drawn if own is not None])


def of_draws(observed: float | None, drawn: list[float]) -> Null:
    """Return the null of values that were drawn under it.

    One more draw would lie outside the band in 5 of 100 cases, on either side alike.
    """
    if not drawn:
        return Null(None, reason="not defined for any permutation")
    values = np.array(drawn)
    low, high = np.quantile(values, [0.025, 0.975], method="weibull")
    p = None if observed is None else (1 + int((values >= observed).sum())) / (len(values) + 1)
    return Null(float(values.mean()), float(low), float(high), p)

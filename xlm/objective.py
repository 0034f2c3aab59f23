"""Objectives, which turn corpora into batches and batches into losses.

The loop knows nothing else of MLM, CLM, TLM, translation or a fine-tuning task. A new objective is
one new file with one subclass; a recipe names the class, or a dotted path outside the package.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Self

from torch import Tensor, nn

from xlm.batch import Batch, Loss
from xlm.config.class_path import NamedByClassPath
from xlm.data.corpora import SPLITS, Corpora
from xlm.data.mixture import Sampling
from xlm.data.streams import Examples, Stream
from xlm.errors import ConfigError, DataError
from xlm.metrics.scores import Scores
from xlm.model.config import ModelConfig
from xlm.model.cross_entropy import cells_at_once, sum_cross_entropy
from xlm.model.transformer import Side, Transformer
from xlm.rng import Random

__all__ = ["Objective"]


@dataclass(frozen=True, kw_only=True)
class Objective(NamedByClassPath, ABC):
    """An objective: a frozen dataclass whose fields are its configuration."""

    weight: float | list[list[float]] = 1.0
    """Weight in the update: a number, or points [[step, weight], ...] with linear interpolation."""
    turns: int = 1
    """Consecutive updates of this objective when objectives take turns (order rotate): with 3 and
    1, three of four updates belong to the first."""
    sampling: Sampling = field(default_factory=Sampling)
    """Sampling of the languages or pairs."""

    streams_differ: ClassVar[bool] = True
    """True if the streams of this objective may train different parameters: then one micro-batch of
    each stream is tried at the start, else one per objective. It is true for classes outside of xlm
    unless they say otherwise."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        """Take nothing for granted of classes outside of the package."""
        super().__init_subclass__(**arguments)
        if "streams_differ" not in vars(cls):
            cls.streams_differ = not cls.__module__.startswith("xlm.")

    @property
    def causal(self) -> bool:
        """True if a position of the encoder sees only those before it."""
        return False

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of a loss whose counts differ; empty for one sum over ``targets``.

        The update is the gradient of the sum of the parts' means. ``Batch.parts`` and
        ``Loss.parts`` have these names.
        """
        return ()

    def check(self, model: ModelConfig | None, *, compiled: bool) -> None:
        """Raise ConfigError for a setting that does not fit the model, before anything is built.

        ``model`` is None as long as its shape is not known; ``compiled`` is True if it will be
        compiled. The message begins with the setting's name.
        """

    def at_step(self, step: int) -> Self:
        """Return the objective as it trains at ``step``, with fixed values for staged settings."""
        return self

    def in_evaluation(self, tokens: int) -> Self:
        """Return the objective whose held-out batches have about ``tokens`` cells, with padding.

        Itself if the size of its batches is fixed.
        """
        return self

    @abstractmethod
    def streams(
        self, name: str, corpora: Corpora, *, seed: int, split: str = "train"
    ) -> list[Stream]:
        """Return the streams that this objective draws from; ``name`` is its key in the recipe.

        The ``train`` split is endless, in an order drawn from ``seed``; any other split (``valid``,
        ``test``) is read once and in order.
        """

    @abstractmethod
    def collate(self, examples: Examples, random: Random, *, train: bool) -> Batch:
        """Return one micro-batch, on the CPU. All randomness comes from ``random``."""

    def head(self, config: ModelConfig) -> nn.Module | None:
        """Return the module that this objective adds to the model, or None.

        It is saved under the objective's name in the recipe.
        """
        return None

    def prepared(self, model: Transformer, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Return a stream's micro-batches of an update, with all that the weights make of them.

        Called before the update, so that a model may write for all of them together. It is not
        called if each process has only rows of the weights: ``loss`` must do without it.
        """
        return batches

    @abstractmethod
    def loss(self, model: Transformer, head: nn.Module | None, batch: Batch) -> Loss:
        """Return the summed loss over the batch's targets, and further sums under ``scores``."""

    def baseline(self, stream: Stream, batch: Batch) -> dict[str, float]:
        """Return sums over a CPU batch that need no model, such as the unigram model's nats."""
        return {}

    def figures(self, stream: Stream, scores: Scores) -> dict[str, float]:
        """Return the ratios to report, from the sums of one pass over ``stream``."""
        ratios = {name: value / scores["targets"] for name, value in scores.items()}
        return {**ratios, "targets": scores["targets"]}

    def predictions(self, stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
        """Return ``Loss.outputs`` (on the CPU) as JSON for each example, by ``batch.rows``.

        Used for scores that are not sums over batches: spans, windows of one text, ranked lists.
        """
        return {}

    def grouped_figures(self, stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
        """Return the figures of a whole pass, from the predictions of all ranks by row."""
        return {}

    def evaluation_batches(self, stream: Stream, seed: int) -> Iterable[Batch]:
        """Yield every batch of one pass over a held-out stream, with masks fixed by ``seed``."""
        for make in self.evaluation_makers(stream, seed):
            yield make()

    def evaluation_makers(self, stream: Stream, seed: int) -> Iterable[Callable[[], Batch]]:
        """Yield a function for each of ``evaluation_batches``, which makes it.

        So each of several processes makes those that it evaluates. A subclass overrides one of the
        two methods.
        """
        for k in range(stream.num_batches):
            random = Random(seed, "evaluate", stream.id, k)
            yield partial(self._in_order, stream, k, random)

    def _in_order(self, stream: Stream, k: int, random: Random) -> Batch:
        return self.collate(stream.examples(k), random, train=False)


def already(batch: Batch) -> Callable[[], Batch]:
    """Return a function that gives a batch which is made already."""
    return lambda: batch


def cross_entropy_loss(
    logits: Tensor, batch: Batch, *, with_scores: bool, label_smoothing: float = 0.0
) -> Loss:
    """Return the summed cross-entropy of float logits ``[N, K]`` with a batch's targets.

    ``with_scores`` adds the plain nats and the number of correct predictions (by argmax).
    """
    total = sum_cross_entropy(logits, batch.targets, label_smoothing=label_smoothing)
    if not with_scores:
        return Loss(total, batch.count)
    plain = sum_cross_entropy(logits, batch.targets) if label_smoothing else total
    correct = (logits.argmax(-1) == batch.targets).sum()
    return Loss(total, batch.count, {"nats": plain.detach(), "correct": correct})


def predicted_loss(
    model: Transformer,
    hidden: Tensor,
    batch: Batch,
    *,
    side: Side = "encoder",
    label_smoothing: float = 0.0,
) -> Loss:
    """Return ``cross_entropy_loss`` of the pieces that a side predicts from its states.

    ``hidden`` ``[B, T, D]``, or in training ``[N, D]`` of the predicted cells. Outside training
    scores are added. A large number of cells is taken a part at a time, so that memory does not
    grow with it.
    """
    if model.training:
        chosen = batch.predict if hidden.dim() > 2 else None
        total = model.cross_entropy(
            hidden, chosen, batch.targets, side=side, label_smoothing=label_smoothing
        )
        return Loss(total, batch.count)
    num = cells_at_once(model.vocab_size, len(batch.predict))
    totals: list[Tensor] = []
    scores: dict[str, Tensor] = {}
    for start in range(0, max(len(batch.predict), 1), num):
        cells = slice(start, start + num)
        part = replace(batch, predict=batch.predict[cells], targets=batch.targets[cells])
        logits = model.predict(hidden, part.predict, side=side)
        own = cross_entropy_loss(logits, part, with_scores=True, label_smoothing=label_smoothing)
        totals.append(own.total)
        scores = {name: scores[name] + s if scores else s for name, s in own.scores.items()}
    return Loss(sum(totals[1:], totals[0]), batch.count, scores)


def check_length(length: int, model: ModelConfig | None) -> None:
    """Raise ConfigError if rows of ``length`` tokens are longer than the model allows."""
    if model is not None and length > model.max_positions:
        raise ConfigError(
            f"length is {length}, but the model has {model.max_positions} positions: raise "
            "model.max_positions"
        )


def held_out(
    corpora: Corpora, split: str, trained: Sequence[str], evaluate: Sequence[str] | None, part: str
) -> list[str]:
    """Return the languages or pairs that ``split`` is read of: in training all that are trained.

    Held-out ones are those of ``evaluate`` if it is given. Raises DataError if one of those has no
    held-out text at all.
    """
    if split == "train" or evaluate is None or not trained:
        return present(corpora, split, trained, part)
    for name in evaluate:
        if not any(present(corpora, s, [name], part) for s in SPLITS[1:]):
            having = sorted({own for s in SPLITS[1:] for own in corpora.names(s)[part]})
            raise DataError(
                f"evaluate names {name}, which has no held-out text; held-out text exists "
                f"for {', '.join(having) or 'none'}: prepare some, or leave it out"
            )
    return present(corpora, split, evaluate, part)


def present(corpora: Corpora, split: str, names: Sequence[str], part: str) -> list[str]:
    """Return the languages (``part`` texts) or pairs of ``names`` that ``split`` has.

    Return all of them for the training split, since a missing one raises an error of its own there;
    held-out text may exist for some languages only.
    """
    if split == "train":
        return list(names)
    having = set(corpora.names(split)[part])
    if part == "texts":
        return [name for name in names if name in having]
    directions = {name: {name, str(corpora.languages.pair(name).reversed)} for name in names}
    return [name for name in names if directions[name] & having]

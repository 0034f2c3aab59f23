"""The plan of each step: its objectives, languages and micro-batches.

A step is a list of groups; a group is one objective and ``group_size`` micro-batches. The plan is
keyed by (seed, "plan", step): it depends neither on ranks nor on earlier draws, only on the number
of micro-batches used up in each stream (the cursors).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from xlm.data.sampling import Piecewise, Sampling, check_piecewise, piecewise
from xlm.data.streams import Stream, TextStream
from xlm.errors import ConfigError
from xlm.rng import Random
from xlm.tables import aligned

__all__ = ["Group", "Mixture", "Sampling", "TableRow", "advance", "piecewise", "render_table"]

Order = Literal["rotate", "together", "original"]
"""The ways in which objectives share the updates; see ``Mixture``."""

MOST_TURNS = 5
"""Most updates in a row of one objective in order ``original`` (docs/fidelity.md, A3)."""

TABLE_STEPS = 1000
"""Most steps at which the table samples a staged mixture."""


@dataclass(frozen=True)
class Group:
    """Micro-batches of one objective that enter one update with one weight."""

    objective: str
    weight: float
    micro_batches: tuple[tuple[Stream, int], ...]


@dataclass(frozen=True)
class TableRow:
    """The use of one stream in a run."""

    objective: str
    stream: str
    sentences: int
    tokens: int
    probability: float
    """Probability of being drawn for a micro-batch of its objective, at the first step."""
    probability_at_end: float
    epochs: float
    """Expected passes over the stream in the whole run."""


class Mixture:
    """A planner of the groups of each step.

    ``order`` is ``rotate`` (the paper's: each step is one group, its objectives in turn, each with
    ``turns`` steps in a row),
    ``original`` (docs/fidelity.md, A3: the same, but an objective has as many steps in a row
    as it has streams, at most ``MOST_TURNS``) or ``together`` (each step has a group of every
    objective). An objective whose weight is 0 at a step has no group there; those that are left
    take turns. Streams are drawn with replacement, for each micro-batch, or with
    ``one_language_a_group`` once for all of a group. A group is of one table.

    Raises ConfigError for names that do not match, streams that occur twice, and invalid sizes and
    weights.
    """

    def __init__(
        self,
        streams: Mapping[str, Sequence[Stream]],
        samplings: Mapping[str, Sampling] | None = None,
        weights: Mapping[str, Piecewise] | None = None,
        *,
        turns: Mapping[str, int] | None = None,
        group_size: int = 8,
        order: Order = "rotate",
        one_language_a_group: bool = False,
        seed: int = 0,
        num_steps: int | None = None,
    ):
        """Plan the groups; ``num_steps``, those of the whole run, are needed by rule ``unimax``."""
        self.streams = {name: tuple(several) for name, several in streams.items()}
        self._tables = {
            name: [getattr(stream, "table", "") for stream in several]
            for name, several in self.streams.items()
        }
        self.samplings = {name: Sampling() for name in streams} | dict(samplings or {})
        self.weights: dict[str, Piecewise] = {name: 1.0 for name in streams}
        self.weights.update(weights or {})
        self.turns = {name: 1 for name in streams} | dict(turns or {})
        self.group_size = group_size
        self.order = order
        self.one_language_a_group = one_language_a_group
        self.seed = seed
        self._check()
        self._capped = {
            name: self._share_out(name, num_steps)
            for name, sampling in self.samplings.items()
            if sampling.rule == "unimax"
        }
        self._constant = {
            name: self._draw_probabilities(name, 0)
            for name, sampling in self.samplings.items()
            if not sampling.staged
        }

    def _check(self) -> None:
        if self.group_size < 1:
            raise ConfigError(f"group_size must be at least 1: found {self.group_size}")
        if self.order not in ("rotate", "together", "original"):
            raise ConfigError(f"order {self.order!r}: expected rotate, together or original")
        for what, named in (("sampling", self.samplings), ("weight", self.weights)):
            if strange := sorted(set(named) - set(self.streams)):
                raise ConfigError(
                    f"found a {what} for {', '.join(strange)}: expected some of "
                    f"{', '.join(self.streams)}"
                )
        for name, turns in self.turns.items():
            if turns < 1:
                raise ConfigError(f"objectives.{name}.turns must be at least 1: found {turns}")
            if turns > 1 and self.order != "rotate":
                raise ConfigError(
                    f"objectives.{name}.turns is {turns}, but order is {self.order}: turns "
                    "only works with order rotate, in which each update belongs to one "
                    "objective"
                )
        for name, weight in self.weights.items():
            check_piecewise(weight, f"the weight of {name}")
            if not self.streams[name]:
                raise ConfigError(f"objective {name} has nothing to draw from: list a language")
        for name, sampling in self.samplings.items():
            running = [own.id for own in self.streams[name] if isinstance(own, TextStream)]
            if sampling.per == "sentence" and running:
                raise ConfigError(
                    f"objectives.{name}.sampling.per is sentence, but {running[0]} is "
                    "running text, whose rows are not sentences: expected batch"
                )
        ids = self.stream_ids
        if twice := sorted({found for found in ids if ids.count(found) > 1}):
            raise ConfigError(
                f"{', '.join(twice)} is listed twice: list each language or pair once"
            )
        self._active(0)

    @property
    def stream_ids(self) -> list[str]:
        """Ids of all streams, objective by objective."""
        return [stream.id for several in self.streams.values() for stream in several]

    def plan(self, step: int, cursors: Mapping[str, int]) -> list[Group]:
        """Return the groups of ``step``; ``cursors`` counts used micro-batches, by stream id.

        Raises ConfigError if every objective has weight 0.
        """
        active = self._active(step)
        if turns := self._turns(active):
            turn = turns[step % len(turns)]
            active = {turn: active[turn]}
        return [self._group(step, name, weight, cursors) for name, weight in active.items()]

    def probabilities(self, objective: str, step: float = 0) -> NDArray[np.float64]:
        """Return each stream's probability in an objective at ``step``, float64 ``[streams]``."""
        if objective in self._constant:
            return self._constant[objective]
        return self._draw_probabilities(objective, step)

    def _draw_probabilities(self, objective: str, step: float) -> NDArray[np.float64]:
        if objective in self._capped:
            return self._capped[objective]
        sampling, streams = self.samplings[objective], self.streams[objective]
        sizes = {stream.name: _size(stream, sampling.by) for stream in streams}
        shares = np.array(list(sampling.probabilities(sizes, step).values()))
        if sampling.per == "batch":
            return shares
        # a micro-batch of a stream brings its mean number of rows
        weights = shares * [stream.batches_per_epoch / stream.num_rows for stream in streams]
        return np.asarray(weights / weights.sum())

    def _share_out(self, objective: str, num_steps: int | None) -> NDArray[np.float64]:
        """Return probabilities by rule ``unimax``, in units of micro-batches."""
        if num_steps is None:
            raise ConfigError(f"{objective}: rule unimax needs the run's number of steps")
        epochs = {
            stream.name: float(stream.batches_per_epoch) for stream in self.streams[objective]
        }
        num_draws = self._expected_draws(num_steps)[objective]
        try:
            shares = self.samplings[objective].capped(epochs, num_draws)
        except ConfigError as error:
            raise ConfigError(f"objectives.{objective}.sampling: {error}") from None
        return np.array(list(shares.values()))

    def _active(self, step: float) -> dict[str, float]:
        weights = {name: piecewise(self.weights[name], step) for name in self.streams}
        active = {name: weight for name, weight in weights.items() if weight > 0}
        if not active:
            raise ConfigError(f"at step {step} no objective has a weight above 0: found {weights}")
        return active

    def _turns(self, active: Iterable[str]) -> list[str]:
        """Return the cycle of objectives that take turns; empty if every step has all of them."""
        if self.order == "together":
            return []
        if self.order == "original":
            turns = {name: min(MOST_TURNS, len(self.streams[name])) for name in active}
        else:
            turns = {name: self.turns[name] for name in active}
        return [name for name, own in turns.items() for _ in range(own)]

    def _group(self, step: int, name: str, weight: float, cursors: Mapping[str, int]) -> Group:
        random = Random(self.seed, "plan", step, name)
        num_draws = 1 if self.one_language_a_group else self.group_size
        shares = self.probabilities(name, step)
        drawn = random.choice(shares, num_draws).tolist()
        tables = self._tables[name]
        if len(set(tables)) > 1 and num_draws > 1:
            # the first decides the table, the others are drawn among its streams: shares stay
            own = np.array([table == tables[drawn[0]] for table in tables])
            drawn[1:] = random.choice(shares * own, num_draws - 1).tolist()
        used: dict[str, int] = {}
        micro_batches = []
        for place in range(self.group_size):
            stream = self.streams[name][drawn[place % num_draws]]
            ahead = used.get(stream.id, 0)
            micro_batches.append((stream, cursors.get(stream.id, 0) + ahead))
            used[stream.id] = ahead + 1
        return Group(name, weight, tuple(micro_batches))

    def table(self, num_steps: int) -> list[TableRow]:
        """Return the expected use of each stream in a run of ``num_steps``."""
        last = max(num_steps - 1, 0)
        seen = self.expected_micro_batches(num_steps)
        rows = []
        for name, several in self.streams.items():
            first, end = self.probabilities(name, 0), self.probabilities(name, last)
            for place, stream in enumerate(several):
                rows.append(
                    TableRow(
                        objective=name,
                        stream=stream.name,
                        sentences=stream.num_sentences,
                        tokens=stream.text_size.tokens,
                        probability=float(first[place]),
                        probability_at_end=float(end[place]),
                        epochs=float(seen[name][place]) / stream.batches_per_epoch,
                    )
                )
        return rows

    def expected_micro_batches(self, num_steps: int) -> dict[str, NDArray[np.float64]]:
        """Return the expected micro-batches of each stream, by objective, in ``num_steps``.

        A staged mixture is sampled at ``TABLE_STEPS`` steps at most.
        """
        seen = {name: np.zeros(len(several)) for name, several in self.streams.items()}
        for step, groups in self._looks(num_steps):
            for name, number in groups.items():
                seen[name] += self.probabilities(name, step) * number * self.group_size
        return seen

    def _expected_draws(self, num_steps: int) -> dict[str, float]:
        """Return the micro-batches of each objective in the whole run, over all its streams."""
        draws = dict.fromkeys(self.streams, 0.0)
        for _, groups in self._looks(num_steps):
            for name, number in groups.items():
                draws[name] += number * self.group_size
        return draws

    def _looks(self, num_steps: int) -> Iterator[tuple[float, dict[str, float]]]:
        """Yield steps spread over a run, with the groups of each objective that each represents."""
        num_looks = min(num_steps, TABLE_STEPS)
        for look in range(num_looks):
            step = (look + 0.5) * num_steps / num_looks - 0.5
            active = self._active(step)
            turns = self._turns(active)
            yield (
                step,
                {
                    name: (turns.count(name) / len(turns) if turns else 1.0) * num_steps / num_looks
                    for name in active
                },
            )


def _size(stream: Stream, unit: str) -> int:
    if unit == "sentences":
        return stream.num_sentences
    size: int = getattr(stream.text_size, unit)
    if not size and stream.num_sentences:
        raise ConfigError(
            f"sampling by {unit}: the number of {unit} of {stream.id} is not known; sample "
            "by sentences or tokens"
        )
    return size


def advance(cursors: Mapping[str, int], groups: Iterable[Group]) -> dict[str, int]:
    """Return the cursors after ``groups``; the given ones are not changed."""
    after = dict(cursors)
    for group in groups:
        for stream, _ in group.micro_batches:
            after[stream.id] = after.get(stream.id, 0) + 1
    return after


def render_table(rows: Sequence[TableRow]) -> str:
    """Return the table as text, a line for each stream."""
    cells = [("objective", "stream", "sentences", "tokens", "probability", "epochs")]
    for row in rows:
        probability = f"{row.probability:.4f}"
        if abs(row.probability_at_end - row.probability) > 5e-5:
            probability += f" -> {row.probability_at_end:.4f}"
        epochs = f"{row.epochs:.2f}"
        sizes = f"{row.sentences:,}", f"{row.tokens:,}"
        cells.append((row.objective, row.stream, *sizes, probability, epochs))
    return "\n".join(aligned(cells, num_names=2))

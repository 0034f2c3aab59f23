"""Probabilities of languages, and numbers that change with the step.

XLM section 3.1; docs/fidelity.md, B4: with n_i sentences, p_i = n_i / sum n and q_i ~ p_i ** alpha.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from xlm.errors import ConfigError

Rule = Literal["alpha", "temperature", "shares", "uniform", "unimax"]

Piecewise = float | list[list[float]]
"""A number, or points [[step, value], ...] joined by straight lines."""


def check_piecewise(value: Piecewise, what: str) -> None:
    """Raise ConfigError, naming ``what``, unless this is a number >= 0 or ascending points."""
    points = value if isinstance(value, list) else [[0, value]]
    for point in points:
        if not isinstance(point, list) or len(point) != 2:
            raise ConfigError(f"{what}: expected points [step, value], found {point!r}")
        if not all(_is_number(number) and number >= 0 for number in point):
            raise ConfigError(f"{what}: expected numbers >= 0, found {point!r}")
        if point[0] != int(point[0]):
            raise ConfigError(f"{what}: expected a whole number as the step, found {point[0]!r}")
    if not points:
        raise ConfigError(f"{what}: expected a number or points [[step, value], ...], found none")
    steps = [point[0] for point in points]
    if any(after <= before for before, after in zip(steps, steps[1:], strict=False)):
        raise ConfigError(f"{what}: expected points in ascending order, found steps {steps}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def piecewise(value: Piecewise, step: float) -> float:
    """Return the value at ``step``: linear between points, constant before and after them."""
    if not isinstance(value, list):
        return float(value)
    before = value[0]
    for point in value:
        if step < point[0]:
            if point is before:
                break
            share = (step - before[0]) / (point[0] - before[0])
            return float(before[1] + share * (point[1] - before[1]))
        before = point
    return float(before[1])


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """The sampling of the languages or pairs of an objective."""

    rule: Rule = "alpha"
    """``alpha`` and ``temperature``: by the sizes of the texts. ``shares``: as given. ``uniform``:
    equal. ``unimax``: equal, but no text is repeated more than ``max_epochs`` times in the run;
    the other texts share what is left (UniMax, Chung et al. 2023, section 3)."""
    by: Literal["sentences", "tokens", "characters"] = "sentences"
    """For rules ``alpha`` and ``temperature``: the unit of size."""
    alpha: float | list[list[float]] = 0.7
    """For rule ``alpha``: q ~ p ** alpha (XLM section 3.1); 1 follows the data, 0 is uniform. A
    number or points [[step, alpha], ...]."""
    temperature: float = 1.0
    """For rule ``temperature``: q ~ p ** (1 / temperature)."""
    shares: dict[str, float | list[list[float]]] = field(default_factory=dict)
    """For rule ``shares``: a number for each language, or points [[step, share], ...]; they are
    scaled to sum to 1."""
    per: Literal["batch", "sentence"] = "batch"
    """Unit that the probabilities apply to. batch: micro-batches. sentence: sentences or pairs;
    since all micro-batches have the same number of cells, texts with long sentences then get more
    of them (not with unimax, and not for running text)."""
    max_epochs: float | None = None
    """For rule ``unimax``: largest number of passes over a text in the whole run."""

    def __post_init__(self) -> None:
        if self.rule not in get_args(Rule):
            raise ConfigError(
                f"sampling rule is {self.rule!r}: expected alpha, temperature, shares, "
                "uniform or unimax"
            )
        if self.by not in ("sentences", "tokens", "characters"):
            raise ConfigError(
                f"sampling by is {self.by!r}: expected sentences, tokens or characters"
            )
        if isinstance(self.alpha, list):
            check_piecewise(self.alpha, "sampling alpha")
        elif not _is_number(self.alpha) or self.alpha < 0:
            raise ConfigError(f"sampling alpha must be a number >= 0: found {self.alpha}")
        if not _is_number(self.temperature) or self.temperature <= 0:
            raise ConfigError(f"sampling temperature must be above 0: found {self.temperature}")
        if self.per not in ("batch", "sentence"):
            raise ConfigError(f"sampling per is {self.per!r}: expected batch or sentence")
        for language, share in self.shares.items():
            check_piecewise(share, f"the share of {language}")
        if (self.rule == "shares") != bool(self.shares):
            raise ConfigError(
                f"sampling rule is {self.rule!r} and shares is {self.shares}: rule shares "
                "needs shares, and no other rule takes them"
            )
        self._check_unimax()

    def _check_unimax(self) -> None:
        if self.rule == "unimax" and self.per == "sentence":
            raise ConfigError(
                "sampling per is sentence, but rule unimax distributes micro-batches: leave per out"
            )
        if (self.rule == "unimax") != (self.max_epochs is not None):
            raise ConfigError(
                f"sampling rule is {self.rule!r} and max_epochs is {self.max_epochs}: rule "
                "unimax needs max_epochs, and no other rule takes it"
            )
        if self.max_epochs is not None and not (
            _is_number(self.max_epochs) and self.max_epochs > 0
        ):
            raise ConfigError(f"sampling max_epochs must be above 0: found {self.max_epochs}")

    @property
    def staged(self) -> bool:
        """True if probabilities change with the step."""
        if self.rule == "alpha" and isinstance(self.alpha, list):
            return True
        return any(isinstance(share, list) for share in self.shares.values())

    def capped(self, epochs: Mapping[str, float], num_draws: float) -> dict[str, float]:
        """Return the probability of each name by rule ``unimax``.

        ``epochs`` are the draws that one pass over each text takes, ``num_draws`` those of the
        whole run. Texts that last get equal shares; the others get exactly ``max_epochs`` passes.
        Raises ConfigError if all texts together do not last that long.
        """
        assert self.max_epochs is not None
        most = {name: self.max_epochs * epoch for name, epoch in epochs.items()}
        total = math.fsum(most.values())
        if total < num_draws:
            enough = math.ceil(100 * self.max_epochs * num_draws / total) / 100
            raise ConfigError(
                f"max_epochs is {self.max_epochs:g}, which the text reaches after "
                f"{total:,.0f} micro-batches, but the run draws {num_draws:,.0f}: raise "
                f"max_epochs to at least {enough:g}, train fewer steps, or add text"
            )
        shares: dict[str, float] = {}
        left = num_draws
        for place, name in enumerate(sorted(most, key=lambda own: most[own])):
            shares[name] = min(most[name], left / (len(most) - place))
            left -= shares[name]
        return {name: shares[name] / num_draws for name in epochs}

    def probabilities(self, sizes: Mapping[str, int], step: float = 0) -> dict[str, float]:
        """Return the probability of each name, given its size in the unit ``by``, at ``step``.

        A name without sentences is drawn only under rule ``shares``. Raises ConfigError if shares
        do not name exactly these, or if nothing is left to draw from.
        """
        weights = self._weights(sizes, step)
        total = math.fsum(weights.values())
        if total <= 0:
            raise ConfigError(
                f"nothing to draw from at step {step}: {self.rule} gives {weights}; at least "
                "one weight must be above 0"
            )
        return {name: weight / total for name, weight in weights.items()}

    def _weights(self, sizes: Mapping[str, int], step: float) -> dict[str, float]:
        if self.rule == "shares":
            if set(self.shares) != set(sizes):
                raise ConfigError(
                    f"shares names {', '.join(sorted(self.shares))}, but the objective draws "
                    f"from {', '.join(sorted(sizes))}: give each of these a share"
                )
            return {name: piecewise(self.shares[name], step) for name in sizes}
        if self.rule == "unimax":
            raise ConfigError("rule unimax plans a whole run at once: call capped")
        alpha = piecewise(self.alpha, step)
        powers = {"alpha": alpha, "temperature": 1 / self.temperature, "uniform": 0.0}
        power = powers[self.rule]
        total = sum(sizes.values())
        return {name: (size / total) ** power if size else 0.0 for name, size in sizes.items()}

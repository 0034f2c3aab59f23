"""The settings of an optimizer, as a recipe spells them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Literal, get_args

from xlm.errors import ConfigError

OptimizerKind = Literal[
    "adam", "adamw", "xlm-adam", "apex-adam", "adafactor", "lingvo-adafactor", "lamb", "muon"
]

ONLY_LINGVO_ADAFACTOR = (
    "max_tensor_grad_norm",
    "smallest_factored",
    "update_clip",
    "scale_by_parameter",
)
"""The fields that only Lingvo's Adafactor has, as its class names them."""
_KINDS: dict[str, tuple[OptimizerKind, ...]] = {
    "matrix_lr": ("muon",),
    "momentum": ("muon", "lingvo-adafactor"),
    **dict.fromkeys(ONLY_LINGVO_ADAFACTOR, ("lingvo-adafactor",)),
}
"""The kinds that look at a field; all look at the others."""


@dataclass(frozen=True)
class Optimizer:
    """The kind of an optimizer and its settings; the learning rate is the schedule's."""

    kind: OptimizerKind = "adamw"
    """adam (weight decay as L2 in the gradient), adamw (decoupled; Loshchilov and Hutter 2019),
    xlm-adam (the original XLM's: decoupled decay, eps outside the bias correction), apex-adam
    (NVIDIA apex's FusedAdam, decoupled decay), adafactor (torch's, Shazeer and Stern 2018: relative
    steps of at most the learning rate; ignores betas and eps), lingvo-adafactor (the same as in
    Lingvo, whose steps equal the learning rate; ignores betas and eps), lamb (You et al. 2020:
    steps in proportion to the size of each tensor, for large batches), muon (Jordan et al. 2024:
    orthogonal steps for the matrices of the layers, adamw for the rest)."""
    betas: tuple[float, float] = (0.9, 0.98)
    """Decay rates of the first and the second moment (the XLM paper's commands: 0.9 and 0.98)."""
    eps: float = 1e-8
    """Added to the denominator."""
    weight_decay: float = 0.0
    """Weight decay per update; it is multiplied by the learning rate."""
    decay_norms_and_biases: bool = True
    """Also decay tensors of one dimension (norms, biases), as the original XLM does. With lamb:
    also make their steps proportional to their size."""
    fused: bool = True
    """For adam and adamw: use one kernel for all tensors, which can also skip an update on the
    device."""
    head_rate: float = 1.0
    """Factor of the learning rate for heads (XLM's XNLI has two rates)."""
    rates: dict[str, float] = field(default_factory=dict, hash=False)
    """Factors of the learning rate, by regular expressions on parameter names such as
    "encoder.words"; the first that is found in a name applies."""
    matrix_lr: float | None = None
    """For muon: the highest learning rate of the matrices; it follows the schedule's shape, and
    schedule.peak_lr applies to everything else. None: 0.02."""
    momentum: float | None = None
    """For muon: decay of the average gradient of the matrices (None: 0.95). For lingvo-adafactor:
    decay of the average update, which costs one number per parameter (None: 0, no average)."""
    max_tensor_grad_norm: float | None = None
    """For lingvo-adafactor: clip the gradient of each tensor to this 2-norm. None, 0: no
    clipping."""
    smallest_factored: int | None = None
    """For lingvo-adafactor: keep second moments as means over rows and columns if both axes are at
    least this long, such as 1 (fairseq's). None: 128."""
    update_clip: float | None = None
    """For lingvo-adafactor: the largest root mean square of a tensor's update, before the learning
    rate. None: 1."""
    scale_by_parameter: bool | None = None
    """For lingvo-adafactor: scale steps by the root mean square of each tensor. None: true."""
    max_grad_norm: float = 5.0
    """Clip gradients to this 2-norm; 0: no clipping."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(OptimizerKind):
            kinds = ", ".join(get_args(OptimizerKind))
            raise ConfigError(f"optimizer kind {self.kind!r}: choose one of {kinds}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"optimizer betas {self.betas}: expected two numbers in [0, 1)")
        for name in ("eps", "weight_decay", "max_grad_norm", "head_rate", "matrix_lr",
                     "max_tensor_grad_norm"):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (0 <= value < math.inf):
                raise ConfigError(f"optimizer {name} {value}: expected a number that is 0 or more")
        if self.momentum is not None and not (0 <= self.momentum < 1):
            raise ConfigError(f"optimizer momentum {self.momentum}: expected a number in [0, 1)")
        for pattern, rate in self.rates.items():
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(
                    f"optimizer rates {pattern!r}: not a valid regular expression ({error})"
                ) from None
            if not (0 <= rate < math.inf):
                raise ConfigError(f"optimizer rates {pattern!r} {rate}: expected 0 or more")
        self._check_kind()

    def _check_kind(self) -> None:
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if value is not None and self.kind not in kinds:
                raise ConfigError(
                    f"optimizer {name} is {value}, but kind is {self.kind}: only "
                    f"{' and '.join(kinds)} {'has' if len(kinds) == 1 else 'have'} it; leave "
                    f"it out, or set kind to {' or '.join(kinds)}"
                )
        if self.smallest_factored is not None and self.smallest_factored < 1:
            raise ConfigError(
                f"optimizer smallest_factored {self.smallest_factored}: expected 1 or more"
            )
        if self.update_clip is not None and not (0 < self.update_clip < math.inf):
            raise ConfigError(
                f"optimizer update_clip {self.update_clip}: expected a number above 0"
            )
        if not self.fused and self.kind in ("lamb", "muon", "lingvo-adafactor"):
            raise ConfigError(
                f"optimizer fused false with kind {self.kind}: only adam and adamw have a version "
                "that is not fused; leave it out"
            )

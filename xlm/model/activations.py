"""The functions between linear layers, by their names in settings."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "silu": F.silu,
    "geglu": F.gelu,
    "swiglu": F.silu,
}
"""The function of each ``activation``; the two gated ones multiply its value by a second half."""

"""Settings of an optimizer that cannot be meant."""

import pytest

from xlm.errors import ConfigError
from xlm.training.optimizers.config import Optimizer


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "sgd"}, "'sgd': choose one of adam"),
        ({"betas": (0.9, 1.0)}, r"betas \(0.9, 1.0\)"),
        ({"eps": -1.0}, "eps -1.0"),
        ({"weight_decay": float("nan")}, "weight_decay nan"),
        ({"max_grad_norm": -5.0}, "max_grad_norm -5.0"),
        ({"head_rate": -1.0}, "head_rate -1.0"),
        ({"rates": {"words": -1.0}}, "rates 'words' -1.0: expected 0 or more"),
        ({"rates": {"layers.(": 1.0}}, r"rates 'layers.\(': not a valid regular expression"),
        (
            {"kind": "muon", "matrix_lr": -0.1},
            "matrix_lr -0.1: expected a number",
        ),
        ({"kind": "muon", "momentum": 1.0}, r"momentum 1.0: expected a number in \[0, 1\)"),
        ({"matrix_lr": 0.02}, "matrix_lr is 0.02, but kind is adamw: only muon has it"),
        ({"kind": "lamb", "momentum": 0.9}, "momentum is 0.9, but kind is lamb: only muon and"),
        ({"kind": "muon", "fused": False}, "fused false with kind muon"),
        ({"kind": "lamb", "fused": False}, "fused false with kind lamb"),
    ],
)
def test_misfits(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Optimizer(**settings)

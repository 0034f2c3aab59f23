"""Settings of another type are named from Python too, as recipes name them."""

from __future__ import annotations

from typing import Any

import pytest

from xlm.errors import ConfigError
from xlm.objectives import BackTranslation, CausalLM, Denoising, MaskedLM, Translation


@pytest.mark.parametrize(
    ("cls", "settings", "message"),
    [
        (MaskedLM, {"languages": ["en"], "evaluation_mask_rate": "x"}, "evaluation_mask_rate"),
        (MaskedLM, {"languages": ["en"], "mask_rate": "x"}, "mask_rate"),
        (CausalLM, {"languages": ["en"], "length": 2.5}, "length"),
        (CausalLM, {"languages": ["en"], "rows": True}, "rows"),
        (Translation, {"pairs": "en-ne"}, "pairs"),
        (BackTranslation, {"pairs": ["en-ne"], "num_lengths": "8"}, "num_lengths"),
        (Denoising, {"languages": ["en"], "tokens": None}, "tokens"),
    ],
)
def test_another_type(cls: type, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}: expected ") as caught:
        cls(**settings)
    assert "found" in str(caught.value)

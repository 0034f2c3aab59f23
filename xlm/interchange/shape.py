"""Settings of a shape that the models of 2019 and 2020 have no place for."""

from __future__ import annotations

from xlm.model.config import ModelConfig

_ONLY: dict[str, str | bool | None] = {
    "positions": "learned",
    "norm": "post",
    "norm_kind": "layer",
    "qk_norm": False,
    "biases": True,
    "embedding_norm": True,
    "embedding_scale": False,
    "window": None,
    "first_norm": True,
    "plain_first": False,
    "word_size": None,
}
"""Values that XLM, BERT, RoBERTa and XLM-R all share."""


def settings_without_place(config: ModelConfig, *allowed: str) -> list[str]:
    """Return a phrase for each setting that XLM's and BERT's shape cannot hold.

    ``allowed`` names settings that the format in question has a place for. A phrase is, for
    example, ``positions rotary (give learned)``.
    """
    phrases = [
        f"{name} {_said(getattr(config, name))} (give {_said(only)})"
        for name, only in _ONLY.items()
        if name not in allowed and getattr(config, name) != only
    ]
    if config.activation not in ("gelu", "relu"):
        phrases.append(f"activation {config.activation} (give gelu)")
    return phrases


def _said(value: str | int | None) -> str:
    """Return a value as a recipe writes it."""
    if value is None:
        return "null"
    return value if isinstance(value, str) else str(value).lower()

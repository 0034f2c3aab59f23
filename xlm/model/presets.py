"""The named shapes of models: their values of a ``ModelConfig``'s fields."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ROTARY: dict[str, Any] = {
    "positions": "rotary",
    "initialization": "normal",
    "output_transform": True,
    "language_embeddings": False,
}
"""2019's layers, but positions that are learned within a million tokens."""
_MODERNBERT: dict[str, Any] = {
    **_ROTARY,
    "rotary_base": 160_000.0,
    "local_rotary_base": 10_000.0,
    "window": 128,
    "global_every": 3,
    "norm": "pre",
    "first_norm": False,
    "activation": "geglu",
    "biases": False,
    "layer_norm_eps": 1e-5,
    "max_positions": 8192,
    "dropout": 0.0,
    "attention_dropout": 0.0,
}
"""ModernBERT's architecture (Warner et al. 2024, section 2 and appendix A)."""

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # XLM section 5.1; the 17- and 100-language models as released, without language embeddings
    "xlm-15": {"dim": 1024, "num_layers": 12, "num_heads": 8},
    "xlm-17": {"dim": 1280, "num_layers": 16, "num_heads": 16, "language_embeddings": False},
    "xlm-100": {"dim": 1280, "num_layers": 16, "num_heads": 16, "language_embeddings": False},
    "mt-6": {"dim": 1024, "num_layers": 6, "num_heads": 8, "num_decoder_layers": 6},
    # MMTE (Siddhant et al. 2020, section 2.1); the rest is XLM's layer, which the paper leaves open
    "mmte": {
        "dim": 1024, "num_layers": 6, "num_heads": 16, "num_decoder_layers": 6,
        "feed_forward": 8192, "shared_words": True, "language_embeddings": False,
    },
    # mBART (Liu et al. 2020, section 2.2)
    "mbart": {
        "dim": 1024, "num_layers": 12, "num_heads": 16, "num_decoder_layers": 12,
        "feed_forward": 4096, "shared_words": True, "language_embeddings": False,
        "norm": "pre", "embedding_scale": True, "layer_norm_eps": 1e-5, "max_positions": 1024,
    },
    "base": {"dim": 768, "num_layers": 12, "num_heads": 12},
    "tiny": {"dim": 128, "num_layers": 4, "num_heads": 4},
    # multilingual BERT (Devlin et al. 2019), which MonoTrans pretrains
    "mbert": {
        "dim": 768, "num_layers": 12, "num_heads": 12, "num_segments": 2,
        "output_transform": True, "language_embeddings": False,
    },
    # for little text
    "rotary-tiny": {"dim": 128, "num_layers": 4, "num_heads": 4, **_ROTARY},
    "rotary-small": {"dim": 256, "num_layers": 6, "num_heads": 4, **_ROTARY},
    "rotary-base": {"dim": 768, "num_layers": 12, "num_heads": 12, **_ROTARY},
    # the first and the last layer see whole rows in each, as in the published sizes
    "modernbert-tiny": {
        "dim": 128, "num_layers": 4, "num_heads": 4, "feed_forward": 192, **_MODERNBERT,
    },
    "modernbert-small": {
        "dim": 256, "num_layers": 7, "num_heads": 4, "feed_forward": 384, **_MODERNBERT,
    },
    "modernbert-base": {
        "dim": 768, "num_layers": 22, "num_heads": 12, "feed_forward": 1152, **_MODERNBERT,
    },
    "modernbert-large": {
        "dim": 1024, "num_layers": 28, "num_heads": 16, "feed_forward": 2624, **_MODERNBERT,
    },
}  # fmt: skip

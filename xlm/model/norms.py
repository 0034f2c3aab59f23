"""The normalizations of a model: layer normalization or the root mean square."""

from __future__ import annotations

import importlib

from torch import nn

from xlm.errors import ConfigError
from xlm.model.config import ModelConfig


def build_norm(config: ModelConfig, width: int | None = None) -> nn.Module:
    """Return the configured normalization over ``width`` (None: ``config.dim``) features.

    Raises ConfigError if apex is asked for and is not installed.
    """
    width = config.dim if width is None else width
    if config.norm_kind == "rms":
        return nn.RMSNorm(width, eps=config.layer_norm_eps)
    if not config.fused_layer_norm:
        return nn.LayerNorm(width, eps=config.layer_norm_eps, bias=config.biases)
    try:
        # apex looks for its compiled kernel only when a norm is made
        fused = importlib.import_module("apex.normalization").FusedLayerNorm
        made: nn.Module = fused(width, eps=config.layer_norm_eps)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"model.fused_layer_norm needs NVIDIA apex with its CUDA kernels ({error}): build it "
            f"from github.com/NVIDIA/apex (the package that pip calls apex is another project), "
            f"or set model.fused_layer_norm to false"
        ) from error
    return made

"""Apex's layer normalization."""

import sys
import types

import pytest
import torch

from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer

FUSED = ModelConfig(dim=8, num_layers=1, num_heads=2, fused_layer_norm=True)


class RecordedNorm(torch.nn.LayerNorm):
    made = 0

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        type(self).made += 1


class FusedLayerNorm(RecordedNorm):
    pass


def test_apex_norm_is_used_when_asked_for(monkeypatch):
    module = types.ModuleType("apex.normalization")
    module.FusedLayerNorm = FusedLayerNorm
    monkeypatch.setitem(sys.modules, "apex", types.ModuleType("apex"))
    monkeypatch.setitem(sys.modules, "apex.normalization", module)
    FusedLayerNorm.made = 0
    Transformer(FUSED, vocab_size=9, num_languages=1, pad_id=2)
    assert FusedLayerNorm.made == 3
    kept = ModelConfig(dim=8, num_layers=1, num_heads=2)
    Transformer(kept, vocab_size=9, num_languages=1, pad_id=2)
    assert FusedLayerNorm.made == 3


@pytest.mark.parametrize("installed", ["nothing", "the stranger's package", "without its kernels"])
def test_apex_norm_that_cannot_be_had_is_a_clear_error(monkeypatch, installed):
    class Unbuilt:
        def __init__(self, *arguments, **named):
            raise ModuleNotFoundError("No module named 'fused_layer_norm_cuda'")

    module = types.ModuleType("apex.normalization")
    if installed == "without its kernels":
        module.FusedLayerNorm = Unbuilt
    monkeypatch.setitem(sys.modules, "apex", types.ModuleType("apex"))
    found = None if installed == "nothing" else module
    monkeypatch.setitem(sys.modules, "apex.normalization", found)
    with pytest.raises(ConfigError, match="github.com/NVIDIA/apex.*fused_layer_norm to false"):
        Transformer(FUSED, vocab_size=9, num_languages=1, pad_id=2)

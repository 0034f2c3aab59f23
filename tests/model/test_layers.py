"""Attention by two implementations, the summed loss, and apex's norm."""

import sys
import types

import pytest
import torch
from torch.nn import functional as F

from xlm.errors import ConfigError
from xlm.model import layers
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer

ROWS, HEADS, LENGTH, SOURCE, WIDTH = 3, 2, 5, 7, 4


def tensors(dtype=torch.float64, keys=SOURCE):
    generator = torch.Generator().manual_seed(0)
    shapes = [(ROWS, HEADS, n, WIDTH) for n in (LENGTH, keys, keys)]
    return [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]


def by_hand(query, key, value, allowed):
    """A weighted mean, one query at a time."""
    out = torch.zeros_like(query)
    for row in range(ROWS):
        for head in range(HEADS):
            for at in range(query.shape[2]):
                seen = [k for k in range(key.shape[2]) if allowed(row, at, k)]
                scores = [(query[row, head, at] * key[row, head, k]).sum() / 2.0 for k in seen]
                weights = torch.stack(scores).exp()
                weights = weights / weights.sum()
                for weight, k in zip(weights, seen, strict=True):
                    out[row, head, at] += weight * value[row, head, k]
    return out


@pytest.fixture(params=["plain", "fused"])
def implementation(request, monkeypatch):
    monkeypatch.setattr(layers, "prefers_plain", lambda query: request.param == "plain")


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", ["full", "masked", "causal"])
def test_attention_is_the_weighted_mean(kind):
    query, key, value = tensors(keys=LENGTH if kind == "causal" else SOURCE)
    lengths = torch.tensor([7, 2, 5])
    mask = (torch.arange(SOURCE) < lengths[:, None])[:, None, None] if kind == "masked" else None
    found = layers.attention(query, key, value, mask, kind == "causal")
    allowed = {
        "full": lambda row, at, k: True,
        "masked": lambda row, at, k: k < lengths[row],
        "causal": lambda row, at, k: k <= at,
    }[kind]
    assert torch.allclose(found, by_hand(query, key, value, allowed), atol=1e-12, rtol=0)


@pytest.mark.parametrize("causal", [False, True])
def test_both_implementations_have_the_same_gradients(causal):
    mask = None if causal else (torch.arange(LENGTH) < torch.tensor([[5], [2], [3]]))[:, None, None]
    gradients = []
    for implementation in (layers.plain_attention, F.scaled_dot_product_attention):
        leaves = [t.requires_grad_() for t in tensors(keys=LENGTH)]
        named = {"is_causal": causal} if implementation is not layers.plain_attention else {}
        positional = (mask, causal) if implementation is layers.plain_attention else (mask,)
        implementation(*leaves, *positional, **named).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for plain, fused in zip(*gradients, strict=True):
        assert torch.allclose(plain, fused, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_near(dtype):
    exact = by_hand(*tensors(), lambda row, at, k: True)
    found = layers.attention(*tensors(dtype))
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() < 0.05


@pytest.mark.usefixtures("implementation")
def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    length = 400
    query = torch.zeros(1, 1, length, 4)
    value = torch.eye(length)[None, None]
    weights = layers.attention(query, torch.zeros(1, 1, length, 4), value, dropout=0.25)
    dropped = weights.eq(0).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=0.01)
    assert weights.sum(-1).mean().item() == pytest.approx(1, abs=0.01)


def test_sum_cross_entropy_is_a_sum_over_real_targets():
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
    targets = torch.tensor([2, -100, 0])
    by_hand = -(logits[0].softmax(0)[2].log() + torch.tensor(1 / 3).double().log())
    found = layers.sum_cross_entropy(logits, targets)
    assert found.dtype == torch.float64
    assert found.item() == pytest.approx(by_hand.item(), rel=1e-7)
    # smoothed: the target's share is 1 - e + e / V, the others' e / V each
    shares = torch.full((2, 3), 0.1 / 3, dtype=torch.float64)
    shares[0, 2] += 0.9
    shares[1, 0] += 0.9
    smoothed = -(shares * logits[[0, 2]].log_softmax(-1)).sum()
    found = layers.sum_cross_entropy(logits, targets, label_smoothing=0.1)
    assert found.item() == pytest.approx(smoothed.item(), rel=1e-12)


def test_sum_cross_entropy_of_nothing_is_zero_with_a_gradient():
    for targets in (torch.full((2,), -100), torch.zeros(0, dtype=torch.int64)):
        logits = torch.randn(len(targets), 5, requires_grad=True)
        layers.sum_cross_entropy(logits, targets).backward()
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_sum_cross_entropy_sums_low_precision_in_float32():
    logits = torch.zeros(4096, 2, dtype=torch.bfloat16)
    found = layers.sum_cross_entropy(logits, torch.zeros(4096, dtype=torch.int64))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(4096 * 0.6931471805599453, rel=1e-5)


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

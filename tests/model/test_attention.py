"""Attention by two implementations."""

import pytest
import torch
from torch.nn import functional as F

from xlm.model import attention

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
    monkeypatch.setattr(
        attention, "prefers_plain", lambda query, rate=0.0: request.param == "plain"
    )


@pytest.mark.usefixtures("implementation")
@pytest.mark.parametrize("kind", ["full", "masked", "causal"])
def test_attention_is_the_weighted_mean(kind):
    query, key, value = tensors(keys=LENGTH if kind == "causal" else SOURCE)
    lengths = torch.tensor([7, 2, 5])
    mask = (torch.arange(SOURCE) < lengths[:, None])[:, None, None] if kind == "masked" else None
    found = attention.attention(query, key, value, mask, kind == "causal")
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
    for implementation in (attention.plain_attention, F.scaled_dot_product_attention):
        leaves = [t.requires_grad_() for t in tensors(keys=LENGTH)]
        named = {"is_causal": causal} if implementation is not attention.plain_attention else {}
        positional = (mask, causal) if implementation is attention.plain_attention else (mask,)
        implementation(*leaves, *positional, **named).square().sum().backward()
        gradients.append([leaf.grad for leaf in leaves])
    for plain, fused in zip(*gradients, strict=True):
        assert torch.allclose(plain, fused, atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_stays_near(dtype):
    exact = by_hand(*tensors(), lambda row, at, k: True)
    found = attention.attention(*tensors(dtype))
    assert found.dtype == dtype
    assert (found.double() - exact).abs().max() < 0.05


@pytest.mark.usefixtures("implementation")
def test_dropout_keeps_the_mean_and_drops_its_share():
    torch.manual_seed(0)
    length = 400
    query = torch.zeros(1, 1, length, 4)
    value = torch.eye(length)[None, None]
    weights = attention.attention(query, torch.zeros(1, 1, length, 4), value, rate=0.25)
    dropped = weights.eq(0).float().mean().item()
    assert dropped == pytest.approx(0.25, abs=0.01)
    assert weights.sum(-1).mean().item() == pytest.approx(1, abs=0.01)

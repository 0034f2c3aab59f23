"""Local layers: what each token sees, by brute force, and blocks against whole masks."""

import itertools

import pytest
import torch

from xlm.model import windows
from xlm.model.attention import block_attention, plain_attention
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.model.windows import Blocks, blocks, in_blocks, in_rows, sight, with_neighbors, within


def sees(query, key, window, length, causal):
    """Whether a token at ``query`` of a row of ``length`` real tokens attends to ``key``."""
    if query == key:
        return True
    return abs(query - key) <= window // 2 and key < max(length, 1) and not (causal and key > query)


CASES = list(itertools.product((2, 3, 8), (9, 12, 13, 24), (False, True)))


@pytest.mark.parametrize(("window", "length", "causal"), CASES)
def test_a_token_sees_those_near_it(window, length, causal):
    lengths = torch.tensor([length, 5, 0])
    tokens = torch.zeros(3, length, dtype=torch.int64)
    expected = torch.tensor(
        [
            [[sees(q, k, window, own, causal) for k in range(length)] for q in range(length)]
            for own in lengths.tolist()
        ]
    )
    assert torch.equal(within(window, lengths, tokens, causal), expected[:, None])
    full = within(window, None, tokens, causal)
    assert torch.equal(full[0, 0], expected[0])
    for given, rows in ((lengths, expected), (None, expected[:1])):
        found = blocks(window, given, tokens, causal)
        size = window // 2
        assert found.size == size and len(found.mask) == len(rows)
        for row, number, query, key in itertools.product(
            range(len(rows)), range(found.mask.shape[1]), range(size), range(3 * size)
        ):
            here, there = number * size + query, (number - 1) * size + key
            inside = here < length and 0 <= there < length
            wanted = bool(rows[row, here, there]) if inside else here == there
            if here < length or here == there:
                assert bool(found.mask[row, number, query, key]) == wanted


@pytest.mark.parametrize(("window", "length", "causal"), CASES)
def test_blocks_attend_as_a_mask_does(window, length, causal):
    torch.manual_seed(0)
    lengths = torch.tensor([length, 5])
    tokens = torch.zeros(2, length, dtype=torch.int64)
    given = [torch.randn(2, 3, length, 4, dtype=torch.float64) for _ in range(3)]
    found, expected = [], []
    for own in (lengths, None):
        apart = [x.clone().requires_grad_() for x in given]
        whole = [x.clone().requires_grad_() for x in given]
        seen = block_attention(*apart, blocks(window, own, tokens, causal))
        wanted = plain_attention(*whole, within(window, own, tokens, causal))
        assert (seen - wanted).abs().max() <= 1e-12
        for values in (seen, wanted):
            values.square().sum().backward()
        found += [x.grad for x in apart]
        expected += [x.grad for x in whole]
    for one, other in zip(found, expected, strict=True):
        assert (one - other).abs().max() <= 1e-11


def test_rows_come_back_from_blocks():
    x = torch.randn(2, 3, 11, 4)
    for size in (1, 3, 5, 20):
        assert torch.equal(in_rows(in_blocks(x, size), 2, 11), x)
    beside = with_neighbors(x, 3)
    assert beside.shape == (2 * 4, 3, 9, 4)
    assert torch.equal(beside[1], x[0, :, :9]) and not beside[0, :, :3].any()


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_a_model_gives_the_same_either_way(monkeypatch, causal, padded):
    config = ModelConfig(
        preset="modernbert-tiny", dim=16, num_layers=4, num_heads=2, feed_forward=24, window=6,
        dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = Transformer(config, vocab_size=40, num_languages=1, pad_id=2).double()
    tokens = torch.randint(5, 40, (3, 31))
    lengths = torch.tensor([31, 14, 29] if padded else [31] * 3)
    expected = model.encode(tokens, lengths, causal=causal, padded=padded)
    monkeypatch.setattr(windows, "SHORTEST", 1)
    assert isinstance(sight(6, None, tokens, causal), Blocks)
    found = model.encode(tokens, lengths, causal=causal, padded=padded)
    assert (found - expected).abs().max() <= 1e-12
    model.encoder.compile(backend="eager", fullgraph=True, dynamic=False)
    again = model.encode(tokens, lengths, causal=causal, padded=padded)
    assert (again - expected).abs().max() <= 1e-12


def test_short_rows_have_a_mask():
    mask = torch.Tensor
    for length, window, kind in (
        (256, 128, mask), (384, 128, mask), (385, 128, Blocks), (255, 8, mask), (256, 8, Blocks)
    ):  # fmt: skip
        tokens = torch.zeros(1, length, dtype=torch.int64)
        assert isinstance(sight(window, None, tokens, False), kind)

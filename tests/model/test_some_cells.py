"""The states of some cells alone are those that the whole encoder gives there."""

from __future__ import annotations

import pytest
import torch

from xlm.model.adapters import AdapterConfig, Adapters
from xlm.model.asking import batches_by_length
from xlm.model.cells import at_cells, by_row
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer

LENGTHS = torch.tensor([9, 3, 7])
CELLS = torch.tensor([0, 8, 4, 9 + 2, 18 + 6, 18 + 5])  # of rows of 9
SHAPES = [
    {},
    {"norm": "pre", "biases": False},
    {"positions": "rotary", "qk_norm": True},
    {"positions": "rotary", "norm": "pre", "norm_kind": "rms"},
    {"positions": "rotary", "window": 4, "global_every": 2},  # the last layer is local
    {"positions": "rotary", "window": 4, "global_every": 2, "num_layers": 3},
    {"num_layers": 1, "output_transform": True},
]


def build(**fields):
    fields = {"dim": 16, "num_layers": 2, "num_heads": 2, "max_positions": 32, **fields}
    torch.manual_seed(0)
    model = Transformer(ModelConfig(**fields), vocab_size=30, num_languages=2, pad_id=2)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms are not 0 and 1
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.double().eval()


def expected(hidden):
    return hidden.reshape(27, -1)[CELLS]


@pytest.mark.parametrize("fields", SHAPES)
@torch.inference_mode()
def test_some_cells_alone(fields):
    model = build(**fields)
    tokens = torch.randint(5, 30, (3, 9), generator=torch.Generator().manual_seed(1))
    langs = torch.tensor([[0] * 4 + [1] * 5]).expand(3, -1)
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]]).expand(3, -1)
    hidden = model.encode(tokens, LENGTHS, positions, langs)
    found = model.encode(tokens, LENGTHS, positions, langs, cells=CELLS)
    torch.testing.assert_close(found, expected(hidden), rtol=0, atol=1e-12)
    full = torch.full((3,), 9)
    hidden = model.encode(tokens, full, positions, langs, padded=False)
    found = model.encode(tokens, full, positions, langs, padded=False, cells=CELLS)
    torch.testing.assert_close(found, expected(hidden), rtol=0, atol=1e-12)


@pytest.mark.parametrize("place", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("norm", ["post", "pre"])
@torch.inference_mode()
def test_some_cells_alone_behind_adapters(place, norm):
    model = build(norm=norm)
    adapters = Adapters(16, 2, AdapterConfig(size=4, place=place)).double()
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter)
    tokens = torch.randint(5, 30, (3, 9), generator=torch.Generator().manual_seed(1))
    inputs = tokens, LENGTHS, None, None, False, True
    hidden = model.encoder(*inputs, adapters=adapters)
    found = model.encoder(*inputs, adapters=adapters, cells=CELLS)
    torch.testing.assert_close(found, expected(hidden), rtol=0, atol=1e-12)


def test_cells_by_row():
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        rows, length = torch.randint(1, 7, (2,), generator=generator).tolist()
        num = int(torch.randint(1, rows * length + 1, (), generator=generator))
        cells = torch.randperm(rows * length, generator=generator)[:num]
        found = by_row(cells, rows, length)
        assert (found is None) == (num > rows * length / 2)
        if found is not None:
            states = torch.randn(rows, length, 3, generator=generator)
            most = int(torch.bincount(cells // length).max())
            assert found.positions.shape == (rows, most)
            assert torch.equal(
                at_cells(found.of_rows(states), found.places), at_cells(states, cells)
            )
    assert by_row(torch.tensor([], dtype=torch.int64), 3, 9) is None
    assert by_row(torch.tensor([0], device="meta"), 3, 9) is None  # counts would be waited for


@torch.inference_mode()
def test_the_last_layer_asks_for_some_cells_alone():
    model = build(positions="rotary", qk_norm=True)
    tokens = torch.randint(5, 30, (3, 9), generator=torch.Generator().manual_seed(1))
    sizes = []
    attention = model.encoder.layers[-1].attention
    attention.query_norm.register_forward_hook(lambda _, given, __: sizes.append(given[0].shape[2]))
    for causal in (False, True):
        hidden = model.encode(tokens, LENGTHS, causal=causal)
        found = model.encode(tokens, LENGTHS, cells=CELLS, causal=causal)
        torch.testing.assert_close(found, expected(hidden), rtol=0, atol=1e-12)
    assert sizes == [9, 3, 9, 3]  # positions of a row


def test_batches_end_before_they_hold_more_padding():
    lengths = torch.randint(0, 40, (200,), generator=torch.Generator().manual_seed(0)).tolist()
    for tokens, padding in ((300, 10), (300, 0), (50, 1000), (1, 5)):
        batches = list(batches_by_length(lengths, tokens, padding))
        rows = [at for own in batches for at in own]
        assert sorted(rows) == [at for at, own in enumerate(lengths) if own]
        sizes = [lengths[at] for at in rows]
        assert sizes == sorted(sizes, reverse=True)

        def cost(own):
            longest = max(lengths[at] for at in own)
            return longest * len(own), sum(longest - lengths[at] for at in own)

        for own, after in zip(batches, [*batches[1:], None], strict=True):
            assert len(own) == 1 or (cost(own)[0] <= tokens and cost(own)[1] <= padding)
            if after is not None:  # no row more would have fitted
                cells, padded = cost([*own, after[0]])
                assert cells > tokens or padded > padding

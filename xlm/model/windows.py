"""Attention of local layers: each token to those near it, in blocks if rows are long.

A block of as many tokens as lie on either side of one sees itself and its two neighbors, so that
time and memory grow with the length of a row, not with its square.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Blocks(NamedTuple):
    """The keys that the queries of each block may attend."""

    size: int
    """Tokens of a block."""
    mask: Tensor
    """Bool ``[B or 1, N, size, 3 size]`` for ``N`` blocks, True at the keys in sight."""


Sight = Tensor | Blocks
"""A mask, or blocks with masks of their own."""

MOST_WINDOWS, SHORTEST = 3, 256
"""Rows of more windows, and no fewer tokens, are cut into blocks: it pays from there on."""


def sight(window: int, lengths: Tensor | None, tokens: Tensor, causal: bool) -> Sight:
    """Return the keys that the local layers of a batch may attend; arguments as in ``within``."""
    length = tokens.shape[1]
    if length >= SHORTEST and length > MOST_WINDOWS * window:
        return blocks(window, lengths, tokens, causal)
    return within(window, lengths, tokens, causal)


def within(window: int, lengths: Tensor | None, tokens: Tensor, causal: bool) -> Tensor:
    """Return bool ``[B or 1, 1, T, T]``, True at the keys that a query of a local layer may attend.

    ``tokens`` ``[B, T]`` gives size and device; ``lengths`` those of padded rows. Every query sees
    itself, also one of the padding, as a softmax over no key is not a number.
    """
    places = torch.arange(tokens.shape[1], device=tokens.device)
    return _near(window, places[:, None], places[None, :], lengths, causal).unsqueeze(1)


def blocks(window: int, lengths: Tensor | None, tokens: Tensor, causal: bool) -> Blocks:
    """Return the same for blocks of half a window; arguments as in ``within``."""
    size, length = window // 2, tokens.shape[1]
    num = -(-length // size)
    queries = torch.arange(num * size, device=tokens.device).view(num, size, 1)
    # the block before, the block itself, the block after
    keys = queries[:, :1, 0, None] + torch.arange(-size, 2 * size, device=tokens.device)
    near = _near(window, queries, keys, lengths, causal)
    return Blocks(size, near & (keys >= 0) & ((keys < length) | (keys == queries)))


def _near(
    window: int, queries: Tensor, keys: Tensor, lengths: Tensor | None, causal: bool
) -> Tensor:
    """Return bool ``[B or 1, ...]``, True if the key's position is in sight of the query's."""
    distances = queries - keys
    near = distances.abs() <= window // 2
    if causal:
        near = near & (distances >= 0)
    near = near[None]
    if lengths is None:
        return near
    ends = lengths.clamp(min=1).view(-1, *[1] * (near.dim() - 1))
    return near & (keys < ends) | (distances == 0)


def in_blocks(x: Tensor, size: int) -> Tensor:
    """Cut rows into blocks: ``[B, H, T, D/H] -> [B x N, H, size, D/H]``, zeros after the end."""
    rows, heads, length, width = x.shape
    x = F.pad(x, (0, 0, 0, -length % size)).view(rows, heads, -1, size, width)
    return x.transpose(1, 2).flatten(0, 1)


def with_neighbors(x: Tensor, size: int) -> Tensor:
    """Join ``[B, H, T, D/H] -> [B x N, H, 3 size, D/H]``: the blocks before, itself and after."""
    rows, heads, length, width = x.shape
    x = F.pad(x, (0, 0, size, size + -length % size)).view(rows, heads, -1, size, width)
    x = torch.cat([x[:, :, :-2], x[:, :, 1:-1], x[:, :, 2:]], dim=3)
    return x.transpose(1, 2).flatten(0, 1)


def in_rows(x: Tensor, rows: int, length: int) -> Tensor:
    """Undo ``in_blocks``: ``[B x N, H, size, D/H] -> [B, H, T, D/H]``."""
    x = x.view(rows, -1, *x.shape[1:]).transpose(1, 2).flatten(2, 3)
    return x[:, :, :length]

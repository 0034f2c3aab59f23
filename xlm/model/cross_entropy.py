"""The loss of a vocabulary: a projection and the cross-entropy of its scores, in chunks if large.

Scores are ``N x V``; with their gradient and their copy in float32 they are most of the memory of a
causal model. Above ``MOST_BYTES``, and in every update on a CPU, they are made for a chunk of cells
at a time, together with the gradients, which are kept instead of them: the forward pass does the
work of both.

Axes: ``N`` predicted cells, ``D`` width, ``V`` vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from xlm.batch import IGNORED

MOST_BYTES = 2 << 30
"""Bytes of scores above which they are made in chunks."""
CHUNK_BYTES = 1 << 30
"""Bytes of the scores of a chunk."""
SCORE_BYTES = 6
"""Bytes of a score: in half precision, and in float32 for the softmax."""
ROUND = 64
"""Multiple of which the vocabulary of a product on a GPU is made, and the cells of a chunk."""

CELLS_ON_CPU = 320
"""Cells of a chunk in an update on a CPU: its scores are written over, not allocated anew."""

_LOW_PRECISION = (torch.bfloat16, torch.float16)


def sum_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    ignore: int = IGNORED,
    label_smoothing: float = 0.0,
    vocab_size: int | None = None,
) -> Tensor:
    """Return the summed cross-entropy in nats, a scalar of at least float32.

    ``logits`` ``[N, V]``, ``targets`` int64 ``[N]``; targets equal to ``ignore`` are left out.
    Labels are smoothed over the first ``vocab_size`` scores, if others only fill a row up.
    """
    if logits.dtype in _LOW_PRECISION:
        logits = logits.float()
    is_full = vocab_size is None or vocab_size == logits.shape[1]
    nats = F.cross_entropy(
        logits, targets, ignore_index=ignore, reduction="sum",
        label_smoothing=label_smoothing if is_full else 0.0,
    )  # fmt: skip
    if is_full or not label_smoothing:
        return nats
    own = logits.gather(1, targets.clamp(min=0)[:, None])[:, 0]
    above = (own - logits[:, :vocab_size].mean(-1)).masked_fill(targets == ignore, 0.0)
    return nats + label_smoothing * above.sum()


def cells_at_once(vocab_size: int, num_cells: int) -> int:
    """Return the number of cells whose scores are made together: all, or those of a chunk."""
    if num_cells * vocab_size * SCORE_BYTES <= MOST_BYTES:
        return max(num_cells, 1)
    return max(CHUNK_BYTES // (vocab_size * SCORE_BYTES) // ROUND, 1) * ROUND


def linear_cross_entropy(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    summed: Callable[..., Tensor] = sum_cross_entropy,
) -> Tensor:
    """Return ``sum_cross_entropy`` of the scores of ``x`` ``[N, D]``, which need not exist at once.

    ``weight`` ``[V, D]``, ``bias`` ``[V]``, ``targets`` int64 ``[N]``. ``summed`` is applied to
    scores that do: ``sum_cross_entropy``, or a compiled one.
    """
    vocab_size = len(weight)
    if pads(x, vocab_size):
        weight, bias = padded(weight, bias, _low(x))
    num = cells_at_once(len(weight), len(x))
    updates_on_cpu = x.device.type == "cpu" and torch.is_grad_enabled()
    if updates_on_cpu and summed is sum_cross_entropy:
        num = min(num, evenly(len(x), CELLS_ON_CPU))
    elif num >= len(x):
        return summed(
            F.linear(x, weight, bias), targets, label_smoothing=label_smoothing,
            vocab_size=vocab_size,
        )  # fmt: skip
    smoothing = label_smoothing, vocab_size
    return _Chunked.apply(x, weight, bias, targets, smoothing, num)  # type: ignore[no-any-return, no-untyped-call]


def evenly(total: int, most: int) -> int:
    """Return the size of a chunk, if ``total`` is cut into as few even ones of ``most`` as can be.

    The last one may be smaller.
    """
    return -(-total // max(-(-total // most), 1)) or 1


def pads(x: Tensor, vocab_size: int) -> bool:
    """Return whether a vocabulary is filled up: matrix units of GPUs want multiples of 8 and more.

    In half precision alone, in which weights are cast anyway.
    """
    return x.device.type == "cuda" and vocab_size % ROUND > 0 and _low(x) in _LOW_PRECISION


def padded(weight: Tensor, bias: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return both in ``dtype`` with rows of zeros up to a multiple, whose scores are -infinity.

    No probability and no gradient goes there; parameters, checkpoints and exports do not change.
    """
    more = -len(weight) % ROUND
    rows = F.pad(weight.to(dtype), (0, 0, 0, more))
    return rows, F.pad(bias.to(dtype), (0, more), value=float("-inf"))


def _low(x: Tensor) -> torch.dtype:
    """Return the type that products are computed in here: that of autocast, or that of ``x``."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype


class _Chunked(torch.autograd.Function):
    """The loss and its gradients of one chunk of cells after the other."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        smoothing: tuple[float, int],
        num: int,
    ) -> Tensor:
        """Return the sum; keep the gradients of ``x``, ``weight`` and ``bias``."""
        dtype = _low(x)
        wide = torch.float32 if dtype in _LOW_PRECISION else dtype
        low_weight, low_bias = weight.to(dtype), bias.to(dtype)
        for_x, for_weight, for_bias = ctx.needs_input_grad[:3]
        total = torch.zeros((), dtype=wide, device=x.device)
        grad_x = torch.empty(x.shape, dtype=dtype, device=x.device) if for_x else None
        grad_weight: Tensor | None = None
        grad_bias = torch.zeros_like(bias, dtype=wide) if for_bias else None
        low = torch.empty(min(num, len(x)), len(weight), dtype=dtype, device=x.device)
        for start in range(0, len(x), num):
            cells, own = slice(start, start + num), x[start : start + num].to(dtype)
            scores = torch.addmm(low_bias, own, low_weight.t(), out=low[: len(own)])
            nats, grad = _nats_and_gradient(scores.to(wide), targets[cells], *smoothing)
            total += nats
            low_grad = grad if dtype == wide else scores.copy_(grad)
            if grad_x is not None:
                torch.mm(low_grad, low_weight, out=grad_x[cells])
            if for_weight and grad_weight is None:
                grad_weight = low_grad.t() @ own
            elif grad_weight is not None:
                grad_weight = _plus_product(grad_weight.to(wide), low_grad.t(), own)
            if grad_bias is not None:
                grad_bias += grad.sum(0)
        if for_weight and grad_weight is None:
            grad_weight = torch.zeros_like(weight)  # there are no cells
        ctx.save_for_backward(grad_x, grad_weight, grad_bias)
        ctx.dtypes = (x.dtype, weight.dtype, bias.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the kept gradients, scaled by that of the sum."""
        kept = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*(_scaled(own, grad, dtype) for own, dtype in kept), None, None, None)


def _plus_product(total: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Add ``a @ b`` to ``total`` in place, which may be of a wider type."""
    return total.addmm_(a, b) if total.dtype == a.dtype else total.add_(a @ b)


def _scaled(kept: Tensor | None, factor: Tensor, dtype: torch.dtype) -> Tensor | None:
    """Return a new tensor of ``dtype``: what was kept, times a scalar."""
    if kept is None:
        return None
    return kept * factor if kept.dtype == dtype else kept.to(dtype).mul_(factor)


def _nats_and_gradient(
    scores: Tensor, targets: Tensor, label_smoothing: float, vocab_size: int
) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy of ``scores``, and its gradient in their place."""
    ignored, places = targets == IGNORED, targets.clamp(min=0)[:, None]
    most = scores.amax(-1, keepdim=True)
    own = scores.gather(1, places)
    mean = scores[:, :vocab_size].mean(-1, keepdim=True) if label_smoothing else own
    sums = scores.sub_(most).exp_().sum(-1, keepdim=True)
    log_sums = most + sums.log()
    nats = (log_sums - own) * (1 - label_smoothing) + (log_sums - mean) * label_smoothing
    grad = scores.div_(sums)
    grad.scatter_add_(1, places, torch.full_like(sums, label_smoothing - 1))
    if label_smoothing:
        grad[:, :vocab_size].sub_(label_smoothing / vocab_size)
    return nats[:, 0].masked_fill(ignored, 0.0).sum(), grad.masked_fill_(ignored[:, None], 0.0)

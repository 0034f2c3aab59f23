"""The model across processes: DistributedDataParallel (DDP), and when it sums gradients."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from xlm.training.distributed.processes import Parallel

Sums = Literal["fp32", "bf16"]
"""The type in which gradients travel between processes and are added."""
_NEW = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_NO_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW else "broadcast_buffers": False}
"""A forward pass does not copy rank 0's buffers; torch 2.13 warns of the setting's older name."""


def wrap(
    module: nn.Module,
    parallel: Parallel,
    *,
    find_unused_parameters: bool,
    sums: Sums = "fp32",
) -> nn.Module:
    """Return DDP around ``module``, or the module itself in a single process.

    Set ``find_unused_parameters`` exactly if the objectives' parameter sets differ. A static graph
    is never used: it is silently wrong for several objectives in one update. ``sums`` is the type
    in which gradients travel and are added.
    """
    if not parallel.is_wrapped:
        return module
    wrapped = DistributedDataParallel(
        module,
        device_ids=[parallel.device.index] if parallel.device.type == "cuda" else None,
        **_NO_BUFFERS,
        gradient_as_bucket_view=True,
        find_unused_parameters=find_unused_parameters,
    )
    if sums == "bf16":
        # not the function itself: torch refuses annotations that are strings
        wrapped.register_comm_hook(
            parallel.world, lambda world, bucket: _mean_in_bf16(world, bucket)
        )
    parallel.wrapped.add(wrapped)
    return wrapped


def _mean_in_bf16(world: int, bucket: Any) -> torch.futures.Future[Tensor]:
    """Average a bucket of gradients over the ranks in bfloat16; torch's own hook needs NCCL."""
    whole: Tensor = bucket.buffer()
    low = whole.to(torch.bfloat16).div_(world)
    work: Any = dist.all_reduce(low, async_op=True)

    def widened(summed: torch.futures.Future[list[Tensor]]) -> Tensor:
        return whole.copy_(summed.value()[0])

    future: torch.futures.Future[Tensor] = work.get_future().then(widened)
    return future


def no_sync(module: nn.Module, active: bool) -> AbstractContextManager[None]:
    """Return a context in which, if ``active``, gradients are not summed over the ranks."""
    if active and isinstance(module, DistributedDataParallel):
        context: AbstractContextManager[None] = module.no_sync()
        return context
    return nullcontext()

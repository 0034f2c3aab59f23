"""The model across processes: DistributedDataParallel (DDP), and when it sums gradients."""

from __future__ import annotations

import inspect
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from xlm.training.distributed.processes import Parallel

_NEW = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters
_NO_BUFFERS: dict[str, Any] = {"forward_sync_buffers" if _NEW else "broadcast_buffers": False}
"""A forward pass does not copy rank 0's buffers; torch 2.13 warns of the setting's older name."""


def wrap(module: nn.Module, parallel: Parallel, *, find_unused_parameters: bool) -> nn.Module:
    """Return DDP around ``module``, or the module itself in a single process.

    Set ``find_unused_parameters`` exactly if the objectives' parameter sets differ. A static graph
    is never used: it is silently wrong for several objectives in one update.
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
    parallel.wrapped.add(wrapped)
    return wrapped


def no_sync(module: nn.Module, active: bool) -> AbstractContextManager[None]:
    """Return a context in which, if ``active``, gradients are not summed over the ranks."""
    if active and isinstance(module, DistributedDataParallel):
        context: AbstractContextManager[None] = module.no_sync()
        return context
    return nullcontext()

"""Memory while a run trains: in growing segments on GPUs; garbage, collected between updates."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch


def use_expandable_segments() -> bool:
    """Let torch's memory on GPUs grow in place: batches of many lengths leave fewer gaps.

    Returns whether it does: the user's own settings, and builds of torch without the feature, are
    left as they are.
    """
    if any(name in os.environ for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF")):
        return False
    try:
        torch.cuda.memory._set_allocator_settings("expandable_segments:True")
    except (AttributeError, RuntimeError):
        return False
    return True


@contextmanager
def garbage_apart() -> Iterator[Callable[[], None]]:
    """Collect garbage only when the function that is yielded is called: never within an update.

    A full collection looks at every object of the process, for half a second after the imports;
    those that exist now are left out until the end. Ranks that collect at different steps wait for
    each other.
    """
    was_enabled = gc.isenabled()
    gc.freeze()
    gc.disable()
    try:
        yield _collect
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()


def _collect() -> None:
    gc.collect()

"""Memory while a run trains: kept by the C library on CPUs, in growing segments on GPUs; garbage.

glibc takes every large block from the kernel and gives it back when it is freed. The activations of
an update are such blocks: each update then waits for the kernel to clear gigabytes that the one
before had just returned. Memory that is kept instead is reused (benchmarks/speed/allocator.py).
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

# mallopt(3); its values are ints
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_GIVEN_BACK = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 * 1024}
"""The values that glibc starts with."""


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Keep freed memory in this process, up to 2 GiB, inside the context; give it back after it.

    Yields whether it does: another C library, an allocator loaded in glibc's place, and the
    user's settings in glibc's own variables are left as they are.
    """
    chosen = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    kept = not chosen and _set(_KEPT)
    try:
        yield kept
    finally:
        if kept:
            _set(_GIVEN_BACK)
            ctypes.CDLL(None).malloc_trim(0)


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


def _set(values: dict[int, int]) -> bool:
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return False
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return False
    return all([library.mallopt(name, value) == 1 for name, value in values.items()])

"""Memory that the C library keeps while a CPU trains.

glibc takes every large block from the kernel and gives it back when it is freed. The activations of
an update are such blocks: each update then waits for the kernel to clear gigabytes that the one
before had just returned. Memory that is kept instead is reused (benchmarks/speed/allocator.py).
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

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


def _set(values: dict[int, int]) -> bool:
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return False
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return False
    return all([library.mallopt(name, value) == 1 for name, value in values.items()])

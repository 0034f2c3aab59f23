"""Memory that is freed: kept by the C library, or given back to the system at once.

glibc takes every large block from the kernel and gives it back when it is freed. The activations of
an update are such blocks: each update then waits for the kernel to clear gigabytes that the one
before had just returned. Memory that is kept instead is reused (benchmarks/speed/allocator.py).

After the first such block glibc raises the size from which blocks are large, up to 32 MiB: it cuts
the others from one heap, which grows and never shrinks while a small block lies above the free
ones. If that size stays as it is, memory does not grow with the batches that are read.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

# mallopt(3); its values are ints
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_LARGE = 1 << 20
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1}
_RETURNED = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: _LARGE, _TRIM_THRESHOLD: _LARGE}
_now = {_MMAP_MAX: 65536, _MMAP_THRESHOLD: 32 << 20, _TRIM_THRESHOLD: 128 * 1024}
"""The values of this process: at first those of glibc, the size of large blocks fully raised."""


@contextmanager
def freed_memory_kept() -> Iterator[bool]:
    """Keep freed memory in this process, up to 2 GiB, inside the context; give it back after it.

    Yields whether it does: another C library, an allocator loaded in glibc's place, and the
    user's settings in glibc's own variables are left as they are.
    """
    kept = False
    try:
        with _setting(_KEPT) as kept:
            yield kept
    finally:
        if kept:
            ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def freed_memory_returned() -> Iterator[bool]:
    """Give every freed block of a MiB or more back to the system inside the context.

    Yields whether it does, as ``freed_memory_kept``.
    """
    with _setting(_RETURNED) as returned:
        yield returned


@contextmanager
def _setting(values: Mapping[int, int]) -> Iterator[bool]:
    """Hold the C library to these values, and to those it had before afterwards."""
    chosen = any(name == "GLIBC_TUNABLES" or name.startswith("MALLOC_") for name in os.environ)
    before = {name: _now[name] for name in values}
    is_set = not chosen and _set(values)
    try:
        yield is_set
    finally:
        if is_set:
            _set(before)


def _set(values: Mapping[int, int]) -> bool:
    try:
        library = ctypes.CDLL(None)
    except (OSError, TypeError):
        return False
    if not (hasattr(library, "mallopt") and hasattr(library, "malloc_trim")):
        return False
    _now.update(values)
    return all([library.mallopt(name, value) == 1 for name, value in values.items()])

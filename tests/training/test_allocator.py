"""Memory that is freed while a CPU trains: kept by the process, or given back to the kernel."""

from __future__ import annotations

import ctypes
import platform
import resource

import numpy as np
import pytest

from tests.training import tiny
from xlm.running import sole_training
from xlm.training.allocator import freed_memory_kept

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
BYTES = 48 * 2**20
"""Above the largest threshold that glibc raises by itself."""


def faults() -> int:
    """Pages that the kernel has to give while a large block is taken, written and freed, thrice."""
    np.ones(BYTES, dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.ones(BYTES, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_freed_memory_is_reused_within_and_given_back_after() -> None:
    before = faults()
    with freed_memory_kept() as kept:
        assert kept
        within = faults()
    assert 4 * within < before and 4 * within < faults()


@glibc
def test_a_training_on_a_cpu_keeps_it(tmp_path) -> None:
    before = faults()
    with sole_training(tiny.recipe(tmp_path)):
        assert 4 * faults() < before
    assert 4 * faults() > before


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_chose_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with freed_memory_kept() as kept:
        assert not kept


def test_another_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept() as kept:
        assert not kept

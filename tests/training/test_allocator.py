"""Memory that is freed while a CPU trains: kept by the process, or given back to the kernel."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from xlm.training.allocator import freed_memory_kept

ROOT = Path(__file__).parents[2]
MEASURED = """
import resource, sys
from pathlib import Path

import numpy as np

from tests.training import tiny
from xlm.run.launch import sole_training
from xlm.training.allocator import freed_memory_kept

BYTES = 48 * 2**20  # above the largest threshold that glibc raises by itself


def faults():
    np.ones(BYTES, dtype=np.uint8)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(3):
        np.ones(BYTES, dtype=np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


found = [faults()]
with freed_memory_kept() as kept:
    assert kept
    found.append(faults())
found.append(faults())
with sole_training(tiny.recipe(Path(sys.argv[1]))):
    found.append(faults())
found.append(faults())
print(*found)
"""
"""Pages that the kernel gives while a large block is taken, written and freed, thrice: outside
and within, in turn."""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_reused_within_and_given_back_after(tmp_path: Path) -> None:
    # a process of its own: the heap of one that has run other tests has large holes to reuse
    chosen = ("MALLOC_", "GLIBC_TUNABLES")
    environment = {name: own for name, own in os.environ.items() if not name.startswith(chosen)}
    output = subprocess.run(
        [sys.executable, "-c", MEASURED, str(tmp_path)], env=environment, cwd=ROOT,
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    before, kept, between, training, after = map(int, output.split())
    assert 4 * kept < before and 4 * kept < between
    assert 4 * training < between and 4 * training < after


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_chose_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with freed_memory_kept() as kept:
        assert not kept


def test_another_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept() as kept:
        assert not kept

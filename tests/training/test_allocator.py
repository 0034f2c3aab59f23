"""Memory that is freed while a CPU trains: kept by the process, or given back to the kernel."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch

from xlm.training.allocator import freed_memory_kept, garbage_apart, use_expandable_segments

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


def test_garbage_is_collected_when_asked() -> None:
    class Node:
        pass

    def cycle() -> weakref.ref[Node]:
        node = Node()
        node.own = node  # type: ignore[attr-defined]
        return weakref.ref(node)

    assert gc.isenabled()
    with garbage_apart() as collect:
        assert not gc.isenabled()
        left = [cycle() for _ in range(5000)]  # far more than the collector's own thresholds
        assert all(one() is not None for one in left)
        collect()
        assert all(one() is None for one in left)
    assert gc.isenabled() and gc.get_freeze_count() == 0
    with pytest.raises(KeyError), garbage_apart():
        raise KeyError
    assert gc.isenabled()


def test_segments_grow_unless_the_user_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    name = "_set_allocator_settings"
    monkeypatch.setattr(torch.cuda.memory, name, said.append, raising=False)
    for variable in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        monkeypatch.delenv(variable, raising=False)
    assert use_expandable_segments() and said == ["expandable_segments:True"]
    monkeypatch.setenv("PYTORCH_CUDA_ALLOC_CONF", "max_split_size_mb:512")
    assert not use_expandable_segments() and len(said) == 1
    monkeypatch.delenv("PYTORCH_CUDA_ALLOC_CONF")
    monkeypatch.delattr(torch.cuda.memory, name)
    assert not use_expandable_segments()

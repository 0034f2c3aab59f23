"""Memory that is freed: kept by the process, or given back to the system."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from xlm.freed_memory import freed_memory_kept, freed_memory_returned

ROOT = Path(__file__).parents[1]
MEASURED = """
import resource, sys
from pathlib import Path

import numpy as np

from tests.training import tiny
from xlm.run.launch import sole_training
from xlm.freed_memory import freed_memory_kept

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


HELD = """
import resource, sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from xlm.freed_memory import freed_memory_kept, freed_memory_returned

MIB = 2**20


def anonymous():
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("RssAnon")) // 1024


def held(context):
    np.ones(16 * MIB, dtype=np.uint8)  # glibc cuts blocks up to this from its heap from now on
    before = anonymous()
    with context:
        large, small = [], []
        for _ in range(20):
            large.append(np.ones(2 * MIB, dtype=np.uint8))
            small.append(np.ones(100_000, dtype=np.uint8))
        del large
        return anonymous() - before


print(held(nullcontext()), held(freed_memory_returned()))
with freed_memory_kept():
    print(held(freed_memory_returned()), held(nullcontext()))
"""
"""MiB that are still there after blocks of 40 MiB are freed, with small ones between them."""


def printed(program: str, *arguments: Path) -> list[int]:
    chosen = ("MALLOC_", "GLIBC_TUNABLES")
    environment = {name: own for name, own in os.environ.items() if not name.startswith(chosen)}
    output = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], env=environment, cwd=ROOT,
        stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    return list(map(int, output.split()))


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_memory_is_reused_within_and_given_back_after(tmp_path: Path) -> None:
    # a process of its own: the heap of one that has run other tests has large holes to reuse
    before, kept, between, training, after = printed(MEASURED, tmp_path)
    assert 4 * kept < before and 4 * kept < between
    assert 4 * training < between and 4 * training < after


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_freed_blocks_are_returned_within_and_the_setting_before_comes_back() -> None:
    usual, returned, returned_while_kept, kept = printed(HELD)
    assert usual >= 20 and returned <= 4
    assert returned_while_kept <= 4 and kept >= 20


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_user_chose_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    with freed_memory_kept() as kept, freed_memory_returned() as returned:
        assert not kept and not returned


def test_another_library_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    with freed_memory_kept() as kept, freed_memory_returned() as returned:
        assert not kept and not returned

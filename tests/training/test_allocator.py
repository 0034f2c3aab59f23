"""Garbage, and memory on GPUs, while a run trains."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from xlm.training.allocator import garbage_apart, use_expandable_segments


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

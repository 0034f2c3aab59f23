"""The device of a process, and torch's settings for the whole of it."""

import pytest
import torch

from xlm.errors import ConfigError
from xlm.training.distributed.devices import device_of_rank, usable_device
from xlm.training.distributed.processes import Parallel


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)


def test_a_device_that_torch_does_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="'tpu': choose one of auto, cpu, cuda"):
        Parallel.start("tpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="this machine has 0 usable GPUs"):
        Parallel.start("cuda")
    with pytest.raises(ConfigError, match="torch finds no GPU: give cpu"):
        usable_device("cuda")
    assert Parallel.start("auto").device == usable_device("auto") == torch.device("cpu")


def test_a_gpu_for_each_rank_of_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    current = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    assert device_of_rank("auto", 1) == torch.device("cuda", 1)
    assert current == [torch.device("cuda", 1)]
    with pytest.raises(ConfigError, match="local rank 2: this machine has 2 usable GPUs"):
        device_of_rank("cuda", 2)
    assert device_of_rank("cpu", 2) == usable_device("cpu") == torch.device("cpu")
    assert usable_device("auto") == usable_device("cuda") == torch.device("cuda")


def test_numerics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert not torch.backends.cuda.matmul.allow_tf32
    try:
        Parallel.start("cpu", deterministic=True, tf32=True)
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        Parallel.start("cpu")
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cuda.matmul.allow_tf32

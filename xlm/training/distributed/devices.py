"""The device that a process computes on, and torch's settings for its arithmetic."""

from __future__ import annotations

import os
from typing import Literal

import torch

from xlm.errors import ConfigError


def usable_device(name: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """Return the device called ``name``; "auto" is CUDA if torch finds a GPU, else the CPU.

    Raises ConfigError if ``name`` is "cuda" and there is no GPU.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device is cuda, but torch finds no GPU: give cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def device_of_rank(name: str, local_rank: int) -> torch.device:
    """Return the device for the process ``local_rank`` of its machine, and make a GPU current.

    Raises ConfigError for an unknown name, or if the machine has too few GPUs.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ConfigError(f"device {name!r}: choose one of auto, cpu, cuda")
    num_devices = torch.cuda.device_count()
    if name == "cpu" or (name == "auto" and num_devices == 0):
        return torch.device("cpu")
    if local_rank >= num_devices:
        raise ConfigError(
            f"device {name!r} for local rank {local_rank}: this machine has {num_devices} usable "
            f"GPUs; start at most as many processes, or use --device cpu"
        )
    device = torch.device("cuda", local_rank)
    torch.cuda.set_device(device)
    return device


def set_numerics(*, tf32: bool, deterministic: bool) -> None:
    """Set torch's arithmetic for the whole process."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    if deterministic:
        # cuBLAS is deterministic only with a fixed workspace, which it reads when it starts.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = False

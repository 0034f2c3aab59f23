"""The speed of a run, in real tokens a second and as a share of the device's ceiling.

The convention of every utilization: the numerator is the arithmetic that the batch *needs* (matrix
products only, predicted cells only; see ``xlm.model.config.flops_per_token``); the denominator is
the rate of large matrix products in the run's precision, measured on the device at the start: the
median of half a second of them, or of less for a run of few updates (``ceiling_seconds``).
"""

from __future__ import annotations

import statistics
import time
from dataclasses import replace

import torch

from xlm.batch import Batch
from xlm.model.config import ModelConfig, flops_per_token
from xlm.objective import Objective
from xlm.training.precision import Precision

SIZE = {"cpu": 512, "cuda": 8192}
CEILING_SECONDS = 0.5
"""Seconds of products whose median is the ceiling of a run."""
UPDATES = 2000
"""Updates from which on a run measures its ceiling for ``CEILING_SECONDS``."""
LEAST_PRODUCTS = 3
LONG = 0.1
"""Seconds: a product that is slower on a CPU (fp16 on most) is measured once."""
FAST = 1.25
"""Times float32's speed that bf16 must reach to be chosen; with instructions for it, it is two to
three times as fast."""
SLOW = 0.5
"""Half precision below this share of float32's speed is warned of."""


def ceiling_seconds(num_updates: int) -> float:
    """Return the seconds of products that a run of so many updates can afford."""
    return CEILING_SECONDS * min(num_updates / UPDATES, 1.0)


def matmul_ceiling(device: torch.device, precision: str, seconds: float = 0.0) -> float:
    """Measure FLOP/s of a square product of random matrices.

    It is the median of products over ``seconds``, of three at least, after a first.
    """
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)
    size = SIZE[device.type]
    generator = torch.Generator(device=device).manual_seed(0)
    a, b = (torch.rand(size, size, generator=generator, device=device).to(dtype) for _ in range(2))
    own: list[float] = []
    until = time.perf_counter() + seconds
    while len(own) <= LEAST_PRODUCTS or time.perf_counter() < until:
        _wait(device)
        started = time.perf_counter()
        _ = a @ b
        _wait(device)
        own.append(time.perf_counter() - started)
        if device.type == "cpu" and own[-1] > LONG:
            break
    return 2 * size**3 / statistics.median(own[1:] or own)


def emulated(device: torch.device, precision: str, ceiling: float) -> str:
    """Return a warning if half precision is slower here than float32, else "".

    ``ceiling`` is the FLOP/s of ``matmul_ceiling`` in that precision. Processors without
    instructions for it were measured at a thirtieth.
    """
    if device.type != "cpu" or precision == "fp32":
        return ""
    single = matmul_ceiling(device, "fp32")
    if ceiling >= SLOW * single:
        return ""
    return (
        f"this processor multiplies in {precision} at {ceiling / 1e9:.2g} GFLOP/s, in fp32 at "
        f"{single / 1e9:.2g}: it has no instructions for {precision}; train with precision fp32"
    )


def best_precision(device: torch.device) -> Precision:
    """Return bf16 if the device multiplies faster in it than in float32, else fp32."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    faster = matmul_ceiling(device, "bf16") > FAST * matmul_ceiling(device, "fp32")
    return "bf16" if faster else "fp32"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def flops(config: ModelConfig, vocab_size: int, objective: Objective, batch: Batch) -> float:
    """Return the arithmetic that training on ``batch`` needs."""
    if batch.source is None:
        config = replace(config, num_decoder_layers=0)
    tokens = max(batch.num_tokens, 1)
    per_token = flops_per_token(
        config,
        vocab_size,
        batch.tokens.shape[1],
        batch.count / tokens,
        causal=objective.causal,
    )
    return tokens * per_token

"""What a run is measured against."""

from __future__ import annotations

import pytest
import torch

from tests.training import tiny
from xlm.rng import Random
from xlm.run import build as building
from xlm.training import speed


def test_a_slow_product_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "SIZE", {"cpu": 64})
    products = []
    matmul = torch.Tensor.__matmul__

    def counting(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        products.append(a.dtype)
        return matmul(a, b)

    monkeypatch.setattr(torch.Tensor, "__matmul__", counting)
    assert speed.matmul_ceiling(torch.device("cpu"), "bf16") > 0
    assert products == [torch.bfloat16] * 4
    monkeypatch.setattr(speed, "LONG", 0.0)
    assert speed.matmul_ceiling(torch.device("cpu"), "fp32") > 0
    assert products[4:] == [torch.float32]


def test_the_ceiling_is_the_median_of_its_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 10 ms and most of 2 ms, on a clock that is made up; the first is left out."""
    monkeypatch.setattr(speed, "SIZE", {"cpu": 64})
    lengths = iter([0.05, 0.001, 0.01, *[0.002] * 1000])
    now = 0.0

    def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        nonlocal now
        now += next(lengths)
        return a

    monkeypatch.setattr(speed.time, "perf_counter", lambda: now)
    monkeypatch.setattr(torch.Tensor, "__matmul__", product)
    found = speed.matmul_ceiling(torch.device("cpu"), "fp32", seconds=0.5)
    assert found == pytest.approx(2 * 64**3 / 0.002)
    assert 0.5 <= now < 0.51
    assert [speed.ceiling_seconds(num) for num in (20, 2000, 10**6)] == [0.005, 0.5, 0.5]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_the_ceiling_is_a_rate_of_arithmetic(precision: str) -> None:
    assert speed.matmul_ceiling(torch.device("cpu"), precision) > 1e8


def test_half_precision_that_is_slower_than_single_is_said() -> None:
    cpu = torch.device("cpu")
    slow = speed.emulated(cpu, "bf16", 1e6)
    assert "bf16 at 0.001 GFLOP/s" in slow and "train with precision fp32" in slow
    assert speed.emulated(cpu, "bf16", 1e15) == ""
    assert speed.emulated(cpu, "fp32", 1e6) == ""
    assert speed.emulated(torch.device("cuda"), "bf16", 1e6) == ""


@pytest.mark.parametrize("decoder", [0, 1])
def test_arithmetic_of_an_encoder_by_hand(decoder: int) -> None:
    """3 x (layers x (24 d^2 + 4 T d) + share x 2 d V) a token; an unused decoder costs nothing."""
    config = tiny.model(num_decoder_layers=decoder)
    run = tiny.recipe("", model=config, objectives={"mlm": tiny.MLM})
    (stream, _) = building.training_streams(run, tiny.corpora(20))["mlm"]
    batch = tiny.MLM.collate(stream.examples(0), Random(0), train=True)
    found = speed.flops(config, tiny.VOCAB_SIZE, tiny.MLM, batch)
    share = batch.count / batch.num_tokens
    body = 2 * (24 * 16 * 16 + 4 * 12 * 16)
    expected = batch.num_tokens * 3 * (body + share * 2 * 16 * tiny.VOCAB_SIZE)
    assert found == pytest.approx(expected)

"""Two processes on gloo: what they tell each other, and gradients that are those of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xlm.errors import ConfigError
from xlm.training.distributed.processes import Parallel

REPOSITORY = Path(__file__).parents[3]

# Two heads, of which a micro-batch uses one, as objectives do.
MODEL = """
import torch
from torch import nn

class Two(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(3, 4)
        self.heads = nn.ModuleDict({name: nn.Linear(4, 1) for name in ("a", "b", "never")})
        self.double()

    def forward(self, name, x):
        return self.heads[name](self.body(x).tanh()).square().sum()

def micro_batches():
    generator = torch.Generator().manual_seed(7)
    names = "aabbaabb"
    return [(name, torch.randn(2, 3, generator=generator, dtype=torch.float64)) for name in names]

def gradients(module, parameters):
    return [None if p.grad is None else p.grad.tolist() for p in parameters]
"""

SCRIPT = (
    MODEL
    + """
import json, math, os
from xlm.errors import TrainingError
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.step import clip_, guarded_step, set_lr
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.wrap import no_sync, wrap
from xlm.training.precision import LossScaler

parallel = Parallel.start("DEVICE", timeout_seconds=60)
device, rank, world = parallel.device, parallel.rank, parallel.world
found = {"rank": rank, "world": world, "wrapped": parallel.is_wrapped, "main": parallel.is_main}
found["gather"] = parallel.gather({"rank": rank, "text": "नमस्ते" * (rank + 1), "x": 0.1 + rank})
found["counts"] = parallel.sum_counts([rank + 1, 2**40, 0])
ends = [parallel.begin_sum([rank, number]) for number in range(3)]
found["between"] = parallel.gather(rank)  # others come between a sum's beginning and its end
found["ahead"] = [end() for end in reversed(ends)]
found["scores"] = dict(parallel.sum_scores({"nats": 0.1 * (rank + 1), f"only{rank}": 1.0}))
found["not finite"] = str(parallel.sum_scores({"x": math.inf if rank else 1.0})["x"])
found["broadcast"] = parallel.broadcast([rank, "from 0"])
parallel.same_on_all("the seed", 3)
try:
    parallel.same_on_all("the tokenizer's digest", "abc" if rank == 0 else "x" * 100)
except TrainingError as error:
    found["differs"] = str(error)

for case in ("mixed", "first only", "twice"):
    model = Two().to(device)
    wrapped = wrap(model, parallel, find_unused_parameters=True)
    for _ in range(2 if case == "twice" else 1):
        model.zero_grad(set_to_none=True)
        batches = micro_batches()
        if case == "first only":  # head a only in backward passes that do not synchronize
            batches = [b for b in batches if b[0] == "a"] + [b for b in batches if b[0] == "b"]
        mine = [batch for batch, _ in parallel.share(batches)]
        for place, (name, x) in enumerate(mine):
            with no_sync(wrapped, active=place < len(mine) - 1):
                (wrapped(name, x.to(device)) * world / 8).backward()
    found[case] = gradients(model, model.parameters())

# One rank's overflow is everybody's skip.
model = Two().to(device).float()
wrapped = wrap(model, parallel, find_unused_parameters=True)
optimizer = build_optimizer(Optimizer(), model.named_parameters())
scaler = LossScaler(parallel.device)
set_lr(optimizer, 0.1)
found["weights"], found["scales"] = [], []
for step in range(3):
    optimizer.zero_grad()
    x = torch.full((2, 3), float("inf") if step == 1 and rank == 1 else 1.0 + rank, device=device)
    scaler.scale(wrapped("a", x)).backward()
    scaler.unscale_(model.parameters())
    found_inf = (~clip_(model.parameters(), 1.0).isfinite()).float()
    guarded_step(optimizer, found_inf)
    scaler.update(found_inf)
    found["weights"].append([p.tolist() for p in model.parameters()])
    found["scales"].append(scaler.state_dict())
parallel.close()
print(json.dumps(found), flush=True)
os._exit(0)
"""
)


def launch(script: str, world: int) -> list[dict[str, Any]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = []
    for rank in range(world):
        environment = {
            **os.environ,
            "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(REPOSITORY),
        }  # fmt: skip
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", script], env=environment, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )
        )  # fmt: skip
    results = [process.communicate(timeout=120) for process in processes]
    for process, (_, errors) in zip(processes, results, strict=True):
        assert process.returncode == 0, errors
    return [json.loads(output.splitlines()[-1]) for output, _ in results]


@pytest.fixture(scope="module")
def two() -> list[dict[str, Any]]:
    return launch(SCRIPT.replace("DEVICE", "cpu"), 2)


def test_what_ranks_tell_each_other(two: list[dict[str, Any]]) -> None:
    assert [(r["rank"], r["world"], r["wrapped"], r["main"]) for r in two] == [
        (0, 2, True, True),
        (1, 2, True, False),
    ]
    for result in two:
        assert result["gather"] == [
            {"rank": 0, "text": "नमस्ते", "x": 0.1},
            {"rank": 1, "text": "नमस्ते" * 2, "x": 1.1},
        ]
        assert result["counts"] == [3, 2**41, 0]
        assert result["between"] == [0, 1]
        assert result["ahead"] == [[1, 4], [1, 2], [1, 0]]
        assert result["scores"] == {"nats": 0.1 + 0.2, "only0": 1.0, "only1": 1.0}
        assert result["not finite"] == "inf"
        assert result["broadcast"] == [0, "from 0"]
        assert "the tokenizer's digest differs between processes" in result["differs"]
        assert 'on rank 1, but "abc" on rank 0' in result["differs"]


CASES = ("mixed", "first only", "twice")


def _expected_gradients() -> list[Any]:
    """One backward pass over all rows, in this process."""
    space: dict[str, Any] = {}
    exec(MODEL, space)
    model = space["Two"]()
    (sum(model(name, x) for name, x in space["micro_batches"]()) / 8).backward()
    return list(space["gradients"](model, model.parameters()))


def _assert_close(gradients: list[Any], expected: list[Any]) -> None:
    assert expected[-1] is None  # the head that is never used
    for ours, reference in zip(gradients, expected, strict=True):
        if reference is None:
            assert ours is None
        else:
            assert np.allclose(ours, reference, rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_one_process(two: list[dict[str, Any]], case: str) -> None:
    for result in two:
        _assert_close(result[case], _expected_gradients())
    assert two[0][case] == two[1][case]


def test_an_overflow_on_one_rank_is_skipped_on_both(two: list[dict[str, Any]]) -> None:
    one, other = two
    assert one["weights"] == other["weights"]
    assert one["scales"] == other["scales"]
    first, second, third = one["weights"]
    assert first == second != third
    assert [scale["scale"] for scale in one["scales"]] == [2.0**16, 2.0**15, 2.0**15]
    assert [scale["skipped"] for scale in one["scales"]] == [0, 1, 1]


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Parallel:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    return Parallel.start("cpu")


def test_a_single_process_needs_no_group(alone: Parallel) -> None:
    assert alone == Parallel(torch.device("cpu"))
    assert not alone.is_wrapped
    assert alone.is_main
    assert alone.sum_counts([1, 2]) == [1, 2]
    assert alone.begin_sum([1, 2])() == [1, 2]
    assert dict(alone.sum_scores({"a": 0.5})) == {"a": 0.5}
    assert alone.broadcast("x") == "x"
    assert alone.gather(3) == [3]
    alone.same_on_all("x", 1)
    alone.close()


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_shares_part_the_group(world: int) -> None:
    group = [f"micro-batch {k}" for k in range(8)]
    shares = [Parallel(torch.device("cpu"), world, rank).share(group) for rank in range(world)]
    assert {len(share) for share in shares} == {8 // world}
    assert [micro for step in zip(*shares, strict=True) for micro in step] == [
        (each, True) for each in group
    ]


@pytest.mark.parametrize(
    ("size", "world", "idle"), [(8, 6, 4 / 12), (64, 6, 2 / 66), (1, 4, 3 / 4), (6, 3, 0)]
)
def test_a_rank_without_a_micro_batch_repeats_the_last(size: int, world: int, idle: float) -> None:
    """The idle shares of 8 and 64 micro-batches on 6 processes: 33 % and 3 %."""
    ranks = [Parallel(torch.device("cpu"), world, rank) for rank in range(world)]
    shares = [rank.share(range(size)) for rank in ranks]
    assert len({len(share) for share in shares}) == 1
    counting = sorted(each for share in shares for each, counts in share if counts)
    repeated = {each for share in shares for each, counts in share if not counts}
    assert counting == list(range(size)) and repeated <= {size - 1}
    found = sum(not counts for share in shares for _, counts in share)
    assert found / sum(map(len, shares)) == pytest.approx(idle)
    assert ranks[0].idle_share(size) == pytest.approx(idle)


def test_an_incomplete_environment(monkeypatch: pytest.MonkeyPatch, alone: Parallel) -> None:
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(ConfigError, match="RANK set but LOCAL_RANK, MASTER_ADDR"):
        Parallel.start("cpu")


def _check_one_process(result: dict[str, Any]) -> None:
    assert result["wrapped"]
    assert result["counts"] == [1, 2**40, 0]
    assert "differs" not in result
    expected = _expected_gradients()
    for case in CASES:
        _assert_close(result[case], expected)


def test_torchrun_with_one_process() -> None:
    (result,) = launch(SCRIPT.replace("DEVICE", "cpu"), 1)
    _check_one_process(result)


@pytest.mark.gpu
def test_torchrun_with_one_process_on_nccl() -> None:
    (result,) = launch(SCRIPT.replace("DEVICE", "cuda"), 1)
    _check_one_process(result)

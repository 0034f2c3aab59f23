"""Sharded over processes, a run is as on one: losses, weights, checkpoints of any layout."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.distributed.pool import Pool
from tests.training import tiny
from xlm.errors import ConfigError
from xlm.run.config import Run
from xlm.run.language_tables import LanguageTable
from xlm.training import checkpoint
from xlm.training.learner import check_alike
from xlm.training.optimizers.config import Optimizer

FULL: dict[str, Any] = {"sharding": "full"}


def train(
    pool: Pool, folder: Path, world: int, *, job: str = "layout", **settings: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The weights at the end and the losses of each step; every rank has the same weights."""
    if job == "layout":
        settings = {"objectives": "mlm+tlm", **settings}
    digests = pool.run(job, world, folder=str(folder), **settings)
    weights = load_file(folder / "weights.safetensors")
    assert digests == [tiny.digest(weights)] * world
    return weights, [line["loss"] for _, line in sorted(tiny.journal(folder).items())]


def same(found: list[dict[str, float]], expected: list[dict[str, float]], rel: float) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=rel)


@pytest.mark.parametrize(
    ("objectives", "world", "optimizer"),
    [
        ("two heads", 3, {"kind": "adamw", "max_grad_norm": 1.0}),
        ("translation", 2, {"kind": "xlm-adam", "weight_decay": 0.01, "max_grad_norm": 1.0}),
        ("back-translation", 2, {"kind": "adam", "max_grad_norm": 0.0}),
        ("two heads", 3, {"kind": "muon", "weight_decay": 0.1}),
        ("translation", 3, {"kind": "lamb", "weight_decay": 0.01}),
    ],
)
def test_sharded_is_whole(
    pool: Pool, tmp_path: Path, objectives: str, world: int, optimizer: dict[str, Any]
) -> None:
    """Four objectives with two heads, both sides of a translator, and one that generates.

    On three processes tables have unequal numbers of rows, and single rows are nowhere but on one.
    """
    settings = {
        "objectives": objectives, "dtype": "float64", "optimizer": optimizer, "steps": 3,
        "average": 0.9, "evaluate_every": 3,
    }  # fmt: skip
    expected, losses = train(pool, tmp_path / "one", 1, **settings)
    found, others = train(pool, tmp_path / "sharded", world, **settings, **FULL)
    same(others, losses, 1e-12)
    assert found.keys() == expected.keys()
    # LAMB divides by norms, which magnifies the last digits of small updates
    most = 1e-9 if optimizer["kind"] == "lamb" else 1e-10
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=most)
    figures = [tiny.journal(tmp_path / name, "valid")[3] for name in ("one", "sharded")]
    streams = [stream for stream, own in figures[0].items() if isinstance(own, dict)]
    assert len(streams) >= 2
    for stream in streams:
        assert figures[1][stream] == pytest.approx(figures[0][stream], rel=1e-10)


@pytest.mark.parametrize(("world", "average"), [(1, 0.0), (2, 0.9)])
def test_activations_may_be_recomputed(
    pool: Pool, tmp_path: Path, world: int, average: float
) -> None:
    """Of encoder, decoder and a head, with dropout: the same draws again."""
    found = []
    for name, recompute in (("kept", False), ("again", True)):
        settings = {"recompute_activations": recompute, "steps": 3, "average": average, **FULL}
        weights, losses = train(pool, tmp_path / name, world, job="recomputed", **settings)
        found.append((weights, losses, int((tmp_path / name / "calls").read_text())))
    (expected, losses, num_calls), (weights, others, num_again) = found
    assert num_again > 1.5 * num_calls  # evaluations and probes keep nothing
    same(others, losses, 1e-12)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-12)


@pytest.mark.parametrize("sharding", [{}, FULL])
def test_gradients_may_be_summed_in_half_precision(
    pool: Pool, tmp_path: Path, sharding: dict[str, Any]
) -> None:
    """Near the sums in float32, and not equal to them: bf16 keeps eight significant bits."""
    settings = {"steps": 3, "optimizer": {"kind": "adamw", "max_grad_norm": 1.0}, **sharding}
    _, losses = train(pool, tmp_path / "fp32", 2, **settings)
    _, found = train(pool, tmp_path / "bf16", 2, gradient_sums="bf16", **settings)
    same(found, losses, 1e-2)
    norms = [
        [line["grad_norm"] for _, line in sorted(tiny.journal(tmp_path / name).items())]
        for name in ("fp32", "bf16")
    ]
    assert norms[1] == pytest.approx(norms[0], rel=2e-2)
    assert norms[1][0] != norms[0][0]


@pytest.mark.parametrize(("hosts", "sharding"), [(1, "full"), (2, "hybrid")])
def test_a_rank_holds_its_part(pool: Pool, tmp_path: Path, hosts: int, sharding: str) -> None:
    """Of parameters and of both moments; a machine of a hybrid run holds the whole model."""
    world = 2 * hosts
    settings = {"dtype": "float64", "steps": 2}
    ranks = pool.run(
        "sharded_memory", world, folder=str(tmp_path), hosts=hosts, sharding=sharding, **settings
    )
    (whole,) = {rank["whole"] for rank in ranks}
    assert sum(rank["own"] for rank in ranks) == hosts * whole
    assert all(rank["own"] == pytest.approx(whole / 2, rel=0.1) for rank in ranks)
    assert all(rank["moments"] == 2 * rank["own"] for rank in ranks)
    expected, _ = train(pool, tmp_path / "one", 1, **settings)
    for name, tensor in load_file(tmp_path / "weights.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)
    saved = checkpoint.load(tmp_path / "checkpoints/step-00000002")
    assert saved.pieces["model"] == [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    assert saved.tensors("model").keys() == expected.keys()


def test_each_step_in_another_layout(pool: Pool, tmp_path: Path) -> None:
    """One process, two sharded, three sharded, two with all of it, and one again."""
    settings = {"objectives": "translation", "average": 0.9}
    _, losses = train(pool, tmp_path / "whole", 1, **settings, steps=5)
    layouts: list[tuple[int, dict[str, Any]]] = [(1, {}), (2, FULL), (3, FULL), (2, {}), (1, {})]
    for step, (world, sharding) in enumerate(layouts, 1):
        _, found = train(pool, tmp_path / "moved", world, **settings, **sharding, steps=step)
        same(found, losses[:step], 1e-6)
        loaded = checkpoint.load(tmp_path / f"moved/checkpoints/step-0000000{step}")
        assert len(loaded.pieces.get("optimizer", [1])) == (world if sharding else 1)


@pytest.mark.parametrize("kind", ["muon", "lamb"])
def test_steps_of_whole_matrices_in_other_layouts(pool: Pool, tmp_path: Path, kind: str) -> None:
    """One process, two sharded, and one again.

    With decay: the gradient of a key's bias is 0, and LAMB would make its rounding the step.
    """
    settings = {"optimizer": {"kind": kind, "weight_decay": 0.1}, "dtype": "float64"}
    expected, losses = train(pool, tmp_path / "whole", 1, **settings, steps=3)
    layouts: list[tuple[int, dict[str, Any]]] = [(1, {}), (2, FULL), (1, {})]
    for step, (world, sharding) in enumerate(layouts, 1):
        weights, found = train(pool, tmp_path / "moved", world, **settings, **sharding, steps=step)
        same(found, losses[:step], 1e-12)
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)


def test_a_resumed_run_is_the_same_bit_for_bit_though_a_piece_is_gone(
    pool: Pool, tmp_path: Path
) -> None:
    """The newest checkpoint lacks a piece: the one before is taken. Written in the background."""
    settings = {**FULL, "average": 0.9, "dropout": 0.1, "save_every": 1, "keep_last": 9}
    expected, losses = train(pool, tmp_path / "whole", 2, **settings, steps=4)
    train(pool, tmp_path / "cut", 2, **settings, steps=3, save_in_background=True)
    for step in (1, 2, 3):
        one, other = (
            checkpoint.load(tmp_path / name / f"checkpoints/step-0000000{step}")
            for name in ("whole", "cut")
        )
        for group in ("model", "optimizer", "averaged"):
            assert tiny.digest(one.tensors(group)) == tiny.digest(other.tensors(group))
    newest = tmp_path / "cut/checkpoints/step-00000003"
    (newest / "optimizer-00002-of-00002.safetensors").unlink()
    found, others = train(pool, tmp_path / "cut", 2, **settings, steps=4)
    assert others == losses
    assert tiny.digest(found) == tiny.digest(expected)
    assert checkpoint.load(newest).step == 3
    assert not list(newest.parent.glob(".*"))
    shutil.rmtree(newest)


def test_half_precision(pool: Pool, tmp_path: Path) -> None:
    """Weights are gathered in bfloat16, gradients summed in float32."""
    settings = {"precision": "bf16", "steps": 3}
    _, losses = train(pool, tmp_path / "all", 2, **settings)
    weights, found = train(pool, tmp_path / "sharded", 2, **settings, **FULL)
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}
    same(found, losses, 5e-3)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        *(
            ({"optimizer": Optimizer(kind=kind)}, f"with optimizer.kind {kind}.*choose one of adam")
            for kind in ("adafactor", "lingvo-adafactor")
        ),
        ({"precision": "fp16"}, "with precision fp16.* choose bf16 or fp32"),
        ({"forget_every": 5}, "with forget_every.* leave one of the two out"),
        ({"tables": {"ne": LanguageTable(data="x")}}, "with tables.* leave one of the two out"),
    ],
)
def test_runs_that_cannot_be_sharded_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=f"sharding full {words}") as caught:
        tiny.recipe("", sharding="full", **changes)
    assert "\n" not in str(caught.value)
    assert isinstance(tiny.recipe("", **changes), Run)


def test_streams_that_train_different_parameters_are_refused() -> None:
    check_alike({"mlm": [{"a", "b"}, {"a", "b"}], "mt": [{"c"}]})
    with pytest.raises(ConfigError, match=r"objectives\.mlm train different .* such as b,"):
        check_alike({"mlm": [{"a", "b"}, {"a"}]})


@pytest.mark.parametrize(("job", "sharded"), [("compiled", {"compile": True}), ("started", {})])
def test_together_with_other_settings(
    pool: Pool, tmp_path: Path, job: str, sharded: dict[str, Any]
) -> None:
    """Layers that are compiled, next to one process whose layers are not; weights of a model."""
    settings = {"job": job, "dtype": "float64", "average": 0.9, "steps": 2}
    expected, losses = train(pool, tmp_path / "one", 1, **settings)
    found, others = train(pool, tmp_path / "sharded", 2, **settings, **FULL, **sharded)
    same(others, losses, 1e-12)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)
    journal = (tmp_path / "sharded/metrics.jsonl").read_text(encoding="utf-8")
    assert ('"initialized"' in journal) == (job == "started")

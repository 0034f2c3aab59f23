"""One plan, any layout: 1, 2 and 4 processes train the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from tests.distributed.jobs import OBJECTIVES, planned
from tests.distributed.pool import Pool
from tests.training import tiny
from xlm.batch import Batch
from xlm.model.transformer import Transformer
from xlm.run import build as building
from xlm.run.config import ModelConfig
from xlm.training.distributed.processes import Parallel
from xlm.training.prefetch import MicroBatch, Prefetcher

WORLDS = (1, 2, 4)


def _train(
    pool: Pool, folder: Path, world: int, **arguments: Any
) -> tuple[dict[str, Tensor], list[dict[str, float]]]:
    """The weights after 5 updates, and the loss of each objective in each."""
    folder = folder / f"{world}"
    digests = pool.run("layout", world, folder=str(folder), **arguments)
    weights = load_file(folder / "weights.safetensors")
    assert digests == [tiny.digest(weights)] * world  # every rank has the same, bit for bit
    return weights, [line["loss"] for _, line in sorted(tiny.journal(folder).items())]


@pytest.mark.parametrize(
    ("objectives", "order"),
    [
        ("two heads", "together"),
        ("two heads", "rotate"),
        ("translation", "together"),
        ("translation", "rotate"),
        ("back-translation", "together"),
        ("next sentence", "together"),
    ],
)
def test_parameters_do_not_depend_on_the_number_of_processes(
    pool: Pool, tmp_path: Path, objectives: str, order: str
) -> None:
    """Four objectives and two heads, an encoder-decoder whose parts are used in turn, one that
    learns from what it writes, and one whose loss has two counts."""
    arguments = {"objectives": objectives, "order": order, "dtype": "float64"}
    expected, losses = _train(pool, tmp_path, 1, **arguments)
    assert len(losses) == 5
    start = building.build_learner(
        tiny.recipe("", objectives=OBJECTIVES[objectives], model=_model(objectives)),
        tiny.corpora(),
    ).state_dict()
    heads = {name.split(".")[1] for name in expected if name.startswith("heads.")}
    named = {"two heads": {"nli", "ranked"}, "next sentence": {"nsp"}}
    assert heads == named.get(objectives, set())
    for name, tensor in expected.items():
        assert not torch.allclose(tensor.float(), start[name], atol=1e-4), name
    for world in WORLDS[1:]:
        found, other_losses = _train(pool, tmp_path, world, **arguments)
        assert found.keys() == expected.keys()
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)
        for one, other in zip(losses, other_losses, strict=True):
            assert other == pytest.approx(one, rel=1e-12)


def _model(objectives: str) -> ModelConfig:
    return tiny.model(num_decoder_layers=1) if "translation" in objectives else tiny.model()


def test_dropout_does_not_depend_on_the_number_of_processes(pool: Pool, tmp_path: Path) -> None:
    """It is drawn by the place of the micro-batch in the step."""
    arguments = {"objectives": "mlm+tlm", "order": "together", "dtype": "float64"}
    without, _ = _train(pool, tmp_path / "without", 1, **arguments)
    expected, _ = _train(pool, tmp_path / "with", 1, **arguments, dropout=0.1)
    found, _ = _train(pool, tmp_path / "with", 2, **arguments, dropout=0.1)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)
    assert not torch.allclose(
        without["model.encoder.words.weight"], expected["model.encoder.words.weight"]
    )


@pytest.mark.parametrize("kind", ["muon", "lamb", "xlm-adam", "lingvo-adafactor"])
def test_optimizers_do_not_depend_on_the_number_of_processes(
    pool: Pool, tmp_path: Path, kind: str
) -> None:
    """An encoder-decoder, so that every kind of fused matrix is there."""
    optimizer = {"kind": kind, "weight_decay": 0.01, "max_grad_norm": 1.0}
    arguments = {"objectives": "translation", "order": "together", "dtype": "float64"}
    # Lingvo's Adafactor computes in float32 whatever the weights are; LAMB divides by norms, which
    # magnifies the last digits of small updates
    tolerance = {"lingvo-adafactor": 1e-5, "lamb": 1e-9}.get(kind, 1e-10)
    expected, _ = _train(pool, tmp_path, 1, **arguments, optimizer=optimizer)
    plain, _ = _train(pool, tmp_path / "plain", 1, **arguments)
    for world in WORLDS[1:]:
        found, _ = _train(pool, tmp_path, world, **arguments, optimizer=optimizer)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=tolerance)
    name = "model.decoder.layers.0.cross_attention.key_value.weight"
    assert not torch.allclose(plain[name], expected[name])


@pytest.mark.parametrize("order", ["together", "rotate"])
def test_a_table_of_both_sides_does_not_depend_on_the_number_of_processes(
    pool: Pool, tmp_path: Path, order: str
) -> None:
    """MLM reaches the table through the encoder alone, translation through both sides."""
    arguments = {"objectives": "translation", "order": order, "dtype": "float64"}
    expected, _ = _train(pool, tmp_path, 1, **arguments, shared_words=True)
    apart, _ = _train(pool, tmp_path / "apart", 1, **arguments)
    assert apart.keys() - expected.keys() == {"model.decoder.words.weight"}
    found, _ = _train(pool, tmp_path, 2, **arguments, shared_words=True)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)


def test_two_vocabularies_do_not_depend_on_the_number_of_processes(
    pool: Pool, tmp_path: Path
) -> None:
    """An update holds groups of either table, and the ranks' micro-batches are of one each."""
    arguments = {"objectives": "two tables", "order": "together", "dtype": "float64"}
    expected, losses = _train(pool, tmp_path, 1, **arguments)
    assert "model.encoder.tables.ne.positions.weight" in expected
    assert not expected["model.encoder.tables.ne.words.weight"][[1, 2, 3, 5]].any()
    for world in WORLDS[1:]:
        found, other_losses = _train(pool, tmp_path, world, **arguments)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)
        for one, other in zip(losses, other_losses, strict=True):
            assert other == pytest.approx(one, rel=1e-12)


def test_losses_in_single_precision(pool: Pool, tmp_path: Path) -> None:
    arguments = {"objectives": "two heads", "order": "together", "dtype": "float32"}
    _, expected = _train(pool, tmp_path, 1, **arguments)
    for world in WORLDS[1:]:
        _, found = _train(pool, tmp_path, world, **arguments)
        for one, other in zip(expected, found, strict=True):
            assert other == pytest.approx(one, rel=1e-5)


# The same gradient by hand: all rows of an update in one piece.


def _joined(batches: list[Batch]) -> Batch:
    """The rows of several batches as one, padded to the longest."""
    width = max(batch.tokens.shape[1] for batch in batches)
    grids: dict[str, list[Tensor]] = {"tokens": [], "positions": [], "langs": [], "segments": []}
    predict, offset = [], 0
    for batch in batches:
        num, length = batch.tokens.shape
        for name, grid in grids.items():
            grid.append(F.pad(getattr(batch, name), (0, width - length)))
        row, column = batch.predict // length, batch.predict % length
        is_row_task = len(batch.targets) == num and batch.predict.tolist() == list(range(num))
        predict.append(batch.predict + offset if is_row_task else (row + offset) * width + column)
        offset += num
    return Batch(
        **{name: torch.cat(grid) for name, grid in grids.items()},
        lengths=torch.cat([batch.lengths for batch in batches]),
        rows=torch.cat([batch.rows for batch in batches]),
        predict=torch.cat(predict),
        targets=torch.cat([batch.targets for batch in batches]),
    )


def _mean_loss(name: str, model: Transformer, heads: torch.nn.ModuleDict, batch: Batch) -> Tensor:
    """The mean over targets, by plain means."""
    hidden = model.encode(batch.tokens, batch.lengths, batch.positions, batch.langs)
    real = batch.targets >= 0
    targets = batch.targets[real]
    if name == "nli":
        return F.cross_entropy(heads["nli"].output(hidden[:, 0]), targets)
    width = batch.tokens.shape[1]
    cells = batch.predict[real]
    chosen = hidden[cells // width, cells % width]
    logits = chosen @ model.encoder.words.weight.T + model.encoder.output_bias
    loss = -logits.log_softmax(-1)[torch.arange(len(targets)), targets].sum()
    if name == "ranked":
        masks = torch.tensor([min(row.count(5), 3) for row in batch.tokens.tolist()])
        loss = loss - heads["ranked"](hidden[:, 0]).log_softmax(-1)[range(len(masks)), masks].sum()
    return loss / len(targets)


def _by_hand(order: str) -> dict[str, Tensor]:
    run = tiny.recipe("", objectives=OBJECTIVES["two heads"], order=order, dtype="float64")
    learner = building.build_learner(run, tiny.corpora())
    by_objective: dict[str, list[Batch]] = {}
    for micro_batch in _first_step(order):
        by_objective.setdefault(micro_batch.objective, []).append(micro_batch.batch)
    total = sum(
        _mean_loss(name, learner.model, learner.heads, _joined(batches))
        for name, batches in by_objective.items()
    )
    assert isinstance(total, Tensor)
    total.backward()
    return {
        name: torch.zeros_like(p) if p.grad is None else p.grad
        for name, p in learner.named_parameters()
    }


def _first_step(order: str) -> list[MicroBatch]:
    run = tiny.recipe("", objectives=OBJECTIVES["two heads"], order=order)
    mixture = building.build_mixture(run, building.training_streams(run, tiny.corpora()))
    prefetcher = Prefetcher(
        mixture, run.objectives, Parallel(torch.device("cpu")), seed=run.seed, first=0, cursors={}
    )
    try:
        return prefetcher.next().micro_batches
    finally:
        prefetcher.close()


@pytest.mark.parametrize("order", ["together", "rotate"])
def test_the_gradient_is_that_of_all_rows_in_one_piece(
    pool: Pool, tmp_path: Path, order: str
) -> None:
    step = _first_step(order)
    assert len(step) == 4 * (4 if order == "together" else 1)
    assert [len(micro_batch.batch.rows) for micro_batch in step[:4]] == [8] * 4
    expected = _by_hand(order)
    for world in WORLDS:
        (tmp_path / f"{world}").mkdir()
        pool.run(
            "gradient",
            world,
            folder=str(tmp_path / f"{world}"),
            objectives="two heads",
            order=order,
        )
        found = load_file(tmp_path / f"{world}" / "gradient.safetensors")
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-10)
    assert all(
        float(g.abs().max()) > 1e-6 for n, g in expected.items() if n.endswith("words.weight")
    )


# Order.


@pytest.mark.parametrize("order", ["together", "rotate"])
def test_examples_and_masks_of_200_steps(pool: Pool, order: str) -> None:
    run = tiny.recipe("", objectives=OBJECTIVES["language models"], order=order)
    expected = planned(run, Parallel(torch.device("cpu")), 200)
    assert len(expected) == 200 * 4 * (3 if order == "together" else 1)
    assert len(set(expected.values())) == len(expected) - _repeats(expected)
    for world in WORLDS[1:]:
        shares = pool.run(
            "batches", world, objectives="language models", order=order, num_steps=200
        )
        assert [len(share) for share in shares] == [len(expected) // world] * world
        assert {k: v for share in shares for k, v in share.items()} == expected


def _repeats(found: dict[str, str]) -> int:
    """CLM batches have no masks: the only ones that may come again, in another epoch."""
    clm = [value for value in found.values() if value.startswith("clm/")]
    return len(clm) - len(set(clm))


@pytest.mark.parametrize(
    ("objectives", "group_size", "worlds"),
    [("two heads", 4, (3,)), ("translation", 2, (3, 4)), ("back-translation", 4, (3,))],
)
def test_numbers_of_processes_that_do_not_divide_the_group(
    pool: Pool, tmp_path: Path, objectives: str, group_size: int, worlds: tuple[int, ...]
) -> None:
    """A rank without a micro-batch repeats another's, which changes nothing; 4 on 2 have none."""
    arguments = {"objectives": objectives, "order": "together", "dtype": "float64",
                 "group_size": group_size, "average": 0.5}  # fmt: skip
    expected, losses = _train(pool, tmp_path, 1, **arguments)
    for world in worlds:
        found, other_losses = _train(pool, tmp_path, world, **arguments)
        for name, tensor in found.items():
            torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)
        for one, other in zip(losses, other_losses, strict=True):
            assert other == pytest.approx(one, rel=1e-12)
        shares = [tiny.journal(tmp_path / f"{each}", "end")[5]["shares"] for each in (1, world)]
        assert shares[0] == shares[1]


def test_a_loss_that_is_not_finite_is_skipped_by_three_processes(
    pool: Pool, tmp_path: Path
) -> None:
    """Micro-batch 3 of 4 is the one that is repeated: 0 times its loss is no number either."""
    at = [[1, 3]]
    found = {
        world: pool.run(
            "overflow", world, folder=str(tmp_path / f"{world}"), precision="fp32", at=at, steps=3
        )
        for world in (1, 3)
    }
    for ranks in found.values():
        assert [skipped for skipped, _ in ranks[0]["reports"]] == [0, 1, 1]


# Evaluation.


def test_evaluation_is_alike_on_any_number_of_processes(pool: Pool) -> None:
    """5 batches of masked text, some of which only one of four ranks has."""
    (expected,) = pool.run("evaluated", 1, objectives="two heads", dtype="float64")
    assert {"mlm/en", "mlm/hi", "tlm/en-hi", "nli/en", "ranked/en"} <= set(expected)
    for world in WORLDS[1:]:
        ranks = pool.run("evaluated", world, objectives="two heads", dtype="float64")
        assert ranks == [ranks[0]] * world
        for stream, figures in expected.items():
            assert ranks[0][stream] == pytest.approx(figures, rel=1e-12)


def test_watched_pairs_are_alike_on_any_number_of_processes(pool: Pool, tmp_path: Path) -> None:
    (expected,) = pool.run("watched", 1, folder=str(tmp_path / "1"), dtype="float64")
    assert {"retrieval_at_1", "gap_nats", "gap_accuracy"} <= set(expected)
    ranks = pool.run("watched", 2, folder=str(tmp_path / "2"), dtype="float64")
    assert ranks == [ranks[0]] * 2
    assert ranks[0] == pytest.approx(expected, rel=1e-6)

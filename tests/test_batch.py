import dataclasses
import math

import pytest
import torch

from xlm.batch import IGNORED, Batch, Loss


def batch(targets, lengths=(3, 2), **more):
    shape = (len(lengths), max(lengths))
    cells = {name: torch.zeros(shape, dtype=torch.int64) for name in ("tokens", "positions")}
    return Batch(
        **cells,
        langs=torch.zeros(shape, dtype=torch.int64),
        segments=torch.zeros(shape, dtype=torch.int64),
        lengths=torch.tensor(lengths),
        rows=torch.arange(len(lengths)),
        predict=torch.arange(len(targets)),
        targets=targets,
        **more,
    )


@pytest.mark.parametrize(
    ("targets", "count"),
    [
        (torch.tensor([4, IGNORED, 0, IGNORED]), 2),
        (torch.tensor([], dtype=torch.int64), 0),
        (torch.tensor([0.5, math.nan, -100.0]), 2),  # a number of -100 is a target
        (torch.tensor([[1, 2], [IGNORED, IGNORED], [3, IGNORED]]), 2),
        (torch.tensor([[math.nan, math.nan], [0.0, math.nan]]), 1),
    ],
)
def test_targets_that_only_fill_are_not_counted(targets, count):
    assert batch(targets).count == count


def test_tokens_of_the_source_count_as_work():
    source = batch(torch.tensor([], dtype=torch.int64), lengths=(5, 1, 4))
    assert source.num_tokens == 10
    assert batch(torch.tensor([1]), source=source).num_tokens == 15


def test_a_batch_cannot_be_changed():
    made = batch(torch.tensor([1]))
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.count = 2
    assert not hasattr(made, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        Loss(torch.zeros(()), 1).count = 2


def test_every_tensor_is_moved_and_no_number_is_read_again():
    source = batch(torch.tensor([], dtype=torch.int64), lengths=(5, 1))
    made = dataclasses.replace(batch(torch.tensor([1, 2]), source=source), count=7, num_tokens=9)
    moved = made.to("meta")
    tensors = [getattr(b, f.name) for b in (moved, moved.source) for f in dataclasses.fields(b)]
    assert {t.device.type for t in tensors if isinstance(t, torch.Tensor)} == {"meta"}
    assert (moved.count, moved.num_tokens, moved.source.num_tokens) == (7, 9, 6)
    assert made.tokens.device.type == "cpu"


@pytest.mark.gpu
def test_a_batch_is_pinned_with_its_source():
    pinned = batch(torch.tensor([1]), source=batch(torch.tensor([2]))).pin_memory()
    assert pinned.tokens.is_pinned() and pinned.source.targets.is_pinned()
    assert pinned.to("cuda").source.tokens.is_cuda

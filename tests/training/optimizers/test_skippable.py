"""The base of the package's optimizers: state, and values that are not taken over."""

import pytest
import torch
from torch import nn

from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.skippable import ADAM_STATE, SkippableOptimizer
from xlm.training.optimizers.step import guarded_step, set_lr


def test_state_is_zero_before_the_first_update_and_kept_after_it() -> None:
    p = nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    optimizer = SkippableOptimizer([p], {})
    step, first, second = (own[0] for own in optimizer.load_state([p], ADAM_STATE))
    assert (step.shape, step.dtype, float(step)) == ((), torch.float32, 0.0)
    for moment in (first, second):
        assert (moment.shape, moment.dtype) == (p.shape, p.dtype) and not moment.any()
    step.fill_(4)
    assert optimizer.load_state([p], ADAM_STATE)[0][0] == 4


@pytest.mark.parametrize("flag", [None, 0.0, 1.0])
def test_values_are_assigned_unless_the_update_is_skipped(flag: float | None) -> None:
    p = nn.Parameter(torch.tensor([-0.0, 1.0]))
    optimizer = SkippableOptimizer([p], {})
    optimizer.found_inf = None if flag is None else torch.tensor(flag)
    with torch.no_grad():
        optimizer.assign([p], [torch.tensor([float("nan"), 2.0])])
    if flag == 1:
        assert torch.signbit(p).tolist() == [True, False] and p.tolist() == [0.0, 1.0]
    else:
        assert p[0].isnan() and p[1] == 2


def test_the_base_alone_updates_nothing() -> None:
    p = nn.Parameter(torch.ones(1))
    p.grad = torch.ones(1)
    with pytest.raises(NotImplementedError):
        SkippableOptimizer([p], {}).step()


@pytest.mark.gpu
def test_an_update_does_not_wait_for_the_device() -> None:
    for kind in ("muon", "lamb", "xlm-adam", "lingvo-adafactor"):
        p = nn.Parameter(torch.ones(8, 8, device="cuda"))
        named = [("layers.0.a", p), ("b", nn.Parameter(torch.ones(3, device="cuda")))]
        config = Optimizer(kind=kind, weight_decay=0.1)
        optimizer = build_optimizer(config, named, peak_lr=0.1)
        set_lr(optimizer, 0.1)
        found_inf = torch.zeros((), device="cuda")
        for step in range(4):
            for _, each in named:
                each.grad = torch.full_like(each, float("nan") if step == 2 else 1.0)
            torch.cuda.set_sync_debug_mode("error")
            try:
                guarded_step(optimizer, found_inf + float(step == 2))
            finally:
                torch.cuda.set_sync_debug_mode("default")
        assert p.isfinite().all() and not torch.equal(p.detach().cpu(), torch.ones(8, 8))

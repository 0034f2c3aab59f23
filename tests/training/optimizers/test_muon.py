"""Muon against torch's own, the matrices it takes, their rate, and fused matrices in parts."""

import pytest
import torch
from torch import Tensor, nn

from tests.training import tiny
from xlm.errors import ConfigError
from xlm.run import build as building
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.muon import Muon, orthogonalize
from xlm.training.optimizers.step import guarded_step, set_lr

SHAPES = [(32, 32), (96, 32), (32, 80), (32, 32), (7, 5), (1, 9)]
needs_torchs = pytest.mark.skipif(
    not hasattr(torch.optim, "Muon"), reason="this version of torch has no Muon to compare with"
)


def _matrices(shapes: list[tuple[int, int]]) -> list[nn.Parameter]:
    torch.manual_seed(0)
    return [nn.Parameter(0.1 * torch.randn(shape)) for shape in shapes]


def _set_gradients(step: int, ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> None:
    torch.manual_seed(100 + step)
    for p, other in zip(ours, theirs, strict=True):
        p.grad = torch.randn_like(p)
        other.grad = p.grad.clone()


@needs_torchs
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twenty_updates_are_torchs(decay: float) -> None:
    ours, theirs = _matrices(SHAPES), _matrices(SHAPES)
    optimizer = Muon(ours, weight_decay=decay)
    other = torch.optim.Muon(theirs, weight_decay=decay, momentum=0.95)
    for step in range(20):
        _set_gradients(step, ours, theirs)
        for each in (optimizer, other):
            set_lr(each, 0.02 * (1 + step % 3))
        guarded_step(optimizer, torch.tensor(0.0))
        guarded_step(optimizer, torch.tensor(1.0))
        other.step()
    for p, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(p, expected, rtol=0, atol=1e-6)


@needs_torchs
@pytest.mark.parametrize("num_parts", [2, 3])
def test_matrices_one_above_the_other_are_torchs_one_by_one(num_parts: int) -> None:
    (whole,) = _matrices([(num_parts * 16, 12)])
    parts = [nn.Parameter(part.clone()) for part in whole.detach().chunk(num_parts)]
    optimizer = Muon([whole], lr=0.02, parts=num_parts)
    other = torch.optim.Muon(parts, lr=0.02, weight_decay=0.0, momentum=0.95)
    for step in range(20):
        _set_gradients(step, [whole], [whole])
        for part, gradient in zip(parts, whole.grad.chunk(num_parts), strict=True):
            part.grad = gradient.clone()
        optimizer.step()
        other.step()
    torch.testing.assert_close(whole, torch.cat(parts), rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(24, 24), (48, 24), (24, 48)])
def test_singular_values_come_near_1(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(3, *shape), full_matrices=False)
    matrices = 100 * left * torch.linspace(0.1, 1, 24) @ right
    found = orthogonalize(matrices).float()
    values = torch.linalg.svdvals(found)
    assert 0.6 < values.min() and values.max() < 1.3
    # the singular vectors stay
    turned = left.mT @ found @ right.mT
    assert (turned - turned.diagonal(dim1=1, dim2=2).diag_embed()).abs().max() < 0.05
    assert not orthogonalize(torch.zeros(1, *shape)).any()


def _learner() -> nn.Module:
    run = tiny.recipe(
        "", objectives={"mlm": tiny.MLM, "nli": tiny.NLI},
        model=tiny.model(num_decoder_layers=1, output_transform=True),
    )  # fmt: skip
    return building.build_learner(run, tiny.corpora())


def _by_parts(learner: nn.Module, optimizer: torch.optim.Optimizer) -> dict[int, set[str]]:
    """The parameters of all groups by ``parts``, without the names' beginnings and numbers."""
    names = {p: name for name, p in learner.named_parameters()}
    found: dict[int, set[str]] = {}
    for group in optimizer.param_groups:
        found.setdefault(group["parts"], set()).update(
            names[p].partition("layers.0.")[2] or names[p] for p in group["params"]
        )
    return found


def test_the_matrices_of_the_layers() -> None:
    learner = _learner()
    optimizer = build_optimizer(Optimizer(kind="muon"), learner.named_parameters(), peak_lr=1e-3)
    found = _by_parts(learner, optimizer)
    assert found[3] == {"attention.query_key_value.weight"} | {
        f"model.encoder.layers.1.{name}" for name in ("attention.query_key_value.weight",)
    }
    assert found[2] == {"cross_attention.key_value.weight"}
    assert {name for name in found[1] if "layers" not in name} == {
        "attention.output.weight", "cross_attention.query.weight", "cross_attention.output.weight",
        "feed_forward.expand.weight", "feed_forward.contract.weight",
    }  # fmt: skip
    others = {
        "heads.nli.output.weight", "model.encoder.words.weight", "model.encoder.positions.weight",
        "model.encoder.languages.weight", "model.encoder.output_transform.dense.weight",
        "attention.query_key_value.bias", "attention_norm.weight", "model.decoder.output_bias",
    }  # fmt: skip
    assert others <= found[0]
    trainable = sum(p.requires_grad for p in learner.parameters())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == trainable


def test_frozen_layers_leave_adamw_alone() -> None:
    learner = _learner()
    learner.model.encoder.layers.requires_grad_(False)
    learner.model.decoder.layers.requires_grad_(False)
    config = Optimizer(kind="muon", weight_decay=0.1)
    optimizer = build_optimizer(config, learner.named_parameters(), peak_lr=1e-3)
    assert _by_parts(learner, optimizer).keys() == {0}
    ours = [p for p in learner.parameters() if p.requires_grad]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    other = build_optimizer(
        Optimizer(weight_decay=0.1), [(str(k), p) for k, p in enumerate(theirs)]
    )
    for step in range(3):
        _set_gradients(step, ours, theirs)
        for each in (optimizer, other):
            set_lr(each, 1e-3)
            guarded_step(each, torch.tensor(0.0))
    for p, expected in zip(ours, theirs, strict=True):
        assert torch.equal(p, expected)


def test_both_rates_have_the_schedules_shape() -> None:
    named: list[tuple[str, Tensor]] = [
        ("model.encoder.layers.0.x.weight", nn.Parameter(torch.ones(2, 2))),
        ("model.encoder.words.weight", nn.Parameter(torch.ones(2, 2))),
        ("heads.nli.layers.0.weight", nn.Parameter(torch.ones(2, 2))),
    ]
    config = Optimizer(kind="muon", matrix_lr=0.5, head_rate=10.0)
    optimizer = build_optimizer(config, named, peak_lr=1e-2)
    for share in (0.3, 1.0):
        set_lr(optimizer, share * 1e-2)
        rates = {group["params"][0]: group["lr"] for group in optimizer.param_groups}
        expected = [share * 0.5, share * 1e-2, share * 1e-1]
        assert [rates[p] for _, p in named] == pytest.approx(expected)
    for peak_lr in (None, 0.0):
        with pytest.raises(ConfigError, match=rf"schedule.peak_lr {peak_lr}: .* set peak_lr"):
            build_optimizer(config, named, peak_lr=peak_lr)


@pytest.mark.gpu
def test_an_update_does_not_wait_for_the_device() -> None:
    for kind in ("muon", "lamb", "xlm-adam"):
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

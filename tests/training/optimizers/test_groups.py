"""Which parameters share their settings: heads, norms and biases, matrices and their parts."""

import pytest
import torch
from torch import Tensor, nn

from tests.training import tiny
from xlm.errors import ConfigError
from xlm.run import build as building
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.groups import parameter_groups
from xlm.training.optimizers.step import guarded_step, set_lr


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


def _set_gradients(step: int, ours: list[nn.Parameter], theirs: list[nn.Parameter]) -> None:
    torch.manual_seed(100 + step)
    for p, other in zip(ours, theirs, strict=True):
        p.grad = torch.randn_like(p)
        other.grad = p.grad.clone()


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


def test_rates_by_name() -> None:
    """The first pattern that is found counts, on top of the rates of matrices and heads."""
    named: list[tuple[str, Tensor]] = [
        ("model.encoder.words.weight", nn.Parameter(torch.ones(2, 2))),
        ("model.encoder.layers.0.x.weight", nn.Parameter(torch.ones(2, 2))),
        ("model.encoder.layers.1.x.weight", nn.Parameter(torch.ones(2, 2))),
        ("model.encoder.layers.1.norm.weight", nn.Parameter(torch.ones(2))),
        ("heads.nli.weight", nn.Parameter(torch.ones(2, 2))),
    ]
    rates = {r"words": 0.1, r"layers\.0\.": 0.5, r"layers": 0.25, r"^heads": 2.0}
    for kind, matrix in (("adamw", 1.0), ("muon", 20.0)):
        config = Optimizer(kind=kind, rates=rates, head_rate=3.0)  # type: ignore[arg-type]
        optimizer = build_optimizer(config, named, peak_lr=1e-3)
        set_lr(optimizer, 1e-3)
        found = {p: group["lr"] for group in optimizer.param_groups for p in group["params"]}
        expected = [0.1, 0.5 * matrix, 0.25 * matrix, 0.25, 6.0]
        assert [found[p] for _, p in named] == pytest.approx([1e-3 * rate for rate in expected])
    with pytest.raises(ConfigError, match="rates 'wrods' matches the name of no .*encoder.words"):
        build_optimizer(Optimizer(rates={"wrods": 0.1}), named)


def test_equal_settings_make_one_group() -> None:
    shapes = {"w": (2, 2), "b": (2,), "heads.a.w": (2, 2), "heads.a.b": (2,)}
    named = {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}
    names = {p: name for name, p in named.items()}

    def grouped(**settings: object) -> list[tuple[list[str], float, float]]:
        config = Optimizer(weight_decay=0.1, **settings)
        return [
            ([names[p] for p in group["params"]], group["weight_decay"], group["rate"])
            for group in parameter_groups(config, named, None)
        ]

    assert grouped() == [(["w", "b", "heads.a.w", "heads.a.b"], 0.1, 1.0)]
    assert grouped(decay_norms_and_biases=False) == [
        (["w", "heads.a.w"], 0.1, 1.0),
        (["b", "heads.a.b"], 0.0, 1.0),
    ]
    assert grouped(decay_norms_and_biases=False, head_rate=3.0) == [
        (["w"], 0.1, 1.0),
        (["b"], 0.0, 1.0),
        (["heads.a.w"], 0.1, 3.0),
        (["heads.a.b"], 0.0, 3.0),
    ]

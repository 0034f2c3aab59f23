"""The settings in which a run differs from the one that its folder holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml

from xlm.config.cli import to_yaml
from xlm.data.sampling import Sampling
from xlm.model.config import ModelConfig
from xlm.objectives import CausalLM, MaskedLM
from xlm.run.config import Run, differences

MLM = MaskedLM(languages=["en"])
RUN = Run(data="d", folder="f", model=ModelConfig(preset="tiny"), objectives={"mlm": MLM})


def without(path: str) -> str:
    """The resolved recipe of RUN as it was before a setting existed."""
    tree: Any = yaml.safe_load(to_yaml(RUN))
    *above, name = path.split(".")
    below = tree
    for part in above:
        below = below[part]
    del below[name]
    return yaml.safe_dump(tree)


@pytest.mark.parametrize(
    "path",
    [
        "order", "model.dropout", "optimizer.eps", "objectives.mlm.init_args.mask_rate",
        "objectives.mlm.init_args.sampling.alpha",
    ],
)  # fmt: skip
def test_a_setting_that_is_new_had_its_default(path: str) -> None:
    assert differences(without(path), RUN) == []


@pytest.mark.parametrize(
    ("path", "changed", "expected"),
    [
        ("order", replace(RUN, order="together"), "order together (was rotate)"),
        (
            "model.dropout",
            replace(RUN, model=ModelConfig(preset="tiny", dropout=0.3)),
            "model.dropout 0.3 (was 0.1)",
        ),
        (
            "objectives.mlm.init_args.mask_rate",
            replace(RUN, objectives={"mlm": replace(MLM, mask_rate=0.3)}),
            "objectives.mlm.init_args.mask_rate 0.3 (was 0.15)",
        ),
    ],
)
def test_a_new_setting_with_another_value_is_a_difference(
    path: str, changed: Run, expected: str
) -> None:
    assert differences(without(path), changed) == [expected]


def test_what_the_run_names_itself_has_no_default() -> None:
    saved = to_yaml(RUN)
    both = replace(RUN, objectives={"mlm": MLM, "clm": CausalLM(languages=["en"])})
    found = differences(saved, both)
    assert "objectives.clm.class_path xlm.objectives.causal.CausalLM (was absent)" in found
    sampling = Sampling(rule="shares", shares={"en": 1.0})
    shared = replace(RUN, objectives={"mlm": replace(MLM, sampling=sampling)})
    assert "objectives.mlm.init_args.sampling.shares.en 1.0 (was absent)" in differences(
        saved, shared
    )

"""Settings that moved to a subclass, and the word that took the place of `code`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from xlm.config.class_path import heir, is_moved_default
from xlm.config.cli import parse, read, to_yaml
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.objectives import CausalLM, CausalTLM, MaskedLM, OriginalMaskedLM, Translation
from xlm.run.config import Run, differences, read_run

SHARED = {
    "stream_layout": "paper", "pair_order": "buckets", "longest_side": None,
    "evaluation_layout": None, "evaluation": "whole",
}  # fmt: skip
MOVED: dict[type, dict[str, Any]] = {
    MaskedLM: SHARED
    | {"counts": "corpora", "masks": "exact", "predict_end": True, "random_from_all": False},
    CausalLM: SHARED | {"num_context": 0, "predict_first": True},
    CausalTLM: SHARED | {"num_context": 0},
}
"""The settings that these classes had, and their defaults, which resolved recipes list."""
CLASSES = sorted(MOVED, key=str)


@dataclass(frozen=True, kw_only=True)
class Own(MaskedLM):
    """A user's objective, whose resolved recipes listed what it inherited."""


def run_of(cls: type) -> Run:
    objective = cls(pairs=["en-ne"]) if cls is CausalTLM else cls(languages=["en"])
    model = ModelConfig(preset="tiny")
    return Run(data="d", folder="f", model=model, objectives={"o": objective})


def as_before(run: Run, **changes: Any) -> dict[str, Any]:
    """The resolved recipe of ``run`` as it was written before the settings moved."""
    tree: dict[str, Any] = yaml.safe_load(to_yaml(run))
    cls = type(run.objectives["o"])
    tree["objectives"]["o"]["init_args"] |= MOVED[MaskedLM if cls is Own else cls] | changes
    return tree


def written(tree: Any, folder: Path) -> Path:
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


@pytest.mark.parametrize("cls", [*CLASSES, Own], ids=lambda cls: cls.__name__)
def test_recipes_from_before_are_read_and_differ_in_nothing(cls: type, tmp_path: Path) -> None:
    run = run_of(cls)
    path = written(as_before(run), tmp_path)
    assert read(Run, path) == run
    assert differences(path.read_text(encoding="utf-8"), run) == []
    changed = replace(run, objectives={"o": replace(run.objectives["o"], length=3)})
    assert differences(path.read_text(encoding="utf-8"), changed) == [
        "objectives.o.init_args.length 3 (was 256)"
    ]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_a_short_name_is_enough(cls: type, tmp_path: Path) -> None:
    before = as_before(run_of(cls))
    before["objectives"]["o"]["class_path"] = cls.__name__
    assert read(Run, written(before, tmp_path)) == run_of(cls)


@pytest.mark.parametrize(
    ("cls", "name", "value", "message"),
    [
        (MaskedLM, "masks", "code", "found 'code' \\(now 'original'\\), .* OriginalMaskedLM"),
        (MaskedLM, "pair_order", "code-unsorted", "\\(now 'original-unsorted'\\)"),
        (MaskedLM, "predict_end", False, "class_path: OriginalMaskedLM"),
        (MaskedLM, "longest_side", 100, "found '100', which is a setting of OriginalMaskedLM"),
        (MaskedLM, "tokens", None, "a setting of OriginalMaskedLM"),
        (CausalLM, "predict_first", False, "class_path: OriginalCausalLM"),
        (CausalTLM, "num_context", 5, "class_path: OriginalCausalTLM"),
        (CausalTLM, "predict_first", True, "unknown key 'predict_first'"),
        (MaskedLM, "masks", 7, "unknown key 'masks'"),
        (MaskedLM, "tokens", "many", "expected a whole number, found 'many'"),
    ],
)
def test_other_values_name_the_class_that_has_the_setting(
    cls: type, name: str, value: Any, message: str, tmp_path: Path
) -> None:
    path = written(as_before(run_of(cls), **{name: value}), tmp_path)
    with pytest.raises(ConfigError, match=rf"config.yaml:\d+: objectives\.o\b.*{message}"):
        read(Run, path)


def test_code_is_refused_with_the_new_word(tmp_path: Path) -> None:
    tree = yaml.safe_load(to_yaml(run_of(MaskedLM)))
    with pytest.raises(ConfigError, match="order: .*, found 'code'; write 'original'"):
        read(Run, written(tree | {"order": "code"}, tmp_path))
    tree = yaml.safe_load(to_yaml(run_of(OriginalMaskedLM)))
    tree["objectives"]["o"]["init_args"]["evaluation"] = "code"
    with pytest.raises(ConfigError, match="o.evaluation: .*, found 'code'; write 'original'"):
        read(Run, written(tree, tmp_path))


def test_a_flag_says_only_what_its_class_has(tmp_path: Path) -> None:
    path = written(yaml.safe_load(to_yaml(run_of(MaskedLM))), tmp_path)
    with pytest.raises(ConfigError, match="--objectives.o.masks: no such flag"):
        parse(Run, "pretrain", [f"--config={path}", "--objectives.o.masks=exact"])


def test_the_heir_is_a_class_below() -> None:
    assert heir(MaskedLM, "masks") is heir(Own, "masks") is OriginalMaskedLM
    assert heir(OriginalMaskedLM, "masks") is heir(Translation, "masks") is None
    assert not is_moved_default(OriginalMaskedLM, "masks", "exact")
    assert not is_moved_default(MaskedLM, "predict_end", 1), "1 is no true"


def test_a_run_of_an_older_version_is_read_in_the_words_of_today(tmp_path: Path) -> None:
    """In a run's folder, whose files nobody should edit; the same file as a recipe is refused."""
    own = as_before(run_of(MaskedLM), masks="code", pair_order="code-unsorted", evaluation="code")
    path = written({**own, "order": "code"}, tmp_path)
    with pytest.raises(ConfigError):
        read(Run, path)
    run = read_run(tmp_path)
    objective = run.objectives["o"]
    assert type(objective) is OriginalMaskedLM and run.order == "original"
    assert (objective.masks, objective.pair_order) == ("original", "original-unsorted")
    assert objective.evaluation == "original"
    assert differences(path.read_text(encoding="utf-8"), run) == []
    assert differences(path.read_text(encoding="utf-8"), replace(run, seed=7)) == ["seed 7 (was 0)"]
    path.write_text(path.read_text().replace("\norder: code", "\norder: cod"))
    with pytest.raises(ConfigError, match=rf"^{path}:\d+: order: "):
        read_run(tmp_path)

"""The recipes of MonoTrans say what the paper says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xlm.add_language import AddLanguage
from xlm.config.cli import read
from xlm.objectives import NextSentence
from xlm.prepare import Prepare
from xlm.run.config import Run, read_run

RECIPES = Path(__file__).parents[1] / "recipes" / "monotrans"


@pytest.fixture(scope="module")
def english() -> Run:
    return read_run(RECIPES / "pretrain-en.yaml")


def test_the_text_has_a_vocabulary_of_its_own_and_is_not_normalized() -> None:
    config = read(Prepare, RECIPES / "prepare-en.yaml")
    assert config.vocabulary.kind == "unigram" and config.vocabulary.size == 32_000  # 3.2
    assert config.vocabulary.begins and config.vocabulary.num_separators == 1
    assert list(config.text.train) == ["en"] and not config.normalization  # 3.2


def test_step_1_is_that_of_the_paper(english: Run) -> None:
    (objective,) = english.objectives.values()
    assert isinstance(objective, NextSentence)  # 2
    assert objective.languages == ["en"] and objective.length == 512  # 3.1, A
    assert (objective.mask_rate, objective.frequency_exponent) == (0.15, 0.0)
    assert (objective.mask, objective.random, objective.keep) == (0.8, 0.1, 0.1)
    assert english.steps == 250_000 and english.optimizer.kind == "lamb"  # 3.2
    shape = english.shape  # 3.2: BERT-base
    assert (shape.dim, shape.num_layers, shape.num_heads, shape.inner_dim) == (768, 12, 12, 3072)
    assert (shape.num_segments, shape.max_positions) == (2, 512)
    assert shape.output_transform and not shape.language_embeddings
    assert objective.rows * english.group_size == 2_048
    assert english.schedule.warmup_steps * 80 == english.steps


def test_step_1_for_positions_of_their_own_differs_in_the_opening_symbol(english: Run) -> None:
    run = read_run(RECIPES / "pretrain-en-positions.yaml")
    own = replace(run, folder=english.folder, model=replace(run.shape, plain_first=False))
    assert run.shape.plain_first and own == english


def test_pairs_with_a_joint_vocabulary_and_with_two_differ_in_that_alone() -> None:
    text = read(Prepare, RECIPES / "prepare-joint-pair.yaml")
    assert list(text.text.train) == ["en", "es"] and text.vocabulary.size == 32_000  # 3.1
    joint = read_run(RECIPES / "joint-pair-vocabulary.yaml")
    apart = read_run(RECIPES / "joint-pair.yaml")
    assert joint.data == text.folder and not joint.tables and list(apart.tables) == ["es"]
    assert replace(apart, data=joint.data, folder=joint.folder, tables={}) == joint


def test_word_vectors_stay_as_they_are_and_are_mapped(english: Run) -> None:
    run = read_run(RECIPES / "clwe-pretrain-en.yaml")  # 3.1
    assert run.word_vectors and run.frozen == ["words"] and run.shape.word_size == 300
    own = replace(run, folder=english.folder, word_vectors=False, frozen=[], signs=True)
    assert replace(own, model=replace(run.shape, word_size=None)) == english
    config = read(AddLanguage, RECIPES / "clwe-es.yaml")
    assert (config.model, config.start) == (run.folder, "mapped")
    assert config.schedule.peak_lr == 0 and config.guard is None  # nothing is learnt


@pytest.mark.parametrize(
    ("name", "body", "positions", "adapters"),
    [
        ("step-2", "pretrain-en", "shared", None),
        ("step-2-positions", "pretrain-en-positions", "copy", None),
        ("step-2-adapters", "pretrain-en-positions", "copy", ("houlsby", 64)),
    ],
)
def test_step_2_learns_words_by_the_settings_of_step_1(
    name: str, body: str, positions: str, adapters: tuple[str, int] | None
) -> None:
    config, step_1 = read(AddLanguage, RECIPES / f"{name}.yaml"), read_run(RECIPES / f"{body}.yaml")
    assert (config.model, config.positions, config.start) == (step_1.folder, positions, "random")
    assert (config.steps, config.length) == (250_000, 512)  # A
    assert (config.optimizer, config.schedule) == (step_1.optimizer, step_1.schedule)  # 2, 3.2
    assert config.rows * config.group_size == 2_048
    assert (config.vocabulary.kind, config.vocabulary.size) == ("unigram", 32_000)  # 3.2
    own = config.adapters
    assert (None if own is None else (own.place, own.size)) == adapters  # 2.2


def test_recipes_name_the_section_of_what_they_set() -> None:
    for path in RECIPES.glob("*.yaml"):
        if path.name.startswith("step-3"):
            continue  # of fine-tuning: tests/test_finetune_recipes.py
        lines = path.read_text(encoding="utf-8").splitlines()
        for name in ("languages:", "length:", "kind: lamb", "kind: unigram", "size:", "steps: 25"):
            for line in lines:
                if line.strip().startswith(name):
                    assert "section" in line or "appendix" in line, line

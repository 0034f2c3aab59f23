"""What a run is measured by: units against the text itself, the right weights, one-line errors."""

from __future__ import annotations

import importlib
import json
import logging
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xlm import evaluate as module
from xlm import sample
from xlm.config.cli import parse
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.evaluate import Evaluate, evaluate_run, table
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import Result, pretrain
from xlm.run.config import Run

RECIPE = """\
objectives:
  mlm:
    class_path: MaskedLM
    init_args: {languages: [en, ne], rows: 4, length: 32}
  clm:
    class_path: CausalLM
    init_args: {languages: [en, ne], rows: 4, length: 32}
model: {dim: 16, num_layers: 1, num_heads: 2}
steps: 8
group_size: 1
average: 0.5
schedule: {peak_lr: 1.0e-2, warmup_steps: 1}
evaluate_every: 4
save_every: 4
tensorboard: false
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory, debug_data: Path) -> Result:
    """A run of two objectives with averaged weights."""
    folder = tmp_path_factory.mktemp("evaluated")
    (folder / "r.yaml").write_text(RECIPE)
    settings = [
        f"--config={folder / 'r.yaml'}",
        f"--data={debug_data}",
        f"--folder={folder / 'run'}",
    ]
    return pretrain(parse(Run, "pretrain", settings))


@pytest.fixture(scope="module")
def figures(result: Result) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = evaluate_run(Evaluate(folder=str(result.folder)))[
        "figures"
    ]
    return found


def test_the_figures_are_those_that_the_run_saw(
    result: Result, figures: dict[str, dict[str, float]]
) -> None:
    assert figures == result.figures
    again = evaluate_run(Evaluate(folder=str(result.folder), which="latest"))
    assert again == {
        "checkpoint": "step-00000008", "step": 8, "split": "valid", "figures": figures
    }  # fmt: skip


@pytest.mark.parametrize("language", ["en", "ne"])
def test_units_are_those_of_the_held_out_file(
    figures: dict[str, dict[str, float]], debug_data: Path, language: str
) -> None:
    """Every token once; words, characters and bytes counted in the file, line ends included."""
    text = sample.path(f"valid.{language}.txt").read_text(encoding="utf-8")
    num_words = len(text.split()) + text.count("\n")
    num_tokens = len(Corpora.open(debug_data).text("valid", language).ids)
    for objective in ("clm", "mlm"):
        own = figures[f"{objective}/{language}"]
        assert own["targets"] == num_tokens
        total = own["nats"] * num_tokens
        assert own["word_perplexity"] == pytest.approx(math.exp(total / num_words))
        bits = total / math.log(2)
        assert own["bits_per_character"] == pytest.approx(bits / len(text))
        assert own["bits_per_byte"] == pytest.approx(bits / len(text.encode()))


@pytest.mark.parametrize("language", ["en", "ne"])
def test_the_unigram_model_by_hand(
    figures: dict[str, dict[str, float]], debug_data: Path, language: str
) -> None:
    corpora = Corpora.open(debug_data)
    counts = Counter(corpora.text("train", language).ids.tolist())
    total = sum(counts.values()) + corpora.tokenizer.vocab_size
    held_out = corpora.text("valid", language).ids.tolist()
    nats = -sum(math.log((counts[token] + 1) / total) for token in held_out) / len(held_out)
    for objective in ("clm", "mlm"):  # all of them predict each token once: the same cells
        own = figures[f"{objective}/{language}"]["unigram_perplexity"]
        assert own == pytest.approx(math.exp(nats))


def test_micro_batches_of_another_size(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    """The streams are made with the size that is given, else with the run's."""
    module, seen = importlib.import_module("xlm.evaluate"), []
    made = module.held_out_streams

    def noting(run: Run, *arguments: Any) -> Any:
        seen.append(run.evaluation_tokens)
        return made(run, *arguments)

    monkeypatch.setattr(module, "held_out_streams", noting)
    for tokens in (None, 640):
        evaluate_run(Evaluate(folder=str(result.folder), evaluation_tokens=tokens))
    assert seen == [0, 640]
    assert "evaluation_tokens must be at least 0" in error(
        folder=str(result.folder), evaluation_tokens=-1
    )


def test_averaged_weights_are_a_matter_of_choice(
    result: Result, figures: dict[str, dict[str, float]]
) -> None:
    plain = evaluate_run(Evaluate(folder=str(result.folder), averaged=False))["figures"]
    assert set(plain) == set(figures)
    assert all(plain[name]["nats"] != figures[name]["nats"] for name in figures)


def test_a_checkpoint_may_be_given(result: Result, figures: dict[str, dict[str, float]]) -> None:
    folder = result.folder / "checkpoints"
    found = evaluate_run(Evaluate(folder=str(folder / "step-00000008")))
    assert found["figures"] == figures
    earlier = evaluate_run(Evaluate(folder=str(folder / "step-00000004")))
    assert earlier["step"] == 4 and earlier["figures"] != figures


def test_languages_are_matched_by_name_on_other_data(
    result: Result, figures: dict[str, dict[str, float]], debug_data: Path, tmp_path: Path
) -> None:
    """Alone, Nepali is language 0; the model knows it as 1. Without training text: no unigram."""
    prepare(
        Prepare(
            folder=str(tmp_path / "ne"),
            text=Texts(valid={"ne": "sample:valid.ne.txt"}, test={"ne": "sample:train.ne.txt"}),
            vocabulary=Vocabulary(folder=str(debug_data)),
        )
    )
    given = Evaluate(folder=str(result.folder), data=str(tmp_path / "ne"))
    found = evaluate_run(given)["figures"]
    assert set(found) == {"mlm/ne", "clm/ne"}
    for name, own in found.items():
        expected = {k: v for k, v in figures[name].items() if k != "unigram_perplexity"}
        assert own == expected
    test = Evaluate(folder=str(result.folder), data=str(tmp_path / "ne"), split="test")
    assert evaluate_run(test)["figures"]["clm/ne"]["targets"] > 1e4


def error(**settings: Any) -> str:
    with pytest.raises((CheckpointError, ConfigError, DataError)) as caught:
        evaluate_run(Evaluate(**settings))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_does_not_fit_is_named(result: Result, debug_data: Path, tmp_path: Path) -> None:
    run = str(result.folder)
    assert "no readable checkpoint" in error(folder=str(tmp_path / "nowhere"))
    assert "no readable checkpoint" in error(folder=str(debug_data))
    assert "has no text in test for the run's objectives: found no such text" in error(
        folder=run, split="test"
    )
    assert f"no corpora at {tmp_path}" in error(folder=run, data=str(tmp_path))
    for name, settings in {
        "other": {"vocabulary": Vocabulary(kind="fastbpe", size=50)},
        "strange": {"vocabulary": Vocabulary(folder=str(debug_data))},
    }.items():
        language = "en" if name == "other" else "hi"
        text = Texts(train={language: "sample:train.en.txt"}, valid={})
        prepare(Prepare(folder=str(tmp_path / name), text=text, **settings))
    assert "prepare the text with vocabulary.folder set to the data that the run was" in error(
        folder=run, data=str(tmp_path / "other")
    )
    assert "does not know the language hi: it knows en, ne; give other data than" in error(
        folder=run, data=str(tmp_path / "strange")
    )


def test_damage_is_noticed(
    result: Result, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In place of a damaged best it is the newest that is sound, and that is said."""
    folder = tmp_path / "run"
    shutil.copytree(result.folder, folder)
    damage(folder / "checkpoints/step-00000008")
    assert evaluate_run(Evaluate(folder=str(folder)))["step"] == 4
    [line] = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert "the best checkpoint is skipped, the newest is used" in line
    assert "its content is not what was saved" in line
    assert evaluate_run(Evaluate(folder=str(folder), which="latest"))["step"] == 4
    damage(folder / "checkpoints/step-00000004")
    assert "no readable checkpoint" in error(folder=str(folder), which="latest")


def damage(checkpoint: Path) -> None:
    path = checkpoint / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def test_the_verb_prints_a_table_and_writes_json(
    result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "figures.json"
    module.main([str(result.folder), f"--json={path}"])
    head, columns, *lines = capsys.readouterr().out.splitlines()
    assert head == f"{result.folder} step-00000008, valid text"
    assert columns.split() == (
        "nats perplexity word perplexity bits per character bits per byte accuracy unigram "
        "perplexity"
    ).split()  # fmt: skip
    found = json.loads(path.read_text())
    for name, line in zip(found["figures"], lines[:4], strict=True):
        shown = [float(cell) for cell in line.split()[1:]]
        own = found["figures"][name]
        expected = [own[column] for column in module.COLUMNS]
        assert line.startswith(name) and shown == pytest.approx(expected, rel=1e-3)
    own = found["figures"]["mlm/en"]
    change = own["perplexity"] / own["unigram_perplexity"] - 1
    assert lines[4] == (
        f"mlm/en: perplexity {own['perplexity']:.1f}, unigram model "
        f"{own['unigram_perplexity']:.1f} on the same {own['targets']:.0f} cells ({change:+.1%})"
    )


def test_a_picture_of_the_curves(result: Result, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    module.main([str(result.folder), f"--picture={tmp_path / 'deep' / 'curves.png'}"])
    assert (tmp_path / "deep/curves.png").read_bytes().startswith(b"\x89PNG")
    checkpoint = result.folder / "checkpoints/step-00000008"
    module.main([str(checkpoint), f"--picture={tmp_path / 'curves.svg'}"])
    assert "<svg" in (tmp_path / "curves.svg").read_text()


@pytest.mark.parametrize(
    ("flag", "name"), [("json", "file/x"), ("picture", "file/x.svg"), ("picture", "x.jpgg")]
)
def test_a_file_that_cannot_be_written_is_one_line(
    result: Result, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, name: str
) -> None:
    if flag == "picture":
        pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as caught:
        module.main([str(result.folder), f"--{flag}={tmp_path / name}"])
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and str(tmp_path / name) in err
    assert ("expected one of .png" if name == "x.jpgg" else "cannot write") in err


def test_a_table_leaves_out_columns_that_nobody_has() -> None:
    assert table({"a/en": {"nats": 1.23456, "accuracy": 0.5}, "b/en-ne": {"nats": 2.0}}) == (
        "          nats  accuracy\n"
        "a/en     1.235       0.5\n"
        "b/en-ne      2          "
    )  # fmt: skip


def test_a_seed_fixes_the_masks(result: Result, debug_data: Path) -> None:
    """What is hidden depends on the run's seed, not on anything else that is drawn."""
    np.random.seed(1)
    first = evaluate_run(Evaluate(folder=str(result.folder)))["figures"]["mlm/en"]
    np.random.seed(2)
    assert evaluate_run(Evaluate(folder=str(result.folder)))["figures"]["mlm/en"] == first

"""What is said of prepared text, models, runs and recipes before anything is trained."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import xlm
from tests.run.test_shares import run_of
from xlm.config.cli import to_yaml
from xlm.data.corpora import Corpora
from xlm.describe import Describe, describe, main
from xlm.errors import ConfigError, DataError
from xlm.objectives import MaskedLM
from xlm.prepare import Aligned, Prepare, Texts
from xlm.pretrain import pretrain
from xlm.run.build import training_streams
from xlm.run.config import Run
from xlm.run.description import LOOKS, duration, padding


def lines_of(path: Path | str, **settings: bool) -> list[str]:
    return describe(Describe(path=str(path), **settings))


def test_prepared_text(debug_data: Path) -> None:
    lines = lines_of(debug_data)
    corpora = Corpora.open(debug_data)
    assert lines[0] == f"{debug_data}: a vocabulary of 800, 2 languages"
    size = corpora.text("train", "ne").text_size
    (row,) = [line.split() for line in lines if line.startswith("train ne")]
    assert row[2:5] == [
        f"{size.sentences:,}", f"{size.tokens:,}",
        f"{(size.tokens - size.sentences) / (size.words - size.sentences):.2f}",
    ]  # fmt: skip
    assert any(line.startswith("train en-ne (en)") for line in lines)
    assert any(re.match(r"en +100.0% +\d+\.\d%$", line) for line in lines)


def recipe(tmp_path: Path, run: Run) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(to_yaml(run), encoding="utf-8")
    return path


def test_a_recipe_before_it_trains(debug_data: Path, tmp_path: Path) -> None:
    run = run_of(debug_data, tmp_path / "run", steps=1000)
    path = recipe(tmp_path, run)
    lines = lines_of(path)
    assert lines[0].split() == [
        "objective", "stream", "sentences", "tokens", "probability", "epochs", "padding",
    ]  # fmt: skip
    english = lines[1].split()
    epoch = training_streams(run, Corpora.open(debug_data))["mlm"][0].batches_per_epoch
    assert english[:2] == ["mlm", "en"] and english[4] == "0.7500"
    assert float(english[5]) == pytest.approx(0.75 * 2 * 1000 / epoch, abs=0.01)
    said = "\n".join(lines)
    num = int(re.search(r"([\d,]+) parameters", said)[1].replace(",", ""))  # type: ignore[index]
    trained = pretrain(run_of(debug_data, tmp_path / "trained"))
    assert num == sum(p.numel() for p in trained.learner.parameters())
    assert re.search(r"[\d.]+ [MG]iB at the peak of a measured update on cpu", said)
    assert re.search(r"s an update \(3 measured, fp32\), [\d,]+ tokens each", said)
    assert "1,000 updates take" in said
    assert not (tmp_path / "run").exists()
    quick = lines_of(path, measure=False)
    assert quick == lines[: len(quick)] and "measured" not in "\n".join(quick)


def test_describing_leaves_a_run_as_it_would_be(debug_data: Path, tmp_path: Path) -> None:
    """A run gives the same weights whether or not it was described before."""
    one = pretrain(run_of(debug_data, tmp_path / "one"))
    lines_of(recipe(tmp_path, run_of(debug_data, tmp_path / "two")))
    two = pretrain(run_of(debug_data, tmp_path / "two"))
    for name, value in one.learner.state_dict().items():
        assert value.equal(two.learner.state_dict()[name])


def test_a_run_and_a_model(debug_data: Path, tmp_path: Path) -> None:
    pretrain(run_of(debug_data, tmp_path / "run"))
    lines = lines_of(tmp_path / "run")
    assert lines[0] == f"{tmp_path / 'run'}: step 8 of 8"
    assert lines[1].split() == [
        "objective",
        "stream",
        "intended",
        "realized",
        "of",
        "tokens",
        "epochs",
    ]
    num = sum(p.numel() for p in xlm.load(tmp_path / "run").transformer.parameters())
    assert f"{num:,} parameters" in "\n".join(lines)
    assert "languages: en, ne" in lines


def test_a_run_without_its_text(
    debug_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(debug_data, tmp_path / "text")
    monkeypatch.chdir(tmp_path)
    pretrain(run_of(Path("text"), tmp_path / "run"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    first, *rest = lines_of(tmp_path / "run")
    assert f"its prepared text text, relative to {tmp_path / 'elsewhere'}, is not there" in first
    assert "languages: en, ne" in rest


def test_the_sources_of_a_preparation(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("one two\n\nthree\n", encoding="utf-8")
    (tmp_path / "ne.txt").write_text("एक\nदुई\nतीन\n", encoding="utf-8")
    config = Prepare(
        folder="out", root=str(tmp_path), text=Texts(train={"en": "en.txt"}),
        pairs=Aligned(train={"en-ne": ["en.txt", "ne.txt"]}),
    )  # fmt: skip
    path = tmp_path / "prepare.yaml"
    path.write_text(to_yaml(config), encoding="utf-8")
    lines = [line.split() for line in lines_of(path)]
    assert lines[1] == ["train", "en", "3", "2", "3", "12"]
    assert lines[2] == ["train", "en-ne", "3", "2", "5", str(12 + 2 + 3)]


def test_padding_is_counted(debug_data: Path, tmp_path: Path) -> None:
    run = run_of(debug_data, tmp_path / "run")
    stream = training_streams(run, Corpora.open(debug_data))["mlm"][0]
    assert padding(run, "mlm", stream) == 0  # running text is full but at its end
    tlm = MaskedLM(pairs=["en-ne"], tokens=300, num_lengths=2, length=256)
    paired = run_of(debug_data, tmp_path / "run", objectives={"tlm": tlm})
    (stream,) = training_streams(paired, Corpora.open(debug_data))["tlm"]
    cells = tokens = 0
    for number in range(LOOKS):
        rows = stream.examples(number)
        assert rows.second is not None
        cells += rows.length * len(rows.first)
        tokens += sum(len(a) + len(b) + 4 for a, b in zip(rows.first, rows.second, strict=True))
    assert padding(paired, "tlm", stream) == pytest.approx(1 - tokens / cells)
    assert 0 < tokens < cells


def test_what_cannot_be_described(debug_data: Path, tmp_path: Path) -> None:
    path = recipe(tmp_path, run_of(tmp_path / "gone", tmp_path / "run"))
    with pytest.raises(ConfigError, match="its data, .*gone, is not prepared: run xlm prepare"):
        lines_of(path)
    path.write_text("tasks: {}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="is a recipe of xlm finetune: expected one of"):
        lines_of(path)
    (tmp_path / "notes.txt").write_text("Hello.\n")
    with pytest.raises(ConfigError, match="is neither a recipe .*: expected prepared text"):
        lines_of(tmp_path / "notes.txt")
    (tmp_path / "text/train/en").mkdir(parents=True)
    (tmp_path / "text/train/en/header.json").write_text("{}")
    with pytest.raises(DataError, match="its corpora.json is missing: restore that file"):
        lines_of(tmp_path / "text")
    with pytest.raises(SystemExit) as status:
        main([str(tmp_path / "nothing")])
    assert status.value.code == 2


@pytest.mark.parametrize(
    ("seconds", "expected"), [(3.4, "3 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations(seconds: float, expected: str) -> None:
    assert duration(seconds) == expected


def test_the_verb(debug_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(debug_data)])
    assert "a vocabulary of 800, 2 languages" in capsys.readouterr().out

"""`xlm check` of everything that the library writes, sound and damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from xlm import check, evaluate
from xlm.describe import Describe, describe
from xlm.objectives import MaskedLM
from xlm.prepare import Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import ModelConfig, Run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared text and a run of it."""
    folder = tmp_path_factory.mktemp("whole")
    sources = {"ne": "sample:valid.ne.txt"}
    prepare(
        Prepare(
            folder=str(folder / "data"), text=Texts(train=sources, valid=sources),
            vocabulary=Vocabulary(size=400), workers=1,
        )
    )  # fmt: skip
    pretrain(
        Run(
            data=str(folder / "data"), folder=str(folder / "run"), steps=2, group_size=1,
            objectives={"mlm": MaskedLM(languages=["ne"], rows=2, length=16)}, save_every=1,
            model=ModelConfig(dim=16, num_layers=1, num_heads=2, max_positions=64), device="cpu",
        )
    )  # fmt: skip
    return folder


@pytest.fixture
def made(whole: Path, tmp_path: Path) -> Path:
    shutil.copytree(whole, tmp_path / "made")
    return tmp_path / "made"


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-2 if path.suffix == ".jsonl" else -3] ^= 1
    path.write_bytes(content)


def lines(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> list[str]:
    """What it prints, and in the end its one line of error, if it ends with status 2."""
    capsys.readouterr()
    try:
        check.main([str(path), *flags])
    except SystemExit as error:
        assert error.code == 2
    found = capsys.readouterr()
    assert len(found.err.splitlines()) <= 1
    return [*found.out.splitlines(), *found.err.splitlines()]


def test_what_is_sound(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, report = lines(made / "data", capsys)
    assert said.startswith(f"sound  {made / 'data'}: 2 corpora, 10 files, ")
    assert report == f"sound  {made / 'data/report.json'}: 2 texts were read"
    said = lines(made / "run", capsys)
    assert all(line.startswith("sound  ") for line in said) and len(said) == 5
    assert f"{made / 'run/checkpoints/step-00000002'}: step 2, " in said[3]
    (said,) = lines(made / "run/checkpoints/step-00000001", capsys)
    (said,) = lines(made / "run/model", capsys)
    assert said.endswith("parameters, all finite")
    for name, verb in (("run/config.yaml", "pretrain"), ("prepare.yaml", "prepare")):
        (made / "prepare.yaml").write_text("folder: d\ntext: {train: {ne: a.txt}}\n")
        assert lines(made / name, capsys)[0].endswith(f"a recipe of xlm {verb}")


@pytest.mark.parametrize(
    "name",
    [
        "data/train/ne/ids.bin", "data/valid/ne/counts.bin", "data/corpora.json",
        "run/checkpoints/step-00000002/optimizer.safetensors", "run/model/model.safetensors",
        "run/model/tokenizer/tokenizer.json", "run/model/SHA256SUMS", "run/metrics.jsonl",
    ],
)  # fmt: skip
def test_what_is_damaged_is_named(
    name: str, made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(made / name)
    *said, error = lines(made / name.split("/")[0], capsys)
    damaged = [line for line in said if line.startswith("DAMAGED")]
    assert len(damaged) == 1 and Path(name).parent.name in damaged[0]
    assert error.startswith("xlm check: 1 of ") and "cannot be used" in error


def test_a_recipe_with_a_mistake_and_nothing_at_all(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "r.yaml").write_text("data: d\nfolder: f\nstepz: 3\n")
    said = lines(made / "r.yaml", capsys)
    assert "r.yaml:3: unknown key 'stepz'; did you mean steps?" in said[0]
    assert "does not exist" in lines(made / "nothing", capsys)[0]


def test_what_is_nothing_to_check_is_not_called_damaged(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (made / "notes.txt").write_text("Hello.\n")
    (made / "empty").mkdir()
    for name, reason in {
        "notes.txt": "is a file, but no recipe (.yaml) and no model (.pth, .pt)",
        "empty": "holds no prepared text, run, checkpoint or model",
    }.items():
        (said,) = lines(made / name, capsys)
        assert said.startswith(f"xlm check: {made / name} {reason}: expected prepared text, a run")
    (made / "data/corpora.json").unlink()
    (said,) = lines(made / "data", capsys)
    assert "looks like prepared text, but its corpora.json is missing: restore" in said


def test_a_report_that_cannot_be_read(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made / "data/report.json").write_text("[]")
    corpora, report, error = lines(made / "data", capsys)
    assert corpora.startswith("sound") and report.startswith("DAMAGED")
    assert error.startswith("xlm check: 1 of 2 cannot be used")
    described = describe(Describe(path=str(made / "data")))
    assert described[0].endswith("a vocabulary of 400, 1 languages")
    assert described[-1].startswith("the report of its preparation cannot be read: ")


def test_a_change_on_purpose_is_accepted(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The recipe of a checkpoint, the shape of a model, and a language that is taken away."""
    path = made / "run/checkpoints/step-00000002"
    recipe = path / "config.yaml"
    recipe.write_text(recipe.read_text().replace(f"data: {made.parent}", "data: "))
    recipe.write_text(recipe.read_text() + "# moved\n")
    assert "use another checkpoint" in lines(path, capsys)[0]
    (said,) = lines(path, capsys, "--accept=true")
    assert said.endswith("accepted as they are now: config.yaml")
    assert "every hash is right" in lines(path, capsys)[0]
    evaluate.main([str(path), f"--data={made / 'data'}"])

    config = made / "run/model/config.json"
    config.write_text(config.read_text().replace('"dropout": 0.1', '"dropout": 0.2'))
    assert "--accept true" in lines(made / "run/model", capsys)[0]
    lines(made / "run/model", capsys, "--accept=true")
    assert lines(made / "run/model", capsys)[0].startswith("sound")

    shutil.rmtree(made / "data/valid")
    assert "valid/ne/header.json: cannot be read" in lines(made / "data", capsys)[0]
    (said,) = lines(made / "data", capsys, "--accept=true")
    assert "valid/ne/header.json" in said
    assert "1 corpora, 5 files" in lines(made / "data", capsys)[0]
    assert "has no hashes to update" in lines(made / "run", capsys, "--accept=true")[0]


def test_damage_is_never_accepted(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What shows without hashes: ids that the counts do not know."""
    flip(made / "data/train/ne/ids.bin")
    assert "ids.bin" in lines(made / "data", capsys, "--accept=true")[0]

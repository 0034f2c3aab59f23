"""The proof of refactorings: tools/equal.py finds differences, and fails if it compares nothing."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tools/equal.py"


@pytest.fixture(scope="module")
def equal() -> ModuleType:
    """The script, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("equal", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["equal"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


METRICS = [
    {"event": "train", "step": 1, "loss": {"mlm": 2.5}, "tokens_per_second": 10.0, "wait": 0.1},
    {"event": "valid", "step": 1, "mlm/en": {"nats": 2.0}, "seconds": 3.0},
]


def write(folder: Path) -> None:
    """Write what a run leaves behind."""
    (folder / "model").mkdir(parents=True)
    (folder / "model/model.safetensors").write_bytes(b"weights")
    (folder / "model/config.json").write_text('{"dim": 16}')  # a configuration is not compared
    lines = [json.dumps(line) for line in METRICS]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    report = {"figures": {"accuracy": 0.5}, "seconds": 9.0, "folder": str(folder)}
    (folder / "report.json").write_text(json.dumps(report))
    (folder / "output.txt").write_text("a\n")


@pytest.fixture
def sides(equal: ModuleType, tmp_path: Path) -> tuple[object, object]:
    """Two sides whose case `run` left the same behind."""
    made = [equal.Side(ROOT, tmp_path / name) for name in ("old", "new")]
    for side in made:
        write(side.folder / "run")
    return made[0], made[1]


def different(equal: ModuleType, sides: tuple[object, object]) -> list[str]:
    old, new = (equal.contents(side, "run") for side in sides)
    return sorted(name for name in {**old, **new} if old.get(name) != new.get(name))


def test_the_same_is_equal_in_folders_of_other_names(
    equal: ModuleType, sides: tuple[object, object]
) -> None:
    assert different(equal, sides) == []
    assert set(equal.contents(sides[0], "run")) == {
        "metrics.jsonl:1", "metrics.jsonl:2", "model/model.safetensors", "output.txt",
        "report.json:1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("file", "before", "after", "found"),
    [
        ("metrics.jsonl", "2.5", "2.5000000000000004", "metrics.jsonl:1"),
        ("metrics.jsonl", '"nats"', '"bits"', "metrics.jsonl:2"),
        ("report.json", "0.5", "0.25", "report.json:1"),
        ("model/model.safetensors", "weights", "weighty", "model/model.safetensors"),
        ("output.txt", "a", "b", "output.txt"),
    ],
)
def test_a_difference_is_found(
    equal: ModuleType, sides: tuple[object, object], tmp_path: Path,
    file: str, before: str, after: str, found: str,
) -> None:  # fmt: skip
    path = tmp_path / "new/run" / file
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    assert different(equal, sides) == [found]


def test_times_are_ignored_wherever_they_stand(
    equal: ModuleType, sides: tuple[object, object], tmp_path: Path
) -> None:
    path = tmp_path / "new/run/metrics.jsonl"
    path.write_text(path.read_text().replace("10.0", "11.0").replace("3.0", "4.0"))
    path = tmp_path / "new/run/report.json"
    path.write_text(path.read_text().replace("9.0", "8.0"))
    assert different(equal, sides) == []
    assert equal.timeless({"a": {"seconds": 1, "b": 2}, "wait": 3}) == {"a": {"b": 2}}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda run: (run / "output.txt").unlink(), ["output.txt"]),
        (lambda run: (run / "further.tsv").write_text("c\n"), ["further.tsv"]),
        (
            lambda run: (run / "metrics.jsonl").write_text(json.dumps(METRICS[0])),
            ["metrics.jsonl:2"],
        ),
    ],
)
def test_a_file_or_line_of_one_side_is_a_difference(
    equal: ModuleType, sides: tuple[object, object], tmp_path: Path, change, found
) -> None:
    change(tmp_path / "new/run")
    assert different(equal, sides) == found


def test_a_difference_is_shown_from_shortly_before_it(equal: ModuleType) -> None:
    shown = equal.difference("a" * 100 + "left", "a" * 100 + "right")
    assert "a" * 40 + "left" in shown and "a" * 40 + "right" in shown and "a" * 41 not in shown


def test_chosen_cases_bring_those_that_they_start_from(equal: ModuleType) -> None:
    every = equal.cases(ROOT)
    assert list(equal.chosen(every, ["predict"])) == [
        "data",
        "mlm+tlm",
        "classification",
        "predict",
    ]
    assert list(equal.chosen(every, [])) == list(every)
    places = list(every)
    for name, case in every.items():
        assert all(places.index(needed) < places.index(name) for needed in case.needs), name
    with pytest.raises(SystemExit, match="no case nothing: known are data, mlm"):
        equal.chosen(every, ["nothing"])


def test_the_recipes_of_the_cases_exist(equal: ModuleType) -> None:
    recipes = {
        word.split("{recipes}/", 1)[1]
        for case in equal.cases(ROOT).values()
        for word in case.arguments
        if word.startswith("--config={recipes}/")
    }
    assert len(recipes) > 10
    assert not {name for name in recipes if not (ROOT / "recipes" / name).exists()}


def run_main(
    equal: ModuleType, monkeypatch: pytest.MonkeyPatch, writes: list[str], failure: str = ""
) -> int:
    """Run the script over one case of which each checkout leaves one text behind."""
    texts = iter(writes)

    def run(side: object, name: str, case: object) -> str:
        here = side.folder / name  # type: ignore[attr-defined]
        here.mkdir(parents=True)
        side.seconds[name] = 0.0  # type: ignore[attr-defined]
        if text := next(texts):
            (here / "output.txt").write_text(text)
        return failure

    monkeypatch.setattr(equal.Side, "run", run)
    monkeypatch.setattr(equal, "cases", lambda checkout: {"data": equal.Case("prepare", (), ())})
    monkeypatch.setattr(sys, "argv", ["equal.py", str(ROOT), str(ROOT)])
    status: int = equal.main()
    return status


def test_the_status_says_whether_all_is_equal(
    equal: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(equal, monkeypatch, ["a", "a"]) == 0
    assert "1 values of 1 cases compared, 0 differ" in capsys.readouterr().out
    assert run_main(equal, monkeypatch, ["a", "b"]) == 1
    said = capsys.readouterr().out
    assert "1 DIFFER" in said and "output.txt" in said


def test_comparing_nothing_fails(
    equal: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(equal, monkeypatch, ["", ""]) == 1
    assert "data: nothing was compared" in capsys.readouterr().out


def test_a_case_that_fails_is_named_with_its_error(
    equal: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(equal, monkeypatch, ["a", "a"], failure="no such flag") == 1
    said = capsys.readouterr().out
    assert f"data: {ROOT} failed:\nno such flag" in said


def test_the_end_of_an_error_is_returned(equal: ModuleType, tmp_path: Path) -> None:
    side = equal.Side(ROOT, tmp_path)
    case = equal.Case("prepare", ("--no-such-flag=1",), needs=())
    assert "no-such-flag" in side.run("data", case)


def test_a_folder_that_is_no_checkout_is_refused(
    equal: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(sys, "argv", ["equal.py", str(ROOT), str(tmp_path)])
    with pytest.raises(SystemExit, match="2"):
        equal.main()
    assert "is no checkout of xlm" in capsys.readouterr().err


def test_a_checkout_is_equal_to_itself() -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(ROOT), str(ROOT), "--only", "data"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 differ" in done.stdout.splitlines()[-1]

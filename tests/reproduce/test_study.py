"""A study from its text to its page: once, resumed, and never twice."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.reproduce.conftest import settings
from xlm.errors import ConfigError
from xlm.reproduce import Reproduce, main, reproduce
from xlm.reproduce import study as module
from xlm.reproduce.claims import claimed
from xlm.reproduce.page import verdict
from xlm.training.journal import read_metrics

Study = tuple[Reproduce, dict[str, Any]]


def test_every_model_is_trained_and_measured(study: Study) -> None:
    config, figures = study
    assert figures["finished"] == figures["planned"] == 7
    rows = figures["shapes"]["rotary"]
    assert list(rows) == ["ne", "ne+en", "ne+hi", "ne+en+hi", "ne+hi shifted"]
    for row, own in rows.items():
        test = own["tests"]["test"]
        assert test["perplexity"]["mean"] > 1 and 0 < test["bits_per_byte"]["mean"] < 8
        assert (own["difference"]["test"] is None) == (row == "ne")
    assert [own["sentences"] for own in figures["sizes"]] == [40, 60]
    folder = Path(config.folder)
    assert json.loads((folder / "nepali.json").read_text(encoding="utf-8")) == figures
    left = {path.name for path in folder.glob("models/*/*/*")}
    assert "result.json" in left and not left & {"checkpoints", "model"}


class Tags(HTMLParser):
    """Notes whether tags close in order, and all that a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith("#"):
                self.loaded.append(f"{tag} {name} {value}")

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_one_file(study: Study) -> None:
    content = (Path(study[0].folder) / "nepali.html").read_text(encoding="utf-8")
    tags = Tags()
    tags.feed(content)
    assert not tags.open and not tags.loaded
    assert not re.search(r"@import|url\((?!#)", content)
    assert content.count("<svg") == 4
    for said in ("ne+hi shifted", "bits / byte", "width=device-width", "known from hi"):
        assert said in content


def test_without_matplotlib_the_page_has_tables(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xlm.reproduce.plots.available", lambda: False)
    page = module.page(study[1])
    assert "<svg" not in page and "matplotlib is not installed" in page
    assert page.count("<table>") == 3


def test_a_finished_model_is_not_trained_again(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "train", None)
    assert reproduce(study[0]) == study[1]


def test_an_interrupted_study_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(tmp_path, shifted_seeds=[], sizes=[])
    trained, real = [], module.train

    def train(config: Reproduce, cell: Any, text: Any) -> Any:
        if len(trained) == 2:
            trained.append("interrupted")
            raise KeyboardInterrupt
        trained.append(cell.row)
        return real(config, cell, text)

    monkeypatch.setattr(module, "train", train)
    with pytest.raises(KeyboardInterrupt):
        reproduce(config)
    partial = json.loads((tmp_path / "nepali.json").read_text(encoding="utf-8"))
    assert (partial["finished"], partial["planned"]) == (2, 4)
    assert "2 of 4 models are" in (tmp_path / "nepali.html").read_text(encoding="utf-8")
    with caplog.at_level("INFO"):
        assert reproduce(config)["finished"] == 4
    assert trained == ["ne", "ne+en", "interrupted", "ne+hi", "ne+en+hi"]
    assert "2 of 4 models are finished already" in caplog.text
    assert re.search(r"4 of 4: ne\+en\+hi, 40 sentences, .* about 0 s left", caplog.text)


@pytest.fixture
def two_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a study have its first two models alone."""
    whole = module.planned
    monkeypatch.setattr(module, "planned", lambda config, text: whole(config, text)[:2])


@pytest.mark.usefixtures("two_models")
def test_a_model_of_another_process_is_left_to_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = settings(tmp_path, shifted_seeds=[], sizes=[])
    with caplog.at_level("INFO"), claimed(tmp_path / "models/rotary/ne-40-0") as is_mine:
        assert is_mine
        with claimed(tmp_path / "models/rotary/ne-40-0") as too:
            assert not too
        assert list(reproduce(config)["shapes"]["rotary"]) == ["ne+en"]
    assert "other processes train 1 models" in caplog.text
    assert reproduce(config)["finished"] == 2


@pytest.mark.usefixtures("two_models")
def test_a_model_that_was_killed_is_continued_from_its_checkpoint(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = settings(tmp_path, shifted_seeds=[], sizes=[])

    def killed(*_: object, **__: object) -> None:
        raise MemoryError

    with monkeypatch.context() as broken:
        broken.setattr("xlm.run.launch.finish", killed)
        with pytest.raises(MemoryError):
            reproduce(config)
    (model,) = tmp_path.glob("models/*/*")
    assert list(model.glob("checkpoints/step-*")) and not (model / "result.json").exists()
    figures = reproduce(config)
    events = [line["event"] for line in read_metrics(model / "metrics.jsonl")]
    assert events.count("start") == 2 and events.count("valid") == 2, "only its end was missing"
    nats = figures["shapes"]["rotary"]["ne"]["tests"]["test"]["nats"]["mean"]
    assert nats == study[1]["shapes"]["rotary"]["ne"]["tests"]["test"]["nats"]["mean"]


def test_models_of_other_settings_are_refused(study: Study) -> None:
    text = module.open_text(study[0])
    cell = module.planned(study[0], text)[0]
    slow = replace(study[0], quick=False, text="x")
    said = (
        r"ne-40-0 holds a model with other settings .steps \d+ \(was 4\), .*: give another folder"
    )
    with pytest.raises(ConfigError, match=said):
        module.finished(slow, cell, text)


def test_the_command_says_in_one_line_that_text_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["nepali", f"--folder={tmp_path}"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("xlm reproduce: text is missing: give a directory that holds")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("mean", "interval", "said"),
    [
        (-0.2, None, "one seed, no interval"),
        (-0.2, 0.3, "not shown, zero is in the interval"),
        (-0.2, 0.1, "better"),
        (0.2, 0.1, "worse"),
    ],
)
def test_a_verdict_goes_by_the_interval(mean: float, interval: float | None, said: str) -> None:
    assert verdict({"mean": mean, "interval": interval}) == said

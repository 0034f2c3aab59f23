"""Curves: the numbers of the journal, a color a language, the unigram model beside them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from xlm.errors import ConfigError
from xlm.training import curves
from xlm.training.curves import LANGUAGE_COLORS, NEUTRAL_COLORS, plot_curves
from xlm.training.journal import METRICS, Journal

UNIGRAM = {"mlm/en": 140.0, "mlm/zh-Hans": 180.0, "tlm/en-zh-Hans": 160.0, "clm/en": 150.0}


def _run(folder: Path, last: int, unigram: dict[str, float] | None = None) -> None:
    """Report every 2 steps, evaluate every 5, as a training run does."""
    with Journal.open(folder, progress=False) as journal:
        for step in range(1, last + 1):
            if step % 2 == 0:
                journal.record("train", step, {"loss": {"mlm": 10 / step, "tlm": 12 / step}})
            if step % 5 == 0:
                journal.record("valid", step, _figures(step, unigram or {"mlm/en": 50.0}))
        journal.record("test", last, _figures(last, {"mlm/en": 141.0}))


def _figures(step: int, unigram: dict[str, float]) -> dict[str, dict[str, float]]:
    return {
        stream: {"perplexity": 1000 / step, "unigram_perplexity": value, "nats": 2.0}
        for stream, value in unigram.items()
    }


def _drawn(path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The figure that is drawn of a journal."""
    found = []
    draw = curves.draw

    def keep(panels: Any) -> Any:
        found.append(draw(panels))
        return found[-1]

    monkeypatch.setattr(curves, "draw", keep)
    plot_curves(path, path.parent / "curves.png")
    return found[0]


def test_a_language_has_one_color_and_its_unigram_model_is_dashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    _run(tmp_path, 20, UNIGRAM)
    loss, perplexity = _drawn(tmp_path / METRICS, monkeypatch).axes
    lines = {line.get_label(): line for line in perplexity.get_lines()}
    en, chinese = lines["valid mlm/en"], lines["valid mlm/zh-Hans"]
    assert list(en.get_xdata()) == [5, 10, 15, 20] and list(en.get_ydata()) == [
        200,
        100,
        1000 / 15,
        50,
    ]
    assert {en.get_color(), chinese.get_color()} == set(LANGUAGE_COLORS[:2])
    assert en.get_linestyle() == "-" and lines["test mlm/en"].get_linestyle() == ":"
    for name in ("valid clm/en", "test mlm/en"):
        assert lines[name].get_color() == en.get_color()
    assert lines["valid tlm/en-zh-Hans"].get_color() in NEUTRAL_COLORS
    dashed = {
        line.get_ydata()[0]: line.get_color()
        for line in perplexity.get_lines()
        if line.get_linestyle() == "--" and len(line.get_ydata())
    }
    expected = {value: lines[f"valid {name}"].get_color() for name, value in UNIGRAM.items()}
    assert dashed == {**expected, 141.0: en.get_color()}
    assert perplexity.get_yscale() == "log"
    legend = [text.get_text() for text in perplexity.get_legend().get_texts()]
    assert legend == [*(f"valid {name}" for name in UNIGRAM), "test mlm/en", "unigram model"]
    assert loss.get_yscale() == "linear"
    assert [text.get_text() for text in loss.get_legend().get_texts()] == ["train mlm", "train tlm"]
    assert {line.get_color() for line in loss.get_lines()} == set(NEUTRAL_COLORS[:2])


def test_pairs_without_their_languages_have_colors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    _run(tmp_path, 5, {"tlm/en-ne": 100.0, "tlm/en-hi": 110.0})
    _, perplexity = _drawn(tmp_path / METRICS, monkeypatch).axes
    lines = {line.get_label(): line.get_color() for line in perplexity.get_lines()}
    assert lines["valid tlm/en-ne"] != lines["valid tlm/en-hi"]
    assert {lines["valid tlm/en-ne"], lines["valid tlm/en-hi"]} <= set(LANGUAGE_COLORS)


def test_curves(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("one", "two"):
        _run(tmp_path / name, 20)
    output = tmp_path / "pictures" / "curves.png"
    plot_curves([tmp_path / "one" / METRICS, tmp_path / "two" / METRICS], output)
    assert output.read_bytes().startswith(b"\x89PNG")
    plot_curves(tmp_path / "one" / METRICS, tmp_path / "one.svg")
    assert "perplexity" in (tmp_path / "one.svg").read_text()
    with pytest.raises(ConfigError, match="no value is named bleu"):
        plot_curves(tmp_path / "one" / METRICS, output, figures=["bleu"])


def test_curves_without_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _run(tmp_path, 4)
    for module in ("matplotlib", "matplotlib.figure", "matplotlib.backends.backend_agg"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match="pip install matplotlib"):
        plot_curves(tmp_path / METRICS, tmp_path / "curves.png")

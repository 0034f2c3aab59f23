"""The page of a report in a browser, at the widths of a desk and of a hand."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.analysis.reports import fill, settings
from xlm.analysis.page import write_page
from xlm.analyze import analyze

pytest.importorskip("matplotlib", reason="pictures need matplotlib, of the extra analysis")

ASK = """<script>addEventListener("load", () => {
  const boxes = [...document.querySelectorAll("svg")].map(own => own.getBoundingClientRect());
  parent.postMessage({
    drawn: boxes.filter(box => box.width > 100 && box.height > 100).length,
    wider: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    width: innerWidth,
    requests: performance.getEntriesByType("resource").length,
  }, "*");
});</script>"""
FRAME = """<!doctype html><body><script>
addEventListener("message", event => {
  document.body.append("ANSWER" + JSON.stringify(event.data) + "END");
});
</script><iframe src="page.html" style="border: 0; width: %dpx; height: 900px"></iframe></body>"""


def figures(measure: str, layers: int = 3, of: str = "en-hi") -> list[dict[str, Any]]:
    nulls = {"untrained": {"value": 0.1}, "permuted": {"value": 0.0, "low": -0.1, "high": 0.1}}
    return [
        {"model": "model", "of": of, "measure": measure, "layer": at, "value": 0.2 * at,
         "low": 0.1 * at, "high": 0.3 * at, "num": 9, "nulls": nulls}
        for at in range(layers)
    ]  # fmt: skip


def report() -> dict[str, Any]:
    """A report with every kind of picture and table, and names that are long."""
    text = "word " * 40
    long = {"title": "en-hi: sentences", "columns": ["en", "hi"], "kind": "text",
            "rows": [[text, "नमस्ते " * 30]]}  # fmt: skip
    matrix = {"title": "debiased CKA", "columns": ["", "0", "1"], "kind": "matrix",
              "rows": [["0", "0.5", ""], ["1", "0.1", "0.9"]]}  # fmt: skip
    nothing = {"title": "no number", "columns": ["", "0"], "kind": "matrix", "rows": [["0", ""]]}
    points = {"title": "principal components", "columns": ["language", "line", "x", "y"],
              "kind": "points", "rows": [["en", "0", "1", "2"], ["hi", "0", "2", "3"]]}  # fmt: skip
    pairs = [row for of in ("en-hi", "en-ne", "hi-ne") for row in figures("centered @1", of=of)]
    return {
        "settings": {"model": "runs/" + "a-long-name-" * 12, "untrained": True},
        "analyses": {
            "retrieval": {"figures": pairs, "tables": [long], "notes": [text]},
            "CKA": {"figures": figures("debiased"), "tables": [matrix, nothing], "notes": []},
            "separability": {"figures": figures("language"), "tables": [points], "notes": []},
        },
        "missing": [{"analysis": "WiC", "lacks": "words in context: give wic"}],
    }


def in_a_browser(text: str, folder: Path, width: int) -> dict[str, Any]:
    """Open a page; return its pictures that are drawn, its overflow, its width, its requests."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("needs the browser chromium")
    page = text.replace("</body>", ASK + "</body>")
    (folder / "page.html").write_text(page, encoding="utf-8")
    frame = folder / "frame.html"  # a window is never narrower than 500 pixels
    frame.write_text(FRAME % width, encoding="utf-8")
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={folder / 'profile'}",
        "--enable-logging=stderr", "--virtual-time-budget=2000", "--dump-dom",
    ]  # fmt: skip
    done = subprocess.run(
        [browser, *flags, frame.as_uri()], capture_output=True, text=True, timeout=240
    )
    found = re.search(r"ANSWER(\{.*?\})END", done.stdout)
    assert found is not None, done.stderr[-500:]
    assert "CONSOLE" not in done.stderr
    answer: dict[str, Any] = json.loads(found[1])
    return answer


@pytest.mark.parametrize("width", [1280, 390])
def test_every_picture_is_drawn_in_a_browser(tmp_path: Path, width: int) -> None:
    text = write_page(report(), tmp_path)
    pictures = text.count("<svg")
    assert pictures == 5  # three curves, a matrix, points
    # nothing but boxes of its own scrolls to the side
    assert in_a_browser(text, tmp_path, width) == {
        "drawn": pictures, "wider": 0, "width": width, "requests": 0
    }  # fmt: skip


def test_a_report_of_a_model_is_drawn_in_a_browser(tmp_path: Path) -> None:
    root = fill(tmp_path)
    only = ["retrieval", "CKA", "separability"]
    analyze(settings(root, tmp_path / "a", only=only, untrained=False))
    text = (tmp_path / "a/report.html").read_text(encoding="utf-8")
    pictures = text.count("<svg")
    assert pictures == 5
    assert in_a_browser(text, tmp_path, 390) == {
        "drawn": pictures, "wider": 0, "width": 390, "requests": 0
    }  # fmt: skip

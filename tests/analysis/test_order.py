"""A report is that of its lines, whatever batches they are read in and whatever their order."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.analysis.models import lines
from tests.analysis.reports import NUM, everything, fill, settings, write
from xlm.analyze import analyze

pytest.importorskip("sklearn", reason="probes need scikit-learn, of the extra analysis")
BY_PLACE = ("best layer", "wrong", "gap")
"""Measures of every other row, or beside another row of the file."""


def numbers(report: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Yield every number of a report with its name."""
    for name, own in report["analyses"].items():
        for row in own["figures"]:
            label = f"{name}: {row.get('of')}, {row['measure']}, {row.get('layer')}"
            for end in ("value", "low", "high"):
                yield f"{label}, {end}", row.get(end)
            for null, values in row["nulls"].items():
                for end in ("value", "low", "high", "p"):
                    yield f"{label}, {null} {end}", values.get(end)


@pytest.fixture(scope="module", autouse=True)
def no_pictures() -> Iterator[None]:
    """Leave pictures out, which take longer than all figures."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)
        yield


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("analyze"))


@pytest.fixture(scope="module")
def given(root: Path) -> dict[str, Any]:
    return {**everything(root), "compare": {}, "parent": None, "layers": [1]}


@pytest.fixture(scope="module")
def report(root: Path, given: dict[str, Any]) -> dict[str, Any]:
    return analyze(settings(root, root / "report", **given))


def test_batches_make_no_difference_to_any_number(
    root: Path, tmp_path: Path, given: dict[str, Any], report: dict[str, Any]
) -> None:
    one = dict(numbers(report))
    other = dict(numbers(analyze(settings(root, tmp_path / "a", tokens=150, **given))))
    assert one.keys() == other.keys() and len(one) > 1000
    for name, value in one.items():
        assert value == pytest.approx(other[name], abs=1e-5), name


def test_the_order_of_lines_makes_no_difference_to_a_value(
    root: Path, tmp_path: Path, given: dict[str, Any], report: dict[str, Any]
) -> None:
    order = np.random.default_rng(0).permutation(NUM)
    files = {language: str(tmp_path / f"{language}.txt") for language in ("en", "hi", "ne")}
    for language, path in files.items():
        own = lines(language, NUM)
        write(Path(path), [own[at] for at in order])
    moved = {"texts": files, "parallel": files, "pairs": {"en-hi": [files["en"], files["hi"]]}}
    only = ["retrieval", "mining", "word translation", "CKA", "overlap", "anisotropy",
            "separability", "TLM gap"]  # fmt: skip
    now = {**given, **moved, "untrained": False, "only": only}
    other = analyze(settings(root, tmp_path / "a", **now))
    num = 0
    for name in only:
        rows = (own["analyses"][name]["figures"] for own in (report, other))
        for row, theirs in zip(*rows, strict=True):
            if not any(part in row["measure"] for part in BY_PLACE):
                assert row["value"] == pytest.approx(theirs["value"], abs=1e-5), (name, row)
                num += 1
    assert num > 100

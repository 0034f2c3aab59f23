"""Another package named xlm is noticed, and named before it does harm."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from xlm._foreign import foreign_packages, warn_of_foreign_packages


def run_python(code: str, root: Path, *also: Path) -> subprocess.CompletedProcess[str]:
    """``code`` in a fresh interpreter that sees the checkout, and ``also`` after it."""
    path = os.pathsep.join(map(str, (root, *also)))
    environment = os.environ | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )


def test_a_foreign_package_is_noticed_and_named(root: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "xlm" / "__init__.py"
    foreign.parent.mkdir()
    foreign.write_text("")
    noticed = run_python("import xlm; print(xlm.__file__)", root, tmp_path)
    assert noticed.stdout.strip() == str(root / "xlm" / "__init__.py")
    (line,) = [line for line in noticed.stderr.splitlines() if "RuntimeWarning" in line]
    assert str(foreign) in line and "xlm-pretrain" in line


def test_a_foreign_distribution_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "xlm-0.4.2.dist-info").mkdir()
    (tmp_path / "xlm_pretrain-0.1.0.dist-info").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(tmp_path / "absent")])
    assert list(foreign_packages()) == [str(tmp_path / "xlm-0.4.2.dist-info")]
    with pytest.warns(RuntimeWarning, match=r"xlm-0\.4\.2"):
        warn_of_foreign_packages()


def test_neither_this_package_nor_a_folder_of_that_name_is_foreign(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "xlm").mkdir()  # data, say
    monkeypatch.setattr(sys, "path", [str(root), str(tmp_path)])
    assert list(foreign_packages()) == []

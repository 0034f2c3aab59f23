"""The parts of a preparation run under datatrove, by its local executor."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from xlm.config.cli import to_yaml
from xlm.preparation.parts import pieces
from xlm.prepare import Prepare, Texts, Vocabulary, prepare

pytest.importorskip("datatrove", reason="datatrove is not installed: pip install datatrove")
SCRIPT = Path(__file__).parents[2] / "recipes/cluster/prepare_parts.py"


def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_parts", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_parts_under_datatrove_give_the_same_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 500)
    Path("en.txt").write_text("".join(f"line {at} of a text\n" for at in range(120)))
    config = Prepare(
        folder="whole", text=Texts(train={"en": "en.txt"}), workers=1,
        vocabulary=Vocabulary(kind="fastbpe", size=20),
    )  # fmt: skip
    prepare(config)
    Path("recipe.yaml").write_text(to_yaml(replace(config, folder="many/whole")))
    made = script().executors("recipe.yaml", 2, 1, "logs", "local")
    assert [executor.world_size for executor in made] == [2, 1, 2, 1]
    made[-1].run()
    files = [path for path in Path("whole").rglob("*") if path.is_file()]
    assert files and sorted(path.name for path in Path("many").iterdir()) == ["whole"]
    for path in files:
        assert ("many" / path).read_bytes() == path.read_bytes(), path

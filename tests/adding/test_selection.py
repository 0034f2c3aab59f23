"""Several tries: which is kept, and that they go on; what modules weigh."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.adding.made import WORDS, lines, settings
from xlm.add_language import add_language, render
from xlm.adding.selection import Select
from xlm.errors import ConfigError, DataError
from xlm.interchange.load import load
from xlm.model.adapters import AdapterConfig, num_adapter_parameters
from xlm.model.config import ModelConfig
from xlm.model.language_modules import Further
from xlm.model.language_tables import roles_of
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.plug import Plug, plug
from xlm.predict import load_task
from xlm.training import checkpoint


class Killed(BaseException):
    """As good as a SIGKILL: nothing catches it."""


def test_tries_are_chosen_by_a_task_and_go_on_when_killed(
    pretrained: Path, topic: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, labeled = tmp_path / "words.txt", tmp_path / "labeled.tsv"
    words.write_text(
        "".join(f"{a}\t{b}\n" for a, b in zip(WORDS, "this is a new text".split(), strict=False))
    )
    labeled.write_text(
        "".join(f"{'ab'[at % 2]}\t{one}\n" for at, one in enumerate(lines(9, WORDS)))
    )
    select = Select(model=str(topic), file=str(labeled))
    given = {"tries": 2, "dictionary": str(words), "select": select, "evaluate_every": 1}
    whole = settings(pretrained, tmp_path / "whole", text, **given)
    report = add_language(whole)
    assert "translated" in report["tries"][0]["signs"]  # with a start that is not by translations

    figures = []
    for seed in (0, 1):
        module = tmp_path / "whole" / f"seed-{seed}" / "model" / "tables" / "ne"
        plug(Plug(model=str(topic), module=str(module), folder=str(tmp_path / f"by-hand-{seed}")))
        found = load_task(tmp_path / f"by-hand-{seed}").predict(lines(9, WORDS), "ne")
        figures.append(sum(kind == "ab"[at % 2] for at, kind in enumerate(found)) / 9)
    chosen = report["chosen"]
    assert chosen["figures"] == pytest.approx(figures)
    assert chosen["mean"] == pytest.approx(sum(figures) / 2) and not chosen["zero_shot"]
    assert chosen["seed"] == figures.index(max(figures))
    said = render(report, tmp_path)
    assert f"their mean is {chosen['mean']:.3f}" in said and "is not zero-shot" in said

    # killed inside the second try, behind its first checkpoint
    config, saved = replace(whole, folder=str(tmp_path / "killed")), []
    written = checkpoint._write_manifest

    def dying(*arguments: Any, **named: Any) -> Any:
        saved.append(0)
        if len(saved) == 6:
            raise Killed
        return written(*arguments, **named)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoint, "_write_manifest", dying)
        add_language(config)
    again = add_language(config)
    for one in (again, report):
        del one["seconds"]
    assert again == report
    for name in (
        "module/table.safetensors",
        "model/model.safetensors",
        "model/tables/ne/table.json",
    ):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_task_that_cannot_choose_is_refused(
    pretrained: Path, topic: Path, text: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="select chooses among several tries, and tries is 1"):
        settings(pretrained, tmp_path, text, select=Select(model="x", file="y"))
    asked = {"tries": 2, "select": Select(model=str(topic), file=str(text))}
    with pytest.raises(DataError, match="select.file"):
        add_language(settings(pretrained, tmp_path / "a", text, **asked))
    other = load(pretrained)
    with torch.no_grad():
        other.transformer.encoder.layers[0].attention.output.weight.add_(0.01)  # type: ignore[union-attr]
    other.save_pretrained(tmp_path / "other")
    with pytest.raises(ConfigError, match="does not descend from the body"):
        add_language(settings(tmp_path / "other", tmp_path / "b", text, **asked))
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_the_size_of_a_module_is_that_of_the_formula(added: Path) -> None:
    content = (added / "module" / "table.safetensors").read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    width, positions, adapted = 16, 32, AdapterConfig(size=4)
    words = (284 - 5) * width + 284  # symbols are not the module's; a bias for each piece
    own = words + width + positions * width + num_adapter_parameters(width, 2, adapted)
    assert len(content) - header == 4 * own


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="measures by Linux's /proc")
def test_ten_modules_take_little_more_memory_than_their_bytes(
    pretrained: Path, tmp_path: Path
) -> None:
    model = load(pretrained)
    config = ModelConfig(dim=1024, num_layers=1, num_heads=1, feed_forward=8, max_positions=512)
    big = Transformer(config, vocab_size=284, num_languages=2, pad_id=model.tokenizer.pad_id)
    roles = roles_of(model.tokenizer)
    tables = {}
    for at in range(10):
        big.add_table(f"x{at}", vocab_size=284, roles=roles, own_positions=True, seed=0)
        tables[f"x{at}"] = Further(model.tokenizer)
    grown = PretrainedModel(big, model.tokenizer, model.languages, tables=tables)
    grown.save_pretrained(tmp_path / "big")
    files = [path for path in (tmp_path / "big").rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    load(tmp_path / "big")  # whatever is kept from a first time
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    loaded = load(tmp_path / "big")
    assert len(loaded.tables) == 10
    assert memory("VmHWM") - before <= 1.2 * size + (4 << 20)


def memory(name: str) -> int:
    """Return a line of /proc/self/status in bytes."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith(f"{name}:"))

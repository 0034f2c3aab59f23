"""Used folders: other inputs are refused, other analyses are added, nothing is left behind."""

from __future__ import annotations

import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.analysis.models import lines, tiny
from tests.analysis.reports import SMALL, fill, settings, write
from xlm.analysis.origin import origin_of
from xlm.analysis.sections.material import MODEL, Material
from xlm.analyze import analyze
from xlm.errors import CheckpointError, ConfigError, DataError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("analyze"))


def vectors(path: Path, seed: int) -> str:
    """Write random vectors of the dictionary's words."""
    draw = np.random.default_rng(seed)
    words = [line.split()[0] for language in ("en", "hi") for line in lines(language)]
    write(path, [" ".join([word, *(f"{v:.3f}" for v in draw.normal(size=5))]) for word in words])
    return str(path)


def test_other_vectors_of_the_same_words_are_refused(root: Path, tmp_path: Path) -> None:
    def run(seed: int) -> Any:
        path = vectors(tmp_path / "words.vec", seed)
        return analyze(
            settings(
                root, tmp_path / "a", embeddings={"en": path, "hi": path}, untrained=False,
                dictionaries={"en-hi": "dictionary.txt"}, only=["word pairs"],
            )
        )  # fmt: skip

    run(1)
    with pytest.raises(ConfigError, match="an analysis with different embeddings: give another"):
        run(2)


def test_another_parent_is_refused(root: Path, tmp_path: Path) -> None:
    def run(scale: float) -> Any:
        parent = tiny()
        with torch.no_grad():
            parent.transformer.encoder.words.weight.mul_(scale)
        parent.save_pretrained(tmp_path / "parent")
        parent_at = str(tmp_path / "parent")
        return analyze(
            settings(root, tmp_path / "a", parent=parent_at, only=["spectra"], untrained=False)
        )

    run(2.0)
    with pytest.raises(ConfigError, match="an analysis with different parent: give another"):
        run(3.0)


def test_training_text_is_part_of_the_origin() -> None:
    own, other = (
        origin_of({}, Material({MODEL: tiny()}, train={"en": [line]})) for line in ("a", "b")
    )
    assert own["models"] == other["models"] and own["texts"] != other["texts"]
    assert set(own["texts"]) == {"train"}


def test_another_analysis_is_added_to_what_is_there(root: Path, tmp_path: Path) -> None:
    for only in (["anisotropy", "WiC"], ["overlap"]):
        analyze(settings(root, tmp_path / "a", only=only, untrained=False))
    both = json.loads((tmp_path / "a/analysis.json").read_text("utf-8"))
    assert list(both["analyses"]) == ["overlap", "anisotropy"]
    assert [own["analysis"] for own in both["missing"]] == ["WiC"]
    table = (tmp_path / "a/figures.tsv").read_text("utf-8")
    page = (tmp_path / "a/report.html").read_text("utf-8")
    assert "\nanisotropy\t" in table and "\noverlap\t" in table
    assert "id='anisotropy'" in page and "id='overlap'" in page
    only = ["overlap", "anisotropy", "WiC"]
    assert both["settings"]["only"] == only
    at_once = analyze(settings(root, tmp_path / "b", only=only, untrained=False))
    assert {**both, "date": None} == {**json.loads(json.dumps(at_once)), "date": None}


def test_versions_of_what_was_used(root: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="pictures need matplotlib")
    found = analyze(settings(root, tmp_path / "a", **SMALL))["versions"]
    assert set(found) == {"xlm", "torch", "numpy", "python", "threads", "matplotlib"}
    assert found["python"] == platform.python_version()
    assert found["threads"] == torch.get_num_threads()
    pytest.importorskip("sklearn", reason="probes need scikit-learn")
    told = analyze(
        settings(root, tmp_path / "b", only=["language probe"], layers=[0], untrained=False)
    )
    for name in ("scikit-learn", "scipy", "matplotlib"):
        assert told["versions"][name] == metadata.version(name)


def test_states_go_after_an_error_too(root: Path, tmp_path: Path) -> None:
    own = tiny()
    with torch.no_grad():
        own.transformer.encoder.layers[1].feed_forward.expand.weight.fill_(3e38)
    own.save_pretrained(tmp_path / "large")
    for keep in (False, True):
        config = settings(
            root, tmp_path / "a", model=str(tmp_path / "large"), keep_states=keep,
            only=["retrieval"], untrained=False,
        )  # fmt: skip
        with pytest.raises(CheckpointError, match="states of layer 2 are not finite"):
            analyze(config)
        assert (tmp_path / "a/states").exists() == keep


def test_input_that_cannot_work_is_refused_at_once(root: Path, tmp_path: Path) -> None:
    tiny(num_layers=1).save_pretrained(tmp_path / "flat")
    write(tmp_path / "few.txt", lines("en", 3))
    write(tmp_path / "empty.txt", [])
    narrow = {"en": "narrow.vec", "hi": "vectors.vec"}
    write(root / "vectors2.vec", ["soil 1 2"])
    narrow["hi"] = "vectors2.vec"
    words = {"dictionaries": {"en-hi": "dictionary.txt"}}
    for number, (fields, error, what) in enumerate(
        [
            ({"parent": str(tmp_path / "flat")}, ConfigError, "parent: encoder 2 Q is missing in"),
            (
                {**words, "embeddings": narrow}, DataError,
                r"analyze\S*dictionary.txt: none of 9 entries is usable: 0 source words have a "
                r"vector, .* in \S*narrow.vec and \S*vectors2.vec; give .vec files that hold words",
            ),
            (
                {"dictionaries": {"en-hi": str(tmp_path / "empty.txt")}}, DataError,
                r"empty.txt: none of 0 entries is usable: .* in \S*model; give a dictionary of",
            ),
            (
                {"texts": {"en": str(tmp_path / "few.txt")}}, DataError,
                "few.txt: only 3 different lines have text; expected at least 4",
            ),
        ]
    ):  # fmt: skip
        folder = tmp_path / str(number)
        with pytest.raises(error, match=what) as raised:
            analyze(settings(root, folder, **fields))
        assert "\n" not in str(raised.value) and not folder.exists()
    # where spectra and dictionaries are not asked for, neither is in the way
    fields = {"parent": str(tmp_path / "flat"), **words, "embeddings": narrow}
    assert analyze(settings(root, tmp_path / "a", **fields, **SMALL))["analyses"]

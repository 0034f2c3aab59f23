"""The original's binarized data becomes the corpora that preparing its text makes."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.interchange.original_data import binarize, learn, lines_of, write_data
from xlm.__main__ import run
from xlm.convert import Import, import_corpora
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, DataError
from xlm.interchange.original.corpora import is_binarized
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_fastbpe_tokenizer

GOLDEN = Path(os.environ.get("XLM_GOLDEN", Path(__file__).parents[4] / "shared" / "golden"))

golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)


@pytest.fixture(scope="module")
def fast() -> FastBpeTokenizer:
    return learn()


@pytest.fixture
def data(fast: FastBpeTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_data(tmp_path, monkeypatch, fast)


def same_files(one: Path, other: Path) -> None:
    """Two folders of corpora are equal byte for byte, but for the account of what was dropped.

    The original's data does not say where empty lines parted documents.
    """
    names = [
        sorted(
            str(path.relative_to(folder))
            for path in folder.rglob("*")
            # of the text, which an import never sees
            if path.is_file() and path.stem not in ("report", "documents")
        )
        for folder in (one, other)
    ]
    assert names[0] == names[1]
    for name in names[0]:
        if name.endswith(("header.json", "corpora.json")):
            headers = [json.loads((folder / name).read_text()) for folder in (one, other)]
            for header in headers:
                header.pop("dropped", None)
                header.pop("documents", None)
                del header["digest"]
                files = header["files"].items()
                of_text = ("header.json", "documents.bin")
                header["files"] = {k: v for k, v in files if not k.endswith(of_text)}
            assert headers[0] == headers[1], name
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name


def test_data_is_what_preparing_the_text_makes(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("import", [str(data), str(tmp_path / "imported")])
    said = capsys.readouterr().out
    texts = {name: str(tmp_path / name) for name in ("en", "ne")}
    prepare(
        Prepare(
            folder=str(tmp_path / "prepared"),
            text=Texts(train=texts),
            pairs=Aligned(valid={"en-ne": list(texts.values())}),
            vocabulary=Vocabulary(codes=str(data / "codes"), vocab=str(data / "vocab")),
            workers=1,
        )
    )
    same_files(tmp_path / "imported", tmp_path / "prepared")
    corpora = Corpora.open(tmp_path / "imported")
    assert corpora.languages == {"en": 0, "ne": 1}
    assert "train en: 39 sentences" in said and "1 dropped (empty)" in said
    assert "valid en-ne, ne: 39 sentences" in said and "unknown" in said
    unknown = int(corpora.text("train", "ne").counts[3])
    assert f"{unknown:,} of them unknown" in said and unknown > 0


def test_data_of_languages_with_hyphens(data: Path, tmp_path: Path) -> None:
    for path in sorted(data.glob("*.pth")):
        names = {"en-ne": "pt-BR-zh-Hans", "en": "pt-BR", "ne": "zh-Hans"}
        parts = [names.get(part, part) for part in path.name.split(".")]
        path.rename(path.with_name(".".join(parts)))
    run("import", [str(data), str(tmp_path / "imported")])
    corpora = Corpora.open(tmp_path / "imported")
    assert corpora.languages == {"pt-BR": 0, "zh-Hans": 1}
    assert corpora.names("train") == {"texts": ["pt-BR", "zh-Hans"], "pairs": []}
    assert corpora.pairs("valid", "zh-Hans-pt-BR").languages == ("zh-Hans", "pt-BR")
    (data / "valid.pt-BR-zh-Hans.zh-Hans.pth").unlink()
    with pytest.raises(DataError, match="expected pt and BR-zh-Hans or pt-BR and zh-Hans or pt-BR"):
        import_corpora(Import(source=str(data), folder=str(tmp_path / "half")))


@golden
def test_the_originals_own_data(tmp_path: Path) -> None:
    source = GOLDEN / "data"
    files = {"codes": str(source / "codes"), "vocabulary": str(source / "vocab")}
    found = import_corpora(Import(source=str(source), folder=str(tmp_path / "i"), **files))
    assert found.unread == ("edge.pth", "train.en.legacy.pth")
    texts = {split: {} for split in ("train", "valid", "test")}  # type: dict[str, dict[str, str]]
    pairs = {split: {} for split in texts}  # type: dict[str, dict[str, list[str]]]
    for split in texts:
        for name in ("en", "fr", "hi", "en-fr.en", "en-fr.fr", "en-hi.en", "en-hi.hi"):
            segmented = (source / f"{split}.{name}").read_text(encoding="utf-8")
            path = tmp_path / f"{split}.{name}"
            path.write_text(segmented.replace("@@ ", ""), encoding="utf-8")
            if "-" in name:
                pairs[split].setdefault(name.split(".")[0], []).append(str(path))
            else:
                texts[split][name] = str(path)
    prepare(
        Prepare(
            folder=str(tmp_path / "p"),
            text=Texts(**texts),
            pairs=Aligned(**pairs),
            vocabulary=Vocabulary(codes=files["codes"], vocab=files["vocabulary"]),
            workers=1,
        )
    )
    same_files(tmp_path / "i", tmp_path / "p")


def test_data_that_contradicts_itself(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused() -> str:
        with pytest.raises(DataError) as caught:
            import_corpora(Import(source=str(data), folder=str(tmp_path / "out")))
        assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))
        return str(caught.value)

    shutil.copy(data / "train.en.0.pth", data / "train.en.pth")
    assert "lies beside its own parts (train.en.1.pth)" in refused()
    (data / "train.en.pth").unlink()
    side = data / "valid.en-ne.ne.pth"
    moved = side.rename(tmp_path / "away")
    assert "expected en and ne: give both sides" in refused()
    moved.rename(side)
    other = learn_fastbpe_tokenizer(lines_of("valid.en.txt"), 100)
    binarize(data, monkeypatch, other)("valid.en", ["a line"])
    assert "the files before it" in refused() and "valid.en.pth" in refused()
    (data / "valid.en.pth").unlink()
    (data / "codes").rename(tmp_path / "codes")
    with pytest.raises(CheckpointError, match="give codes"):
        import_corpora(Import(source=str(data), folder=str(tmp_path / "out")))


def test_a_folder_is_not_taken_for_data() -> None:
    assert not is_binarized(Path(__file__).parent)
    assert not is_binarized("nowhere")

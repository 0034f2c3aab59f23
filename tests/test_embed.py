"""``xlm embed`` and ``xlm search``: vectors in place, the nearest lines by brute force."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import tuned
from tests.interchange import peers
from xlm.__main__ import run
from xlm.embed import Embed, embed_file
from xlm.errors import ConfigError, DataError
from xlm.model.pretrained import PretrainedModel
from xlm.search import Search, search_file, search_lines
from xlm.text.line_store import LineStore
from xlm.text.vector_files import npy_head, read_vectors

LINES = [line[: 8 + 5 * (at % 7)] for at, line in enumerate(peers.lines()[::40])]
LINES = [*LINES[:2], "", *LINES[2:], LINES[5]]
QUERIES = ["दो दिन बाद", "", "She borrowed gloves", LINES[5]]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, PretrainedModel]:
    folder = tmp_path_factory.mktemp("embedding") / "model"
    own = tuned.body("xlm")
    own.save_pretrained(folder)
    return str(folder), own


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt.gz"
    with gzip.open(path, "wt", encoding="utf-8") as stream:
        stream.write("\n".join(LINES) + "\n")
    return path


def index(model: str, file: Path, name: str = "index.npy", **options: Any) -> Path:
    output = file.parent / name
    settings = {"language": "ne", "window": 7, **options}
    embed_file(Embed(model=model, file=str(file), output=str(output), **settings))
    return output


@pytest.mark.parametrize("name", ["index.npy", "index.parquet"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_vectors_are_written_in_order(
    model: tuple[str, PretrainedModel], file: Path, name: str, dtype: Any
) -> None:
    folder, own = model
    output = index(folder, file, name, dtype=dtype)
    found = read_vectors(output)
    assert found.shape == (len(LINES), 32) and found.dtype == dtype
    assert isinstance(found, np.memmap) == (name == "index.npy")
    assert found == pytest.approx(own.embed(LINES, "ne"), abs=1e-5 if dtype == "float32" else 1e-3)
    said = json.loads(Path(f"{output}.json").read_text())
    assert (said["lines"], said["width"], said["language"]) == (len(LINES), 32, "ne")
    assert (said["layer"], said["pooling"], said["normalize"]) == (2, "mean", True)
    assert sorted(path.name for path in file.parent.iterdir()) == sorted(
        [file.name, name, f"{name}.json"]
    )


def test_a_head_that_numpy_reads(tmp_path: Path) -> None:
    for num_rows, width in ((0, 3), (10**12, 4096)):
        head = npy_head(num_rows, width, "float32")
        assert len(head) == 128
        path = tmp_path / "head.npy"
        path.write_bytes(head)
        with path.open("rb") as stream:
            assert np.lib.format.read_magic(stream) == (1, 0)
            shape, order, kind = np.lib.format.read_array_header_1_0(stream)
        assert (shape, order, kind) == ((num_rows, width), False, np.dtype("float32"))


def test_rows_to_standard_output(
    model: tuple[str, PretrainedModel], file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, own = model
    run("embed", [folder, str(file), "--language=ne", "--layer=1", "--pooling=max"])
    rows = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert np.array(rows) == pytest.approx(own.embed(LINES, "ne", layer=1, pooling="max"), abs=1e-5)


def expected_hits(own: PretrainedModel, top: int) -> list[list[tuple[int, float]]]:
    """By brute force in float64: of equal scores the first line, and none without text."""
    x, y = (
        own.embed(part, lang).astype(np.float64) for part, lang in ((QUERIES, "en"), (LINES, "ne"))
    )
    found = []
    for query, vector in zip(QUERIES, x, strict=True):
        scores = np.round(y @ vector, 6)
        there = [at for at in range(len(LINES)) if y[at].any()]
        order = sorted(there, key=lambda at: (-scores[at], at))[:top]
        found.append([(at + 1, float(scores[at])) for at in order] if query else [])
    return found


@pytest.mark.parametrize("name", ["index.npy", "index.parquet"])
@pytest.mark.parametrize("window", [1, 3, 1000])
def test_search_finds_the_nearest_lines(
    model: tuple[str, PretrainedModel], file: Path, name: str, window: int
) -> None:
    folder, own = model
    output, queries = index(folder, file, name), file.parent / "queries.txt"
    queries.write_text("\n".join(QUERIES), encoding="utf-8")
    settings = {"index": str(output), "queries": str(queries), "language": "en", "window": window}
    found = [json.loads(row) for row in search_lines(Search(json=True, top=4, **settings))]
    for query, row, hits in zip(QUERIES, found, expected_hits(own, 4), strict=True):
        assert row["query"] == query
        assert [hit["line"] for hit in row["hits"]] == [number for number, _ in hits]
        assert [hit["score"] for hit in row["hits"]] == pytest.approx(
            [s for _, s in hits], abs=1e-5
        )
        assert [hit["text"] for hit in row["hits"]] == [
            " ".join(LINES[number - 1].split()) for number, _ in hits
        ]
    plain = list(search_lines(Search(top=2, texts="none", **settings)))
    for row, hits in zip(plain, expected_hits(own, 2), strict=True):
        cells = [cell.split(" ") for cell in row.split("\t")] if row else []
        assert [int(number) for _, number in cells] == [number for number, _ in hits]
    bound = found[0]["hits"][1]["score"] - 1e-6
    (first, *_) = search_lines(Search(json=True, top=4, above=bound, **settings))
    assert [hit["line"] for hit in json.loads(first)["hits"]] == [
        hit["line"] for hit in found[0]["hits"] if hit["score"] >= bound
    ]


def test_queries_as_vectors(model: tuple[str, PretrainedModel], file: Path) -> None:
    folder, _ = model
    output = index(folder, file)
    written = file.parent / "hits.txt"
    search_file(Search(index=str(output), queries=str(output), top=1, window=4, texts="none",
                       output=str(written)))  # fmt: skip
    best = [int(row.split(" ")[1]) if row else 0 for row in written.read_text().split("\n")[:-1]]
    own = list(range(1, len(LINES) + 1))
    own[2] = 0  # a vector of zeros has no neighbors
    assert best[:-1] == own[:-1]
    # the same line twice: in batches of other sizes its vectors differ by the last digits
    assert best[-1] in (LINES.index(LINES[-1]) + 1, len(LINES))


def test_what_cannot_be_searched(model: tuple[str, PretrainedModel], file: Path) -> None:
    folder, own = model
    output = index(folder, file)
    queries = file.parent / "queries.txt"
    queries.write_text("a\n")

    def refused(error: type[Exception], message: str, **changes: Any) -> None:
        settings = {"index": str(output), "queries": str(queries), "language": "en", **changes}
        with pytest.raises(error, match=message) as caught:
            list(search_lines(Search(**settings)))
        assert "\n" not in str(caught.value)

    refused(DataError, "none.npy does not exist", index=str(file.parent / "none.npy"))
    refused(DataError, "holds no vectors", index=str(file))
    refused(ConfigError, "does not know the language fr", language="fr")
    refused(ConfigError, "top is 0", top=0)
    refused(
        DataError, r"queries\.txt has 1 lines, but .*index\.npy has \d+ vectors", texts=str(queries)
    )
    np.save(file.parent / "flat.npy", np.zeros(3))
    refused(
        DataError, r"flat\.npy holds float64 \(3,\): expected", index=str(file.parent / "flat.npy")
    )
    np.save(file.parent / "other.npy", np.zeros((3, 5), dtype=np.float32))
    refused(DataError, "holds vectors of 5 numbers", queries=str(file.parent / "other.npy"))
    refused(
        ConfigError,
        "other.npy.json, which names the model of .* is missing beside it",
        index=str(file.parent / "other.npy"),
    )
    refused(
        DataError, "makes vectors of 32 numbers", index=str(file.parent / "other.npy"), model=folder
    )
    damaged = np.load(output)
    damaged[3] = np.nan
    np.save(file.parent / "nan.npy", damaged)
    refused(
        DataError, "the scores for row 1 are not numbers: .* of line 4 in .*nan.npy",
        index=str(file.parent / "nan.npy"), queries=str(output),
    )  # fmt: skip
    said = Path(f"{output}.json")
    content = json.loads(said.read_text())
    for name, value in (("layer", "x"), ("model", 5)):
        said.write_text(json.dumps({**content, name: value}))
        refused(DataError, f"index.npy.json: {name} is {value!r}, expected")
    said.write_text(json.dumps(content))
    other = ["b" if line else "" for line in LINES]
    file.write_bytes(gzip.compress("\n".join(other).encode() + b"\n"))
    refused(DataError, r"lines\.txt\.gz is no longer the text that .*index\.npy was made of")
    assert list(search_lines(Search(index=str(output), queries=str(queries), texts=str(file))))
    for name, message in (
        ("x.txt", r"expected a name that ends in \.npy"),
        ("x", "expected a name"),
    ):
        with pytest.raises(ConfigError, match=message):
            Embed(model=folder, file=str(file), output=str(file.parent / name))


def test_another_model_is_noticed(
    model: tuple[str, PretrainedModel], file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, _ = model
    output = index(folder, file)
    tuned.body("xlm", strength=2.0).save_pretrained(tmp_path / "other")
    queries = file.parent / "queries.txt"
    queries.write_text("a\n")
    settings = {"index": str(output), "queries": str(queries)}
    assert len(list(search_lines(Search(model=str(tmp_path / "other"), **settings)))) == 1
    assert "is not the model that made" in caplog.text


def test_lines_by_number(file: Path) -> None:
    with LineStore(str(file)) as store:
        assert len(store) == len(LINES)
        assert [store[at] for at in (3, 0, len(LINES) - 1)] == [LINES[3], LINES[0], LINES[-1]]
        with pytest.raises(DataError, match="so there is no line 1,001"):
            store[1000]

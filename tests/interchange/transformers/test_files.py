"""The files of transformers model directories: read without that package, damage named."""

import json

import pytest
import torch
from safetensors.torch import save_file

from xlm import storage
from xlm.errors import CheckpointError
from xlm.interchange.transformers.files import (
    read_config,
    read_weights,
    write_config,
    write_weights,
)

TENSORS = {
    "a.weight": torch.arange(6.0).reshape(2, 3),
    "b": torch.ones(3, dtype=torch.bfloat16),
    "c": torch.tensor(2),
}


def message(call, *arguments):
    with pytest.raises(CheckpointError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def same(found, expected):
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor), name
    return True


def write_index(folder, where):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


def test_tensors_go_and_come_back(tmp_path):
    write_weights(tmp_path / "new" / "folder", {**TENSORS, "a.weight": TENSORS["a.weight"].T.T})
    same(read_weights(tmp_path / "new" / "folder"), TENSORS)
    assert [path.name for path in (tmp_path / "new" / "folder").iterdir()] == ["model.safetensors"]


def test_tensors_outlive_their_file(tmp_path):
    write_weights(tmp_path, TENSORS)
    found = read_weights(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    same(found, TENSORS)


def test_transformers_reads_what_is_written(tmp_path):
    from safetensors import safe_open

    write_weights(tmp_path, TENSORS)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}  # without which it refuses the file


def test_shards_are_put_together(tmp_path):
    save_file({"a.weight": TENSORS["a.weight"]}, tmp_path / "model-00001-of-00002.safetensors")
    rest = {name: TENSORS[name] for name in ("b", "c")}
    save_file(rest, tmp_path / "model-00002-of-00002.safetensors")
    where = dict.fromkeys(rest, "model-00002-of-00002.safetensors")
    write_index(tmp_path, {"a.weight": "model-00001-of-00002.safetensors", **where})
    same(read_weights(tmp_path), TENSORS)


@pytest.mark.parametrize(
    "file", ["../secret.safetensors", "/secret", "..", ".", "a/b", "a\\b", "a\0", "", 3, None]
)
def test_an_index_cannot_lead_out_of_its_folder(tmp_path, file):
    inner = tmp_path / "inner"
    inner.mkdir()
    save_file(TENSORS, tmp_path / "secret.safetensors")
    write_index(inner, {"a.weight": file})
    assert "expected the name of a file beside it" in message(read_weights, inner)


@pytest.mark.parametrize(
    "where, expected",
    [
        ({"z": "one.safetensors"}, "z is not in one.safetensors"),
        (
            {"a": "one.safetensors", "b": "two.safetensors"},
            "two.safetensors: holds b, which another",
        ),
        ({"a": "gone.safetensors"}, "gone.safetensors: cannot be read"),
        ({}, "has no weight_map"),
        (["one.safetensors"], "has no weight_map"),
    ],
)
def test_an_index_that_does_not_fit_its_shards(tmp_path, where, expected):
    save_file({"a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "one.safetensors")
    save_file({"b": torch.ones(1)}, tmp_path / "two.safetensors")
    write_index(tmp_path, where)
    assert expected in message(read_weights, tmp_path)


def test_torch_weights_in_several_files(tmp_path):
    parts = {"pytorch_model-00001-of-00002.bin": ["a.weight"]}
    parts["pytorch_model-00002-of-00002.bin"] = sorted(set(TENSORS) - {"a.weight"})
    for file, names in parts.items():
        torch.save({name: TENSORS[name] for name in names}, tmp_path / file)
    where = {name: file for file, names in parts.items() for name in names}
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    found = read_weights(tmp_path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    (tmp_path / "pytorch_model-00002-of-00002.bin").unlink()
    assert "pytorch_model-00002-of-00002.bin" in message(read_weights, tmp_path)


def test_damage_and_absence_are_named(tmp_path):
    assert "expected weights in model.safetensors, " in message(read_weights, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\xff" * 40)
    assert "model.safetensors: cannot be read" in message(read_weights, tmp_path)


@pytest.mark.parametrize(
    "content, expected",
    [
        ("{", "is not JSON"),
        ("[1]", "expected a JSON object, found list"),
        ("[" * 100_000, "is not JSON"),
        ("\udcff", "is not JSON"),
        ("{}", "model_type is None"),
        ('{"model_type": 3}', "model_type is 3"),
    ],
)
def test_a_config_that_is_none(tmp_path, content, expected):
    (tmp_path / "config.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert expected in message(read_config, tmp_path)


def test_a_config_that_is_missing_or_huge(tmp_path, monkeypatch):
    assert "config.json: cannot be read (No such file" in message(read_config, tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "xlm"}')
    assert read_config(tmp_path) == {"model_type": "xlm"}
    monkeypatch.setattr(storage, "MAX_JSON", 20)
    assert "21 bytes" in message(read_config, tmp_path)


def test_json_goes_and_comes_back(tmp_path):
    write_config(tmp_path, {"b": "न", "a": {"z": 1, "y": [None, 1e-12]}}, "x.json")
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text.startswith('{\n  "a": {\n    "y"') and '"b": "न"\n}\n' in text
    assert storage.read_json(tmp_path / "x.json")["a"] == {"z": 1, "y": [None, 1e-12]}

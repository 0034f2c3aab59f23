"""Model directories: what goes in comes out, and every misfit is named."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tuned import tuned
from xlm.errors import CheckpointError, ConfigError
from xlm.model.config import ModelConfig
from xlm.model.model_directory import load_model, save_model
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer

LANGUAGES = {"hi": 2, "en": 0, "ne": 1}


def build(**fields):
    fields = {"dim": 8, "num_layers": 2, "num_heads": 2, "max_positions": 10, **fields}
    torch.manual_seed(0)
    return Transformer(ModelConfig(**fields), vocab_size=31, num_languages=3, pad_id=2)


@pytest.fixture
def folder(tmp_path):
    save_model(build(), tmp_path / "a" / "model", LANGUAGES, extra={"step": 7})
    return tmp_path / "a" / "model"


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"num_decoder_layers": 1, "feed_forward": 12, "activation": "relu", "dropout": 0.25},
        {"tied_output": False, "language_embeddings": False, "layer_norm_eps": 1e-5},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_round_trip_is_bit_identical(tmp_path, fields, dtype):
    model = build(**fields).to(dtype)
    state = torch.get_rng_state()
    save_model(model, tmp_path, LANGUAGES)
    loaded, languages = load_model(tmp_path, wanted_languages=["ne", "en"], vocab_size=31)
    assert torch.equal(torch.get_rng_state(), state)
    assert languages == LANGUAGES
    assert loaded.config == model.config
    assert (loaded.vocab_size, loaded.num_languages, loaded.pad_id) == (31, 3, 2)
    found, expected = loaded.state_dict(), model.state_dict()
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert found[name].dtype == dtype
        assert torch.equal(found[name], value), name
    tokens = torch.randint(3, 31, (2, 6))
    lengths, langs = torch.tensor([6, 4]), torch.tensor([[1] * 6, [2] * 6])
    model.eval(), loaded.eval()
    assert torch.equal(
        model.encode(tokens, lengths, langs=langs), loaded.encode(tokens, lengths, langs=langs)
    )


def test_a_loaded_model_can_be_trained(folder):
    model, _ = load_model(folder)
    assert model.training
    assert all(p.requires_grad and not p.is_meta for p in model.parameters())
    (folder / "model.safetensors").write_bytes(b"gone")
    tokens = torch.full((1, 3), 5)
    hidden = model.encode(tokens, torch.tensor([3]))
    model.predict(hidden, torch.tensor([0, 1])).sum().backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()


def test_the_tied_matrix_is_stored_once_and_nothing_is_left_beside(folder):
    names = set(load_file(folder / "model.safetensors"))
    assert {name for name in names if "word" in name or "output_weight" in name} == {
        "encoder.words.weight"
    }
    listed = sorted(path.name for path in folder.iterdir())
    assert listed == ["config.json", "languages.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["format_version"] == 1
    assert config["extra"] == {"step": 7}
    assert json.loads((folder / "languages.json").read_text()) == LANGUAGES


def test_saving_again_replaces(folder):
    model = build(dim=16)
    save_model(model, folder, LANGUAGES)
    assert load_model(folder)[0].config.dim == 16


@pytest.mark.parametrize(
    "languages", [{"en": 0, "hi": 1}, {"en": 0, "hi": 1, "ne": 3}, {"en": 0, "hi": 1, "ne": 1}]
)
def test_a_language_map_that_does_not_fit_is_refused(tmp_path, languages):
    with pytest.raises(ConfigError, match="3 languages: expected the ids 0 to 2"):
        save_model(build(), tmp_path, languages)
    assert not list(tmp_path.iterdir())


def test_an_unknown_language_or_another_vocabulary_is_named(folder):
    with pytest.raises(ConfigError, match="does not know the language fr: it knows hi, en, ne"):
        load_model(folder, wanted_languages=["en", "fr"])
    with pytest.raises(CheckpointError, match="vocabulary of 31 ids.*tokenizer in use has 30"):
        load_model(folder, vocab_size=30)


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"format": "other"}, "'other', expected 'xlm-pretrain model'"),
        ({"format_version": 2}, "format version 2, expected 1"),
        ({"vocab_size": "31"}, "vocab_size is '31', expected int"),
        ({"model": {"dim": 8, "num_layers": 2, "num_heads": 2, "novelty": 1}}, "novelty"),
        ({"model": {"dim": 8, "num_layers": 2, "num_heads": 3}}, "not divisible"),
        ({"pad_id": 31}, "padding id 31"),
        ({"num_languages": 2}, "model of 2 languages"),
    ],
)
def test_a_description_that_does_not_fit_is_named(folder, changes, words):
    change(folder / "config.json", **changes)
    with pytest.raises(CheckpointError) as error:
        load_model(folder)
    assert words in one_line(error)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize("name", ["config.json", "languages.json", "model.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "empty", "garbage", "cut"])
def test_a_file_that_cannot_be_read_is_named(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "garbage": b"\xff[1]", "cut": content[:-9]}[damage])
    with pytest.raises(CheckpointError) as error:
        load_model(folder)
    assert str(path) in one_line(error)


def test_tensors_that_do_not_fit_are_named(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["stranger"] = tensors.pop("encoder.output_bias")
    tensors["encoder.positions.weight"] = torch.zeros(9, 8)
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as error:
        load_model(folder)
    message = one_line(error)
    assert "missing encoder.output_bias;" in message
    assert "not part of the model stranger;" in message
    assert "encoder.positions.weight [9, 8] instead of [10, 8]" in message


def test_a_disk_that_refuses_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write .*model: Not a directory; choose"):
        save_model(build(), tmp_path / "file" / "model", LANGUAGES)


@pytest.mark.parametrize("given", [("a line", None), (["a line"], "another")])
def test_a_string_is_no_list_of_lines(given):
    """Its letters would pass for lines."""
    model = PretrainedModel(build(), tokenizer=None, languages=LANGUAGES)
    with pytest.raises(ConfigError, match="give a list of strings"):
        model.batch(given[0], "en", given[1])


def test_heads_of_a_model_that_lay_there_go(tmp_path):
    """A folder that is written again holds one model, not the heads of another."""
    model = tuned("topic")
    model.save_pretrained(tmp_path)
    assert PretrainedModel.open(tmp_path).heads
    dataclasses.replace(model, heads={}, tasks="").save_pretrained(tmp_path)
    plain = PretrainedModel.open(tmp_path)
    assert not plain.heads and not plain.tasks
    assert not (tmp_path / "heads.safetensors").exists()

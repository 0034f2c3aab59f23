"""RoFormer: the same numbers as transformers', both ways."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from xlm.convert import Export, export_model
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.interchange.load import load
from xlm.interchange.parity import measure
from xlm.interchange.transformers.roformer import (
    PAIRS,
    read_transformers_roformer,
    write_transformers_roformer,
)
from xlm.interchange.transformers.turns import as_halves, as_neighbors
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_sentencepiece

transformers = pytest.importorskip("transformers")


def ours(tokenizer=None, **changes):
    """A random model of the rotary presets' shape, away from its first values."""
    tokenizer = tokenizer or learn_sentencepiece(peers.lines(), 700)
    shape = {
        "preset": "rotary-tiny",
        "output_transform": True,
        "dim": 32,
        "num_layers": 2,
        "max_positions": 100,
    }
    torch.manual_seed(0)
    model = Transformer(
        ModelConfig(**{**shape, **changes}), vocab_size=tokenizer.vocab_size, num_languages=3,
        pad_id=tokenizer.pad_id,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    return PretrainedModel(model.eval(), tokenizer, {}, {})


def running(model):
    """A padded batch whose positions run on, as RoFormer's must."""
    given = peers.batch(model)
    given.positions.copy_(torch.arange(given.tokens.shape[1]).expand_as(given.tokens))
    return given


@pytest.mark.parametrize("changes", [{}, {"num_segments": 2}, {"tied_output": False}])
def test_the_same_numbers_both_ways(tmp_path, changes):
    model = ours(**changes)
    lost = write_transformers_roformer(model, tmp_path / "theirs")
    assert PAIRS in lost
    peer, info = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path / "theirs", output_loading_info=True
    )
    assert type(peer) is transformers.RoFormerForMaskedLM
    assert not info["missing_keys"] and not info["unexpected_keys"]
    given = running(model)
    assert len(set(given.lengths.tolist())) > 1, "nothing is padded"
    token_types = model.transformer.config.num_segments == 2
    if not token_types:
        given.segments.zero_()
    assert peers.difference(model, peer.eval(), given, token_types=token_types) <= TOLERANCE
    back = read_transformers_roformer(tmp_path / "theirs")
    assert back.transformer.config.positions == "rotary"
    assert peers.difference(back, peer, given, token_types=token_types) <= TOLERANCE
    # whatever their order, the features of a head give the same products: only rows are compared
    for name, tensor in model.transformer.state_dict().items():
        assert torch.equal(tensor, back.transformer.state_dict()[name]), name


def test_exports_are_byte_identical_after_an_import(tmp_path):
    write_transformers_roformer(ours(), tmp_path / "first")
    again = read_transformers_roformer(tmp_path / "first")
    write_transformers_roformer(again, tmp_path / "second")
    first, second = (peers.contents(tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert set(first) == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip


def test_transformers_own_folder_comes_in(tmp_path):
    model = ours()
    write_transformers_roformer(model, tmp_path / "ours")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    peer = peers.shake(transformers.RoFormerForMaskedLM(config))
    table = peer.roformer.encoder.embed_positions
    table.weight.data.copy_(table.create_weight())  # which is no parameter to be shaken
    peer.save_pretrained(tmp_path / "theirs")
    with pytest.raises(DataError, match="tokenizer.json is missing.*segmenter"):
        load(tmp_path / "theirs")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "theirs" / name).write_bytes((tmp_path / "ours" / name).read_bytes())
    found = load(tmp_path / "theirs")
    given = running(found)
    given.segments.zero_()
    assert peers.difference(found, peer, given, token_types=True) <= TOLERANCE


def test_the_verb_measures_parity(tmp_path):
    model = ours()
    model.save_pretrained(tmp_path / "model")
    done = export_model(
        Export(source=str(tmp_path / "model"), folder=str(tmp_path / "out"), format="roformer")
    )
    assert done.parity.agrees and done.parity.logits <= TOLERANCE
    assert "RoFormerForMaskedLM" in done.parity.peer
    assert done.parity.batches == ("full rows", "padding", "pairs", "a whole window")
    lines, raw = done.parity.tokenizer
    assert lines.identical == lines.lines > 1000 and raw.identical == raw.lines > 8
    assert PAIRS in done.lost
    # and a model that is not the same is noticed
    with torch.no_grad():
        model.transformer.encoder.layers[0].attention.query_key_value.weight[0] += 0.5
    assert not measure(model, tmp_path / "out").agrees


def test_pipelines_open_it(tmp_path):
    model = ours()
    write_transformers_roformer(model, tmp_path)
    fill = transformers.pipeline("fill-mask", str(tmp_path))
    found = fill(f"Rice is {fill.tokenizer.mask_token} in every house.")
    assert len(found) == 5 and all(0 <= one["score"] <= 1 for one in found)


def test_features_change_places_and_back():
    rows = torch.arange(16).reshape(16, 1)
    assert as_neighbors(rows, 2)[:8, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert torch.equal(as_halves(as_neighbors(rows, 2), 2), rows)
    assert torch.equal(as_halves(as_neighbors(rows[:, 0], 4), 4), rows[:, 0])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"positions": "learned"}, "positions learned (give rotary)"),
        ({"rotary_base": 500.0}, "rotary_base 500.0 (give 10000)"),
        ({"norm": "pre"}, "norm pre (give post)"),
        ({"output_transform": False}, "output_transform false: give true"),
        ({"language_embeddings": True}, "language_embeddings true: give false"),
        ({"num_segments": 3}, "num_segments 3 (give 2)"),
    ],
)
def test_shapes_that_cannot_go_are_named_with_advice(changes, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        write_transformers_roformer(ours(**changes), tmp_path / "none")
    assert "cannot become a RoFormer model" in str(error.value)
    assert words in str(error.value)
    assert not (tmp_path / "none").exists()


def test_a_fastbpe_tokenizer_is_refused(tmp_path):
    tokenizer = FastBpeTokenizer(b"t h 2\nth e</w> 2\n", b"the 2\nc@@ 1\nat 1\n")
    with pytest.raises(ConfigError, match="a FastBpeTokenizer cannot become a RoFormer"):
        write_transformers_roformer(ours(tokenizer), tmp_path / "none")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("rotary_value", True, "rotary_value is True, expected False"),
        ("embedding_size", 16, "embedding_size is 16, but hidden_size is 32"),
        ("num_attention_heads", 32, "queries have 32 features in 32 heads"),
        ("max_position_embeddings", 0, "max_position_embeddings is 0"),
    ],
)
def test_settings_without_a_counterpart_are_refused(setting, value, words, tmp_path):
    write_transformers_roformer(ours(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    with pytest.raises(CheckpointError, match=words):
        read_transformers_roformer(tmp_path)


def test_trained_positions_are_refused(tmp_path):
    write_transformers_roformer(ours(), tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    name = "roformer.encoder.embed_positions.weight"
    save_file({**tensors, name: tensors[name] + 0.1}, path)
    with pytest.raises(CheckpointError, match="does not hold the sines and cosines"):
        read_transformers_roformer(tmp_path)
    save_file({**tensors, name: torch.zeros(5)}, path)
    with pytest.raises(CheckpointError, match=r"has shape \[5\]"):
        read_transformers_roformer(tmp_path)

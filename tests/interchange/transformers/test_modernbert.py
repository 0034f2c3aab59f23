"""ModernBERT: the same numbers as transformers', both ways."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from xlm.convert import Export, export_model
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.interchange.load import load
from xlm.interchange.transformers.files import read_config
from xlm.interchange.transformers.modernbert import (
    _settings,
    read_transformers_modernbert,
    write_transformers_modernbert,
)
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.learn import learn_sentencepiece

transformers = pytest.importorskip("transformers")
SHAPE = {
    "dim": 32, "num_layers": 5, "num_heads": 4, "feed_forward": 40, "max_positions": 100,
    "language_embeddings": False, "output_transform": True, "layer_norm_eps": 1e-5,
    "positions": "rotary", "rotary_base": 160_000.0, "local_rotary_base": 10_000.0, "window": 16,
    "global_every": 3, "norm": "pre", "first_norm": False, "activation": "geglu", "biases": False,
}  # fmt: skip


def ours(tokenizer=None, noise=0.1, **changes):
    """A random model of ModernBERT's shape, away from its first values."""
    tokenizer = tokenizer or learn_sentencepiece(peers.lines(), 700)
    torch.manual_seed(0)
    model = Transformer(
        ModelConfig(**{**SHAPE, **changes}), vocab_size=tokenizer.vocab_size, num_languages=3,
        pad_id=tokenizer.pad_id,
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += noise * torch.randn_like(parameter)
    return PretrainedModel(model.eval(), tokenizer, {}, {})


def running(model):
    """A padded batch whose positions run on, longer than the window."""
    given = peers.batch(model)
    given.positions.copy_(torch.arange(given.tokens.shape[1]).expand_as(given.tokens))
    assert len(set(given.lengths.tolist())) > 1, "nothing is padded"
    assert int(given.lengths.min()) > SHAPE["window"]
    return given


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"tied_output": False},
        {"window": None, "global_every": 1, "local_rotary_base": None},
        {"local_rotary_base": None},
    ],
)
def test_the_same_numbers_both_ways(tmp_path, changes):
    model = ours(**changes)
    write_transformers_modernbert(model, tmp_path / "theirs")
    peer, info = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path / "theirs", output_loading_info=True, attn_implementation="eager"
    )
    assert type(peer) is transformers.ModernBertForMaskedLM
    assert not info["missing_keys"] and not info["unexpected_keys"]
    given = running(model)
    assert peers.difference(model, peer.eval(), given, token_types=False) <= TOLERANCE
    back = read_transformers_modernbert(tmp_path / "theirs")
    for name, tensor in model.transformer.state_dict().items():
        assert torch.equal(tensor, back.transformer.state_dict()[name]), name
    assert peers.difference(back, peer, given, token_types=False) <= TOLERANCE


def test_gradients_are_transformers_own(tmp_path):
    model = ours()
    write_transformers_modernbert(model, tmp_path)
    peer = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path, attn_implementation="eager"
    ).eval()
    given = running(model)
    inputs = peers.feed(given, token_types=False)
    real = inputs["attention_mask"].bool()
    cells = real.flatten().nonzero()[:, 0]
    model.transformer.predict(model.encode(given), cells).square().mean().backward()
    peer(**inputs).logits[real].square().mean().backward()
    for here, there in (
        ("layers.0.attention.query_key_value.weight", "model.layers.0.attn.Wqkv.weight"),
        ("layers.4.feed_forward.expand.weight", "model.layers.4.mlp.Wi.weight"),
    ):
        mine, theirs = model.transformer.encoder.get_parameter(here), peer.get_parameter(there)
        largest = float(theirs.grad.abs().max())
        assert largest > 0
        assert float((mine.grad - theirs.grad).abs().max()) <= 1e-4 * largest


def test_exports_are_byte_identical_after_an_import(tmp_path):
    write_transformers_modernbert(ours(), tmp_path / "first")
    write_transformers_modernbert(
        read_transformers_modernbert(tmp_path / "first"), tmp_path / "second"
    )
    first, second = (peers.contents(tmp_path / name) for name in ("first", "second"))
    assert first == second


def test_transformers_own_folder_comes_in(tmp_path):
    """Whose configuration has the newer names, layer_types and rope_parameters."""
    write_transformers_modernbert(ours(), tmp_path / "ours")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "ours")
    peer = peers.shake(transformers.ModernBertForMaskedLM(config))
    peer.save_pretrained(tmp_path / "theirs")
    assert "layer_types" in json.loads((tmp_path / "theirs/config.json").read_text())
    with pytest.raises(DataError):
        load(tmp_path / "theirs")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "theirs" / name).write_bytes((tmp_path / "ours" / name).read_bytes())
    found = load(tmp_path / "theirs")
    shape = found.transformer.config
    assert (shape.window, shape.global_every, shape.rotary_base) == (16, 3, 160_000.0)
    assert peers.difference(found, peer, running(found), token_types=False) <= TOLERANCE


@pytest.mark.parametrize("pair", peers.GEMMA_PAIRS)
def test_a_model_of_mmbert_s_kind_comes_in_and_leaves_as_it_came(pair, tmp_path):
    """One rotary base for all layers, and Gemma's tokenizer with a mask."""
    folder = peers.write(
        tmp_path / "theirs", tokenizer__json=peers.gemma(pair),
        tokenizer_config__json={
            "tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>",
            "eos_token": "<eos>", "cls_token": "<bos>", "sep_token": "<eos>",
            "pad_token": "<pad>", "unk_token": "<unk>", "mask_token": "<mask>",
        },
    )  # fmt: skip
    config = transformers.ModernBertConfig(
        **peers.SIZES, vocab_size=960, local_attention=16, max_position_embeddings=100,
        pad_token_id=0, bos_token_id=2, eos_token_id=1, cls_token_id=1, sep_token_id=1,
        rope_parameters={
            kind: {"rope_type": "default", "rope_theta": 160_000.0}
            for kind in ("full_attention", "sliding_attention")
        },
    )  # fmt: skip
    peer = peers.shake(transformers.ModernBertForMaskedLM(config))
    peer.save_pretrained(folder)
    found = load(folder)
    assert found.transformer.vocab_size == 960 and found.transformer.config.window == 16
    assert found.transformer.config.local_rotary_base == 160_000.0
    assert peers.difference(found, peer, running(found), token_types=False) <= TOLERANCE
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    batch = peers.batch(found)
    expected = theirs(
        [peers.lines()[at] for at in (0, 310, 620)], [peers.lines()[at] for at in (5, 320, 621)]
    )["input_ids"]
    for row, ids in enumerate(expected):
        assert batch.tokens[row, : len(ids)].tolist() == ids
    assert found.fill(["The ___ is cold."], top=3)

    for out in ("first", "second"):
        write_transformers_modernbert(found, tmp_path / out)
        found = load(tmp_path / out)
    assert peers.contents(tmp_path / "first") == peers.contents(tmp_path / "second")
    assert (tmp_path / "second/tokenizer.json").read_bytes() == peers.gemma(pair)
    fill = transformers.pipeline("fill-mask", str(tmp_path / "second"))
    assert len(fill(f"Rice is {fill.tokenizer.mask_token} here.")) == 5


def test_the_verb_measures_parity(tmp_path):
    ours().save_pretrained(tmp_path / "model")
    done = export_model(
        Export(source=str(tmp_path / "model"), folder=str(tmp_path / "out"), format="modernbert")
    )
    assert done.parity.agrees and done.parity.logits <= TOLERANCE
    assert "ModernBertForMaskedLM" in done.parity.peer
    assert done.parity.batches == ("full rows", "padding", "pairs", "a whole window")
    fill = transformers.pipeline("fill-mask", str(tmp_path / "out"))
    assert len(fill(f"Rice is {fill.tokenizer.mask_token} in every house.")) == 5


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"norm": "post", "first_norm": True}, "norm post (give pre)"),
        ({"activation": "gelu"}, "activation gelu (give geglu)"),
        ({"biases": True}, "biases True (give False)"),
        ({"first_norm": True}, "first_norm True (give False)"),
        ({"window": 15}, "window 15 (give an even number)"),
        ({"language_embeddings": True}, "language_embeddings true: give false"),
        ({"num_decoder_layers": 1}, "num_decoder_layers 1 (give 0)"),
    ],
)
def test_shapes_that_cannot_go_are_named_with_advice(changes, words, tmp_path):
    with pytest.raises(ConfigError) as error:
        write_transformers_modernbert(ours(**changes), tmp_path / "none")
    assert "cannot become a ModernBERT model" in str(error.value)
    assert words in str(error.value)
    assert not (tmp_path / "none").exists()


def test_a_fastbpe_tokenizer_is_refused(tmp_path):
    tokenizer = FastBpeTokenizer(b"t h 2\nth e</w> 2\n", b"the 2\nc@@ 1\nat 1\n")
    with pytest.raises(ConfigError, match="a FastBpeTokenizer cannot become a ModernBERT"):
        write_transformers_modernbert(ours(tokenizer), tmp_path / "none")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("hidden_activation", "silu", "hidden_activation is 'silu', expected 'gelu'"),
        ("norm_bias", True, "norm_bias is True, expected False"),
        ("layer_types", ["full_attention"] * 2 + ["sliding_attention"] * 3, "layer_types is"),
        ("rope_parameters", {"full_attention": {"rope_type": "yarn"}}, "rope_type is 'yarn'"),
        ("num_hidden_layers", 4, "layers.4"),
        ("intermediate_size", 41, r"contract.weight has shape \[32, 40\], but .* says \[32, 41\]"),
    ],
)
def test_settings_without_a_counterpart_are_refused(setting, value, words, tmp_path):
    write_transformers_modernbert(ours(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    with pytest.raises(CheckpointError, match=words):
        read_transformers_modernbert(tmp_path)


def test_a_model_without_an_output_gets_a_stand_in_and_leaves_without_one(tmp_path):
    write_transformers_modernbert(ours(), tmp_path / "whole")
    config = transformers.AutoConfig.from_pretrained(tmp_path / "whole")
    peer = peers.shake(transformers.ModernBertModel(config))
    peer.save_pretrained(tmp_path / "bare")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "bare" / name).write_bytes((tmp_path / "whole" / name).read_bytes())
    found = load(tmp_path / "bare")
    assert any("no output onto the vocabulary" in line for line in found.extra["lost"])
    given = running(found)
    real = peers.feed(given, token_types=False)["attention_mask"].bool()
    with torch.no_grad():
        theirs = peer(**peers.feed(given, token_types=False)).last_hidden_state[real]
        assert (found.encode(given)[real] - theirs).abs().max() <= TOLERANCE
    write_transformers_modernbert(found, tmp_path / "out")
    again, info = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert type(again) is transformers.ModernBertModel
    assert not info["missing_keys"] and not info["unexpected_keys"]
    for name, tensor in peer.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name


def test_a_model_without_words_is_refused(tmp_path):
    write_transformers_modernbert(ours(), tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["model.embeddings.tok_embeddings.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="with embeddings.tok_embeddings.weight; found"):
        read_transformers_modernbert(tmp_path)


def test_a_preset_is_transformers_default(tmp_path):
    """ModernBERT-base, field by field, and a small one by value in rows longer than the window."""
    described = transformers.ModernBertConfig().to_dict()
    (tmp_path / "config.json").write_text(json.dumps({**described, "model_type": "modernbert"}))
    preset = ModelConfig(preset="modernbert-base")
    found = _settings(read_config(tmp_path), tmp_path / "config.json")
    assert found == {name: getattr(preset, name) for name in found}

    model = ours(noise=0.05, **dict.fromkeys(SHAPE, None), preset="modernbert-tiny")
    assert model.transformer.config == ModelConfig(preset="modernbert-tiny")
    write_transformers_modernbert(model, tmp_path / "out")
    peer = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "out").eval()
    for length in (200, 420):  # the second in blocks
        tokens = torch.randint(10, 700, (2, length), generator=torch.Generator().manual_seed(0))
        for lengths in (torch.tensor([length, 150]), torch.tensor([length, length])):
            real = torch.arange(length) < lengths[:, None]
            with torch.no_grad():
                hidden = model.transformer.encode(tokens, lengths)
                mine = model.transformer.predict(hidden, real.flatten().nonzero()[:, 0])
                theirs = peer(input_ids=tokens, attention_mask=real.long()).logits[real]
            assert (mine - theirs).abs().max() <= TOLERANCE
            assert theirs.std() > 0.5

"""EuroBERT: the same numbers as transformers', with keys and values of each head or shared."""

import json

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from xlm.convert import Import, import_model
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.load import load
from xlm.interchange.transformers.eurobert import read_transformers_eurobert
from xlm.interchange.transformers.modernbert import write_transformers_modernbert

transformers = pytest.importorskip("transformers")
NAMES = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>",
         "pad_token": "<|end_of_text|>", "mask_token": "<|mask|>"}  # fmt: skip


def bytes_json():
    """A tokenizer.json of Llama 3's kind: bytes, no unknown token, padding by the end symbol."""
    specials = ["<|begin_of_text|>", "<|end_of_text|>", "<|mask|>"]
    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, show_progress=False, special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    backend.train_from_iterator(peers.lines(), trainer)
    backend.post_processor = processors.TemplateProcessing(
        single=f"{specials[0]} $A {specials[1]}",
        pair=f"{specials[0]} $A {specials[1]} {specials[0]}:1 $B:1 {specials[1]}:1",
        special_tokens=[(name, at) for at, name in enumerate(specials)],
    )
    return backend.to_str().encode()


def theirs(folder, kind="EuroBertForMaskedLM", **changes):
    """A random EuroBERT of transformers in ``folder``, beside a tokenizer."""
    sizes = {"num_key_value_heads": 4, "rope_parameters": {"rope_type": "default",
             "rope_theta": 250_000.0}, "max_position_embeddings": 200}  # fmt: skip
    tokens = {"vocab_size": 600, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
              "mask_token_id": 2}  # fmt: skip
    config = transformers.EuroBertConfig(**{**peers.SIZES, **sizes, **tokens, **changes})
    peer = peers.shake(getattr(transformers, kind)(config))
    peer.save_pretrained(folder)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **NAMES}
    peers.write(folder, tokenizer__json=bytes_json(), tokenizer_config__json=settings)
    return peer


def running(model):
    given = peers.batch(model)
    given.positions.copy_(torch.arange(given.tokens.shape[1]).expand_as(given.tokens))
    assert len(set(given.lengths.tolist())) > 1, "nothing is padded"
    return given


@pytest.mark.parametrize("num_shared", [4, 2, 1])
@pytest.mark.parametrize("tied", [True, False])
def test_the_same_numbers(num_shared, tied, tmp_path):
    peer = theirs(tmp_path, num_key_value_heads=num_shared, tie_word_embeddings=tied)
    found = load(tmp_path)
    assert found.transformer.config.tied_output is tied
    given = running(found)
    assert peers.difference(found, peer, given, token_types=False) <= TOLERANCE
    said = [line for line in found.extra["lost"] if "every head has a copy" in line]
    assert len(said) == (num_shared < 4)
    other = transformers.AutoTokenizer.from_pretrained(tmp_path)
    for text in peers.lines()[::50]:
        ids = found.tokenizer.encode(text)
        assert other(text)["input_ids"] == [0, *ids, 1]
        assert found.tokenizer.decode(ids) == text


def test_the_verb_measures_parity(tmp_path):
    theirs(tmp_path / "theirs", num_key_value_heads=2)
    done = import_model(Import(source=str(tmp_path / "theirs"), folder=str(tmp_path / "ours")))
    assert done.parity.agrees and done.parity.logits <= TOLERANCE
    assert "EuroBertForMaskedLM" in done.parity.peer
    assert done.model.fill(["The ___ is cold."], top=3)


def test_a_model_without_an_output_gets_a_stand_in(tmp_path):
    for kind in ("EuroBertModel", "EuroBertForSequenceClassification"):
        theirs(tmp_path / kind, kind)
        found = load(tmp_path / kind)
        lost = "\n".join(found.extra["lost"])
        assert "no output onto the vocabulary" in lost
        assert ("heads that this model does not have" in lost) == (kind != "EuroBertModel")


def test_it_does_not_leave_in_another_shape(tmp_path):
    theirs(tmp_path / "theirs")
    with pytest.raises(ConfigError, match=r"norm_kind rms \(give layer\)"):
        write_transformers_modernbert(load(tmp_path / "theirs"), tmp_path / "none")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("hidden_act", "gelu", "hidden_act is 'gelu', expected 'silu'"),
        ("attention_bias", True, "attention_bias is True, expected False"),
        ("rope_parameters", {"rope_type": "yarn"}, "rope_type is 'yarn'"),
        ("num_key_value_heads", 3, "num_key_value_heads is 3, expected a divisor of the 4 heads"),
        ("num_hidden_layers", 1, "layers.1"),
        ("num_hidden_layers", 3, "the tensor model.layers.2"),
    ],
)
def test_settings_without_a_counterpart_are_refused(setting, value, words, tmp_path):
    theirs(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), setting: value}))
    with pytest.raises(CheckpointError, match=words):
        read_transformers_eurobert(tmp_path)

"""One table of words for encoder and decoder: one parameter, stored once, with both gradients."""

import copy

import pytest
import torch
from safetensors.torch import load_file

from tests.translators import SENTENCES, SHORT, translator
from xlm.errors import ConfigError
from xlm.interchange.load import load
from xlm.interchange.transformers.bert import write_transformers_bert
from xlm.interchange.transformers.modernbert import write_transformers_modernbert
from xlm.interchange.transformers.roformer import write_transformers_roformer
from xlm.interchange.transformers.xlm import write_transformers_xlm
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer

TABLE = "encoder.words.weight"


def build(**fields):
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, "num_decoder_layers": 2}
    config = ModelConfig(**{**sizes, "dropout": 0.0, "attention_dropout": 0.0, **fields})
    torch.manual_seed(0)
    return Transformer(config, vocab_size=30, num_languages=2, pad_id=2)


def loss_of(model):
    generator = torch.Generator().manual_seed(0)
    source, target = (torch.randint(4, 30, (3, 7), generator=generator) for _ in range(2))
    lengths = torch.tensor([7, 7, 7])
    hidden = model.decode(target, lengths, model.encode(source, lengths), lengths)
    return model.predict(hidden, torch.arange(21), side="decoder").square().mean()


@pytest.mark.parametrize("initialization", ["xlm", "normal"])
def test_it_is_one_parameter_of_one_name(initialization):
    model = build(shared_words=True, initialization=initialization)
    apart = build(initialization=initialization)
    assert set(apart.state_dict()) - set(model.state_dict()) == {"decoder.words.weight"}
    assert model.decoder.words is model.encoder.words
    names = [name for name, p in model.named_parameters() if p is model.decoder.words.weight]
    assert names == [TABLE]
    assert not model.encoder.words.weight[2].any()


def test_its_gradient_is_the_sum_of_both_sides():
    model, apart = build(shared_words=True), build()
    state = model.state_dict()
    apart.load_state_dict({**state, "decoder.words.weight": state[TABLE].clone()})
    one, two = loss_of(model), loss_of(apart)
    assert torch.equal(one, two)
    for loss in (one, two):
        loss.backward()
    expected = apart.encoder.words.weight.grad + apart.decoder.words.weight.grad
    torch.testing.assert_close(model.encoder.words.weight.grad, expected, rtol=1e-5, atol=1e-8)
    assert apart.encoder.words.weight.grad.any() and apart.decoder.words.weight.grad.any()


def test_it_stays_one_in_copies_and_in_another_type():
    for model in (copy.deepcopy(build(shared_words=True)), build(shared_words=True).double()):
        assert model.decoder.words.weight is model.encoder.words.weight
    assert model.decoder.words.weight.dtype == torch.float64


def test_a_stack_that_shares_compiles():
    model = build(shared_words=True)
    expected = loss_of(model)
    for stack in (model.encoder, model.decoder):
        stack.compile(backend="eager", fullgraph=True, dynamic=False)
    assert torch.equal(loss_of(model), expected)


def test_a_model_directory_holds_it_once_and_translates_as_before(tmp_path):
    model = translator(shared_words=True, double=False)
    expected = model.translate(SENTENCES[:6], source="en", target="hi", settings=SHORT)
    assert len(set(expected)) > 2
    model.save_pretrained(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert [name for name in stored if "words" in name] == [TABLE]
    found = load(tmp_path)
    assert found.transformer.config.shared_words
    assert found.transformer.decoder.words.weight is found.transformer.encoder.words.weight
    assert found.translate(SENTENCES[:6], source="en", target="hi", settings=SHORT) == expected


@pytest.mark.parametrize(
    ("write", "tokens_of"),
    [
        (write_transformers_xlm, "xlm"),
        (write_transformers_bert, "bert"),
        (write_transformers_roformer, "bert"),
        (write_transformers_modernbert, "bert"),
    ],
)
def test_no_format_of_encoders_takes_it(write, tokens_of, tmp_path):
    model = translator(shape=tokens_of, shared_words=True, double=False)
    with pytest.raises(ConfigError, match="decoder"):
        write(model, tmp_path / "none")
    assert not (tmp_path / "none").exists()

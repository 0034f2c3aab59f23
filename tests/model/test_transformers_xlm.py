"""XLM models of transformers: the same numbers both ways, and what cannot go is named."""

import itertools
import json
import logging
import warnings

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from xlm import sample
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.model.transformers_xlm import read_transformers_xlm, write_transformers_xlm
from xlm.text.merges import learn_fastbpe_tokenizer
from xlm.text.subwords import learn_sentencepiece

transformers = pytest.importorskip("transformers")

TOLERANCE = 1e-5
LANGUAGES = {"en": 0, "hi": 1, "ne": 2}
DIM, HEADS, LAYERS, POSITIONS = 16, 4, 2, 24
LENGTHS = torch.tensor([12, 9, 4])
CASES = [
    # causal, languages, language embeddings, activation, tied
    *itertools.product((False, True), (1, 3), (True,), ("gelu", "relu"), (True, False)),
    *itertools.product((False, True), (3,), (False,), ("gelu", "relu"), (True, False)),
]


@pytest.fixture(scope="module")
def tokenizer():
    lines = sample.path("train.en.txt").read_text(encoding="utf-8").splitlines()[:40]
    return learn_fastbpe_tokenizer(lines, 60)


@pytest.fixture(scope="module")
def files(tokenizer, tmp_path_factory):
    """The tokenizer files of an exported model, to lie beside what transformers saved."""
    folder = tmp_path_factory.mktemp("files")
    write_transformers_xlm(ours(tokenizer), folder)
    names = ("vocab.json", "merges.txt", "tokenizer_config.json")
    return {name: (folder / name).read_bytes() for name in names}


def ours(tokenizer, *, num_languages=3, extra=None, languages=None, **fields):
    """A model of random values, nothing of it left at 0 or 1."""
    sizes = {"dim": DIM, "num_heads": HEADS, "num_layers": LAYERS, "max_positions": POSITIONS}
    config = ModelConfig(**{**sizes, **fields})
    torch.manual_seed(3)
    model = Transformer(
        config, vocab_size=tokenizer.vocab_size, num_languages=num_languages, pad_id=2
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    if languages is None:
        languages = LANGUAGES if model.encoder.languages is not None else {}
    return PretrainedModel(model.eval(), tokenizer, languages, extra or {})


def theirs(tokenizer, folder, files, *, causal=False, num_languages=3, head=True, **changes):
    """A model of transformers, all of it random, saved with the tokenizer's files."""
    settings = {
        "vocab_size": tokenizer.vocab_size, "emb_dim": DIM, "n_heads": HEADS, "n_layers": LAYERS,
        "max_position_embeddings": POSITIONS, "n_langs": num_languages, "causal": causal,
    }  # fmt: skip
    if num_languages > 1:
        settings |= {"lang2id": LANGUAGES, "id2lang": {at: name for name, at in LANGUAGES.items()}}
    config = transformers.XLMConfig(**{**settings, **changes})
    kind = transformers.XLMWithLMHeadModel if head else transformers.XLMModel
    torch.manual_seed(4)
    model = kind(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return model


def peer(folder, kind="XLMWithLMHeadModel"):
    """What transformers makes of a folder, which it must take without a word."""
    found, info = getattr(transformers, kind).from_pretrained(folder, output_loading_info=True)
    if kind == "XLMWithLMHeadModel":
        assert not any(info.values()), info
    return found.eval()


def batch(vocab_size, num_languages, padded, pairs):
    """tokens, lengths, positions, langs: random, padded on the right, perhaps TLM pairs."""
    random = torch.Generator().manual_seed(5)
    lengths = LENGTHS if padded else torch.full_like(LENGTHS, int(LENGTHS.max()))
    shape = (len(lengths), int(lengths.max()))
    tokens = torch.randint(14, vocab_size, shape, generator=random)
    tokens[torch.arange(shape[1]) >= lengths[:, None]] = 2
    langs = torch.randint(num_languages, (shape[0], 1), generator=random).repeat(1, shape[1])
    positions = None
    if pairs:
        positions = torch.arange(shape[1]).repeat(shape[0], 1)
        for row, half in enumerate((lengths // 2).tolist()):
            positions[row, half:] -= half
            langs[row, half:] = (langs[row, half:] + 1) % num_languages
    return tokens, lengths, positions, langs


def our_logits(model, tokens, lengths, positions, langs, causal):
    hidden = model.transformer.encode(tokens, lengths, positions, langs, causal=causal)
    real = (torch.arange(tokens.shape[1]) < lengths[:, None]).flatten()
    return model.transformer.predict(hidden, real.nonzero()[:, 0]), hidden


def their_logits(model, tokens, lengths, positions, langs):
    found = model(input_ids=tokens, langs=langs, position_ids=positions, output_hidden_states=True)
    real = torch.arange(tokens.shape[1]) < lengths[:, None]
    return found.logits[real], found.hidden_states[-1]


def worst_difference(model, other, causal, num_languages):
    """The largest difference of logits and hidden states, with and without padding and pairs."""
    worst = 0.0
    with torch.no_grad():
        for padded, pairs in itertools.product((False, True), (False, True)):
            inputs = batch(model.transformer.vocab_size, num_languages, padded, pairs)
            own, found = our_logits(model, *inputs, causal), their_logits(other, *inputs)
            for one, two in zip(own, found, strict=True):
                assert one.shape == two.shape and one.abs().max() > 0.1
                worst = max(worst, float((one - two).abs().max()))
    return worst


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_ours_written_is_the_same_model_there(tokenizer, tmp_path):
    found = {}
    for case in CASES:
        causal, num_languages, embeddings, activation, tied = case
        model = ours(
            tokenizer, num_languages=num_languages, language_embeddings=embeddings,
            activation=activation, tied_output=tied,
        )  # fmt: skip
        write_transformers_xlm(model, tmp_path / "a", causal=causal)
        found[case] = worst_difference(model, peer(tmp_path / "a"), causal, num_languages)
    assert len(found) == 24
    assert max(found.values()) <= TOLERANCE, found


def test_theirs_read_is_the_same_model_here(tokenizer, files, tmp_path):
    found = {}
    for at, case in enumerate(CASES):
        causal, num_languages, embeddings, activation, tied = case
        other = theirs(
            tokenizer, tmp_path / str(at), files, causal=causal, num_languages=num_languages,
            use_lang_emb=embeddings, gelu_activation=activation == "gelu",
            tie_word_embeddings=tied, sinusoidal_embeddings=at % 5 == 0,
        )  # fmt: skip
        model = read_transformers_xlm(tmp_path / str(at))
        assert model.extra["causal"] is causal
        assert not model.transformer.training
        with_table = embeddings and num_languages == 3
        assert model.languages == (LANGUAGES if with_table else {})
        found[case] = worst_difference(model, other, causal, num_languages)
    assert max(found.values()) <= TOLERANCE, found

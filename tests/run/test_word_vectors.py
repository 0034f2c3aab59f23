"""Words as vectors: a narrow table in a wide model, and vectors that are mapped onto others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training import tiny
from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.transformer import Transformer
from xlm.pretrain import pretrain
from xlm.run import word_vectors
from xlm.run.build import build_learner
from xlm.run.word_vectors import map_words, start_words
from xlm.training.initialization import Initialization

NARROW = ModelConfig(
    dim=16, num_layers=2, num_heads=2, word_size=6, output_transform=True, dropout=0.0,
    attention_dropout=0.0, max_positions=32,
)  # fmt: skip


def test_a_narrow_table_is_a_product_of_two_matrices() -> None:
    """The same model with the products in its tables: an untied one, as wide as it is."""
    torch.manual_seed(0)
    model = Transformer(NARROW, vocab_size=40, num_languages=1, pad_id=2).eval()
    own = model.state_dict()
    words = own["encoder.words.weight"]
    wide = Transformer(
        dataclasses.replace(NARROW, word_size=None, tied_output=False), vocab_size=40,
        num_languages=1, pad_id=2,
    ).eval()  # fmt: skip
    into, out = "encoder.words_in", "encoder.words_out"
    tensors = {name: own[name] for name in wide.state_dict() if name in own}
    tensors |= {
        "encoder.words.weight": words @ own[f"{into}.weight"].T + own[f"{into}.bias"],
        "encoder.output_weight": words @ own[f"{out}.weight"],
        "encoder.output_bias": own["encoder.output_bias"] + words @ own[f"{out}.bias"],
    }
    wide.load_state_dict(tensors)
    tokens, lengths = torch.randint(5, 40, (3, 9)), torch.tensor([9, 7, 9])
    with torch.no_grad():
        both = [one.predict(one.encode(tokens, lengths), torch.arange(27)) for one in (model, wide)]
        torch.testing.assert_close(*both, rtol=0, atol=1e-5)
        targets = torch.randint(5, 40, (27,))
        hidden = model.encode(tokens, lengths)
        loss = model.cross_entropy(hidden, torch.arange(27), targets)
    expected = torch.nn.functional.cross_entropy(both[1], targets, reduction="sum")
    torch.testing.assert_close(loss, expected)
    for wrong in ({"tied_output": False}, {"num_decoder_layers": 1}):
        with pytest.raises(ConfigError, match="word_size is 6: expected an encoder alone"):
            dataclasses.replace(NARROW, **wrong)


def test_words_of_a_run_start_as_vectors_and_stay(tmp_path: Path) -> None:
    made = tiny.corpora(60)
    model = dataclasses.replace(tiny.model(), word_size=6)
    run = tiny.recipe(
        tmp_path, model=model, word_vectors=True, frozen=["words"], steps=2, average=0.5
    )
    torch.manual_seed(0)
    words = build_learner(run, made).model.encoder.words.weight.detach().clone()
    drawn = words.clone()
    num = start_words(words, made, run.seed)
    occurring = made.counts() > 0
    occurring[list(made.tokenizer.special_ids)] = False
    assert num == occurring.sum()
    moved = (words != drawn).any(1).numpy()
    assert (moved == occurring).all()
    lengths = [rows[occurring].norm(dim=1) for rows in (words, drawn)]
    torch.testing.assert_close(lengths[0], lengths[1].mean().expand(num), rtol=1e-4, atol=0)
    result = pretrain(run, made)
    here = result.learner.model.encoder.words.weight
    assert torch.equal(here[occurring], words[occurring])
    with pytest.raises(ConfigError, match="word_vectors starts words of new text"):
        dataclasses.replace(run, initialize=Initialization(encoder="elsewhere"))


def test_a_planted_rotation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors of the new language are the old rows, turned; twelve pieces are equal."""
    made = tiny.two_tables()
    here, there = made.tokenizer_of("ne"), made.tokenizer
    size, width = min(here.vocab_size, there.vocab_size), 8
    random = np.random.default_rng(0)
    old = random.normal(size=(there.vocab_size, width)) * np.linspace(1, 3, width)
    turn = np.linalg.qr(random.normal(size=(width, width)))[0]
    text = [at for at in range(size) if at not in (*here.special_ids, *there.special_ids)]
    vectors = np.zeros((here.vocab_size, width), dtype=np.float32)
    vectors[text] = old[text] @ turn
    monkeypatch.setattr(word_vectors, "vectors_of", lambda *given: vectors)
    known = {at: at for at in text[:12]}
    monkeypatch.setattr(word_vectors, "equal_pieces", lambda *given: known)
    words = torch.zeros(here.vocab_size, width)
    ids = map_words(words, "ne", torch.from_numpy(old).float(), made, 0)
    assert sorted(ids) == text
    new = torch.nn.functional.normalize(words[text] - words[text].mean(0), dim=1)
    truth = torch.from_numpy(old[text] - old[text].mean(0)).float()
    near = (new @ torch.nn.functional.normalize(truth, dim=1).T).argmax(1)
    assert (near == torch.arange(len(text))).float().mean() > 0.9

"""The counts of published models, and the facts that a model of ours states."""

from typing import Any

import pytest
import torch

from tests.data.fakes import WordTokenizer
from xlm.model.config import ModelConfig
from xlm.model.facts import facts_in_words, facts_of
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer


def facts(vocab_size: int, extra: dict[str, Any] | None = None, **shape: Any) -> dict[str, Any]:
    with torch.device("meta"):
        model = Transformer(ModelConfig(**shape), vocab_size=vocab_size, num_languages=1, pad_id=0)
    return facts_of(PretrainedModel(model, WordTokenizer(), {}, extra or {}))


def millions(number: float) -> float:
    return round(number / 1e6, 1)


def test_mmte() -> None:
    """Siddhant et al. (2020): 375 M, and about 190 M in the encoder. Positions and biases apart."""
    found = facts(64_000, preset="mmte")
    bare = found["encoder"] - 512 * 1024 - 64_000
    assert millions(found["encoder"]) == 192.1 and millions(bare) == 191.5
    table = 64_000 * 1024
    assert found["tables"] == table
    body = found["parameters"] - table - 2 * 512 * 1024 - 2 * 64_000
    assert [millions(body + own * table) for own in (1, 2, 3)] == [342.6, 408.1, 473.7]
    assert millions(body + 3 * 32_000 * 1024) == 375.4
    apart = facts(64_000, preset="mmte", shared_words=False)
    assert apart["tables"] == 2 * table and apart["encoder"] == found["encoder"]
    assert apart["decoder"] == found["decoder"] + table


def test_mbart_50() -> None:
    """610.9 M as transformers counts it: two more rows of positions on a side, no biases."""
    found = facts(250_054, preset="mbart")
    theirs = found["parameters"] + 2 * 2 * 1024 - 2 * 250_054
    assert millions(theirs) == 610.9
    assert millions(found["encoder"] + 2 * 1024 - 250_054) == 408.3
    shape = ModelConfig(preset="mbart")
    assert (shape.norm, shape.embedding_scale, shape.embedding_norm) == ("pre", True, True)
    assert found["tables"] == 250_054 * 1024


def test_facts_of_a_translator_and_of_an_encoder() -> None:
    extra = {
        "objectives": ["Translation"], "layout": "target", "directions": ["en-ne", "ne-en"],
        "step": 1200, "tokens_seen": 34_567,
    }  # fmt: skip
    shape = {"dim": 16, "num_layers": 2, "num_heads": 2, "num_decoder_layers": 1}
    found = facts(200, extra, **shape)
    expected = {
        "layers": 2, "decoder_layers": 1, "heads": 2, "width": 16, "feed_forward": 64,
        "norm": "post", "positions": "learned", "vocabulary": 200, "objectives": ["Translation"],
        "layout": "target", "directions": ["en-ne", "ne-en"], "updates": 1200,
        "tokens_seen": 34_567, "tables": 2 * 200 * 16,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == expected
    assert found["parameters"] == found["encoder"] + found["decoder"]
    said = " | ".join(facts_in_words(found))
    assert "1,200 updates and 34,567 tokens of Translation" in said and "en-ne, ne-en" in said
    alone = facts(200, dim=16, num_layers=2, num_heads=2)
    assert (alone["decoder"], alone["layout"], alone["updates"]) == (0, None, None)
    assert "decoder" not in " ".join(facts_in_words(alone))


@pytest.mark.parametrize("name", ["mmte", "mbart"])
def test_a_preset_yields_to_what_is_given(name: str) -> None:
    shape = ModelConfig(preset=name, dim=16, num_heads=2, feed_forward=8, shared_words=False)
    assert not shape.shared_words and shape.num_decoder_layers > 1 and shape.inner_dim == 8

"""What a model starts from: every tensor by value, and every tensor accounted for."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from xlm.errors import ConfigError
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.objective import Objective
from xlm.objectives.masked import MaskedLM
from xlm.tasks.classification import Classification
from xlm.tasks.heads import Readout
from xlm.tasks.tagging import Tagging
from xlm.tasks.task import Files
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.training.initialization import (
    Initialization,
    initialize,
    model_languages,
)
from xlm.training.initialization_report import InitializationReport, as_record
from xlm.training.learner import Learner

SOURCE = Initialization(encoder="there")
BOTH = Initialization(encoder="there", decoder="there")


def vocabulary(num: int, first: int = 0) -> FastBpeTokenizer:
    rows = [f"w{first + at}{'@@' * (at % 2)} {1000 - at}\n" for at in range(num)]
    return FastBpeTokenizer(b"", "".join(rows).encode())


def shape(**changes: Any) -> ModelConfig:
    sizes = {"dim": 16, "num_layers": 2, "num_heads": 2, "max_positions": 32}
    return ModelConfig(**{**sizes, **changes})


@dataclass(frozen=True, kw_only=True)
class HeadedLM(MaskedLM):
    """An objective with a head."""

    def head(self, config: ModelConfig) -> nn.Module:
        return nn.Linear(config.dim, 2)


HEADED = HeadedLM(languages=["en"])
TOKENIZER = vocabulary(10)
LANGUAGES = {"en": 0, "hi": 1}


def source(
    config: ModelConfig | None = None,
    languages: dict[str, int] | None = None,
    tokenizer: Tokenizer = TOKENIZER,
    heads: dict[str, Tensor] | None = None,
    where: str = "there",
    seed: int = 1,
) -> PretrainedModel:
    languages = LANGUAGES if languages is None else languages
    torch.manual_seed(seed)
    made = Transformer(
        config or shape(),
        vocab_size=tokenizer.vocab_size,
        num_languages=max(len(languages), 1),
        pad_id=tokenizer.pad_id,
    )
    return PretrainedModel(made, tokenizer, languages, heads=heads or {}, source=where)


def learner(
    config: ModelConfig | None = None,
    languages: dict[str, int] | None = None,
    tokenizer: Tokenizer = TOKENIZER,
    objectives: dict[str, Objective] | None = None,
) -> Learner:
    config = config or shape()
    torch.manual_seed(0)
    made = Transformer(
        config,
        vocab_size=tokenizer.vocab_size,
        num_languages=len(LANGUAGES if languages is None else languages),
        pad_id=tokenizer.pad_id,
    )
    return Learner(made, objectives or {"mlm": MaskedLM(languages=["en"])}, config)


def start(
    own: Learner,
    encoder: PretrainedModel | None = None,
    decoder: PretrainedModel | None = None,
    settings: Initialization = SOURCE,
    languages: dict[str, int] | None = None,
    tokenizer: Tokenizer = TOKENIZER,
) -> InitializationReport:
    report = initialize(
        own,
        settings,
        encoder=encoder,
        decoder=decoder,
        tokenizer=tokenizer,
        languages=LANGUAGES if languages is None else languages,
    )
    # every tensor of the model, and every one of the sources
    assert set(report.copied) | set(report.left) == set(own.state_dict())
    for one in {id(s): s for s in (encoder, decoder) if s is not None}.values():
        names = {*one.transformer.state_dict(), *one.heads}
        unused = {n.partition(": ")[2] for n in report.unused if n.startswith(f"{one.source}: ")}
        assert unused | (set(report.copied.values()) & names) == names
    return report


def state(own: Learner | PretrainedModel) -> dict[str, Tensor]:
    module = own.model if isinstance(own, Learner) else own.transformer
    return {name: value.clone() for name, value in module.state_dict().items()}


# The original's rule, by its own list (golden/initialization.json) and by value.


def ours(name: str) -> list[str]:
    """The original's name of a decoder's tensor as this library's."""
    tables = {
        "embeddings.weight": "words.weight",
        "position_embeddings.weight": "positions.weight",
        "lang_embeddings.weight": "languages.weight",
        "pred_layer.proj.bias": "output_bias",
        "pred_layer.proj.weight": "words.weight",
    }
    if name in tables:
        return [tables[name]]
    parts = name.split(".")
    if parts[0] == "layer_norm_emb":
        return [f"embedding_norm.{parts[1]}"]
    modules = {
        "attentions.q_lin": "attention.query_key_value",
        "attentions.k_lin": "attention.query_key_value",
        "attentions.v_lin": "attention.query_key_value",
        "attentions.out_lin": "attention.output",
        "encoder_attn.q_lin": "cross_attention.query",
        "encoder_attn.k_lin": "cross_attention.key_value",
        "encoder_attn.v_lin": "cross_attention.key_value",
        "encoder_attn.out_lin": "cross_attention.output",
        "layer_norm1": "attention_norm",
        "layer_norm15": "cross_attention_norm",
        "layer_norm2": "feed_forward_norm",
        "ffns.lin1": "feed_forward.expand",
        "ffns.lin2": "feed_forward.contract",
    }
    module = ".".join([parts[0], *parts[2:-1]])
    return [f"layers.{parts[1]}.{modules[module]}.{parts[-1]}"]


def test_a_decoder_from_an_encoder_is_the_original_s() -> None:
    golden = json.loads((Path(__file__).parents[1] / "golden/initialization.json").read_text())
    own = learner(shape(num_decoder_layers=2))
    before, there = state(own), source()
    report = start(own, there, there, BOTH)
    left = {n for name in golden["decoder_tensors_left_random"] for n in ours(name)}
    copied = {n for name in golden["decoder_tensors_copied"] for n in ours(name)}
    encoder = {n for name in golden["encoder_tensors_copied"] for n in ours(name)}
    after, source_state = state(own), state(there)
    names = {name.removeprefix("decoder.") for name in after if name.startswith("decoder.")}
    assert left | copied == names and encoder == names - left
    for name in names:
        expected = before[f"decoder.{name}"] if name in left else source_state[f"encoder.{name}"]
        assert torch.equal(after[f"decoder.{name}"], expected), name
    for name in encoder:
        assert torch.equal(after[f"encoder.{name}"], source_state[f"encoder.{name}"]), name
    assert {name.removeprefix("model.decoder.") for name in report.left} == left
    assert set(report.left.values()) == {"cross-attention, which the encoder of the source has not"}
    assert not report.unused


def test_a_decoder_from_a_decoder_is_copied_whole() -> None:
    both = shape(num_decoder_layers=2)
    own, there = learner(both), source(both)
    report = start(own, there, there, BOTH)
    assert not report.left and not report.unused
    for name, value in state(there).items():
        assert torch.equal(own.model.state_dict()[name], value), name


def test_sides_may_come_from_two_models() -> None:
    both = shape(num_decoder_layers=2)
    own = learner(both)
    encoder, decoder = source(), source(both, where="elsewhere", seed=2)
    start(own, encoder, decoder, Initialization(encoder="there", decoder="elsewhere"))
    for name, value in own.model.state_dict().items():
        there = encoder if name.startswith("encoder.") else decoder
        assert torch.equal(value, there.transformer.state_dict()[name]), name


def test_a_side_that_nothing_is_given_for_stays_new() -> None:
    both = shape(num_decoder_layers=2)
    own, there = learner(both), source(both)
    before = state(own)
    report = start(own, there)
    assert all(
        torch.equal(own.model.state_dict()[n], before[n]) for n in before if n.startswith("decoder")
    )
    assert report.left["model.decoder.words.weight"] == "initialize.decoder is not given"
    assert report.unused["there: decoder.words.weight"] == "initialize.decoder is not given"
    alone = Initialization(decoder="there")
    report = start(learner(both), None, there, alone)
    assert report.left["model.encoder.words.weight"] == "initialize.encoder is not given"
    with pytest.raises(
        ConfigError, match="initialize.decoder is there, but the model has no decoder"
    ):
        start(learner(), there, there, BOTH)


# One table of words for both sides.


SHARED = shape(num_decoder_layers=2, shared_words=True)


@pytest.mark.parametrize("there", [shape(), SHARED])
def test_a_shared_table_starts_from_the_encoder_s(there: ModelConfig) -> None:
    own, other = learner(SHARED), source(there)
    report = start(own, other, other, BOTH)
    assert own.model.decoder is not None
    assert torch.equal(own.model.decoder.words.weight, other.transformer.encoder.words.weight)
    assert all("cross_attention" in name for name in report.left) and not report.unused


def test_a_table_of_its_own_starts_from_a_shared_one() -> None:
    own, other = learner(shape(num_decoder_layers=2)), source(SHARED)
    start(own, other, other, BOTH)
    for side in ("encoder", "decoder"):
        words = own.model.state_dict()[f"{side}.words.weight"]
        assert torch.equal(words, other.transformer.encoder.words.weight)


def test_two_tables_do_not_fit_a_shared_one() -> None:
    own, other = learner(SHARED), source(shape(num_decoder_layers=2))
    with pytest.raises(ConfigError, match=r"decoder.words.weight \(\[24, 16\] there, not in"):
        start(own, other, other, BOTH)
    report = start(own, other, other, dataclasses.replace(BOTH, partial=True))
    assert report.unused == {"there: decoder.words.weight": "nothing in the model takes it"}
    with pytest.raises(ConfigError, match="shares the encoder's words .*give initialize.encoder"):
        start(own, None, other, Initialization(decoder="there"))


# Settings.


def test_embeddings_alone() -> None:
    own, there = learner(), source()
    before = state(own)
    report = start(own, there, settings=dataclasses.replace(SOURCE, only="embeddings"))
    assert report.copied == {"model.encoder.words.weight": "encoder.words.weight"}
    for name, value in own.model.state_dict().items():
        expected = state(there) if name == "encoder.words.weight" else before
        assert torch.equal(value, expected[name]), name
    # another depth, width of layers and activation do not matter then
    start(
        learner(shape(num_layers=1, activation="relu", num_heads=4)), there,
        settings=dataclasses.replace(SOURCE, only="embeddings"),
    )  # fmt: skip


def test_a_tied_source_fills_an_output_matrix_of_its_own() -> None:
    own, there = learner(shape(tied_output=False)), source()
    report = start(own, there)
    words = there.transformer.encoder.words.weight
    assert torch.equal(own.model.state_dict()["encoder.output_weight"], words)
    assert report.copied["model.encoder.output_weight"] == "encoder.words.weight"


MISFITS: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"positions": "rotary"}, {}, r"the first is encoder.positions \(learned there, rotary here\)"),
    ({}, {"positions": "sinusoidal"}, r"encoder.positions \(sinusoidal there, learned here\)"),
    ({"window": 4, "global_every": 2}, {}, r"encoder.window \(None there, 4 here\)"),
    ({"norm": "pre"}, {}, r"encoder.norm \(post there, pre here\)"),
    ({"norm_kind": "rms"}, {}, r"encoder.norm_kind \(layer there, rms here\)"),
    ({"embedding_scale": True}, {}, r"encoder.embedding_scale \(False there, True here\)"),
    ({"qk_norm": True}, {}, r"query_norm.weight \(not in the source, \[8\] here\)"),
    ({"dim": 8}, {}, r"encoder.words.weight \(\[24, 16\] there, \[24, 8\] here\)"),
    ({"num_layers": 3}, {}, r"encoder.layers.2.attention.query_key_value.weight \(not in the"),
    ({"num_layers": 1}, {}, r"encoder.layers.1.*\(\[.*\] there, not in the model\)"),
    ({"num_heads": 4}, {}, r"encoder.num_heads \(2 there, 4 here\)"),
    ({"activation": "relu"}, {}, r"encoder.activation \(gelu there, relu here\)"),
    ({}, {"layer_norm_eps": 1e-5}, r"encoder.layer_norm_eps \(1e-05 there, 1e-12 here\)"),
    ({}, {"output_transform": True}, r"encoder.output_transform.*there, not in the model"),
    ({"num_segments": 2}, {}, r"encoder.segments.weight \(not in the source, \[2, 16\] here\)"),
    ({"max_positions": 64}, {}, r"positions.weight \(\[32, 16\] there, \[64, 16\] here\)"),
    ({}, {"tied_output": False}, r"output_weight \(\[24, 16\] there, not in the model\)"),
    ({"language_embeddings": False}, {}, r"languages.weight \(\[2, 16\] there, not in the model"),
]


@pytest.mark.parametrize("here, there, expected", MISFITS)
def test_a_source_of_another_shape_is_refused_or_taken_in_part(
    here: dict[str, Any], there: dict[str, Any], expected: str
) -> None:
    own, other = learner(shape(**here)), source(shape(**there))
    before = state(own)
    with pytest.raises(ConfigError, match=f"there does not fit the recipe's model: .*{expected}"):
        start(own, other)
    assert all(torch.equal(value, before[name]) for name, value in state(own).items())
    report = start(own, other, settings=dataclasses.replace(SOURCE, partial=True))
    theirs = state(other)
    for name, value in own.model.state_dict().items():
        if f"model.{name}" in report.left:
            assert torch.equal(value, before[name]), name
        elif name == "encoder.positions.weight" and len(value) > 32:
            assert torch.equal(value[:32], theirs[name])
            assert torch.equal(value[32:], before[name][32:])
        else:
            assert torch.equal(value, theirs[name]), name
    if here == {"dim": 8}:
        assert report.left["model.encoder.words.weight"] == "[24, 16] there, [24, 8] here"
    lines = "\n".join(report.lines())
    assert any(word in lines for word in ("there", "in the source", "positions")), lines


def test_a_longer_table_of_positions_is_cut() -> None:
    own, there = learner(shape(max_positions=20)), source()
    report = start(own, there)
    rows = there.transformer.encoder.positions.weight[:20]
    assert torch.equal(own.model.state_dict()["encoder.positions.weight"], rows)
    assert "encoder: positions: the first 20 of the source's 32 rows" in report.notes


@pytest.mark.parametrize("kind", ["transform", "dense"])
def test_a_transform_before_a_new_classifier_starts_as_the_source_s(kind: Any) -> None:
    """As transformers' classes of ModernBERT do; their last layer is new."""
    config = shape(output_transform=True)
    words = Tagging(files=Files(train={"en": "x"}), tags=["a", "b"], readout=Readout(kind=kind))
    sentences = Classification(
        files=Files(train={"en": "x"}), labels=["a", "b"], readout=Readout(kind=kind)
    )
    own = learner(config, objectives={"pos": words, "nli": sentences})
    there = source(config)
    with torch.no_grad():
        for parameter in there.transformer.encoder.output_transform.parameters():  # type: ignore[union-attr]
            parameter.add_(1.0)
    report = start(own, there)
    heads = {name: value for name, value in own.state_dict().items() if name.startswith("heads.")}
    theirs = there.transformer.encoder.state_dict()
    for head in ("heads.pos.hidden", "heads.nli.after"):
        for part in ("dense.weight", "dense.bias", "norm.weight", "norm.bias"):
            if kind == "transform":
                assert torch.equal(heads[f"{head}.{part}"], theirs[f"output_transform.{part}"])
                assert report.copied[f"{head}.{part}"] == f"encoder.output_transform.{part}"
    left = {name for name, reason in report.left.items() if reason == "a new head"}
    last = {f"heads.{task}.output.{part}" for task in ("pos", "nli") for part in ("weight", "bias")}
    assert left == (last if kind == "transform" else set(heads))


# Vocabulary.


def test_another_vocabulary_is_refused_by_its_first_items() -> None:
    other = vocabulary(11, first=1)
    with pytest.raises(ConfigError) as caught:
        start(learner(tokenizer=other), source(), tokenizer=other)
    message = str(caught.value)
    assert "there has a different vocabulary from the data: 25 pieces here, 24 there" in message
    assert "id 14 is 'w1' here and 'w0' there" in message
    assert "vocabulary.folder set to the source, or set initialize.vocabulary to extend" in message
    assert "\n" not in message


def test_an_extended_vocabulary_keeps_rows_and_bias_by_piece() -> None:
    here = FastBpeTokenizer(b"", b"w9@@ 9\nnew 8\nw0 7\nw1@@ 6\n")
    own, there = learner(tokenizer=here), source()
    settings = dataclasses.replace(SOURCE, vocabulary="extend")
    report = start(own, there, settings=settings, tokenizer=here)
    found, theirs = own.model.state_dict(), state(there)
    for at, piece in enumerate(here.pieces):
        if piece in TOKENIZER.pieces:
            row = TOKENIZER.pieces.index(piece)
            for name in ("encoder.words.weight", "encoder.output_bias"):
                assert torch.equal(found[name][at], theirs[name][row]), (name, piece)
    line = "encoder: vocabulary of 18 pieces: 17 kept their rows, 0 new ones got the mean"
    assert any(note.startswith(line) for note in report.notes), report.notes


# Languages.


@pytest.mark.parametrize(
    "data, rule, expected",
    [
        (["en", "hi"], "refuse", ["hi", "ne", "en"]),
        (["ne"], "refuse", ["hi", "ne", "en"]),
        (["ne", "ar", "zh"], "random", ["hi", "ne", "en", "ar", "zh"]),
    ],
)
def test_languages_keep_the_source_s_order(data: list[str], rule: Any, expected: list[str]) -> None:
    there = source(languages={"en": 2, "hi": 0, "ne": 1})
    settings = dataclasses.replace(SOURCE, new_languages=rule)
    numbered = {name: at for at, name in enumerate(data)}
    found = model_languages(settings, [there], numbered, table=True)
    assert found == {name: at for at, name in enumerate(expected)}


def test_unknown_languages_are_named() -> None:
    message = "there does not know the languages ne, ar: it knows en, hi; .*prepare"
    with pytest.raises(ConfigError, match=message):
        model_languages(SOURCE, [source()], {"ne": 0, "en": 1, "ar": 2}, table=True)


def test_languages_of_two_sources_and_of_none() -> None:
    second = source(languages={"fr": 1, "hi": 0}, where="elsewhere")
    found = model_languages(SOURCE, [source(), second], {"fr": 0}, table=True)
    assert found == {"en": 0, "hi": 1, "fr": 2}
    data = {"sw": 0, "ar": 1}
    without = source(shape(language_embeddings=False), languages={})
    assert model_languages(SOURCE, [without], data, table=True) == data
    assert model_languages(SOURCE, [source()], data, table=False) == data
    settings = dataclasses.replace(SOURCE, only="embeddings")
    assert model_languages(settings, [source()], data, table=True) == data


@pytest.mark.parametrize("rule", ["random", "mean"])
def test_rows_of_new_languages(rule: Any) -> None:
    languages = {"hi": 0, "en": 1, "ne": 2}
    own, there = learner(languages=languages), source()
    before = state(own)["encoder.languages.weight"]
    settings = dataclasses.replace(SOURCE, new_languages=rule)
    report = start(own, there, settings=settings, languages=languages)
    found = own.model.state_dict()["encoder.languages.weight"]
    theirs = state(there)["encoder.languages.weight"]
    assert torch.equal(found[0], theirs[1]) and torch.equal(found[1], theirs[0])
    assert torch.equal(found[2], theirs.mean(0) if rule == "mean" else before[2])
    assert any("new languages ne: " in note for note in report.notes)
    with pytest.raises(ConfigError, match="there does not know the language ne: it knows en, hi"):
        start(own, there, languages=languages)


@pytest.mark.parametrize("rule", ["refuse", "random", "mean"])
def test_a_model_that_tells_languages_apart_from_one_that_does_not(rule: Any) -> None:
    own, there = learner(), source(shape(language_embeddings=False), languages={})
    settings = dataclasses.replace(SOURCE, new_languages=rule)
    if rule == "refuse":
        with pytest.raises(ConfigError, match="languages.weight .not in the source"):
            start(own, there, settings=settings)
        return
    before = state(own)["encoder.languages.weight"]
    start(own, there, settings=settings)
    found = own.model.state_dict()["encoder.languages.weight"]
    assert torch.equal(found, before if rule == "random" else torch.zeros_like(before))


# Heads, and the account.


def test_heads_of_equal_name_and_shape_are_taken() -> None:
    objectives: dict[str, Objective] = {"nli": HEADED, "topic": HEADED, "other": HEADED}
    own = learner(objectives=objectives)
    before = {name: value.clone() for name, value in own.state_dict().items()}
    heads = {"heads.nli.weight": torch.ones(2, 16), "heads.nli.bias": torch.ones(2)}
    wrong = {"heads.topic.weight": torch.ones(3, 16), "heads.old.bias": torch.ones(3)}
    report = start(own, source(heads={**heads, **wrong}))
    for name, value in own.state_dict().items():
        if name.startswith("heads."):
            assert torch.equal(value, heads.get(name, before[name])), name
    assert report.left["heads.topic.weight"] == "[3, 16] there, [2, 16] here"
    assert report.left["heads.other.bias"] == "a new head"
    assert report.unused["there: heads.old.bias"] == "no head of that name and shape"
    assert "new heads: other, topic" in report.notes


def test_the_account_is_written_in_lines_and_as_a_record() -> None:
    own, there = learner(shape(num_decoder_layers=2)), source()
    there.extra["lost"] = ["the pooler is left out"]
    report = start(own, there, there, BOTH)
    lines = report.lines()
    assert lines[0] == f"initialized {len(report.copied)} tensors"
    kept = [line for line in lines if line.startswith("initialization kept (cross-attention")]
    assert len(kept) == 1 and "model.decoder.layers.0-1.cross_attention.query.weight" in kept[0]
    assert "encoder: reading there: the pooler is left out" in lines
    assert json.loads(json.dumps(as_record(report)))["left"] == report.left


def test_tensors_of_like_layers_are_named_together() -> None:
    """Which layers, not only that there are some: a deeper model keeps its last ones alone."""
    numbers = (0, 1, 2, 5, 11)
    left = {f"model.encoder.layers.{n}.attention.output.bias": "new" for n in numbers}
    (_, line) = InitializationReport(left=left | {"model.encoder.output_bias": "new"}).lines()
    assert line == (
        "initialization kept (new): model.encoder.layers.0-2,5,11.attention.output.bias, "
        "model.encoder.output_bias"
    )


def test_many_tensors_of_a_source_that_are_not_used_are_counted() -> None:
    """The decoder of a translator has dozens, and its path may be long."""
    names = [f"decoder.layers.0.part{n}.weight" for n in range(40)]
    unused = {f"runs/mt: {name}": "an encoder is enough" for name in names}
    other = {"runs/mt: heads.old.bias": "no head", "runs/mt: heads.old.weight": "no head"}
    (_, one, two) = InitializationReport(unused=unused | other).lines()
    assert one == "not used (an encoder is enough): runs/mt: decoder.* (40 tensors)"
    assert two == "not used (no head): runs/mt: heads.old.bias, heads.old.weight"

"""A run's layout is that of the model it starts from, in all its objectives; its example rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import xlm
from tests import tuned
from tests.interchange import peers
from tests.objectives.test_layouts import by_hand as rows_by_hand
from xlm.errors import CheckpointError, ConfigError
from xlm.model.asking import layout_of
from xlm.model.config import ModelConfig
from xlm.model.digest import model_digest
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.model.translation import Translator
from xlm.objectives import BackTranslation, Denoising, MaskedLM, Translation
from xlm.objectives.teacher_forcing import TeacherForced
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.pretrain import pretrain
from xlm.run.config import Run, read_run
from xlm.run.layout import layout_of_start, with_layout
from xlm.text.tokenizers.language_tokens import LanguageTokens
from xlm.text.tokenizers.layouts import LAYOUTS

SHAPE = ModelConfig(dim=16, num_layers=1, num_heads=2, num_decoder_layers=1)
MT = Translation(pairs=["en-ne", "ne-en"], tokens=400, length=96, num_lengths=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    files = {language: f"sample:valid.{language}.txt" for language in ("en", "ne")}
    pairs = {"en-ne": [files["en"], files["ne"]]}
    prepare(
        Prepare(
            folder=str(folder), text=Texts(train=files), workers=1,
            pairs=Aligned(train=pairs, valid=pairs),
            vocabulary=Vocabulary(size=500, language_tokens=True),
        )
    )  # fmt: skip
    return str(folder)


def run_of(data: str, folder: Path, **changes: Any) -> Run:
    given: dict[str, Any] = {
        "data": data, "folder": str(folder), "objectives": {"mt": MT}, "model": SHAPE, "steps": 2,
        "group_size": 1, "tensorboard": False, "evaluate_every": 0, "save_every": 2,
        "device": "cpu",
    }  # fmt: skip
    return Run(**given | changes)


def translator(layout: str | None, **changes: Any) -> PretrainedModel:
    made = tuned.body(num_decoder_layers=1, **changes)
    return replace(made, extra={"layout": layout} if layout else {})


def layouts(run: Run) -> dict[str, object]:
    return {
        name: own.layout if isinstance(own, TeacherForced) else "none"
        for name, own in run.objectives.items()
    }


def test_null_is_the_model_s_layout_in_every_objective(tmp_path: Path) -> None:
    objectives = {
        "mt": MT, "ae": Denoising(languages=["en"]), "bt": BackTranslation(pairs=["en-ne"]),
        "mlm": MaskedLM(languages=["en"]),
    }  # fmt: skip
    run = run_of("data", tmp_path, objectives=objectives)
    found = layouts(layout_of_start(run, None, translator("mbart")))
    assert found == {"mt": "mbart", "ae": "mbart", "bt": "mbart", "mlm": "none"}
    assert layout_of_start(run, None, translator(None)) is run  # an older translator: xlm
    one = replace(run, objectives={**objectives, "mt": replace(MT, layout="target")})
    assert set(layouts(with_layout(one, None)).values()) == {"target", "none"}


def test_layouts_that_differ_are_refused(tmp_path: Path) -> None:
    both = {"mt": replace(MT, layout="target"), "ae": Denoising(languages=["en"], layout="mbart")}
    with pytest.raises(ConfigError, match=r"mt.layout is target, objectives.ae.layout is mbart: "):
        with_layout(run_of("data", tmp_path, objectives=both), None)
    run = run_of("data", tmp_path, objectives={"mt": replace(MT, layout="target")})
    for there in (translator("mbart"), translator(None)):
        was = there.extra.get("layout", "xlm")
        with pytest.raises(ConfigError, match=f"{there.source} was trained with {was}: expected"):
            layout_of_start(run, there, there)
    # an encoder alone may learn to read another
    assert layouts(layout_of_start(run, translator("mbart"), None)) == {"mt": "target"}
    free = replace(run, objectives={"mt": MT})
    assert layouts(layout_of_start(free, translator("mbart"), None)) == {"mt": "mbart"}


def test_a_run_keeps_its_layout_and_hands_it_on(
    data: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    forced = replace(MT, layout="source-first")
    first = pretrain(run_of(data, tmp_path / "first", objectives={"mt": forced}))
    objectives = {"ae": Denoising(languages=["en"], tokens=200)}
    start = xlm.run.config.Initialization(encoder=str(first.folder), decoder=str(first.folder))
    run = run_of(data, tmp_path / "second", objectives=objectives, model=None, initialize=start)
    caplog.set_level("INFO", logger="xlm")
    pretrain(run)
    token = xlm.load(first.folder).tokenizer.language_tokens["en"]
    said = [record.getMessage() for record in caplog.records]
    (example,) = [line for line in said if line.startswith("ae/en, layout source-first: ")]
    assert f"the encoder reads {token} <2en>, " in example
    assert f"the decoder reads 1 </s>, {token} <2en>, " in example
    assert read_run(tmp_path / "second").objectives["ae"].layout == "source-first"  # type: ignore[attr-defined]
    model = xlm.load(tmp_path / "second")
    assert (model.extra["layout"], model.extra["directions"]) == ("source-first", [])
    caplog.clear()
    more = pretrain(replace(run, steps=3))  # resumed, with layout null as before
    assert more.state.step == 3
    assert not [line for line in caplog.messages if "another recipe" in line]
    with pytest.raises(ConfigError, match="was trained with source-first"):
        other = {"ae": Denoising(languages=["en"], tokens=200, layout="mbart")}
        pretrain(replace(run, steps=4, objectives=other))


def test_the_plain_layout_leaves_settings_as_they_were(data: str, tmp_path: Path) -> None:
    pretrain(run_of(data, tmp_path / "run"))
    assert read_run(tmp_path / "run").objectives["mt"].layout is None  # type: ignore[attr-defined]


def test_a_direction_without_training_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    model = tuned.body(num_decoder_layers=1)
    told = replace(model, extra={"directions": ["en-ne", "ne-en"]})
    for source, target, expected in (("en", "hi", 1), ("en", "ne", 0)):
        caplog.clear()
        made = Translator(told, source, target)
        made.translate(["a"])
        made.translate(["b"])
        assert sum("zero-shot" in line for line in caplog.messages) == expected
    caplog.clear()
    Translator(model, "en", "hi")  # an older model does not say on which it was trained
    assert not caplog.messages


def with_tokens(layout: str) -> PretrainedModel:
    """A translator of en, hi and ne whose tokenizer has tokens of en and ne."""
    tokenizer = LanguageTokens(tuned.tokenizer("xlm"), ["en", "ne"])
    shape = ModelConfig(
        dim=16, num_layers=1, num_heads=2, num_decoder_layers=1, max_positions=64,
        language_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    network = Transformer(
        shape, vocab_size=tokenizer.vocab_size, num_languages=3, pad_id=tokenizer.pad_id
    )
    peers.shake(network)
    extra = {"layout": layout}
    return PretrainedModel(network.eval(), tokenizer, dict(tuned.LANGUAGES), extra)


def test_what_a_translator_with_tokens_must_be_told() -> None:
    model = with_tokens("target")
    with pytest.raises(ConfigError, match="target: tokens tell this model .* one of en, ne"):
        Translator(model, "en")
    with pytest.raises(ConfigError, match="has no token for hi, only for en, ne"):
        Translator(model, "en", "hi")
    Translator(model, None, "ne")  # its rows say nothing of the source
    with pytest.raises(ConfigError, match="source: tokens tell this model"):
        Translator(with_tokens("mbart"), None, "ne")
    with pytest.raises(
        CheckpointError, match="trained with layout 'new', .*expected one of xlm, target"
    ):
        layout_of(with_tokens("new"))


def test_a_layout_is_part_of_what_a_model_says() -> None:
    found = [model_digest(with_tokens(own)) for own in ("target", "decoder", "xlm")]
    assert len(set(found)) == 3
    plain = with_tokens("xlm")
    assert model_digest(replace(plain, extra={})) == found[2]


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_a_translation_is_scored_as_its_rows_were_trained(layout: str) -> None:
    model = with_tokens(layout)
    transformer, tokenizer = model.transformer.double(), model.tokenizer
    lines = {"a dog": "the water", "the water is warm": "a"}
    scored = model.score(list(lines.values()), "ne", sources=list(lines), source_language="en")
    tokens = tokenizer.language_tokens
    for found, (line, text) in zip(scored, lines.items(), strict=True):
        encoder, decoder, targets = rows_by_hand(
            layout, tokenizer.encode(line), tokenizer.encode(text), tokens["en"], tokens["ne"],
            tokenizer.end_id, tokenizer.end_id,
        )  # fmt: skip
        memory = transformer.encode(torch.tensor([encoder]), torch.tensor([len(encoder)]))
        if layout == "target-apart":
            apart = transformer.encode(torch.tensor([[tokens["ne"]]]), torch.tensor([1]))
            memory = torch.cat([apart, memory], dim=1)
        hidden = transformer.decode(
            torch.tensor([decoder]), torch.tensor([len(decoder)]), memory,
            torch.tensor([memory.shape[1]]),
        )  # fmt: skip
        cells = torch.arange(len(decoder))[-len(targets) :]
        logs = transformer.predict(hidden, cells, side="decoder").log_softmax(-1).detach()
        nats = -float(logs[range(len(targets)), targets].sum())
        assert found.nats == pytest.approx(nats, rel=1e-9)
        assert found.subwords == len(targets)


def test_a_rule_of_directions_is_the_run_that_spells_them_out(data: str, tmp_path: Path) -> None:
    """Every weight bit for bit, through shared lengths and buckets in parts too."""
    given: dict[str, Any] = {
        "tokens": 400, "length": 96, "num_lengths": 2, "shared_lengths": True, "bucket_parts": 2,
    }  # fmt: skip
    weights = []
    for name, own in (
        ("rule", Translation(pairs=["en-ne"], directions="m2m", **given)),
        ("list", Translation(pairs=["en-ne", "ne-en"], **given)),
    ):
        result = pretrain(run_of(data, tmp_path / name, objectives={"mt": own}, steps=3))
        weights.append(dict(result.learner.named_parameters()))
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())
    extra = xlm.load(tmp_path / "rule").extra
    assert extra["directions"] == ["en-ne", "ne-en"]

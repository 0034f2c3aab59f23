"""mBART, mBART-50, M2M-100 and NLLB: random tiny models beside transformers', both ways."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import xlm
from benchmarks.equality import random_models
from tests import test_finetune_recipes as recipes
from tests.interchange import peers
from xlm.convert import Export, Import, export_model, import_model
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.finetune import finetune
from xlm.interchange.transformers.mbart import sinusoids
from xlm.model.asking import layout_of
from xlm.model.generate import Generation, generate
from xlm.text.tokenizers.loading import load_tokenizer
from xlm.text.tokenizers.numbered import NumberedTokenizer
from xlm.text.tokenizers.published_tokens import M2M_100, MBART, MBART_50, published_tokens

transformers = pytest.importorskip("transformers")
translator_models = pytest.importorskip("benchmarks.equality.translator_models")
KINDS, SIZES = translator_models.KINDS, translator_models.SIZES


@pytest.fixture(scope="module", params=list(KINDS))
def made(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Any, Any]:
    """A kind, the folder of a random model of it, and both its parts in transformers."""
    kind = request.param
    folder = tmp_path_factory.mktemp(kind)
    model, tokenizer = translator_models.translator(kind, folder)
    return kind, folder, model, tokenizer


def test_logits_memory_and_rows_are_those_of_transformers(
    made: tuple[str, Path, Any, Any], tmp_path: Path
) -> None:
    kind, folder, _, _ = made
    found = import_model(Import(source=str(folder), folder=str(tmp_path / "ours")))
    parity = found.parity
    assert parity.peer is not None and parity.logits is not None and parity.hidden is not None
    assert parity.logits <= 1e-5 and parity.hidden <= 1e-5
    (lines,) = parity.tokenizer
    assert lines.lines > 1000 and lines.identical == lines.lines, lines.first
    again = xlm.load(tmp_path / "ours")
    assert again.extra["layout"] == KINDS[kind][1]
    assert again.transformer.config.shared_words


def test_greedy_translations_are_those_of_transformers(made: tuple[str, Path, Any, Any]) -> None:
    kind, folder, model, tokenizer = made
    (source, ours_source), (target, ours_target) = KINDS[kind][2].items()
    loaded = xlm.load(folder)
    layout, own = layout_of(loaded), loaded.tokenizer
    lines = [line for line in peers.lines() if len(line) < 60][:50]
    rows = [
        layout.source_row(own, np.array(own.encode(line)), ours_source, ours_target)
        for line in lines
    ]
    opening = torch.tensor(layout.opening(own, ours_target))
    ours = generate(
        loaded.transformer, loaded.batch_rows(rows), torch.zeros(50, dtype=torch.int64),
        end_id=own.end_id, settings=Generation(ratio=0.0, extra=25), begin=opening.expand(50, -1),
    )  # fmt: skip
    tokenizer.src_lang = source
    given = tokenizer(lines, return_tensors="pt", padding=True)
    forced = None if kind == "mbart" else int(opening[-1])
    theirs = model.generate(
        **given, num_beams=1, do_sample=False, decoder_start_token_id=int(opening[0]),
        forced_eos_token_id=None, forced_bos_token_id=forced, max_new_tokens=40,
    )  # fmt: skip
    different = set()
    for row, length in enumerate(ours.lengths[:, 0].tolist()):
        ids = ours.tokens[row, 0, : length - 1].tolist()  # closed at 25 by an end symbol
        assert ids == theirs[row, : length - 1].tolist()
        different.add(tuple(ids))
        if length < 25:
            assert theirs[row, length - 1] == own.end_id
    assert len(different) > 1


def test_there_and_back_bit_for_bit(made: tuple[str, Path, Any, Any], tmp_path: Path) -> None:
    kind, folder, _, _ = made
    model = xlm.load(folder)
    model.save_pretrained(tmp_path / "ours")
    out = export_model(
        Export(
            source=str(tmp_path / "ours"), folder=str(tmp_path / "theirs"), format=KINDS[kind][0]
        )
    )
    assert out.agrees and out.parity.logits is not None
    (lines,) = out.parity.tokenizer
    assert lines.identical == lines.lines, lines.first
    back = xlm.load(tmp_path / "theirs")
    assert back.tokenizer.digest == model.tokenizer.digest
    ours, theirs = model.transformer.state_dict(), back.transformer.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert back.extra["layout"] == model.extra["layout"]
    assert load_tokenizer(tmp_path / "ours/tokenizer").language_tokens == (
        model.tokenizer.language_tokens
    )


def test_nllb_reads_its_older_rows_too(made: tuple[str, Path, Any, Any]) -> None:
    kind, folder, _, tokenizer = made
    if kind != "nllb":
        pytest.skip("only NLLB has two layouts in transformers")
    older = transformers.NllbTokenizer.from_pretrained(folder, legacy_behaviour=True)
    ours = xlm.load(folder).tokenizer
    token = ours.language_tokens["eng_Latn"]
    for line in peers.lines()[:200]:
        ids = ours.encode(line)
        assert tokenizer(line)["input_ids"] == [token, *ids, ours.end_id]
        assert older(line)["input_ids"] == [*ids, ours.end_id, token]


@pytest.mark.parametrize("kind", ["mbart", "mbart-50"])
def test_a_sentencepiece_model_alone(kind: str, tmp_path: Path) -> None:
    """As it is published: the languages follow from the size of the table."""
    peer = translator_models.translator_tokenizer(kind, tmp_path / "peer")
    config = transformers.MBartConfig(vocab_size=len(peer), **SIZES)
    transformers.MBartForConditionalGeneration(config).save_pretrained(tmp_path / "alone")
    (tmp_path / "alone/sentencepiece.bpe.model").write_bytes(random_models.unigram())
    tokenizer = xlm.load(tmp_path / "alone").tokenizer
    assert isinstance(tokenizer, NumberedTokenizer)
    for line in peers.lines():
        assert tokenizer.encode(line) == peer(line, add_special_tokens=False)["input_ids"]
        if tokenizer.unk_id not in tokenizer.encode(line):
            assert tokenizer.decode(tokenizer.encode(line)) == line
    assert tokenizer.pieces[tokenizer.mask_id] == "<mask>"
    names = MBART if kind == "mbart" else MBART_50
    assert {tokenizer.pieces[at] for at in tokenizer.language_tokens.values()} == set(names)
    assert tokenizer.language_tokens["hi"] == peer.convert_tokens_to_ids("hi_IN")
    assert set(tokenizer.encode("en_XX hi_IN <mask> </s>")).isdisjoint(tokenizer.special_ids - {3})


def test_names_of_languages() -> None:
    pieces = ["</s>", "zh_CN", "__ne__", "eng_Latn", "<2en>", "New_York", "__init__"]
    found = published_tokens((piece, at) for at, piece in enumerate(pieces))
    assert found == {"zh": 1, "ne": 2, "eng_Latn": 3}
    assert len(M2M_100) == 100 and (len(MBART), len(MBART_50)) == (25, 52)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"decoder_attention_heads": 2},
            "encoder_attention_heads is 4 but decoder_attention_heads",
        ),
        ({"decoder_ffn_dim": 64}, "encoder_ffn_dim is 48 but decoder_ffn_dim is 64"),
        ({"activation_function": "tanh"}, "activation_function is 'tanh'"),
        ({"tie_word_embeddings": False}, "tie_word_embeddings is false"),
        ({"d_model": 64}, "d_model is 64, but the word table is 32 wide"),
        ({"model_type": "nllb-moe"}, "model_type 'nllb-moe'"),
    ],
)
def test_what_is_refused(
    made: tuple[str, Path, Any, Any], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    _, folder, _, _ = made
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises((CheckpointError, ConfigError), match=message) as caught:
        xlm.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_exported(made: tuple[str, Path, Any, Any], tmp_path: Path) -> None:
    kind, folder, _, _ = made
    other = "m2m_100" if KINDS[kind][0] == "mbart" else "mbart"
    with pytest.raises(ConfigError, match=f"cannot become a model of type {other}, which does not"):
        export_model(Export(source=str(folder), folder=str(tmp_path / "x"), format=other))
    model = xlm.load(folder)
    if kind == "nllb":
        assert torch.equal(
            model.transformer.encoder.positions.weight, sinusoids(model.transformer.config)
        )
        with torch.no_grad():
            model.transformer.encoder.positions.weight[3] += 1e-3
        model.save_pretrained(tmp_path / "moved")
        with pytest.raises(ConfigError, match="positions of the encoder that were trained"):
            export_model(
                Export(source=str(tmp_path / "moved"), folder=str(tmp_path / "y"), format="m2m_100")
            )
    without = dataclasses.replace(model, extra={**model.extra, "layout": "target"})
    without.save_pretrained(tmp_path / "target")
    with pytest.raises(ConfigError, match="layout target"):
        export_model(
            Export(
                source=str(tmp_path / "target"), folder=str(tmp_path / "z"), format=KINDS[kind][0]
            )
        )


def test_a_folder_without_tokens_of_languages(tmp_path: Path) -> None:
    config = transformers.M2M100Config(vocab_size=700, **SIZES)
    transformers.M2M100ForConditionalGeneration(config).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="has no tokenizer: expected tokenizer.json"):
        xlm.load(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").write_bytes(random_models.unigram())
    with pytest.raises(DataError, match="have language tokens"):
        xlm.load(tmp_path)


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random mBART-50 with room for the recipes' rows."""
    folder = tmp_path_factory.mktemp("roomy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "max_position_embeddings", 256)
        translator_models.translator("mbart-50", folder)
    return folder


@pytest.mark.parametrize("name", ["xnli/ji", "paws-x/ji", "pos/ji", "ner/ji", "xglue/wpr"])
def test_the_recipes_after_ji_take_its_encoder(roomy: Path, tmp_path: Path, name: str) -> None:
    config = recipes.recipe(name)
    ((key, task),) = config.tasks.items()
    recipes.write_files(task, tmp_path)
    report = finetune(
        dataclasses.replace(
            config, model=str(roomy), folder=str(tmp_path / "run"), root=str(tmp_path), steps=1,
            device="cpu",
        )
    )  # fmt: skip
    assert set(report.streams) == {f"{key}/{language}" for language in task.files.test}
    tuned = xlm.load_task(tmp_path / "run/seed-0/model")
    assert tuned.transformer.config.num_decoder_layers == 0

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
from xlm.interchange.transformers.xlm import read_transformers_xlm, write_transformers_xlm
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.learn_fastbpe import learn_fastbpe_tokenizer

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


def gradients_of_ours(model, inputs, targets, causal):
    model.transformer.zero_grad()
    logits, _ = our_logits(model, *inputs, causal)
    F.cross_entropy(logits, targets).backward()
    found = {}
    for name, parameter in model.transformer.named_parameters():
        gradient = parameter.grad
        assert gradient is not None, name
        found[name] = gradient
    return found


def gradients_of_theirs(model, inputs, targets):
    model.zero_grad()
    logits, _ = their_logits(model, *inputs)
    F.cross_entropy(logits, targets).backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("causal, tied", [(False, True), (True, False)])
def test_gradients_are_the_same(tokenizer, tmp_path, causal, tied):
    fields = {"tied_output": tied, "dropout": 0.0, "attention_dropout": 0.0}
    model = ours(tokenizer, **fields)
    write_transformers_xlm(model, tmp_path, causal=causal)
    other = peer(tmp_path)
    inputs = batch(tokenizer.vocab_size, 3, True, True)
    targets = torch.randint(14, tokenizer.vocab_size, (int(LENGTHS.sum()),))
    own = gradients_of_ours(model, inputs, targets, causal)
    found = gradients_of_theirs(other, inputs, targets)

    def theirs_of(name):
        """Written out again, so that a slip in the module's table cannot hide here."""
        short = name.removeprefix("encoder.")
        tables = {
            "words.weight": "transformer.embeddings.weight",
            "positions.weight": "transformer.position_embeddings.weight",
            "languages.weight": "transformer.lang_embeddings.weight",
            "embedding_norm.weight": "transformer.layer_norm_emb.weight",
            "embedding_norm.bias": "transformer.layer_norm_emb.bias",
            "output_bias": "pred_layer.proj.bias",
            "output_weight": "pred_layer.proj.weight",
        }
        if short in tables:
            return [tables[short]]
        _, at, rest = short.split(".", 2)
        part = rest.rpartition(".")[2]
        if rest.startswith("attention.query_key_value"):
            return [f"transformer.attentions.{at}.{p}_lin.{part}" for p in "qkv"]
        layers = {
            "attention.output": f"attentions.{at}.out_lin",
            "attention_norm": f"layer_norm1.{at}",
            "feed_forward.expand": f"ffns.{at}.lin1",
            "feed_forward.contract": f"ffns.{at}.lin2",
            "feed_forward_norm": f"layer_norm2.{at}",
        }
        return [f"transformer.{layers[rest.rpartition('.')[0]]}.{part}"]

    compared = set()
    for name, gradient in own.items():
        names = theirs_of(name)
        compared |= set(names)
        expected = torch.cat([found[there] for there in names])
        assert float((gradient - expected).abs().max()) <= TOLERANCE, name
        assert float(expected.abs().max()) > 0, name
    assert compared == set(found)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    "num_languages, fields",
    [
        (3, {}),
        (1, {"tied_output": False, "activation": "relu"}),
        (3, {"language_embeddings": False, "dropout": 0.25, "layer_norm_eps": 1e-6}),
    ],
)
def test_export_import_export_is_byte_identical(tokenizer, tmp_path, causal, num_languages, fields):
    extra = {"languages": LANGUAGES} if num_languages == 3 else {"languages": {"ne": 0}}
    model = ours(tokenizer, num_languages=num_languages, extra=extra, **fields)
    write_transformers_xlm(model, tmp_path / "a", causal=causal)
    told = json.loads((tmp_path / "a" / "config.json").read_text())
    assert told["lang2id"] == extra["languages"]
    again = read_transformers_xlm(tmp_path / "a")
    assert again.transformer.config == model.transformer.config
    for name, value in model.transformer.state_dict().items():
        assert torch.equal(again.transformer.state_dict()[name], value), name
    lost = write_transformers_xlm(again, tmp_path / "b")  # which is causal as it was
    assert lost
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == [
        "config.json", "generation_config.json", "merges.txt", "model.safetensors",
        "tokenizer_config.json", "vocab.json",
    ]  # fmt: skip
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


@pytest.mark.parametrize("tied", [True, False])
def test_import_save_open_export_keeps_every_bit(tokenizer, files, tmp_path, tied):
    theirs(tokenizer, tmp_path / "theirs", files, causal=True, tie_word_embeddings=tied)
    read_transformers_xlm(tmp_path / "theirs").save_pretrained(tmp_path / "ours")
    model = PretrainedModel.open(tmp_path / "ours")
    assert model.extra["format"] == "transformers xlm" and model.extra["causal"]
    write_transformers_xlm(model, tmp_path / "again")
    before = load_file(tmp_path / "theirs" / "model.safetensors")
    after = load_file(tmp_path / "again" / "model.safetensors")
    assert set(before) == set(after)
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    before, after = (
        json.loads((tmp_path / d / "config.json").read_text()) for d in ("theirs", "again")
    )
    differing = {name for name in after if after[name] != before[name]}
    assert differing <= {"bos_token_id", "embed_init_std", "mask_token_id"}


def test_transformers_takes_what_is_written_without_a_word(tokenizer, tmp_path, caplog):
    write_transformers_xlm(ours(tokenizer), tmp_path)
    log = logging.getLogger("transformers")
    log.addHandler(caplog.handler)
    try:
        with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.WARNING):
            warnings.simplefilter("always")
            found = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path)
            names = transformers.AutoTokenizer.from_pretrained(tmp_path)
            settings = transformers.GenerationConfig.from_pretrained(tmp_path)
    finally:
        log.removeHandler(caplog.handler)
    assert not caplog.records and not warned
    assert type(found).__name__ == "XLMWithLMHeadModel" and not found.training
    assert found.config.lang2id == LANGUAGES and found.dtype == torch.float32
    assert (names.pad_token_id, settings.pad_token_id, found.config.pad_token_id) == (2, 2, 2)
    assert (found.config.bos_token_id, found.config.mask_index) == (1, 5)


def test_text_through_both_from_end_to_end(tokenizer, tmp_path):
    """What a user does there, with the text cut into words as Moses does."""
    model = ours(tokenizer)
    write_transformers_xlm(model, tmp_path)
    other = peer(tmp_path)
    lines = ["the old house", "it is a book of the house"]
    given = transformers.AutoTokenizer.from_pretrained(tmp_path)(
        lines, return_tensors="pt", padding=True
    )
    own = model.batch(lines, "ne")
    assert torch.equal(given["input_ids"], own.tokens)
    with torch.no_grad():
        found = other.transformer(**given, langs=own.langs)[0]
        assert float((found - model.encode(own)).abs().max()) <= TOLERANCE


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_without_a_head_gets_a_bias_of_zero(tokenizer, files, tmp_path, tied):
    bare = theirs(tokenizer, tmp_path, files, head=False, tie_word_embeddings=tied)
    model = read_transformers_xlm(tmp_path)
    assert any("no output onto the vocabulary" in line for line in model.extra["lost"])
    assert not model.transformer.encoder.output_bias.any()
    assert model.transformer.config.tied_output
    inputs = batch(tokenizer.vocab_size, 3, True, True)
    tokens, lengths, positions, langs = inputs
    with torch.no_grad():
        found = bare(input_ids=tokens, langs=langs, position_ids=positions)[0]
        _, own = our_logits(model, *inputs, False)
    assert float((found - own).abs().max()) <= TOLERANCE
    write_transformers_xlm(model, tmp_path / "again")
    again = peer(tmp_path / "again")
    assert torch.equal(again.pred_layer.proj.weight, bare.embeddings.weight)


def test_the_head_of_a_task_is_named(tokenizer, files, tmp_path):
    theirs(tokenizer, tmp_path, files)
    config = transformers.XLMConfig.from_pretrained(tmp_path)
    for kind, name in (
        ("XLMForSequenceClassification", "sequence_summary.summary.bias"),
        ("XLMForTokenClassification", "classifier.bias"),
        ("XLMForQuestionAnsweringSimple", "qa_outputs.bias"),
        ("XLMForQuestionAnswering", "qa_outputs.start_logits.dense.bias"),
        ("XLMForMultipleChoice", "logits_proj.bias"),
    ):
        model = getattr(transformers, kind)(config).eval()
        model.save_pretrained(tmp_path)
        found = read_transformers_xlm(tmp_path)
        assert any("head of a task" in line and name in line for line in found.extra["lost"]), kind
        words = model.transformer.embeddings.weight
        assert torch.equal(found.transformer.encoder.words.weight, words)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_sentencepiece_models_go_with_a_tokenizer_json(tmp_path, kind):
    lines = sample.path("train.en.txt").read_text(encoding="utf-8").splitlines()
    tokenizer = learn_sentencepiece(lines, 600, kind=kind)
    model = ours(tokenizer, max_positions=64)
    lost = write_transformers_xlm(model, tmp_path / "a")
    assert any("spells a special token" in line for line in lost)
    found = transformers.AutoTokenizer.from_pretrained(tmp_path / "a")
    assert (found.pad_token_id, found.mask_token_id, found.bos_token_id) == (2, 4, 1)
    for line in [*lines, "</s> a <mask>", "<pad>", "नेपाल <0x0A>"]:
        row = found(line, split_special_tokens=True)["input_ids"]
        assert row == [1, *tokenizer.encode(line), 1]
    assert found("<mask>")["input_ids"] == [1, 4, 1]
    fill = transformers.pipeline("fill-mask", model=str(tmp_path / "a"))
    assert fill("maya <mask> bread")[0]["score"] > 0
    again = read_transformers_xlm(tmp_path / "a")
    assert again.tokenizer.digest == tokenizer.digest
    write_transformers_xlm(again, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    assert worst_difference(model, peer(tmp_path / "a"), False, 3) <= TOLERANCE
    with pytest.raises(ConfigError, match="from another tokenizer: choose an empty folder"):
        write_transformers_xlm(ours(learn_fastbpe_tokenizer(lines[:40], 60)), tmp_path / "a")


def test_any_tokenizer_json_can_come_in(tmp_path):
    lines = sample.path("train.en.txt").read_text(encoding="utf-8").splitlines()[:100]
    tokenizer = learn_sentencepiece(lines, 450)
    write_transformers_xlm(ours(tokenizer), tmp_path / "a")
    (tmp_path / "a" / "sentencepiece.model").unlink()
    model = read_transformers_xlm(tmp_path / "a")
    assert [model.tokenizer.encode(line) for line in lines] == tokenizer.encode_lines(lines)
    with pytest.raises(ConfigError, match="HuggingFaceTokenizer cannot go"):
        write_transformers_xlm(model, tmp_path / "b")


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"num_decoder_layers": 2}, "a decoder (num_decoder_layers 2: give 0)"),
        ({"feed_forward": 32}, "feed_forward 32 (give 64, 4 x dim)"),
        ({"num_segments": 2}, "num_segments 2 (give 0)"),
        ({"output_transform": True}, "an output transform (output_transform true: give false)"),
        ({"positions": "rotary"}, "support positions rotary (give learned):"),
        ({"positions": "sinusoidal"}, "support positions sinusoidal (give learned):"),
        ({"norm": "pre", "norm_kind": "rms"}, "norm pre (give post); norm_kind rms (give layer)"),
        ({"qk_norm": True, "biases": False}, "qk_norm true (give false); biases false (give true)"),
        ({"embedding_norm": False}, "embedding_norm false (give true)"),
        ({"embedding_scale": True}, "embedding_scale true (give false)"),
        ({"window": 4, "global_every": 2}, "window 4 (give null)"),
        ({"activation": "swiglu"}, "activation swiglu (give gelu)"),
    ],
)
def test_what_cannot_go_is_refused_by_name(tokenizer, tmp_path, fields, expected):
    with pytest.raises(ConfigError) as error:
        write_transformers_xlm(ours(tokenizer, **fields), tmp_path / "a")
    assert expected in one_line(error)
    assert not (tmp_path / "a").exists()


def test_a_model_with_another_tokenizer_or_languages_is_refused(tokenizer, tmp_path):
    model = ours(tokenizer)
    other = learn_fastbpe_tokenizer(["a b c"], 1)
    wrong = PretrainedModel(model.transformer, other, LANGUAGES)
    with pytest.raises(ConfigError, match="expected the tokenizer that it was trained with"):
        write_transformers_xlm(wrong, tmp_path)
    wrong = PretrainedModel(model.transformer, tokenizer, {"en": 0, "hi": 2})
    with pytest.raises(ConfigError, match="expected the ids 0 to 2, each once"):
        write_transformers_xlm(wrong, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def written(tokenizer, tmp_path):
    write_transformers_xlm(ours(tokenizer), tmp_path)
    return tmp_path


def change_config(folder, **changes):
    config = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        config.pop(name) if value is ... else config.update({name: value})
    (folder / "config.json").write_text(json.dumps(config))


def change_weights(folder, change):
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    "changes, expected",
    [
        ({"model_type": "bert"}, "model_type is 'bert', expected 'xlm'"),
        ({"is_encoder": False}, "the decoder of an encoder-decoder"),
        ({"asm": True}, "adaptive softmax"),
        ({"emb_dim": "16"}, "emb_dim is '16', expected int"),
        ({"causal": 1}, "causal is 1, expected bool"),
        ({"dropout": True}, "dropout is True, expected float"),
        ({"n_heads": 5}, "the model cannot be built"),
        ({"pad_token_id": 100_000}, "padding id 100000 is outside"),
        ({"n_layers": 10**9}, "says n_layers 1000000000, but the weights have 2"),
        ({"vocab_size": 10**12}, "embeddings.weight"),
        (
            {"max_position_embeddings": 25},
            "position_embeddings.weight [24, 16] instead of [25, 16]",
        ),
        ({"n_langs": 2}, "does not fit n_langs 2"),
        ({"n_langs": 1}, "not part of the model lang_embeddings.weight"),
        ({"use_lang_emb": False}, "not part of the model lang_embeddings.weight"),
        ({"tie_word_embeddings": False}, "missing pred_layer.proj.weight"),
        ({"lang2id": {"en": 0, "hi": 2, "ne": 1}}, "lang2id and id2lang disagree about hi, ne"),
        ({"lang2id": {"en": "0"}}, "lang2id is {'en': '0'}, expected names"),
        ({"lang2id": ["en"]}, "lang2id is ['en'], expected names"),
        ({"id2lang": {"x": "en"}}, "id2lang is {'x': 'en'}, expected names"),
        ({"pad_token_id": 3}, "padding id of the tokenizer is 2, but config.json says 3"),
    ],
)
def test_a_config_that_is_not_ours_is_named(written, changes, expected):
    change_config(written, **changes)
    with pytest.raises(CheckpointError) as error:
        read_transformers_xlm(written)
    assert expected in one_line(error)


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda t: t.pop("transformer.ffns.1.lin1.bias"), "missing ffns.1.lin1.bias"),
        (lambda t: t.update({"transformer.ffns.9.lin1.bias": torch.ones(2)}), "part of the model"),
        (lambda t: t.update({"extra.x": torch.ones(2)}), "not part of the model extra.x"),
        (lambda t: t.update({"memories.0.keys": torch.ones(2)}), "a product-key memory"),
        (lambda t: t.update({"encoder_attn.0.q_lin.bias": torch.ones(2)}), "encoder-decoder"),
        (lambda t: t.update({"layer_norm15.0.bias": torch.ones(2)}), "encoder-decoder"),
        (lambda t: t.update({"pred_layer.proj.head.weight": torch.ones(2)}), "adaptive softmax"),
        (lambda t: t.update({"embeddings.weight": torch.ones(2)}), "with and without"),
        (
            lambda t: t.update({"pred_layer.proj.weight": torch.ones(3, 16)}),
            "says tie_word_embeddings, but pred_layer.proj.weight differs",
        ),
        (
            lambda t: t.update({"transformer.ffns.0.lin1.bias": torch.ones(64, dtype=torch.int8)}),
            "has type torch.int8",
        ),
        (
            lambda t: t.update({"transformer.attentions.0.k_lin.bias": torch.ones(15)}),
            "attentions.0.k_lin.bias [15] instead of [16]",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(written, change, expected):
    change_weights(written, change)
    with pytest.raises(CheckpointError) as error:
        read_transformers_xlm(written)
    assert expected in one_line(error)


def test_older_files_are_read_too(tokenizer, files, tmp_path):
    other = theirs(tokenizer, tmp_path, files)
    config = json.loads((tmp_path / "config.json").read_text())
    for new, old in {
        "vocab_size": "n_words", "emb_dim": "hidden_size", "pad_token_id": "pad_index",
        "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers",
    }.items():  # fmt: skip
        config[old] = config.pop(new)
    del config["lang2id"]  # the other way round, with strings for keys, is there
    (tmp_path / "config.json").write_text(json.dumps(config))
    state = {name: t.clone() for name, t in other.state_dict().items()}
    state["transformer.position_ids"] = torch.arange(POSITIONS)[None]
    (tmp_path / "model.safetensors").unlink()
    torch.save(state, tmp_path / "pytorch_model.bin")
    model = read_transformers_xlm(tmp_path)
    assert model.languages == LANGUAGES
    assert worst_difference(model, other, False, 3) <= TOLERANCE


def test_languages_without_names_are_refused_unless_there_is_no_table(
    tokenizer, files, tmp_path, written
):
    change_config(written, lang2id=..., id2lang=...)
    assert read_transformers_xlm(written).languages == LANGUAGES  # of tokenizer_config.json
    told = json.loads((written / "tokenizer_config.json").read_text())
    del told["lang2id"], told["id2lang"]
    (written / "tokenizer_config.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointError) as error:
        read_transformers_xlm(written)
    assert "n_langs is 3, but there is no lang2id" in one_line(error)
    folder = tmp_path / "b"
    theirs(tokenizer, folder, files, use_lang_emb=False)
    change_config(folder, lang2id={"en": 0, "hi": 5}, id2lang=...)
    model = read_transformers_xlm(folder)
    assert model.languages == {} and "languages" not in model.extra
    assert any("does not fit n_langs 3" in line for line in model.extra["lost"])


def test_a_model_needs_its_tokenizer(written):
    (written / "merges.txt").unlink()
    with pytest.raises(DataError) as error:
        read_transformers_xlm(written)
    assert "has no tokenizer: expected vocab.json and merges.txt" in one_line(error)


def test_half_precision_stays_as_it_is(tokenizer, tmp_path):
    model = ours(tokenizer)
    model.transformer.to(torch.bfloat16)
    write_transformers_xlm(model, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["dtype"] == "bfloat16"
    again = read_transformers_xlm(tmp_path).transformer.state_dict()
    assert all(torch.equal(again[n], t) for n, t in model.transformer.state_dict().items())


def test_generate_there_puts_a_mask_behind_the_text(tokenizer, tmp_path):
    """What ``lost`` says of causal models."""
    lost = write_transformers_xlm(ours(tokenizer), tmp_path, causal=True)
    assert any("mask_token_id" in line for line in lost)
    other, text = peer(tmp_path), torch.tensor([[1, 20, 30]])
    assert other.config.causal
    given = other.prepare_inputs_for_generation(text, is_first_iteration=True)
    assert given["input_ids"].tolist() == [[1, 20, 30, 5]]

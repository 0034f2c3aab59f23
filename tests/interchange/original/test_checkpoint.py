"""Files of the original XLM: against transformers' XLM, whose tensors have the original's names."""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from xlm.errors import CheckpointError
from xlm.interchange.original.checkpoint import read_original
from xlm.model.pretrained import PretrainedModel

transformers = pytest.importorskip("transformers")

BESIDE = Path(__file__).parents[3].parent / "shared" / "golden"
GOLDEN = Path(os.environ.get("XLM_GOLDEN", BESIDE))
golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)
CODES = b"t h 9\nth e</w> 8\nc a 5\n"
WORDS = {"the": 9, "ca@@": 5, "t@@": 5, "h@@": 3, "a": 3, "c@@": 2, "t": 1, "\u0939": 0}
SPECIALS = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{at}>" for at in range(10))]
PIECES = [*SPECIALS, *WORDS]


def peer(num_languages=3, **changes):
    torch.manual_seed(0)
    settings = {
        "vocab_size": len(PIECES), "emb_dim": 16, "n_layers": 2, "n_heads": 4, "n_langs":
        num_languages, "max_position_embeddings": 12, "tie_word_embeddings": True,
        "gelu_activation": True, "use_lang_emb": True, "dropout": 0.0, "attention_dropout": 0.0,
    }  # fmt: skip
    config = transformers.XLMConfig(**{**settings, **changes})
    model = transformers.XLMWithLMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)  # biases and norms are all alike in a fresh model
    return model


def tensors_of(model):
    """The original's state: the tied matrix under both of its names, as one storage."""
    state = {k.removeprefix("transformer."): v for k, v in model.state_dict().items()}
    state.pop("position_ids", None)
    return state


def content_of(model, **params):
    config = model.config
    settings = {
        "emb_dim": config.emb_dim, "n_layers": config.n_layers, "n_heads": config.n_heads,
        "dropout": 0.1, "attention_dropout": 0, "gelu_activation": config.gelu_activation,
        "share_inout_emb": config.tie_word_embeddings, "use_lang_emb": config.use_lang_emb,
        "sinusoidal_embeddings": False, "n_langs": config.n_langs, "n_words": config.vocab_size,
        "lang2id": {f"l{at}": at for at in range(config.n_langs)}, "pad_index": 2, "asm": False,
        "use_memory": False, "mlm_steps": [("l0", None)], "clm_steps": [],
        "para_dataset": {("l0", "l1"): {}},
    }  # fmt: skip
    return {
        "epoch": 3,
        "best_metrics": {"valid_mlm_ppl": np.float64(7.5)},
        "model": tensors_of(model),
        "dico_id2word": dict(enumerate(PIECES)),
        "dico_word2id": {piece: at for at, piece in enumerate(PIECES)},
        "dico_counts": {piece: WORDS.get(piece, 0) for piece in PIECES},
        "params": {**settings, **params},
    }


def write(folder, content, codes=CODES, is_zip=True):
    if codes is not None:
        (folder / "codes").write_bytes(codes)
    path = folder / "model.pth"
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    return path


@torch.no_grad()
def largest_difference(model, found):
    tokens = torch.randint(3, len(PIECES), (3, 9))
    lengths = torch.tensor([9, 4, 6])
    langs = torch.randint(0, model.config.n_langs, tokens.shape)
    positions = torch.randint(0, 12, tokens.shape)
    mask = torch.arange(9) < lengths[:, None]
    tokens[~mask] = 2
    theirs = model(tokens, attention_mask=mask, langs=langs, position_ids=positions).logits
    hidden = found.transformer.encode(tokens, lengths, positions, langs)
    cells = mask.flatten().nonzero()[:, 0]
    ours = found.transformer.predict(hidden, cells)
    return (ours - theirs[mask]).abs().max().item()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_languages": 1},
        {"use_lang_emb": False},
        {"gelu_activation": False, "tie_word_embeddings": False},
        {"sinusoidal_embeddings": True},
    ],
    ids=lambda changes: ",".join(changes) or "plain",
)
@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "legacy"])
def test_equals_transformers(tmp_path, changes, is_zip):
    model = peer(**changes)
    sinusoidal = changes.get("sinusoidal_embeddings", False)
    path = write(tmp_path, content_of(model, sinusoidal_embeddings=sinusoidal), is_zip=is_zip)
    found = read_original(path)
    assert largest_difference(model, found) <= 1e-5
    with_table = model.config.n_langs > 1 and model.config.use_lang_emb
    named = {f"l{at}": at for at in range(model.config.n_langs)}
    assert found.languages == (named if with_table else {})
    assert found.extra.get("languages", {}) == ({} if with_table else named)
    assert not found.transformer.training
    assert found.transformer.config.dropout == 0.1
    assert found.transformer.config.attention_dropout == 0.0
    assert any("sinusoidal" in line for line in found.extra["lost"]) == sinusoidal
    assert all(p.requires_grad for p in found.transformer.parameters())


def test_settings_in_a_namespace_and_prefixes_of_several_gpus(tmp_path):
    model = peer()
    content = content_of(model)
    content["params"] = argparse.Namespace(**content["params"])
    content["model"] = {f"module.{name}": tensor for name, tensor in content["model"].items()}
    assert largest_difference(model, read_original(write(tmp_path, content))) <= 1e-5


def test_half_precision_is_widened_and_the_optimizer_left(tmp_path):
    model = peer()
    content = content_of(model)
    content["model"] = {name: tensor.half() for name, tensor in content["model"].items()}
    content["model_optimizer"] = {"state": {0: {"exp_avg": torch.zeros(3)}}}
    content["note"] = "kept by somebody"
    found = read_original(write(tmp_path, content))
    assert {t.dtype for t in found.transformer.state_dict().values()} == {torch.float32}
    assert torch.equal(
        found.transformer.encoder.words.weight, content["model"]["embeddings.weight"].float()
    )
    lost = "\n".join(found.extra["lost"])
    assert "optimizer state" in lost and "torch.float16" in lost and "'note'" in lost


def test_a_model_directory_gives_the_same(tmp_path):
    found = read_original(write(tmp_path, content_of(peer())))
    found.save_pretrained(tmp_path / "ours")
    again = PretrainedModel.open(tmp_path / "ours")
    assert again.languages == found.languages and again.extra == found.extra
    assert again.tokenizer.digest == found.tokenizer.digest
    for name, tensor in found.transformer.state_dict().items():
        assert torch.equal(tensor, again.transformer.state_dict()[name]), name


def decoder_of(model):
    """The decoder of a model of the original, with numbers that name their tensor."""
    state, d = tensors_of(model), model.config.emb_dim
    for at in range(model.config.n_layers):
        for place, part in enumerate("qkv"):
            state[f"encoder_attn.{at}.{part}_lin.weight"] = torch.full((d, d), place + 10.0 * at)
            state[f"encoder_attn.{at}.{part}_lin.bias"] = torch.full((d,), place + 10.5 * at)
        state[f"encoder_attn.{at}.out_lin.weight"] = torch.full((d, d), 5.0)
        state[f"encoder_attn.{at}.out_lin.bias"] = torch.full((d,), 6.0)
        state[f"layer_norm15.{at}.weight"] = torch.full((d,), 7.0)
        state[f"layer_norm15.{at}.bias"] = torch.full((d,), 8.0 + at)
    return state


def test_encoder_and_decoder(tmp_path):
    model = peer()
    content = content_of(model, mlm_steps=[])
    content["encoder"], content["decoder"] = content.pop("model"), decoder_of(model)
    found = read_original(write(tmp_path, content))
    assert found.transformer.config.num_decoder_layers == 2
    decoder, d = found.transformer.decoder, 16
    assert torch.equal(decoder.words.weight, content["encoder"]["embeddings.weight"])
    layer = decoder.layers[1]
    assert torch.equal(layer.cross_attention.query.weight, torch.full((d, d), 10.0))
    for place, values in ((1, slice(0, d)), (2, slice(d, None))):
        assert torch.equal(
            layer.cross_attention.key_value.weight[values], torch.full((d, d), place + 10.0)
        )
        assert torch.equal(
            layer.cross_attention.key_value.bias[values], torch.full((d,), place + 10.5)
        )
    assert torch.equal(layer.cross_attention.output.weight, torch.full((d, d), 5.0))
    assert torch.equal(layer.cross_attention.output.bias, torch.full((d,), 6.0))
    assert torch.equal(layer.cross_attention_norm.weight, torch.full((d,), 7.0))
    assert torch.equal(layer.cross_attention_norm.bias, torch.full((d,), 9.0))
    storages = {t.untyped_storage().data_ptr() for t in found.transformer.state_dict().values()}
    assert len(storages) == len(found.transformer.state_dict())  # no two share memory


@pytest.mark.parametrize("clm, mlm, causal", [([1], [], True), ([], [1], False), ([1], [1], False)])
def test_says_whether_it_was_trained_causally(tmp_path, clm, mlm, causal):
    content = content_of(peer(), clm_steps=clm, mlm_steps=mlm)
    assert read_original(write(tmp_path, content)).extra["causal"] is causal


def refusal(tmp_path, content, **given):
    with pytest.raises(CheckpointError) as caught:
        read_original(write(tmp_path, content), **given)
    message = str(caught.value)
    assert "\n" not in message and "model.pth" in message
    return message


MISFITS = {
    "use_memory": lambda c: c["params"].update(use_memory=True),
    "product-key memory": lambda c: c["model"].update({"memories.1_in.values": torch.zeros(2)}),
    "(asm)": lambda c: c["params"].update(asm=True),
    "adaptive softmax": lambda c: c["model"].update(
        {"pred_layer.proj.head.weight": torch.zeros(2)}
    ),
    "attentions.1.k_lin.bias is missing": lambda c: c["model"].pop("attentions.1.k_lin.bias"),
    "'extra.weight' is unknown": lambda c: c["model"].update({"extra.weight": torch.zeros(2)}),
    "ffns.1.lin2.weight is [16, 3], expected [16, 64]": lambda c: c["model"].update(
        {"ffns.1.lin2.weight": torch.zeros(16, 3)}
    ),
    "params.n_layers is 9, but the tensors have 2": lambda c: c["params"].update(n_layers=9),
    "params.emb_dim is 8, but the tensors have 16": lambda c: c["params"].update(emb_dim=8),
    "params.n_heads is missing": lambda c: c["params"].pop("n_heads"),
    "not divisible": lambda c: c["params"].update(n_heads=3),
    "params.dropout is 'x', expected float": lambda c: c["params"].update(dropout="x"),
    "params.pad_index is 4, expected 2": lambda c: c["params"].update(pad_index=4),
    "params.lang2id": lambda c: c["params"].update(lang2id={"l0": 0, "l1": 1, "l2": 1}),
    "lang2id (missing of 0)": lambda c: c["params"].pop("lang2id"),
    "differs from embeddings.weight": lambda c: c["model"].update(
        {"pred_layer.proj.weight": torch.zeros(len(PIECES), 16)}
    ),
    "params is missing": lambda c: c.pop("params"),
    "expected 'model', or 'encoder' and 'decoder'": lambda c: c.pop("model"),
    "model is int, expected tensors by name": lambda c: c.update(model=7),
    "torch.int64: expected floating": lambda c: c["model"].update(
        {"layer_norm_emb.bias": torch.zeros(16, dtype=torch.int64)}
    ),
    "embeddings.weight is missing, expected a matrix": lambda c: c["model"].pop(
        "embeddings.weight"
    ),
    "lacks dico_id2word": lambda c: c.pop("dico_counts"),
    "item 1 of its dictionary is '<eos>', expected '</s>'": lambda c: (
        c["dico_id2word"].update({1: "<eos>"}),
        c["dico_word2id"].update({"<eos>": 1}),
    ),
    "item 15 of its dictionary is 'the', but its id is 14": lambda c: c["dico_id2word"].update(
        {15: "the"}
    ),
    "the count of item 14, 'the', is -2": lambda c: c["dico_counts"].update(the=-2),
    "21 items, but its word table has 22 rows": lambda c: (
        c["dico_id2word"].pop(21),
        c["dico_word2id"].pop("\u0939"),
    ),
}


@pytest.mark.parametrize("named", MISFITS)
def test_what_does_not_fit_is_named(tmp_path, named):
    content = content_of(peer())
    MISFITS[named](content)
    assert named in refusal(tmp_path, content)


def test_a_table_of_one_language_is_no_file_of_the_original(tmp_path):
    content = content_of(peer(num_languages=1))
    content["model"]["lang_embeddings.weight"] = torch.zeros(1, 16)
    assert "'lang_embeddings.weight' is unknown" in refusal(tmp_path, content)


def vocabulary(words=WORDS):
    return "".join(f"{piece} {count}\n" for piece, count in words.items()).encode()


def test_without_a_vocabulary_one_is_made(tmp_path):
    found = read_original(write(tmp_path, content_of(peer())))
    assert list(found.tokenizer.pieces) == PIECES
    assert found.tokenizer.vocabulary == vocabulary() and found.tokenizer.codes == CODES
    assert found.tokenizer.encode("the cat") == [14, 15, 20]
    assert any(line.startswith("vocabulary file: made") for line in found.extra["lost"])


@pytest.mark.parametrize("given", [True, False], ids=["given", "beside"])
def test_longer_vocabulary_files_are_kept_whole(tmp_path, given):
    longer = b"a\xe2\x80\xa8b 99\nthe 9 9\n" + vocabulary() + b"the 0\nrare 0\nrarer 0\n"
    file = tmp_path / ("other" if given else "vocab_toy_15")
    file.write_bytes(longer)
    path = write(tmp_path, content_of(peer()))
    found = read_original(path, vocabulary=file if given else None)
    assert list(found.tokenizer.pieces) == PIECES
    assert found.tokenizer.vocabulary == longer and found.tokenizer.settings["max_vocab"] == 22
    assert found.extra["lost"] == []


def test_vocabularies_of_another_model_are_named_by_their_first_difference(tmp_path):
    file = tmp_path / "vocab"
    file.write_bytes(vocabulary({"the": 9, "dog": 5, "t@@": 5}))
    message = refusal(tmp_path, content_of(peer()))
    assert "id 15 is 'ca@@' (count 5)" in message and "'dog' (count 5) in" in message
    file.write_bytes(vocabulary({"the": 9, "ca@@": 5}))
    assert "id 16 is 't@@' (count 5)" in (message := refusal(tmp_path, content_of(peer())))
    assert "nothing in" in message


@pytest.mark.parametrize("piece", ["a\u2028b", "a b", "a\u00a0b", "\ud800"])
def test_dictionaries_that_no_file_can_hold_are_refused(tmp_path, piece):
    content = content_of(peer())
    content["dico_id2word"][15] = piece
    content["dico_word2id"] = {p: at for at, p in content["dico_id2word"].items()}
    content["dico_counts"][piece] = 5
    message = refusal(tmp_path, content)
    assert "vocabulary" in message or "no tokenizer" in message
    message.encode()  # can be printed


def test_codes_are_needed_and_only_one_file_of_them(tmp_path):
    path = write(tmp_path, content_of(peer()), codes=None)
    with pytest.raises(CheckpointError, match="no file 'codes' or 'codes_\\*' beside it"):
        read_original(path)
    (tmp_path / "codes_enfr").write_bytes(CODES)
    assert read_original(path).tokenizer.codes == CODES
    (tmp_path / "codes_xnli_15").write_bytes(b"")
    with pytest.raises(CheckpointError, match="codes_enfr, codes_xnli_15: say which"):
        read_original(path)
    assert read_original(path, codes=tmp_path / "codes_enfr").tokenizer.codes == CODES
    with pytest.raises(CheckpointError, match="absent: cannot be read"):
        read_original(path, codes=tmp_path / "absent")
    (tmp_path / "wrong").write_bytes(b"a b c d\n")
    with pytest.raises(CheckpointError, match="wrong and .* do not make a tokenizer: codes:1"):
        read_original(path, codes=tmp_path / "wrong")


@golden
@pytest.mark.parametrize("file", ["mlm/checkpoint", "mlm/best-valid_mlm_ppl", "mt/periodic-8"])
def test_both_serializations_hold_the_same_model(file):
    codes = GOLDEN / "data/codes"
    one = read_original(GOLDEN / f"{file}.pth", codes=codes)
    two = read_original(
        GOLDEN / f"{file}.legacy.pth", codes=codes, vocabulary=codes.parent / "vocab"
    )
    assert one.languages == two.languages == {"en": 0, "fr": 1, "hi": 2}
    assert one.tokenizer.pieces == two.tokenizer.pieces
    assert two.tokenizer.vocabulary == (GOLDEN / "data/vocab").read_bytes()
    state = two.transformer.state_dict()
    assert state.keys() == one.transformer.state_dict().keys()
    for name, tensor in one.transformer.state_dict().items():
        assert torch.equal(tensor, state[name]), name
    has_optimizer = any("optimizer" in line for line in two.extra["lost"])
    assert has_optimizer == (file == "mlm/checkpoint")
    json.dumps(one.extra)


@golden
def test_the_dictionary_is_that_of_the_data():
    found = read_original(GOLDEN / "clm/best-valid_clm_ppl.pth", codes=GOLDEN / "data/codes")
    expected = json.loads((GOLDEN / "data/dictionary.json").read_text())
    assert list(found.tokenizer.pieces) == expected["id2word"]
    assert list(found.tokenizer.counts) == expected["counts"]
    assert found.extra["causal"] is True

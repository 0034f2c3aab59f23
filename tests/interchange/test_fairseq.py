"""fairseq's XLM-R: a random XLMRobertaForMaskedLM under fairseq's names, of both generations."""

from argparse import Namespace

import pytest
import torch

from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from xlm.errors import CheckpointError, DataError
from xlm.interchange import fairseq
from xlm.interchange.fairseq import read_fairseq
from xlm.interchange.safe_torch.files import read_torch_file
from xlm.interchange.transformers.roberta import (
    read_transformers_roberta,
    write_transformers_roberta,
)
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer

transformers = pytest.importorskip("transformers")
# what fairseq calls each part, as its own conversion to transformers had them side by side
PARTS = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "final_layer_norm",
}
OUTER = {
    "roberta.embeddings.word_embeddings.": "{0}.sentence_encoder.embed_tokens.",
    "roberta.embeddings.position_embeddings.": "{0}.sentence_encoder.embed_positions.",
    "roberta.embeddings.LayerNorm.": "{0}.sentence_encoder.{1}.",
    "lm_head.": "{0}.lm_head.",
}
GENERATIONS = {"new": ("encoder", "layernorm_embedding"), "old": ("decoder", "emb_layer_norm")}
SETTINGS = {
    "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_embed_dim": 32, "dropout": 0.2,
    "attention_dropout": 0.0, "activation_fn": "gelu", "max_positions": 128, "arch": "roberta_base",
    "untie_weights_roberta": False,
}  # fmt: skip


def peer_model():
    config = transformers.XLMRobertaConfig(
        vocab_size=702, max_position_embeddings=130, type_vocab_size=1, layer_norm_eps=1e-5,
        pad_token_id=1, **peers.SIZES,
    )  # fmt: skip
    peer = peers.shake(transformers.XLMRobertaForMaskedLM(config))
    with torch.no_grad():  # fairseq has no token types
        peer.roberta.embeddings.token_type_embeddings.weight.zero_()
    return peer


def renamed(peer, generation):
    side, norm = GENERATIONS[generation]
    found = {}
    for name, tensor in peer.state_dict().items():
        if "token_type" in name or "position_ids" in name or "lm_head.decoder" in name:
            continue
        for theirs, other in OUTER.items():
            name = name.replace(theirs, other.format(side, norm))
        if name.startswith("roberta.encoder.layer."):
            _, _, _, at, rest = name.split(".", 4)
            part, kind = rest.rsplit(".", 1)
            name = f"{side}.sentence_encoder.layers.{at}.{PARTS[part]}.{kind}"
        found[name] = tensor.clone()
    found[f"{side}.lm_head.weight"] = found[f"{side}.sentence_encoder.embed_tokens.weight"]
    return found


def dictionary():
    entries = XlmRobertaTokenizer(peers.unigram()).pieces[4:-1]
    return "".join(f"{piece} {900 - at}\n" for at, piece in enumerate(entries)).encode()


def saved(folder, tensors, settings=SETTINGS, modern=False, **more):
    described = {"cfg": {"model": settings}, "args": None} if modern else {}
    content = {"args": Namespace(**settings), "model": tensors, "extra_state": {}, **described}
    peers.write(folder, dict__txt=dictionary(), sentencepiece__bpe__model=peers.unigram())
    torch.save({**content, **more}, folder / "model.pt")
    return folder


@pytest.mark.parametrize("modern", [False, True])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_both_generations_give_the_same_numbers(generation, modern, tmp_path):
    peer = peer_model()
    saved(tmp_path, renamed(peer, generation), modern=modern)
    model = read_fairseq(tmp_path)
    given = peers.batch(model)
    assert peers.difference(model, peer, given, token_types=False) <= TOLERANCE
    config = model.transformer.config
    assert (config.dropout, config.attention_dropout, config.num_segments) == (0.2, 0.0, 0)
    assert not model.transformer.training and config.layer_norm_eps == 1e-5
    assert model.extra["format"] == "fairseq"


def test_fused_projections_of_the_oldest_files(tmp_path):
    peer = peer_model()
    tensors = renamed(peer, "old")
    for at in range(2):
        inner = f"decoder.sentence_encoder.layers.{at}.self_attn."
        for kind in ("weight", "bias"):
            parts = [tensors.pop(f"{inner}{part}_proj.{kind}") for part in "qkv"]
            tensors[f"{inner}in_proj_{kind}"] = torch.cat(parts)
    saved(tmp_path, tensors)
    model = read_fairseq(tmp_path / "model.pt")
    assert peers.difference(model, peer, peers.batch(model), token_types=False) <= TOLERANCE


def test_it_leaves_as_xlm_r(tmp_path):
    peer = peer_model()
    model = read_fairseq(saved(tmp_path / "fairseq", renamed(peer, "new")))
    lost = write_transformers_roberta(model, tmp_path / "theirs")
    assert any("rows of zeros" in line for line in lost)
    back = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "theirs").eval()
    assert type(back) is transformers.XLMRobertaForMaskedLM
    assert peers.difference(model, back, peers.batch(model), token_types=False) <= TOLERANCE
    again = read_transformers_roberta(tmp_path / "theirs")
    for text in peers.lines()[::50]:
        assert again.tokenizer.encode(text) == model.tokenizer.encode(text)


def test_ids_follow_dict_txt(tmp_path):
    peer = peer_model()
    saved(tmp_path, renamed(peer, "new"))
    lines = dictionary().splitlines(keepends=True)
    (tmp_path / "dict.txt").write_bytes(b"".join(reversed(lines)))
    plain, turned = XlmRobertaTokenizer(peers.unigram()), read_fairseq(tmp_path).tokenizer
    last = len(lines) + 7
    for text in peers.lines()[::50]:
        expected = [at if at < 4 else last - at for at in plain.encode(text)]
        assert turned.encode(text) == expected
        assert turned.decode(expected) == plain.decode(plain.encode(text))


def test_what_is_left_out_is_said(tmp_path):
    tensors = renamed(peer_model(), "new")
    tensors["encoder.classification_heads.nli.dense.weight"] = torch.zeros(3, 32)
    tensors["encoder.sentence_encoder.version"] = torch.tensor([3.0])
    saved(tmp_path, tensors, {**SETTINGS, "activation_dropout": 0.1})
    lost = read_fairseq(tmp_path).extra["lost"]
    assert "heads that this model does not have: encoder.classification_heads.nli.dense.weight" in (
        lost
    )
    assert any("activation_dropout 0.1" in line for line in lost)
    assert not any("version" in line for line in lost)


def test_the_optimizer_is_not_read(tmp_path, monkeypatch):
    saved(tmp_path, renamed(peer_model(), "new"), last_optimizer_state={"m": torch.ones(3)})
    seen = {}

    def read(path, *, without=()):
        seen.update(read_torch_file(path, without=without))
        return seen

    monkeypatch.setattr(fairseq, "read_torch_file", read)
    read_fairseq(tmp_path)
    assert seen["last_optimizer_state"] is None


def broken(tmp_path, **changes):
    tensors = renamed(peer_model(), "new")
    settings = {**SETTINGS, **changes.pop("settings", {})}
    for name in changes.pop("without", ()):
        del tensors[name]
    tensors.update(changes.pop("tensors", {}))
    return saved(tmp_path, tensors, settings, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tensors": {"encoder.sentence_encoder.layer_norm.weight": torch.ones(32)}},
            "normalizes before its layers",
        ),
        ({"settings": {"encoder_layers": 1}}, "our model has no place for 16 tensors"),
        ({"settings": {"encoder_layers": "2"}}, "encoder_layers is '2', expected 1 or more"),
        ({"settings": {"activation_fn": "gelu_fast"}}, "activation_fn is 'gelu_fast'"),
        ({"settings": {"dropout": "much"}}, "dropout is 'much'"),
        ({"without": ["encoder.lm_head.bias"]}, "the tensor encoder.lm_head.bias is missing"),
        ({"args": None}, "neither args nor cfg.model has encoder_layers"),
        ({"model": None}, "has no 'model'"),
        ({"model": {"a": 3}}, "'model' is expected to hold tensors by name"),
    ],
)
def test_what_cannot_be_read_is_named(changes, message, tmp_path):
    broken(tmp_path, **changes)
    with pytest.raises(CheckpointError) as error:
        read_fairseq(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert "model.pt" in str(error.value)


def test_files_that_are_not_beside_it(tmp_path):
    broken(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").unlink()
    with pytest.raises(CheckpointError, match=r"has no sentencepiece\.bpe\.model"):
        read_fairseq(tmp_path)


def test_a_dictionary_that_is_too_long(tmp_path):
    broken(tmp_path)
    (tmp_path / "dict.txt").write_bytes(dictionary() + b"more 1\n")
    with pytest.raises(DataError, match="703 ids does not fit a vocabulary of 702"):
        read_fairseq(tmp_path)

"""BERT and multilingual BERT: the same numbers as transformers', both ways."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from xlm.errors import CheckpointError, ConfigError, DataError
from xlm.interchange.finetuned import chosen_task, open_finetuned
from xlm.interchange.transformers.bert import read_transformers_bert, write_transformers_bert
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.objectives import NextSentence
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.hugging_face import HuggingFaceTokenizer
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer, tokenizer_json

transformers = pytest.importorskip("transformers")
BASE = {"vocab_size": 700, "max_position_embeddings": 130, **peers.SIZES}


def saved(folder, head="ForMaskedLM", **changes):
    """A random peer in ``folder``, with a WordPiece vocabulary."""
    config = transformers.BertConfig(**{**BASE, **changes})
    peer = peers.shake(getattr(transformers, f"Bert{head}")(config))
    peer.save_pretrained(folder)
    settings = {"do_lower_case": False}
    peers.write(folder, vocab__txt=peers.wordpieces(), tokenizer_config__json=settings)
    return peer


CONFIGURATIONS = {
    "BERT": {},
    "BERT, untied": {"tie_word_embeddings": False},
    "BERT, ReLU": {"hidden_act": "relu"},
    "BERT, ReLU, untied": {"hidden_act": "relu", "tie_word_embeddings": False},
    "BERT, next sentences too": {"head": "ForPreTraining"},
    "BERT, three layers, narrow inside": {"num_hidden_layers": 3, "intermediate_size": 20},
    "BERT, rows that no text has": {"vocab_size": 720},
    "BERT, other epsilon": {"layer_norm_eps": 1e-2},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_same_numbers_both_ways(name, tmp_path):
    peer = saved(tmp_path / "theirs", **CONFIGURATIONS[name])
    model = read_transformers_bert(tmp_path / "theirs")
    given = peers.batch(model)
    assert len(set(given.lengths.tolist())) > 1, "nothing is padded"
    assert given.segments.any()
    read = peers.difference(model, peer, given, token_types=True)
    write_transformers_bert(model, tmp_path / "ours")
    back, info = transformers.AutoModelForMaskedLM.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert type(back) is transformers.BertForMaskedLM
    of_next_sentence = ("bert.pooler.", "cls.seq_relationship.")
    unexpected = [key for key in info["unexpected_keys"] if not key.startswith(of_next_sentence)]
    assert not info["missing_keys"] and not unexpected
    written = peers.difference(model, back.eval(), given, token_types=True)
    assert max(read, written) <= TOLERANCE


def test_segments_are_told_apart(tmp_path):
    saved(tmp_path)
    model = read_transformers_bert(tmp_path)
    given = peers.batch(model)
    hidden = model.encode(given)
    given.segments.zero_()
    assert (hidden - model.encode(given)).abs().max() > 0.1


def test_exports_are_byte_identical_after_an_import(tmp_path):
    saved(tmp_path / "theirs", "ForPreTraining")
    for source, folder in (("theirs", "first"), ("first", "second")):
        write_transformers_bert(read_transformers_bert(tmp_path / source), tmp_path / folder)
    first, second = (peers.contents(tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert set(first) == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    theirs = load_file(tmp_path / "theirs/model.safetensors")
    for name, tensor in load_file(tmp_path / "first/model.safetensors").items():
        assert torch.equal(tensor, theirs[name]), name


def test_next_sentence_prediction_has_the_same_numbers_both_ways(tmp_path):
    """Both logits and the loss of ``BertForPreTraining``, from its files and from ours."""
    peer = saved(tmp_path / "theirs", "ForPreTraining")
    model = read_transformers_bert(tmp_path / "theirs")
    assert not model.extra["lost"]
    given = peers.batch(model)
    random = torch.Generator().manual_seed(3)
    real = torch.arange(given.tokens.shape[1]) < given.lengths[:, None]
    labels = torch.where(
        real & (torch.rand(real.shape, generator=random) < 0.3), given.tokens, -100
    )
    cells = (labels != -100).flatten().nonzero()[:, 0]
    following = torch.randint(2, (len(labels),), generator=random)
    batch = replace(
        given, predict=cells, targets=labels.flatten()[cells], labels=following, count=-1,
        parts={"masked": len(cells), "next": len(labels)},
    )  # fmt: skip
    objective = NextSentence(languages=["en"])
    head = objective.head(model.transformer.config)
    head.load_state_dict({n.removeprefix("heads.nsp."): t for n, t in model.heads.items()})
    write_transformers_bert(model, tmp_path / "ours")
    assert json.loads((tmp_path / "ours/config.json").read_text())["architectures"] == [
        "BertForPreTraining"
    ]
    back, info = transformers.BertForPreTraining.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]
    with torch.no_grad():
        ours = objective.loss(model.transformer, head.eval(), batch)
        hidden = model.encode(batch)
        for other in (peer, back.eval()):
            inputs = peers.feed(given, token_types=True)
            found = other(**inputs, labels=labels, next_sentence_label=following)
            logits = model.transformer.predict(hidden, cells)
            theirs = found.prediction_logits.flatten(0, 1)[cells]
            assert (logits - theirs).abs().max() <= 1e-5
            assert (head(hidden) - found.seq_relationship_logits).abs().max() <= 1e-5
            mean = ours.parts["masked"] / len(cells) + ours.parts["next"] / len(labels)
            assert abs(float(mean - found.loss)) <= 1e-5


def test_a_pooler_alone_is_kept_and_an_output_without_classes_goes_without_it(tmp_path):
    saved(tmp_path / "bare", "Model")
    bare = read_transformers_bert(tmp_path / "bare")
    assert set(bare.heads) == {"heads.nsp.pooler.weight", "heads.nsp.pooler.bias"}
    write_transformers_bert(bare, tmp_path / "again")
    again = read_transformers_bert(tmp_path / "again")
    assert torch.equal(
        again.heads["heads.nsp.pooler.weight"], bare.heads["heads.nsp.pooler.weight"]
    )
    saved(tmp_path / "masked")
    masked = replace(read_transformers_bert(tmp_path / "masked"), heads=bare.heads)
    lost = write_transformers_bert(masked, tmp_path / "ours")
    assert "heads.nsp.pooler.bias" in " ".join(lost)


def test_a_model_with_a_next_sentence_head_is_no_fine_tuned_one(tmp_path):
    saved(tmp_path / "theirs", "ForPreTraining")
    model = read_transformers_bert(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    reopened = PretrainedModel.open(tmp_path / "ours")
    assert all(torch.equal(reopened.heads[name], own) for name, own in model.heads.items())
    assert chosen_task(reopened, "ours", None) is None
    with pytest.raises(ConfigError, match="has no task head"):
        open_finetuned(tmp_path / "ours")


def test_multilingual_bert_has_as_many_parameters():
    """178,566,653: ``BertForPreTraining`` of 119,547 entries."""
    config = ModelConfig(preset="mbert")
    with torch.device("meta"):
        model = Transformer(config, vocab_size=119_547, num_languages=104, pad_id=0)
        head = NextSentence(languages=["en"]).head(config)
        shape = transformers.BertConfig(vocab_size=119_547)
        peer = transformers.BertForPreTraining(shape)
    num = sum(p.numel() for module in (model, head) for p in module.parameters())
    assert num == sum(p.numel() for p in peer.parameters()) == 178_566_653


def test_a_bare_encoder(tmp_path):
    peer = saved(tmp_path / "theirs", "Model")
    model = read_transformers_bert(tmp_path / "theirs")
    assert "no output onto the vocabulary" in model.extra["lost"][0]
    given = peers.batch(model)
    inputs = peers.feed(given, token_types=True)
    real = inputs["attention_mask"].bool()
    write_transformers_bert(model, tmp_path / "ours")
    back = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
    with torch.no_grad():
        for other in (peer, back):
            expected = other(**inputs).last_hidden_state
            assert (model.encode(given) - expected)[real].abs().max() <= TOLERANCE


def test_names_of_files_from_tensorflow(tmp_path):
    saved(tmp_path)
    expected = read_transformers_bert(tmp_path).transformer.state_dict()
    path = tmp_path / "model.safetensors"
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def renamed(name):
        for new, before in old.items():
            name = name.replace(new, before)
        return name

    save_file({renamed(name): tensor for name, tensor in load_file(path).items()}, path)
    found = read_transformers_bert(tmp_path).transformer.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_distilled_model_with_the_tokenizer_of_xlm_r(tmp_path):
    """As MiniLM: two rows of token types, of which its tokenizer gives one."""
    peer = saved(tmp_path, vocab_size=702)
    (tmp_path / "vocab.txt").unlink()
    (tmp_path / "tokenizer_config.json").unlink()
    xlm_r = XlmRobertaTokenizer(peers.unigram())
    peers.write(tmp_path, sentencepiece__bpe__model=peers.unigram())
    assert isinstance(read_transformers_bert(tmp_path).tokenizer, XlmRobertaTokenizer)
    peers.write(tmp_path, tokenizer__json=tokenizer_json(xlm_r))
    model = read_transformers_bert(tmp_path)
    assert isinstance(model.tokenizer, HuggingFaceTokenizer)
    assert any("row 1 of the token types" in line for line in model.extra["lost"])
    given = peers.batch(model)
    assert model.tokenizer.num_separators == 2
    given.segments.zero_()
    assert peers.difference(model, peer, given, token_types=False) <= TOLERANCE


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "electra"}, "model_type is 'electra', expected bert"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new', expected gelu or relu"),
        ({"hidden_act": "swish"}, "hidden_act is 'swish', expected gelu or relu"),
        ({"position_embedding_type": "relative_key_query"}, "expected absolute"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
    ],
)
def test_what_cannot_be_read_is_named(changes, message, tmp_path):
    saved(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError) as error:
        read_transformers_bert(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_cross_attention_in_the_weights_is_named(tmp_path):
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors["bert.encoder.layer.0.crossattention.self.query.weight"] = torch.zeros(32, 32)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="crossattention.self.query.weight"):
        read_transformers_bert(tmp_path)


def test_a_vocabulary_that_is_larger_than_the_model(tmp_path):
    saved(tmp_path, vocab_size=650)
    with pytest.raises(DataError, match="700 ids does not fit a vocabulary of 650"):
        read_transformers_bert(tmp_path)


def ours(tokenizer, **changes):
    sizes = {"dim": 32, "num_layers": 2, "num_heads": 4, "max_positions": 160}
    shape = {"num_segments": 2, "output_transform": True, "language_embeddings": False}
    transformer = Transformer(
        ModelConfig(**{**sizes, **shape, **changes}), vocab_size=tokenizer.vocab_size,
        num_languages=1, pad_id=tokenizer.pad_id,
    )  # fmt: skip
    return PretrainedModel(peers.shake(transformer), tokenizer, {})


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
@pytest.mark.parametrize("num_segments", [0, 1, 2])
def test_a_model_that_we_trained(kind, num_segments, tmp_path):
    model = ours(learn_sentencepiece(peers.lines(), 900, kind=kind), num_segments=num_segments)
    write_transformers_bert(model, tmp_path)
    peer = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    first, second = peers.lines()[0], peers.lines()[400]
    given = peers.batch(model)
    assert peers.difference(model, peer, given, token_types=True) <= TOLERANCE
    pair = theirs(first, second)
    row = model.batch([first], seconds=[second])
    assert pair["input_ids"] == row.tokens[0].tolist()
    assert pair["token_type_ids"] == row.segments[0].tolist()
    back = read_transformers_bert(tmp_path)
    again = back.batch([first], seconds=[second])
    assert torch.equal(again.tokens, row.tokens) and torch.equal(again.segments, row.segments)
    assert torch.equal(back.encode(again), model.encode(row))


def test_what_cannot_go_is_named(tmp_path):
    codes = FastBpeTokenizer(b"t h 2\nth e</w> 2\n", b"the 2\nc@@ 1\nat 1\n")
    with pytest.raises(ConfigError, match="a FastBpeTokenizer cannot become a BERT model's"):
        write_transformers_bert(ours(codes), tmp_path)
    model = ours(learn_sentencepiece(peers.lines(), 900), num_segments=3, output_transform=False)
    with pytest.raises(ConfigError, match=r"num_segments 3 \(give 2\); an output without"):
        write_transformers_bert(model, tmp_path)
    assert not list(tmp_path.iterdir())

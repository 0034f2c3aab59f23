"""XLM-R and RoBERTa: the same numbers as transformers', both ways, and what is lost on the way."""

import json
from dataclasses import replace

import pytest
import torch

from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.parity import measure
from xlm.interchange.transformers.roberta import (
    as_xlm_roberta,
    read_transformers_roberta,
    write_transformers_roberta,
)
from xlm.model.config import ModelConfig
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.tokenizers.fastbpe import FastBpeTokenizer
from xlm.text.tokenizers.hugging_face import HuggingFaceTokenizer
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.xlm_roberta import XlmRobertaTokenizer, tokenizer_json

transformers = pytest.importorskip("transformers")
BASE = {"vocab_size": 702, "max_position_embeddings": 130, "layer_norm_eps": 1e-5, **peers.SIZES}


def saved(folder, kind="XLMRoberta", head="ForMaskedLM", **changes):
    """A random peer in ``folder``, with XLM-R's tokenizer."""
    settings = {**BASE, "type_vocab_size": 1, **changes}
    peer = getattr(transformers, kind + head)(getattr(transformers, kind + "Config")(**settings))
    peers.shake(peer).save_pretrained(folder)
    if kind == "XLMRoberta":
        peers.write(folder, sentencepiece__bpe__model=peers.unigram())
    else:
        write_tokenizer(folder)
    return peer


def write_tokenizer(folder):
    """RoBERTa's class of tokenizer: here the same pieces as a tokenizer.json."""
    peers.write(folder, tokenizer__json=tokenizer_json(XlmRobertaTokenizer(peers.unigram())))


CONFIGURATIONS = {
    "XLM-R": {},
    "XLM-R, untied": {"tie_word_embeddings": False},
    "XLM-R, wide inside, one layer": {"intermediate_size": 100, "num_hidden_layers": 1},
    "XLM-R, other padding id": {"pad_token_id": 3},
    "XLM-R, two token types": {"type_vocab_size": 2},
    "XLM-R, rows that no text has": {"vocab_size": 720},
    "XLM-R, other epsilon and rates": {"layer_norm_eps": 1e-3, "hidden_dropout_prob": 0.3},
    "RoBERTa": {"kind": "Roberta"},
    "RoBERTa, untied": {"kind": "Roberta", "tie_word_embeddings": False},
    "CamemBERT": {"kind": "Camembert"},
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_the_same_numbers_both_ways(name, tmp_path):
    peer = saved(tmp_path / "theirs", **CONFIGURATIONS[name])
    model = read_transformers_roberta(tmp_path / "theirs")
    given = peers.batch(model)
    assert len(set(given.lengths.tolist())) > 1, "nothing is padded"
    read = peers.difference(model, peer, given, token_types=False)
    write_transformers_roberta(model, tmp_path / "ours")
    back, missing = opened(tmp_path / "ours")
    assert type(back) is type(peer)
    assert not any(missing.values())
    written = peers.difference(model, back, given, token_types=False)
    assert max(read, written) <= TOLERANCE
    config = peer.config
    assert back.config.hidden_dropout_prob == config.hidden_dropout_prob
    assert back.config.num_hidden_layers == config.num_hidden_layers


def opened(folder):
    """What transformers makes of it, and what it misses there."""
    model, info = transformers.AutoModelForMaskedLM.from_pretrained(
        folder, output_loading_info=True
    )
    return model.eval(), {key: info[key] for key in ("missing_keys", "unexpected_keys")}


def test_gradients_agree(tmp_path):
    peer = saved(tmp_path)
    model = read_transformers_roberta(tmp_path)
    given = peers.batch(model)
    cells = torch.tensor([2, 5, 9, given.tokens.shape[1] + 3])
    targets = torch.tensor([7, 11, 300, 42])
    hidden = model.encode(given)
    logits = model.transformer.predict(hidden, cells)
    torch.nn.functional.cross_entropy(logits, targets).backward()
    labels = torch.full_like(given.tokens.flatten(), -100).index_put((cells,), targets)
    inputs = peers.feed(given, token_types=False)
    peer(**inputs, labels=labels.view_as(given.tokens)).loss.backward()
    theirs = dict(peer.named_parameters(remove_duplicate=False))
    ours = dict(model.transformer.named_parameters())
    layer = "roberta.encoder.layer.1.attention.self."
    expected = {
        "words.weight": theirs["roberta.embeddings.word_embeddings.weight"].grad,
        "positions.weight": theirs["roberta.embeddings.position_embeddings.weight"].grad[2:],
        "segments.weight": theirs["roberta.embeddings.token_type_embeddings.weight"].grad,
        "output_transform.dense.weight": theirs["lm_head.dense.weight"].grad,
        "output_transform.norm.bias": theirs["lm_head.layer_norm.bias"].grad,
        "output_bias": theirs["lm_head.bias"].grad,
        "layers.1.attention.query_key_value.weight": torch.cat(
            [theirs[f"{layer}{part}.weight"].grad for part in ("query", "key", "value")]
        ),
    }
    for name, gradient in expected.items():
        found = ours[f"encoder.{name}"].grad
        assert float(gradient.abs().max()) > 1e-3, name
        assert float((found - gradient).abs().max()) <= TOLERANCE, name


def test_the_tokenizer_of_an_export_is_the_peers_own_class(tmp_path):
    saved(tmp_path / "theirs")
    model = read_transformers_roberta(tmp_path / "theirs")
    write_transformers_roberta(model, tmp_path / "ours")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert type(theirs) is transformers.XLMRobertaTokenizer
    texts = peers.lines()
    assert theirs(list(texts), add_special_tokens=False)["input_ids"] == (
        model.tokenizer.encode_lines(texts)
    )
    first, second = texts[0], texts[400]
    row = model.batch([first], seconds=[second])
    pair = theirs(first, second)
    assert row.tokens[0].tolist() == pair["input_ids"]
    assert "token_type_ids" not in pair
    assert theirs.model_max_length == 128


@pytest.mark.parametrize("kind", ["XLMRoberta", "Roberta"])
def test_exports_are_byte_identical_after_an_import(kind, tmp_path):
    saved(tmp_path / "theirs", kind)
    for source, folder in (("theirs", "first"), ("first", "second")):
        model = read_transformers_roberta(tmp_path / source)
        write_transformers_roberta(model, tmp_path / folder)
    first, second = (peers.contents(tmp_path / name) for name in ("first", "second"))
    assert first == second
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(first)
    theirs = peers.contents(tmp_path / "theirs")
    kept = "sentencepiece.bpe.model" if kind == "XLMRoberta" else "tokenizer.json"
    assert first[kept] == theirs[kept]


def test_the_precision_stays(tmp_path):
    saved(tmp_path / "theirs").half().save_pretrained(tmp_path / "theirs")
    model = read_transformers_roberta(tmp_path / "theirs")
    assert {p.dtype for p in model.transformer.parameters()} == {torch.float16}
    write_transformers_roberta(model, tmp_path / "ours")
    back = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "ours")
    assert back.dtype == torch.float16
    assert torch.equal(
        back.roberta.embeddings.word_embeddings.weight, model.transformer.encoder.words.weight
    )


def test_our_directory_keeps_all_of_an_import(tmp_path):
    saved(tmp_path / "theirs")
    model = read_transformers_roberta(tmp_path / "theirs")
    model.save_pretrained(tmp_path / "ours")
    again = PretrainedModel.open(tmp_path / "ours")
    assert again.extra == model.extra and again.tokenizer.digest == model.tokenizer.digest
    write_transformers_roberta(model, tmp_path / "first")
    write_transformers_roberta(again, tmp_path / "second")
    assert peers.contents(tmp_path / "first") == peers.contents(tmp_path / "second")


def test_which_file_the_tokenizer_is_read_from(tmp_path):
    """SentencePiece's file, unless tokens were added to tokenizer.json, or it is CamemBERT's."""
    saved(tmp_path, vocab_size=703)
    both = XlmRobertaTokenizer(peers.unigram())
    peers.write(tmp_path, tokenizer__json=tokenizer_json(both))
    assert isinstance(read_transformers_roberta(tmp_path).tokenizer, XlmRobertaTokenizer)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    theirs.add_tokens(["Kathmandu"])
    theirs.save_pretrained(tmp_path)
    peers.write(tmp_path, sentencepiece__bpe__model=peers.unigram())
    found = read_transformers_roberta(tmp_path).tokenizer
    assert isinstance(found, HuggingFaceTokenizer)
    assert 702 in found.encode("to Kathmandu now") and found.pieces[702] == "Kathmandu"
    saved(tmp_path / "camembert", "Camembert")
    peers.write(tmp_path / "camembert", sentencepiece__bpe__model=b"numbered otherwise")
    found = read_transformers_roberta(tmp_path / "camembert").tokenizer
    assert isinstance(found, HuggingFaceTokenizer)


def test_a_bare_encoder_says_so_and_leaves_as_one(tmp_path):
    peer = saved(tmp_path / "theirs", head="Model")
    model = read_transformers_roberta(tmp_path / "theirs")
    lost = " ".join(model.extra["lost"])
    assert "no output onto the vocabulary" in lost and "roberta" not in lost
    assert "pooler.dense.weight" in lost
    assert not model.transformer.encoder.output_bias.any()
    assert not model.transformer.config.output_transform
    given = peers.batch(model)
    inputs = peers.feed(given, token_types=False)
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        expected = peer(**inputs).last_hidden_state
        assert (model.encode(given) - expected)[real].abs().max() <= TOLERANCE
        lost = write_transformers_roberta(model, tmp_path / "ours")
        assert any(line.startswith("the output bias") for line in lost)
        back = transformers.AutoModel.from_pretrained(tmp_path / "ours").eval()
        assert (model.encode(given) - back(**inputs).last_hidden_state)[real].abs().max() <= 1e-5


def test_heads_of_other_tasks_are_listed(tmp_path):
    saved(tmp_path, head="ForSequenceClassification")
    (*_, heads) = read_transformers_roberta(tmp_path).extra["lost"]
    assert heads == (
        "heads that this model does not have: classifier.dense.bias, classifier.dense.weight, "
        "classifier.out_proj.bias, classifier.out_proj.weight"
    )


def test_token_types_that_its_tokenizer_never_gives_are_listed(tmp_path):
    saved(tmp_path, type_vocab_size=2)
    model = read_transformers_roberta(tmp_path)
    assert model.transformer.config.num_segments == 1
    assert any("row 1 of the token types" in line for line in model.extra["lost"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "deberta"}, "'deberta', expected xlm-roberta or roberta or camembert"),
        ({"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new', expected gelu or relu"),
        ({"hidden_act": "relu"}, "head of XLM-R always has gelu"),
        ({"position_embedding_type": "relative_key"}, "relative_key', expected absolute"),
        ({"is_decoder": True}, "is_decoder is True"),
        ({"add_cross_attention": True}, "add_cross_attention is True"),
        ({"num_hidden_layers": 1}, "our model has no place for 16 tensors"),
        ({"num_hidden_layers": 3}, "the tensor roberta.encoder.layer.2.attention"),
        ({"num_attention_heads": 5}, "dim 32 is not divisible by model.num_heads 5"),
        ({"num_attention_heads": "4"}, "num_attention_heads is '4', expected a number"),
        ({"hidden_size": 64}, "hidden_size is 64, but the tensors in the same folder have 32"),
        ({"pad_token_id": 500}, "pad_token_id is 500"),
        ({"tie_word_embeddings": False}, "the tensor lm_head.decoder.weight is missing"),
    ],
)
def test_what_cannot_be_read_is_named(changes, message, tmp_path):
    saved(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(CheckpointError) as error:
        read_transformers_roberta(tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def ours(tokenizer, **changes):
    """A model of our own in XLM-R's shape."""
    sizes = {"dim": 32, "num_layers": 2, "num_heads": 4, "max_positions": 160}
    shape = {"num_segments": 1, "output_transform": True, "language_embeddings": False}
    torch.manual_seed(3)
    transformer = Transformer(
        ModelConfig(**{**sizes, **shape, **changes}), vocab_size=tokenizer.vocab_size,
        num_languages=1, pad_id=tokenizer.pad_id,
    )  # fmt: skip
    return PretrainedModel(peers.shake(transformer), tokenizer, {})


@pytest.mark.parametrize(
    "changes", [{}, {"tied_output": False}, {"num_segments": 0}, {"feed_forward": 40}]
)
def test_a_model_that_we_trained_is_renumbered(changes, tmp_path):
    tokenizer = learn_sentencepiece(peers.lines(), 900)
    model = ours(tokenizer, **changes)
    lost = write_transformers_roberta(model, tmp_path)
    ready = as_xlm_roberta(model)
    peer, missing = opened(tmp_path)
    assert type(peer) is transformers.XLMRobertaForMaskedLM and not any(missing.values())
    given = peers.batch(ready)
    assert peers.difference(ready, peer, given, token_types=False) <= TOLERANCE
    assert any("<s> and </s> both are our end symbol" in line for line in lost)
    # the same text, numbered as before, gives the same hidden states and logits
    before = model.batch([peers.lines()[0]])
    after = ready.batch([peers.lines()[0]])
    assert before.tokens.shape == after.tokens.shape and not before.tokens.equal(after.tokens)
    assert torch.equal(model.encode(before), ready.encode(after))
    cells = torch.arange(before.tokens.shape[1])
    numbers = {piece: at for at, piece in enumerate(tokenizer.pieces)}
    order = torch.tensor([numbers[piece] for piece in ready.tokenizer.pieces[1:]])
    scores = model.transformer.predict(model.encode(before), cells)
    moved = ready.transformer.predict(ready.encode(after), cells)
    assert torch.equal(scores[:, order], moved[:, 1:])
    assert torch.equal(scores[:, tokenizer.end_id], moved[:, 0])


def test_heads_and_what_only_training_sees_are_listed(tmp_path):
    model = ours(learn_sentencepiece(peers.lines(), 900), embedding_noise=0.1)
    fine_tuned = replace(model, heads={"heads.nli.0.weight": torch.zeros(3, 32)}, tasks="a: b")
    lost = write_transformers_roberta(fine_tuned, tmp_path)
    assert "the heads of tasks (heads.nli.0.weight)" in lost
    assert "embedding_noise 0.1, of training alone" in lost


def test_our_unigram_tokenizer_keeps_its_segmentation(tmp_path):
    tokenizer = learn_sentencepiece(peers.lines(), 900)
    write_transformers_roberta(ours(tokenizer), tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    back = read_transformers_roberta(tmp_path).tokenizer
    texts = [*peers.lines(), "a parrot 🦜 and ক, which no piece has"]
    for text in texts:
        pieces = tokenizer.segment(text)
        assert theirs.convert_ids_to_tokens(theirs(text, add_special_tokens=False).input_ids) == (
            pieces
        )
        assert [back.pieces[at] for at in back.encode(text)] == pieces
    sentence = theirs.convert_ids_to_tokens(theirs(texts[0]).input_ids)
    assert (sentence[0], sentence[-1]) == ("<s>", "</s>")


def test_parity_of_a_renumbered_model_is_measured_by_its_new_ids(tmp_path):
    model = ours(learn_sentencepiece(peers.lines(), 900))
    write_transformers_roberta(model, tmp_path)
    found = measure(as_xlm_roberta(model), tmp_path)
    assert found.logits <= TOLERANCE and found.agrees
    lines, raw = found.tokenizer
    assert lines.identical == lines.lines > 1000
    assert raw.identical < raw.lines  # NFC is not in the file, which `lost` says


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_decoder_layers": 1}, "num_decoder_layers 1: give 0"),
        ({"num_segments": 2}, "num_segments 2 (give 1)"),
        ({"output_transform": False}, "output_transform false: give true"),
        ({"activation": "relu"}, "activation relu (give gelu)"),
        ({"activation": "geglu"}, "support activation geglu (give gelu):"),
        ({"positions": "rotary"}, "support positions rotary (give learned):"),
        ({"norm": "pre", "biases": False}, "norm pre (give post); biases false (give true):"),
    ],
)
def test_shapes_that_cannot_go_are_named_with_advice(changes, words, tmp_path):
    model = ours(learn_sentencepiece(peers.lines(), 900), **changes)
    with pytest.raises(ConfigError) as error:
        write_transformers_roberta(model, tmp_path / "none")
    assert words in str(error.value)
    assert not (tmp_path / "none").exists()


def test_languages_cannot_go(tmp_path):
    tokenizer = learn_sentencepiece(peers.lines(), 900)
    config = ModelConfig(
        dim=8, num_layers=1, num_heads=1, num_segments=1, output_transform=True, max_positions=8
    )
    transformer = Transformer(config, vocab_size=900, num_languages=2, pad_id=2)
    with pytest.raises(ConfigError, match=r"language_embeddings true: give false"):
        write_transformers_roberta(
            PretrainedModel(transformer, tokenizer, {"en": 0, "hi": 1}), tmp_path
        )


def test_tokenizers_that_cannot_go_are_named(tmp_path):
    merges = learn_sentencepiece(peers.lines(), 900, kind="bpe")
    with pytest.raises(ConfigError, match="BPE model cannot become an XLMRobertaTokenizer"):
        write_transformers_roberta(ours(merges), tmp_path)
    codes = FastBpeTokenizer(b"t h 2\nth e</w> 2\n", b"the 2\nc@@ 1\nat 1\n")
    with pytest.raises(ConfigError, match="a FastBpeTokenizer cannot become XLM-R's tokenizer"):
        write_transformers_roberta(ours(codes), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_second_output_that_differs_is_named(tmp_path):
    from safetensors.torch import load_file, save_file

    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    words = tensors["roberta.embeddings.word_embeddings.weight"]
    tensors["lm_head.decoder.weight"] = words + 1
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="differs from the word embeddings"):
        read_transformers_roberta(tmp_path)
    tensors["lm_head.decoder.weight"] = words.clone()
    tensors["lm_head.decoder.bias"] = tensors["lm_head.bias"] + 1
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"lm_head.bias and lm_head.decoder.bias differ"):
        read_transformers_roberta(tmp_path)

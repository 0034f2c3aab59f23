"""Filling masks: transformers' own numbers, each text in its place whatever lies beside it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tuned
from tests.interchange import peers
from tests.interchange.peers import TOLERANCE
from tests.translators import translator
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.load import load
from xlm.interchange.transformers.roformer import write_transformers_roformer
from xlm.interchange.transformers.xlm import write_transformers_xlm
from xlm.model.asking import NO_HEAD, OBJECTIVES
from xlm.model.config import ModelConfig
from xlm.model.fill import Candidate, encode_masked
from xlm.model.pretrained import PretrainedModel
from xlm.model.transformer import Transformer
from xlm.text.normalize import normalize
from xlm.text.tokenizers.learn import learn_sentencepiece
from xlm.text.tokenizers.tokenizer import Tokenizer

PARTS = [
    ["My grandmother keeps a", "no bigger than a carpet"],
    ["We packed", "into thirty boxes and one", "trunk , and left"],
    ["दो दिन बाद वह", "और अपनी"],
    ["", "गयो", ""],
    ["Nothing is", "wasted"],
]
"""What stands around the masks of each text."""
TEXTS = [" ".join(" ___ ".join(parts).split()) for parts in PARTS]


def rotary() -> PretrainedModel:
    """A random model of a rotary preset, away from its first values, with a unigram vocabulary."""
    tokenizer = learn_sentencepiece(peers.lines(), 700)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = ModelConfig(preset="rotary-tiny", dim=32, num_layers=2, max_positions=64)
        model = Transformer(
            shape, vocab_size=tokenizer.vocab_size, num_languages=3, pad_id=tokenizer.pad_id
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.2 * torch.randn_like(parameter)
    return PretrainedModel(model.eval(), tokenizer, {})


def ids_by_hand(tokenizer: Tokenizer, parts: list[str]) -> list[int]:
    """The parts, each cut into pieces by itself, and mask symbols between them."""
    found: list[int] = []
    for part in parts:
        found += [*tokenizer.encode(part), tokenizer.mask_id]
    return found[:-1]


def check(found: list[list[Candidate]], probabilities: torch.Tensor, tokenizer: Tokenizer) -> None:
    """The candidates of each mask are the best of ``[masks, V]`` that are no special tokens."""
    assert len(found) == len(probabilities)
    for candidates, expected in zip(found, probabilities, strict=True):
        order = expected.argsort(descending=True).tolist()
        best = [at for at in order if at not in tokenizer.special_ids][: len(candidates)]
        assert [own.id for own in candidates] == best
        for own in candidates:
            assert abs(own.probability - float(expected[own.id])) <= TOLERANCE
            assert own.piece == tokenizer.pieces[own.id]
            assert own.text == tokenizer.decode([own.id]).strip()


def check_pipeline(model: PretrainedModel, folder: Path, mask: str, peer: type) -> None:
    """The texts are filled as transformers' pipeline fills them with the model of a folder."""
    transformers = pytest.importorskip("transformers")
    size = model.tokenizer.vocab_size
    pipe = transformers.pipeline("fill-mask", model=str(folder), top_k=size, device=-1)
    assert type(pipe.model) is peer
    for text, found in zip(TEXTS, model.fill(TEXTS), strict=True):
        answers = pipe(text.replace("___", mask))
        answers = [answers] if isinstance(answers[0], dict) else answers
        probabilities = torch.zeros(len(answers), size)
        for row, answer in enumerate(answers):
            for own in answer:
                probabilities[row, own["token"]] = own["score"]
        check(found, probabilities, model.tokenizer)
        assert {len(candidates) for candidates in found} == {5}


def test_the_probabilities_of_transformers_with_languages(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = tuned.body("xlm")
    write_transformers_xlm(model, tmp_path)
    peer = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    assert type(peer) is transformers.XLMWithLMHeadModel
    answers = {}
    for language, lang_id in model.languages.items():
        answers[language] = model.fill(TEXTS, language, top=7)
        for parts, found in zip(PARTS, answers[language], strict=True):
            ids = ids_by_hand(model.tokenizer, parts)
            tokens = torch.tensor([[1, *ids, 1]])
            with torch.no_grad():
                logits = peer(tokens, langs=torch.full_like(tokens, lang_id)).logits[0]
            check(found, logits[tokens[0] == 5].softmax(-1), model.tokenizer)
    assert answers["en"] != answers["ne"]
    assert [len(masks) for masks in answers["en"]] == [1, 2, 1, 2, 1]
    assert {len(candidates) for masks in answers["en"] for candidates in masks} == {7}


def test_the_pipeline_of_transformers_with_rotary_positions(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = rotary()
    write_transformers_roformer(model, tmp_path)
    check_pipeline(model, tmp_path, "<mask>", transformers.RoFormerForMaskedLM)
    again = load(tmp_path).fill(TEXTS)
    expected = [[[own.id for own in mask] for mask in text] for text in model.fill(TEXTS)]
    assert [[[own.id for own in mask] for mask in text] for text in again] == expected


def test_the_pipeline_of_transformers_with_an_imported_bert(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = peers.write(
        tmp_path / "bert", vocab__txt=peers.wordpieces(),
        tokenizer_config__json={"tokenizer_class": "BertTokenizer", "do_lower_case": False},
    )  # fmt: skip
    size = transformers.BertTokenizer.from_pretrained(folder).vocab_size
    config = transformers.BertConfig(**peers.SIZES, vocab_size=size, max_position_embeddings=100)
    peers.shake(transformers.BertForMaskedLM(config)).save_pretrained(folder)
    check_pipeline(load(folder), folder, "[MASK]", transformers.BertForMaskedLM)


@pytest.mark.parametrize("build", [lambda: tuned.body("xlm"), rotary], ids=["learned", "rotary"])
def test_a_text_alone_and_in_any_batch(build: Callable[[], PretrainedModel]) -> None:
    model = build()
    model.transformer.double()
    language = "hi" if model.languages else None
    texts = [*TEXTS, *(f"{line[:60]} ___" for line in peers.lines()[::90])]
    expected = [model.fill([text], language)[0] for text in texts]
    assert len({masks[0][0].probability for masks in expected}) == len(texts)
    for tokens in (1, 60, 100_000):
        for order in (range(len(texts)), reversed(range(len(texts)))):
            places = list(order)
            found = model.fill([texts[at] for at in places], language, tokens=tokens)
            for at, masks in zip(places, found, strict=True):
                for mask, other in zip(masks, expected[at], strict=True):
                    assert [own.id for own in mask] == [own.id for own in other]
                    for own, one in zip(mask, other, strict=True):
                        assert own.probability == pytest.approx(one.probability, abs=1e-9)
    assert model.fill([], language) == []


@pytest.mark.parametrize("shape", [*tuned.SHAPES, "sentencepiece"])
def test_the_text_around_a_mask_is_cut_as_if_a_word_stood_there(shape: str) -> None:
    tokenizer = rotary().tokenizer if shape == "sentencepiece" else tuned.tokenizer(shape)
    mask = tokenizer.mask_id
    for text, parts in zip(TEXTS, PARTS, strict=True):
        for spelled in (text, text.replace("___", "<mask>"), text.replace("___", "_______")):
            found = encode_masked(tokenizer, normalize(spelled)).tolist()
            assert found == ids_by_hand(tokenizer, parts), spelled
    side_by_side = encode_masked(tokenizer, "we <mask>___ went")
    assert side_by_side.tolist() == ids_by_hand(tokenizer, ["we", "", "went"])
    stop = encode_masked(tokenizer, "the <mask>.").tolist()
    assert stop[:-1] == [*tokenizer.encode("the"), mask] and tokenizer.pieces[stop[-1]] == "."
    # signs that no vocabulary has stay beside the mask; two underscores are none
    assert encode_masked(tokenizer, "☃ ___ ☃").tolist() == ids_by_hand(tokenizer, ["☃", "☃"])
    assert mask not in encode_masked(tokenizer, "a __ b").tolist()
    letter = "\U00020b9f"
    with_letter = encode_masked(tokenizer, f"{letter} ___").tolist()
    assert with_letter == ids_by_hand(tokenizer, [letter, ""])


def test_no_candidate_is_a_special_token() -> None:
    model = tuned.body("xlm")
    size = model.tokenizer.vocab_size - len(model.tokenizer.special_ids)
    ((candidates,),) = model.fill(["a ___"], "en", top=10_000)
    assert len(candidates) == size
    assert not {own.id for own in candidates} & model.tokenizer.special_ids
    assert 0 < sum(own.probability for own in candidates) < 1


def test_what_cannot_be_filled_is_one_line() -> None:
    model = tuned.body("xlm")

    def refused(message: str, *given: object, own: PretrainedModel = model, **more: object) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            own.fill(*given, **more)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    refused("has a decoder, so it translates", ["a ___"], "en", own=translator())
    causal = replace(model, extra={OBJECTIVES: ["CausalLM", "OriginalCausalTLM"]})
    refused("CausalLM, OriginalCausalTLM alone", ["a ___"], "en", own=causal)
    refused("has no output layer", ["a ___"], "en", own=replace(model, extra={NO_HEAD: True}))
    refused("text 2 has no mask", ["a ___", "a __ b <mask"], "en")
    refused("text 1 has no mask", [""], "en")
    refused("text 2 is None", ["___", None], "en")
    refused("texts is the string 'a ___'", "a ___", "en")
    refused("text 2 has 102 tokens", ["___", "a " * 99 + "___"], "en")
    refused("does not know the language NE.*did you mean ne", ["a ___"], "NE")
    refused("name one of en, hi, ne", ["a ___"])
    refused("top is 0", ["a ___"], "en", top=0)
    refused("tokens is -1", ["a ___"], "en", tokens=-1)
    both = replace(model, extra={OBJECTIVES: ["CausalLM", "MaskedLM"]})
    assert both.fill(["a ___"], "en") == model.fill(["a ___"], "en")


def test_scores_that_are_not_numbers_name_the_text() -> None:
    model = tuned.body("xlm")
    with torch.no_grad():
        model.transformer.encoder.positions.weight[20:] = np.nan
    texts = ["a ___", "b ___", "x ___ " * 10]
    assert model.fill(texts[:2], "en")
    with pytest.raises(CheckpointError, match="the scores for text 3 are not finite"):
        model.fill(texts, "en")

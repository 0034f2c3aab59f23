"""Text that causal models write: whole prefixes by hand, the softmax, transformers' generate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from tests import tuned
from tests.interchange import peers
from tests.translators import translator
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.transformers.bert import write_transformers_bert
from xlm.interchange.transformers.xlm import write_transformers_xlm
from xlm.model.asking import CAUSAL, NO_HEAD, OBJECTIVES
from xlm.model.continuation import Writing, draw, probabilities, write
from xlm.model.pretrained import PretrainedModel
from xlm.text.normalize import normalize

PROMPTS = [line[: 3 + 6 * (at % 5)].strip() for at, line in enumerate(peers.lines()[::70])]
PROMPTS = [*PROMPTS[:6], "", *PROMPTS[6:12]]
ENDS = {"xlm": 10.0, "bert": 12.0}
"""Added to the logit of the end symbol, so that some texts end and others do not."""
MODERN = {
    "positions": "rotary", "window": 8, "global_every": 2, "norm": "pre", "activation": "geglu",
    "language_embeddings": False,
}  # fmt: skip


def causal(shape: str = "xlm", *, double: bool = True, **changes: Any) -> PretrainedModel:
    """A random model whose next tokens are far from alike, and which ends some texts early."""
    model = tuned.body(shape, strength=3.0, **changes)
    with torch.no_grad():
        model.transformer.encoder.words.weight.mul_(3.0)
        model.transformer.encoder.output_bias[model.tokenizer.end_id] += ENDS[shape]
    if double:
        model.transformer.double()
    return replace(model, extra={OBJECTIVES: ["CausalLM"]})


def next_logits(model: PretrainedModel, tokens: list[int], language: str | None) -> torch.Tensor:
    """The logits after a whole prefix, read anew."""
    row = torch.tensor([tokens])
    langs = torch.full_like(row, model.language_id(language))
    with torch.no_grad():
        hidden = model.transformer.encode(
            row, torch.tensor([len(tokens)]), None, langs, causal=True
        )
        return model.transformer.predict(hidden, torch.tensor([len(tokens) - 1]))[0]


def by_hand(model: PretrainedModel, prompt: str, language: str | None, length: int) -> list[int]:
    """The greedy tokens that follow a prompt, the end symbol included."""
    row = [model.tokenizer.begin_id, *model.tokenizer.encode(normalize(prompt))]
    begun = len(row)
    most = min(begun + length, model.transformer.config.max_positions)
    while len(row) < most and row[-1:] != [model.tokenizer.end_id] or len(row) == begun:
        row.append(int(next_logits(model, row, language).argmax()))
    return row[begun:]


def text_of(model: PretrainedModel, prompt: str, added: list[int]) -> str:
    ids = model.tokenizer.encode(normalize(prompt))
    before, whole = model.tokenizer.decode(ids), model.tokenizer.decode([*ids, *added])
    assert whole.startswith(before)
    return normalize(normalize(prompt) + whole[len(before) :])


@pytest.mark.parametrize("changes", [{}, MODERN], ids=["2019", "modern"])
def test_kept_keys_are_whole_prefixes_token_for_token(changes: dict[str, Any]) -> None:
    model = causal(**changes)
    language = "en" if model.has_languages else None
    for length in (1, 12):
        found = write(model, PROMPTS, language, Writing(length=length))
        for prompt, own in zip(PROMPTS, found, strict=True):
            added = by_hand(model, prompt, language, length)
            assert own.text == text_of(model, prompt, added)
            assert own.num_tokens == len(added)
            assert own.has_ended == (added[-1] == model.tokenizer.end_id)
            row = [model.tokenizer.begin_id, *model.tokenizer.encode(normalize(prompt))]
            score = 0.0
            for token in added:
                score += float(next_logits(model, row, language).log_softmax(-1)[token])
                row.append(token)
            assert own.score == pytest.approx(score, abs=1e-9)
    assert 2 < len({own.text for own in found}) and {own.has_ended for own in found} == {
        True,
        False,
    }


@pytest.mark.parametrize(
    "settings",
    [
        Writing(length=9),
        Writing(length=9, beam=3),
        Writing(length=9, sample=True, top_k=20, top_p=0.9, temperature=1.5),
        Writing(length=9, repetition_penalty=1.3),
    ],
)
def test_a_line_alone_and_in_any_batch(settings: Writing) -> None:
    model = causal()
    numbers = list(range(1, len(PROMPTS) + 1))
    alone = [
        write(model, [prompt], "ne", settings, numbers=[at], seed=5)[0]
        for prompt, at in zip(PROMPTS, numbers, strict=True)
    ]
    for rows in (1, 3, 64):
        for order in (numbers, numbers[::-1]):
            found = write(
                model, [PROMPTS[at - 1] for at in order], "ne", settings, numbers=order, rows=rows,
                seed=5,
            )  # fmt: skip
            for at, own in zip(order, found, strict=True):
                assert own.text == alone[at - 1].text
                assert own.score == pytest.approx(alone[at - 1].score, abs=1e-9)
    if settings.sample:
        assert [own.text for own in write(model, PROMPTS, "ne", settings, seed=6)] != [
            own.text for own in alone
        ]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_draws_follow_the_softmax(seed: int) -> None:
    """A hundred thousand lines from nothing: the first subword of each against the model."""
    model = causal(double=False)
    settings = Writing(length=1, sample=True, temperature=1.3)
    found = write(model, [""] * 100_000, "en", settings, seed=seed, rows=5000)
    expected = (next_logits(model, [1], "en").double() / 1.3).softmax(-1).numpy()
    size = model.tokenizer.vocab_size
    ids = {}
    for at in range(size):
        ids.setdefault(normalize(model.tokenizer.decode([at])), []).append(at)
    counts = {text: 0 for text in ids}
    for own in found:
        counts[own.text] += 1
    observed = np.array([counts[text] for text in ids])
    shares = np.array([expected[own].sum() for own in ids.values()]) * len(found)
    rare = shares < 5
    pooled = np.append(observed[~rare], observed[rare].sum())
    assert len(pooled) > 20
    own = np.append(shares[~rare], shares[rare].sum())
    assert chisquare(pooled, own * pooled.sum() / own.sum()).pvalue > 0.001


@pytest.mark.parametrize("temperature", [1e-320, 1e-30, 1e300])
def test_no_temperature_is_too_low_or_too_high(temperature: float) -> None:
    logits = torch.tensor([[50.0, 80.0, 79.0], [-30.0, -20.0, -25.0]], dtype=torch.float64)
    found = probabilities(logits, Writing(sample=True, temperature=temperature))
    expected = torch.eye(3, dtype=torch.float64)[[1, 1]] if temperature < 1 else 1 / 3
    assert torch.allclose(found, torch.as_tensor(expected, dtype=torch.float64), atol=1e-12)


def test_a_length_without_end_is_that_of_the_positions() -> None:
    model = causal()
    longest = Writing(length=10**12, sample=True)
    fitting = Writing(length=model.transformer.config.max_positions, sample=True)
    assert model.generate(["We"], "en", settings=longest) == model.generate(
        ["We"], "en", settings=fitting
    )


def test_top_k_and_top_p_are_exact() -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, 40, dtype=torch.float64) * 2
    for temperature, top_k, top_p in ((1.0, 5, 1.0), (1.0, 0, 0.6), (0.7, 12, 0.8), (2.0, 1, 0.1)):
        settings = Writing(sample=True, temperature=temperature, top_k=top_k, top_p=top_p)
        found = probabilities(logits, settings)
        for row, own in zip(logits / temperature, found, strict=True):
            order = sorted(range(40), key=lambda at: -float(row[at]))[: top_k or 40]
            weights = {at: float(row[at].exp()) for at in order}
            whole, kept, share = sum(weights.values()), [], 0.0
            for at in order:
                if share >= top_p:
                    break
                kept.append(at)
                share += weights[at] / whole
            total = sum(weights[at] for at in kept)
            assert own.nonzero()[:, 0].tolist() == sorted(kept)
            for at in kept:
                assert float(own[at]) == pytest.approx(weights[at] / total, abs=1e-12)
        edges = torch.cat([torch.zeros(25), torch.full((25,), 1 - 2**-53, dtype=torch.float64)])
        drawn = draw(found, edges)
        assert bool((found.gather(1, drawn[:, None]) > 0).all())


@pytest.fixture(scope="module", params=["xlm", "bert"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A causal model, and its export as a causal model of transformers."""
    transformers = pytest.importorskip("transformers")
    shape, folder = request.param, tmp_path_factory.mktemp("causal")
    model = causal(shape, double=False)
    if shape == "xlm":
        write_transformers_xlm(model, folder)  # causal, as the model says
        peer = transformers.XLMWithLMHeadModel.from_pretrained(folder)
        assert peer.config.causal is True
        lang = model.languages["hi"]

        def inputs(
            input_ids: torch.Tensor, attention_mask: object = None, **_: object
        ) -> dict[str, Any]:
            # its own appends a mask symbol and reads what is predicted there
            return {"input_ids": input_ids, "langs": torch.full_like(input_ids, lang)}

        peer.prepare_inputs_for_generation = inputs
    else:
        write_transformers_bert(model, folder)
        peer = transformers.BertLMHeadModel.from_pretrained(folder, is_decoder=True)
    return model, peer.double().eval()


@pytest.mark.parametrize("beam", [1, 2, 4])
def test_the_texts_of_transformers(exported: Any, beam: int) -> None:
    model, peer = exported
    model.transformer.double()
    language = "hi" if model.languages else None
    tokenizer = model.tokenizer
    outcomes = set()
    for length_penalty, early in ((1.0, False), (0.0, True), (2.0, False)):
        if beam == 1 and length_penalty != 1.0:
            continue
        settings = Writing(
            length=10, beam=beam, length_penalty=length_penalty, early_stopping=early,
        )  # fmt: skip
        found = write(model, PROMPTS, language, settings)
        for prompt, own in zip(PROMPTS, found, strict=True):
            row = [tokenizer.begin_id, *tokenizer.encode(normalize(prompt))]
            answer = peer.generate(
                torch.tensor([row]), attention_mask=torch.ones(1, len(row)).long(),
                max_new_tokens=10, num_beams=beam, do_sample=False, length_penalty=length_penalty,
                early_stopping=early, eos_token_id=tokenizer.end_id, pad_token_id=tokenizer.pad_id,
                use_cache=model.languages == {}, bos_token_id=tokenizer.begin_id,
            )[0].tolist()  # fmt: skip
            added = [at for at in answer[len(row) :] if at != tokenizer.pad_id]
            assert own.text == text_of(model, prompt, added), (prompt, length_penalty)
            assert own.num_tokens == len(added)
            outcomes.add(own.has_ended)
    assert outcomes == {True, False}


def test_repetitions_are_penalized_as_by_transformers(exported: Any) -> None:
    from transformers import LogitsProcessorList, RepetitionPenaltyLogitsProcessor

    class ButSpecials(RepetitionPenaltyLogitsProcessor):
        """Special tokens are left alone, or no text could end."""

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            own = super().__call__(input_ids, scores.clone())
            special = sorted(model.tokenizer.special_ids)
            own[:, special] = scores[:, special]
            return own

    model, peer = exported
    model.transformer.double()
    language = "hi" if model.languages else None
    tokenizer, processors = model.tokenizer, LogitsProcessorList([ButSpecials(1.4)])
    differs = []
    for beam in (1, 3):
        settings = Writing(length=10, beam=beam, repetition_penalty=1.4)
        found = write(model, PROMPTS[:5], language, settings)
        plain = write(model, PROMPTS[:5], language, Writing(length=10, beam=beam))
        differs.append([own.text for own in found] != [own.text for own in plain])
        for prompt, own in zip(PROMPTS[:5], found, strict=True):
            row = [tokenizer.begin_id, *tokenizer.encode(normalize(prompt))]
            answer = peer.generate(
                torch.tensor([row]), attention_mask=torch.ones(1, len(row)).long(),
                max_new_tokens=10, num_beams=beam, do_sample=False, logits_processor=processors,
                eos_token_id=tokenizer.end_id, pad_token_id=tokenizer.pad_id,
                use_cache=model.languages == {}, bos_token_id=tokenizer.begin_id,
            )[0].tolist()  # fmt: skip
            added = [at for at in answer[len(row) :] if at != tokenizer.pad_id]
            assert own.text == text_of(model, prompt, added)
    assert any(differs)


def test_prompts_that_leave_no_room_are_cut_at_their_beginning() -> None:
    model = causal()
    long = " ".join(peers.lines()[:5])
    ids = model.tokenizer.encode(normalize(long))
    assert len(ids) > 80
    for length, kept in ((10, 53), (500, 31)):
        (own,) = write(model, [long], "en", Writing(length=length))
        assert own.is_cut and own.num_tokens <= min(length, 64 - 1 - kept)
        row = [1, *ids[-kept:]]
        assert normalize(model.tokenizer.decode([int(next_logits(model, row, "en").argmax())])) in (
            own.text
        )
        assert own.text.startswith(normalize(long)[:200])


def test_a_text_is_shown_as_it_is_written() -> None:
    model, seen = causal(), list[str]()
    (own,) = write(model, ["We went"], "en", Writing(length=8), show=seen.append)
    assert len(seen) == own.num_tokens and seen[-1] == own.text
    assert all(text.startswith("We went") for text in seen)


def test_methods_and_settings() -> None:
    model = causal()
    settings = Writing(length=4, sample=True)
    assert model.generate(["a", ""], "en", settings=settings, seed=3) == [
        own.text for own in write(model, ["a", ""], "en", settings, seed=3)
    ]
    assert model.generate([], "en") == []
    for message, given in (
        ("sample draws a single text", {"sample": True, "beam": 2}),
        ("top_k is -1", {"sample": True, "top_k": -1}),
        ("top_p is 0", {"sample": True, "top_p": 0.0}),
        ("top_p is 1.1", {"sample": True, "top_p": 1.1}),
        ("temperature is 0", {"sample": True, "temperature": 0.0}),
        ("top_k 3 only applies with sample", {"top_k": 3}),
        ("temperature 2.0 only applies with sample", {"temperature": 2.0}),
        ("repetition_penalty is 0", {"repetition_penalty": 0.0}),
        ("length_penalty is -1", {"length_penalty": -1.0}),
        ("length_penalty is 1e.300: expected 0 to 50", {"length_penalty": 1e300}),
        ("length is 0", {"length": 0}),
        ("beam is 0", {"beam": 0}),
    ):
        with pytest.raises(ConfigError, match=message):
            Writing(**given)  # type: ignore[arg-type]


def test_what_cannot_write_is_one_line() -> None:
    model = causal()

    def refused(message: str, *given: object, **more: Any) -> None:
        own = replace(model, **more)
        with pytest.raises(ConfigError, match=message) as caught:
            own.generate(*given)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    refused(
        "trained with MaskedLM, so it never learned", ["a"], "en", extra={OBJECTIVES: ["MaskedLM"]}
    )
    refused("is masked", ["a"], "en", extra={CAUSAL: False})
    refused("is masked .bert.", ["a"], "en", extra={"model_type": "bert"})
    refused("has no output layer", ["a"], "en", extra={NO_HEAD: True})
    refused("has a decoder, so it translates", ["a"], "en", transformer=translator().transformer)
    refused("does not know the language fr", ["a"], "fr")
    refused("name one of en, hi, ne", ["a"])
    refused("prompts is the string", "a", "en")
    refused("prompt 2 is None", ["a", None], "en")
    assert replace(model, extra={CAUSAL: True}).generate(["a"], "en")
    assert replace(model, extra={}).generate(["a"], "en")


@pytest.mark.parametrize("beam", [1, 2])
def test_scores_that_are_not_numbers_name_prompt_and_tensor(beam: int) -> None:
    model = causal()
    with torch.no_grad():
        model.transformer.encoder.positions.weight[20:] = np.nan
    assert write(model, ["a"], "en", Writing(length=2, beam=beam))
    with pytest.raises(CheckpointError, match="for prompt 2 .* tensor encoder.positions.weight"):
        write(model, ["a", "x " * 24], "en", Writing(length=2, beam=beam))

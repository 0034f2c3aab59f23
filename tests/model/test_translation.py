"""Translating lines: each in its place, and the same whatever lies beside it."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from tests import tuned
from tests.translators import SENTENCES, SHORT, is_nothing, translator, with_nothing
from xlm.errors import CheckpointError, ConfigError
from xlm.model.generate import Generation, generate
from xlm.model.pretrained import PretrainedModel
from xlm.model.translation import NOTHING, Translated, Translator
from xlm.rng import key
from xlm.text.normalize import normalize

BEAM = Generation(beam=3, ratio=0.5, extra=6)
LINES = with_nothing(SENTENCES[:20] + SENTENCES[60:75])


def same(found: list[Translated], expected: list[Translated]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert replace(one, scores=[]) == replace(other, scores=[])
        assert one.scores == pytest.approx(other.scores, abs=1e-9)


def by_hand(model: PretrainedModel, line: str, settings: Generation) -> list[str]:
    """A line by itself, through the tokenizer and ``generate`` alone."""
    ids = model.tokenizer.encode(normalize(line))
    end = model.tokenizer.end_id
    generated = generate(
        model.transformer,
        model.batch([line], "en"),
        torch.tensor([model.languages["ne"]]),
        end_id=end,
        settings=settings,
        limits=torch.tensor([min(int((len(ids) + 2) * settings.ratio + settings.extra), 64)]),
    )
    return [model.tokenizer.decode(ids) for ids in generated.texts(0)]


@pytest.mark.parametrize("settings", [SHORT, BEAM], ids=["greedy", "beam"])
def test_every_line_is_translated_in_its_place(settings: Generation) -> None:
    """Alone, shuffled, in batches of any size: what ``generate`` makes of it by itself."""
    model = translator()
    together = Translator(model, "en", "ne", settings=settings, n_best=settings.beam)
    found = together.translate(LINES)
    assert len(found) == len(LINES)
    for line, one in zip(LINES, found, strict=True):
        if is_nothing(line):
            assert one == NOTHING
        else:
            assert one.texts == by_hand(model, line, settings)
            assert one.scores == sorted(one.scores, reverse=True)
    assert len({one.texts[0] for one in found}) > 10, "too alike: order cannot be seen"
    for tokens in (1, 90, 100_000):
        other = Translator(
            model, "en", "ne", settings=settings, n_best=settings.beam, tokens=tokens
        )
        same(other.translate(iter(LINES)), found)
    same([together.translate([line])[0] for line in LINES], found)
    places = random.Random(3).sample(range(len(LINES)), len(LINES))
    same(together.translate([LINES[at] for at in places]), [found[at] for at in places])


def test_the_method_of_a_model_gives_the_best_texts() -> None:
    model = translator()
    expected = Translator(model, "hi", "en", settings=BEAM, n_best=3).translate(LINES)
    found = model.translate(LINES, source="hi", target="en", settings=BEAM, tokens=70)
    assert found == [one.texts[0] for one in expected]
    wide = Translator(model, "hi", "en", settings=Generation(beam=5)).texts(LINES[:3])
    assert model.translate(LINES[:3], source="hi", target="en") == wide
    assert model.translate([], source="hi", target="en") == []
    assert model.translate(["", "\n"], source="hi", target="en") == ["", ""]


def test_lines_are_read_as_all_text_is() -> None:
    """Normalized first; what is written is one normalized line, whatever the model says."""
    model = translator()
    odd = ["Cafe\u0301\r", "a\u2028b\x00 c\u0085", "\ufeffwater", "\ud800"]
    plain = ["Caf\u00e9", "a b c", "water", "\ufffd"]
    languages = {"source": "en", "target": "ne", "settings": SHORT}
    assert model.translate(odd, **languages) == model.translate(plain, **languages)

    class Newlines:
        """A tokenizer whose pieces hold what ends a line."""

        def __init__(self) -> None:
            self.inner = model.tokenizer

        def __getattr__(self, name: str) -> object:
            return getattr(self.inner, name)

        def decode(self, ids: list[int]) -> str:
            return "\n\r\u2028\t".join(f"<{at}>" for at in ids)

    spoken = replace(model, tokenizer=Newlines())  # type: ignore[arg-type]
    for text in spoken.translate(SENTENCES[:9], **languages):
        assert text == normalize(text) and "\n" not in text and "\t" not in text


def test_languages_change_the_translation() -> None:
    model = translator()
    found = {
        (source, target): tuple(
            model.translate(SENTENCES[:8], source=source, target=target, settings=SHORT)
        )
        for source in ("en", "hi")
        for target in ("en", "ne")
    }
    assert len(set(found.values())) == 4


def test_a_model_without_languages_takes_any_or_none() -> None:
    model = translator(language_embeddings=False)
    model = replace(model, languages={})
    expected = model.translate(SENTENCES[:5], settings=SHORT)
    assert model.translate(SENTENCES[:5], source="xx", target="yy", settings=SHORT) == expected


def test_what_is_too_long_is_cut_and_said(caplog: pytest.LogCaptureFixture) -> None:
    model = translator()
    long = " ".join(SENTENCES[:30])
    ids = model.tokenizer.encode(normalize(long))
    assert len(ids) > 62
    lines = ["water", long, "", long]
    translating = Translator(model, "en", "ne", settings=SHORT)
    with caplog.at_level(logging.WARNING, logger="xlm"):
        found = translating.translate(lines)
        assert not caplog.messages
        assert model.translate(lines, source="en", target="ne", settings=SHORT) == [
            one.texts[0] for one in found
        ]
    assert [one.is_cut for one in found] == [False, True, False, True]
    assert caplog.messages == [
        "2 lines are longer than the model's 62 tokens and were cut; the first is line 2"
    ]
    wrapped = model.tokenizer.wrap(torch.tensor(ids[:62]).numpy())
    generated = generate(
        model.transformer, model.batch_rows([wrapped], "en"),
        torch.tensor([2]), end_id=model.tokenizer.end_id, settings=SHORT,
    )  # fmt: skip
    assert found[1].texts[0] == normalize(model.tokenizer.decode(generated.texts(0)[0]))
    fitting = model.tokenizer.decode(ids[:62])
    if len(model.tokenizer.encode(fitting)) == 62:
        assert not translating.translate([fitting])[0].is_cut


def test_a_batch_holds_no_more_cells_than_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = translator()
    shapes: list[tuple[int, int]] = []
    encode = model.transformer.encode

    def counted(tokens: torch.Tensor, *rest: object, **named: object) -> torch.Tensor:
        shapes.append((tokens.shape[0], tokens.shape[1]))
        hidden: torch.Tensor = encode(tokens, *rest, **named)  # type: ignore[arg-type]
        return hidden

    monkeypatch.setattr(model.transformer, "encode", counted)
    Translator(model, "en", "ne", settings=SHORT, tokens=100).translate(LINES)
    assert sum(rows for rows, _ in shapes) == sum(not is_nothing(line) for line in LINES)
    assert max(rows for rows, _ in shapes) > 3
    assert all(rows * length <= 100 for rows, length in shapes)
    lengths = [length for _, length in shapes]
    assert lengths == sorted(lengths, reverse=True)


def test_lines_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is encoded as it is read, so that long ones do not add up."""
    model = translator()
    encoded = 0
    encode = model.tokenizer.encode

    def counting(text: str) -> list[int]:
        nonlocal encoded
        encoded += 1
        return encode(text)

    def lines() -> Iterator[str]:
        for number in range(5):
            assert encoded == number
            yield "water"

    monkeypatch.setattr(model.tokenizer, "encode", counting)
    assert len(Translator(model, "en", "ne", settings=SHORT).translate(lines())) == 5


def test_sampling_repeats_and_is_keyed_by_its_place() -> None:
    model = translator(double=False)
    sampled = replace(SHORT, sample=True, temperature=2.0)
    lines = ["The tea is hot."] * 12

    def drawn(seed: int, first: int = 1) -> list[str]:
        made = Translator(model, "en", "ne", settings=sampled, seed=seed, tokens=1)
        return [one.texts[0] for one in made.translate(lines, first=first)]

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    found = drawn(0)
    assert torch.equal(torch.rand(1), expected), "the caller's generator was used"
    assert len(set(found)) > 6
    assert drawn(0) == found and drawn(1) != found
    assert drawn(0, first=4)[:9] == found[3:], "a line's number decides, not where it is begun"
    torch.manual_seed(key(0, "translate", 1))
    assert by_hand(model, lines[0], sampled) == found[:1]


def test_what_cannot_translate() -> None:
    model = translator()
    with pytest.raises(ConfigError, match=r"no decoder, so it cannot translate: expected"):
        Translator(tuned.body(), "en", "ne")
    with pytest.raises(ConfigError, match="target: the model distinguishes languages: name one of"):
        Translator(model, "en")
    with pytest.raises(ConfigError, match="source: the model does not know the language fr"):
        Translator(model, "fr", "en")
    with pytest.raises(ConfigError, match="n_best is 4: expected 1 to 3, the beam"):
        Translator(model, "en", "ne", settings=BEAM, n_best=4)
    with pytest.raises(ConfigError, match="n_best is 2: expected 1, since sampling draws"):
        Translator(model, "en", "ne", settings=Generation(sample=True), n_best=2)
    with pytest.raises(ConfigError, match="line 2 is None: expected a string"):
        model.translate(["water", None], source="en", target="ne")  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="tokens is 0"):
        Translator(model, "en", "ne", tokens=0)
    with pytest.raises(ConfigError, match="lines is the string 'water': give a list of strings"):
        model.translate("water", source="en", target="ne")
    roberta = translator(shape="xlm-roberta")
    with pytest.raises(ConfigError, match="opens and closes sentences with different symbols"):
        Translator(roberta)
    with torch.no_grad():
        model.transformer.decoder.output_bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(CheckpointError, match="line 1, or one of similar .* or fp32$"):
        model.translate(["water"], source="en", target="ne", settings=SHORT)

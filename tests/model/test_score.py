"""Scores of lines: by hand, as transformers has them, as evaluation sums them up."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import tuned
from tests.interchange import peers
from tests.translators import SENTENCES, translator
from xlm.data.corpora import Corpora
from xlm.errors import CheckpointError, ConfigError
from xlm.interchange.transformers.roberta import write_transformers_roberta
from xlm.interchange.transformers.xlm import write_transformers_xlm
from xlm.model.asking import CAUSAL, NO_HEAD, OBJECTIVES
from xlm.model.pretrained import PretrainedModel
from xlm.model.score import LineScore, Scoring
from xlm.objective import Objective
from xlm.objectives.causal import CausalLM
from xlm.objectives.masked import MaskedLM
from xlm.objectives.translation import Translation
from xlm.prepare import Aligned, Prepare, Texts, Vocabulary, prepare
from xlm.text.normalize import normalize
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.learner import Learner

LINES = [line[: 12 + 5 * (at % 7)] for at, line in enumerate(peers.lines()[::90])]


def causal(shape: str = "xlm", **changes: object) -> PretrainedModel:
    model = tuned.body(shape, **changes)
    return replace(model, extra={OBJECTIVES: ["CausalLM"]})


def nats_by_hand(
    model: PretrainedModel, line: str, language: str | None, *, ends: bool, folds: int | None = None
) -> list[float]:
    """One mask at a time, or every ``folds``-th, each in a batch by itself."""
    tokenizer = model.tokenizer
    ids = np.array(tokenizer.encode(normalize(line)))
    row = tokenizer.wrap(ids)
    cells = list(range(1, len(ids) + 1 + ends))
    found: list[float] = []
    for fold in range(min(folds or len(cells), len(cells))):
        hidden = cells[fold :: folds or len(cells)]
        tokens = row.tokens.copy()
        tokens[hidden] = tokenizer.mask_id
        batch = model.batch_rows([row._replace(tokens=tokens)], language)
        with torch.no_grad():
            states = model.encode(batch)
            logits = model.transformer.predict(states, torch.tensor(hidden)).double()
        logs = logits.log_softmax(-1)
        found += [-float(logs[at, row.tokens[cell]]) for at, cell in enumerate(hidden)]
    return found


@pytest.mark.parametrize("shape", tuned.SHAPES)
@pytest.mark.parametrize("ends", [None, True])
def test_pseudo_log_likelihood_is_one_mask_at_a_time(shape: str, ends: bool | None) -> None:
    model = tuned.body(shape)
    language = "en" if shape == "xlm" else None
    found = model.score(LINES, language, settings=Scoring(ends=ends))
    for line, own in zip(LINES, found, strict=True):
        expected = nats_by_hand(model, line, language, ends=bool(ends))
        assert own.subwords == len(expected)
        assert own.nats == pytest.approx(sum(expected), abs=1e-4)
        text, end = normalize(line), int(bool(ends))
        assert own[2:] == (
            len(text.split()) + end, len(text) + end, len(text.encode()) + end
        )  # fmt: skip


def test_folds_mask_every_nth() -> None:
    model = tuned.body("xlm")
    for folds in (1, 3, 1000):
        found = model.score(LINES, "hi", settings=Scoring(folds=folds))
        for line, own in zip(LINES, found, strict=True):
            expected = nats_by_hand(model, line, "hi", ends=False, folds=folds)
            assert own.nats == pytest.approx(sum(expected), abs=1e-4)
    exact = model.score(LINES, "hi")
    assert [own.nats for own in exact] == pytest.approx([own.nats for own in found], abs=1e-9)


def test_a_causal_model_scores_as_transformers_loss(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = causal()
    write_transformers_xlm(model, tmp_path, causal=True)
    peer = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    found = model.score(LINES, "ne")
    for line, own in zip(LINES, found, strict=True):
        row = torch.tensor([[1, *model.tokenizer.encode(normalize(line)), 1]])
        langs = torch.full_like(row, model.languages["ne"])
        labels = torch.cat([row[:, 1:], torch.full((1, 1), -100)], 1)
        with torch.no_grad():
            loss = float(peer(row, langs=langs, labels=labels).loss)
        assert own.nats_per_subword == pytest.approx(loss, abs=1e-5)
        assert own.perplexity == pytest.approx(math.exp(loss), rel=1e-4)
        assert own.subwords == row.shape[1] - 1


def test_a_masked_model_scores_as_its_export(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = tuned.body("xlm-roberta")
    write_transformers_roberta(model, tmp_path)
    peer = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path).eval()
    (own,) = model.score(LINES[:1])
    row = model.tokenizer.wrap(np.array(model.tokenizer.encode(normalize(LINES[0])))).tokens
    total = 0.0
    for at in range(1, len(row) - 1):
        tokens = torch.tensor(row)[None].clone()
        tokens[0, at] = model.tokenizer.mask_id
        with torch.no_grad():
            total -= float(peer(tokens).logits[0, at].log_softmax(-1)[row[at]])
    assert own.nats == pytest.approx(total, abs=1e-4)


@pytest.mark.parametrize("kind", ["masked", "causal", "translator"])
def test_a_line_alone_and_in_any_batch(kind: str) -> None:
    model = {"masked": tuned.body, "causal": causal, "translator": translator}[kind]()
    model.transformer.double()
    lines = [*LINES[:4], "", *LINES[4:], " \u2028 ", "x " * 150]
    sources = None if kind != "translator" else [line[::-1] for line in lines]

    def asked(part: list[int], **options: int) -> list[LineScore]:
        own = None if sources is None else [sources[at] for at in part]
        return model.score(
            [lines[at] for at in part], "en", sources=own, source_language="ne", **options
        )

    expected = [asked([at])[0] for at in range(len(lines))]
    assert expected[4] == expected[-2] == LineScore()
    assert math.isnan(expected[4].perplexity)
    for tokens in (1, 70, 10_000):
        for order in (list(range(len(lines))), list(reversed(range(len(lines))))):
            for at, own in zip(order, asked(order, tokens=tokens), strict=True):
                assert own == (pytest.approx(expected[at].nats, abs=1e-9), *expected[at][1:])


def test_a_translator_scores_the_target_given_the_source() -> None:
    model = translator()
    found = model.score(SENTENCES[:6], "ne", sources=SENTENCES[6:12], source_language="en")
    for source, target, own in zip(SENTENCES[6:12], SENTENCES[:6], found, strict=True):
        given = model.batch([source], "en")
        ids = [1, *model.tokenizer.encode(normalize(target)), 1]
        total = 0.0
        with torch.no_grad():
            memory = model.encode(given)
            for at in range(1, len(ids)):
                tokens = torch.tensor([ids[:at]])
                langs = torch.full_like(tokens, model.languages["ne"])
                hidden = model.transformer.decode(
                    tokens, torch.tensor([at]), memory, given.lengths, None, langs
                )
                logits = model.transformer.predict(hidden, torch.tensor([at - 1]), side="decoder")
                total -= float(logits[0].log_softmax(-1)[ids[at]])
        assert own.nats == pytest.approx(total, abs=1e-9)
    others = model.score(SENTENCES[:6], "ne", sources=SENTENCES[:6], source_language="en")
    assert [own.nats for own in others] != [own.nats for own in found]


def test_long_lines_are_read_in_windows_with_context() -> None:
    """With a window as long as the line, and with all windows alike, by hand."""
    for kind in ("causal", "masked"):
        wide = causal(max_positions=512) if kind == "causal" else tuned.body(max_positions=512)
        wide.transformer.double()
        line = " ".join(LINES)
        num = len(wide.tokenizer.encode(normalize(line)))
        assert 100 < num < 510
        (whole,) = wide.score([line], "en")
        narrow = causal(max_positions=40) if kind == "causal" else tuned.body(max_positions=40)
        narrow.transformer.double()
        weights = {
            name: value[:40] if name == "encoder.positions.weight" else value
            for name, value in wide.transformer.state_dict().items()
        }
        narrow.transformer.load_state_dict(weights)
        (cut,) = narrow.score([line], "en")
        assert cut[1:] == whole[1:] and cut.nats != whole.nats
        ids = np.array(wide.tokenizer.encode(normalize(line)))
        assert cut.nats == pytest.approx(windowed(narrow, ids, kind), abs=1e-6)


def windowed(model: PretrainedModel, ids: np.ndarray, kind: str) -> float:
    """Every token in the window that starts as late as it may with a half (or quarter) before."""
    total, most = 0.0, model.transformer.config.max_positions
    row = model.tokenizer.wrap(ids).tokens
    if kind == "causal":
        starts = list(range(0, len(row) - 1 - most + most // 2, most // 2))
        for at in range(1, len(row)):
            start = next(s for s in starts if at <= s + most)
            tokens = torch.tensor(row[start:at])[None]
            with torch.no_grad():
                hidden = model.transformer.encode(
                    tokens, torch.tensor([at - start]), None, torch.zeros_like(tokens), causal=True
                )
                logits = model.transformer.predict(hidden, torch.tensor([at - start - 1]))
            total -= float(logits[0].log_softmax(-1)[row[at]])
        return total
    width = most - 2
    step = width // 2
    starts = sorted({min(s, len(ids) - width) for s in range(0, len(ids) - width + step, step)})
    for at in range(len(ids)):
        start = next(s for s in starts if at < s + (width - step) // 2 + step or s == starts[-1])
        part = model.tokenizer.wrap(ids[start : start + width])
        tokens = part.tokens.copy()
        tokens[at - start + 1] = model.tokenizer.mask_id
        batch = model.batch_rows([part._replace(tokens=tokens)], "en")
        with torch.no_grad():
            logits = model.transformer.predict(model.encode(batch), torch.tensor([at - start + 1]))
        total -= float(logits[0].log_softmax(-1)[ids[at]])
    return total


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Corpora:
    """Lines of exactly seven subwords each, so that a row of eight is a line and its end."""
    folder = tmp_path_factory.mktemp("even")
    own = tuned.tokenizer("xlm")
    lines = {
        language: [
            line
            for text in peers.lines()
            for line in (own.decode(own.encode(text)[:7]),)
            if len(own.encode(normalize(line))) == 7
        ][at * 40 : at * 40 + 40]
        for at, language in enumerate(("en", "ne"))
    }
    for language, texts in lines.items():
        assert len(texts) == 40
        (folder / f"{language}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    tuned.body("xlm").save_pretrained(folder / "model")
    file = {language: str(folder / f"{language}.txt") for language in lines}
    both = {"en-ne": list(file.values())}
    prepare(
        Prepare(
            folder=str(folder / "data"),
            text=Texts(train=file, valid=file),
            pairs=Aligned(train=both, valid=both),
            vocabulary=Vocabulary(folder=str(folder / "model")),
            workers=1,
        )
    )  # fmt: skip
    return Corpora.open(str(folder / "data"))


def evaluated(model: PretrainedModel, objective: Objective, corpora: Corpora) -> dict[str, float]:
    """The figures of ``xlm evaluate`` on the held-out text."""
    streams = {"own": objective.streams("own", corpora, seed=0, split="valid")}
    learner = Learner(model.transformer, {"own": objective}, model.transformer.config)
    parallel = Parallel.start("cpu", deterministic=False)
    figures = evaluate(learner, streams, parallel, seed=0, precision="fp32")
    return next(iter(figures.values()))


def held_out(corpora: Corpora, language: str) -> list[str]:
    own = corpora.text("valid", language)
    return [corpora.tokenizer.decode(own.sentence(at).tolist()) for at in range(len(own))]


def total(scores: list[LineScore]) -> LineScore:
    return LineScore(*(sum(column) for column in zip(*scores, strict=True)))


def test_sums_over_lines_are_the_totals_of_evaluation(corpora: Corpora) -> None:
    """Each row of evaluation is a line: causal models and translators, and pairs one by one."""
    encoder = replace(tuned.body("xlm"), languages=dict(corpora.languages))
    mt = replace(translator(double=False), languages=dict(corpora.languages))
    lines, sources = held_out(corpora, "ne"), held_out(corpora, "en")
    size = corpora.text("valid", "ne").text_size

    found = total(encoder.score(lines, "ne", settings=Scoring(kind="causal")))
    clm = evaluated(encoder, CausalLM(languages=["ne"], rows=8, length=8), corpora)
    assert found.nats == pytest.approx(clm["nats"] * clm["targets"], rel=1e-6)
    assert found[1:] == (size.tokens, size.words, size.characters, size.bytes)
    for name in ("perplexity", "word_perplexity", "bits_per_character", "bits_per_byte"):
        assert getattr(found, name) == pytest.approx(clm[name], rel=1e-5)

    given = {"sources": sources, "source_language": "en"}
    found = total(mt.score(lines, "ne", **given))
    own = evaluated(mt, Translation(pairs=["en-ne"], length=64), corpora)
    assert found.nats == pytest.approx(own["nats"] * own["targets"], rel=1e-6)
    assert found.subwords == own["targets"] == size.tokens
    assert found.bits_per_byte == pytest.approx(own["bits_per_byte"], rel=1e-5)

    found = total(encoder.score(lines, "ne", **given))
    tlm = MaskedLM(
        pairs=["en-ne"], tokens=20, length=64, evaluation_side="second",
        evaluation_mask_rate=1 / 7,
    )  # fmt: skip
    masked = evaluated(encoder, tlm, corpora)
    assert found.subwords == masked["targets"] == size.tokens - size.sentences
    assert found.nats == pytest.approx(masked["nats"] * masked["targets"], rel=1e-6)
    ended = total(encoder.score(lines, "ne", settings=Scoring(ends=True)))
    assert ended[1:] == (size.tokens, size.words, size.characters, size.bytes)


def test_what_cannot_be_scored_is_one_line() -> None:
    model, mt = tuned.body("xlm"), translator()

    def refused(message: str, *given: object, own: PretrainedModel = model, **more: object) -> None:
        with pytest.raises(ConfigError, match=message) as caught:
            own.score(*given, **more)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)

    refused("has no output layer", ["a"], "en", own=replace(model, extra={NO_HEAD: True}))
    refused("is a translator, which scores a translation given its source", ["a"], "en", own=mt)
    refused("kind is masked, but the model has a decoder", ["a"], "en", own=mt,
            settings=Scoring(kind="masked"))  # fmt: skip
    refused("kind is translator, but the model has no decoder", ["a"], "en",
            settings=Scoring(kind="translator"))  # fmt: skip
    refused("folds is 2, but the model is not masked", ["a"], "en", own=causal(),
            settings=Scoring(folds=2))  # fmt: skip
    refused("does not know the language fr", ["a"], "fr")
    refused("name one of en, hi, ne", ["a"])
    refused("does not know the language xx", ["a"], "en", sources=["b"], source_language="xx")
    refused("2 sources for 1 lines", ["a"], "en", sources=["b", "c"], source_language="en")
    refused("source_language: .* name one of en, hi, ne", ["a"], "en", sources=["b"])
    refused("line 2 is 3: expected a string", ["a", 3], "en")
    refused("lines is the string", "ab", "en")
    refused("line 1: the pair is .* tokens long", ["a " * 40], "en", sources=["b " * 40],
            source_language="en")  # fmt: skip
    with pytest.raises(ConfigError, match="folds is 0"):
        Scoring(folds=0)
    with pytest.raises(ConfigError, match="kind is 'both': expected one of masked"):
        Scoring(kind="both")  # type: ignore[arg-type]


def test_which_way_a_model_scores() -> None:
    model = tuned.body("xlm")
    masked, exact = model.score(LINES[:2], "en"), causal().score(LINES[:2], "en")
    assert masked != exact
    for extra, expected in (
        ({OBJECTIVES: ["MaskedLM"]}, masked),
        ({CAUSAL: True}, exact),
        ({OBJECTIVES: ["CausalLM", "MaskedLM"]}, exact),
    ):
        assert replace(model, extra=extra).score(LINES[:2], "en") == expected


def test_scores_that_are_not_numbers_name_line_and_tensor() -> None:
    model = tuned.body("xlm")
    with torch.no_grad():
        model.transformer.encoder.positions.weight[20:] = np.nan
    assert model.score(["a", "b"], "en")
    with pytest.raises(
        CheckpointError, match="for line 2 .* tensor encoder.positions.weight holds"
    ):
        model.score(["a", "x " * 20], "en")

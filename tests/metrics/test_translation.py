"""Scores of translations: the original's BLEU, sacreBLEU's figures, resampling by brute force."""

from __future__ import annotations

import json
import logging
import math
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from xlm.errors import ConfigError, DataError, XlmError
from xlm.metrics.translation import (
    MOST_DRAWS,
    SEED_VARIABLE,
    copied_tokens,
    copy_rate,
    corpus_scores,
    empty_rate,
    multi_bleu,
    paired_bootstrap,
)

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "bleu.json").read_text())
FIGURES = [(run, name) for run, own in GOLDEN["bleu"].items() for name in own]

REFERENCES = [
    "The dog bit the man.",
    "It was not unexpected.",
    "The man bit him first.",
    "Nobody saw the small dog run away.",
    "They asked the man what had happened.",
    "He said that it was not the dog.",
]
FIRST = [
    "The dog bit the man.",
    "It wasn't surprising.",
    "The man had just bitten him.",
    "Nobody saw the small dog run.",
    "They asked what had happened to the man.",
    "He said it was not the dog.",
]
SECOND = [
    "A dog has bitten a man.",
    "It was not surprising.",
    "The man bit the dog first.",
    "Nobody saw the dog run away.",
    "They asked the man what happened.",
    "He said that it was a cat.",
]


@pytest.mark.parametrize("run, name", FIGURES)
def test_the_original_s_bleu(run: str, name: str) -> None:
    """What multi-bleu.perl printed, with two decimals."""
    found = multi_bleu(GOLDEN["hypotheses"][run][name], GOLDEN["references"][name])
    assert found == pytest.approx(GOLDEN["bleu"][run][name], abs=0.005 + 1e-9)


def test_the_original_s_figures_are_of_many_kinds() -> None:
    values = [value for own in GOLDEN["bleu"].values() for value in own.values()]
    assert len(values) == 18 and min(values) == 15.0 and max(values) == 81.61


def bleu_by_definition(hypotheses: list[str], references: list[str]) -> float:
    """BLEU of bytes between whitespace: Papineni et al. (2002), section 2.3, one reference."""
    matches, totals, num_found, num_expected = [0] * 4, [0] * 4, 0, 0
    for hypothesis, reference in zip(hypotheses, references, strict=True):
        found, expected = hypothesis.encode().split(), reference.encode().split()
        expected = [b"" if b"<unk>" in token else token for token in expected]
        num_found, num_expected = num_found + len(found), num_expected + len(expected)
        for n in range(1, 5):
            ours, theirs = (
                Counter(tuple(tokens[at : at + n]) for at in range(len(tokens) - n + 1))
                for tokens in (found, expected)
            )
            matches[n - 1] += (ours & theirs).total()
            totals[n - 1] += ours.total()
    if not all(matches):
        return 0.0
    precision = math.prod(one / other for one, other in zip(matches, totals, strict=True)) ** 0.25
    return 100 * precision * math.exp(min(0, 1 - num_expected / num_found))


TOKENS = ["a", "b", "c", "d", "e", "<unk>", "f\xa0f", "g\u2003", "\x1ch"]
LINES = st.lists(
    st.tuples(*2 * [st.lists(st.sampled_from(TOKENS), max_size=9)]),
    min_size=1,
    max_size=5,
)


@settings(deadline=None)
@given(lines=LINES)
def test_multi_bleu_is_its_definition(
    lines: list[tuple[list[str], list[str]]],
) -> None:
    hypotheses, references = ([" ".join(pair[side]) for pair in lines] for side in (0, 1))
    expected = bleu_by_definition(hypotheses, references)
    assert multi_bleu(hypotheses, references) == pytest.approx(expected, abs=1e-9)
    tokenized = corpus_scores(hypotheses, references).tokenized_bleu.score
    assert tokenized == multi_bleu(hypotheses, references)


def test_multi_bleu_of_long_random_lines() -> None:
    """All four orders match somewhere, on both sides of the brevity penalty."""
    random = np.random.default_rng(0)
    for shift in (-4, 0, 4):
        references, hypotheses = [], []
        for _ in range(30):
            tokens = [str(token) for token in random.integers(0, 9, 20)]
            references.append(" ".join(tokens))
            tokens = [token if random.random() < 0.8 else "x" for token in tokens]
            hypotheses.append(" ".join((tokens + ["x"] * 4)[: 20 + shift]))
        expected = bleu_by_definition(hypotheses, references)
        found = multi_bleu(hypotheses, references)
        assert 20 < found == pytest.approx(expected, abs=1e-9)
        ratio = corpus_scores(hypotheses, references).length_ratio
        assert (ratio < 1) == (shift < 0)


def test_multi_bleu_by_hand() -> None:
    # 4 of 5 tokens, 3 of 4, 2 of 3, 1 of 2 match; 5 tokens for 6
    precision = (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)
    expected = 100 * precision * np.exp(1 - 6 / 5)
    assert multi_bleu(["a b c d x"], ["a b c d e f"]) == pytest.approx(expected)
    assert multi_bleu(["a b c d e f"], ["a b c d e f"]) == pytest.approx(100)
    assert multi_bleu(["a b c"], ["a b c"]) == 0  # no four tokens
    assert multi_bleu(["", " "], ["a b c d e", ""]) == 0
    # clipped: the reference has one "a a a a"
    longer = multi_bleu(["a " * 8], ["a a a a b c d e"])
    assert longer == pytest.approx(100 * (4 / 8 * 3 / 7 * 2 / 6 * 1 / 5) ** (1 / 4))


def test_tokens_stand_between_ascii_white_space_alone() -> None:
    """As in a program that reads bytes: a no-break space is a part of its token."""
    for space in ("\t", "  ", "\r", "\x0b", "\f"):
        assert multi_bleu([f"a{space}b c d\r"], ["a b c d"]) == pytest.approx(100)
    for space in ("\xa0", "\u3000", "\u2028", "\x85", "\x1c", "\x1f", "\u2003"):
        assert multi_bleu([f"a{space}b c d"], ["a b c d"]) == 0
        assert multi_bleu([f"a{space}b c d e"], [f"a{space}b c d e"]) == pytest.approx(100)
    assert multi_bleu(["A b c d"], ["a b c d"]) == 0  # three of four match, no four in a row


def test_an_unknown_word_of_a_reference_matches_nothing() -> None:
    """See docs/fidelity.md, A9; the tokens count, so that nothing else changes."""
    for unknown in ("<unk>", "ab<unk>"):
        line = f"a b c d e {unknown} f g h i j"
        ours = line.replace(unknown, "x")
        assert multi_bleu([line], [line]) == pytest.approx(multi_bleu([ours], [line]))
        assert multi_bleu([line], [line]) < 100
        assert multi_bleu([line], [ours]) == pytest.approx(multi_bleu([line], [line]))


def test_scores_are_those_of_sacrebleu() -> None:
    found = corpus_scores(FIRST, REFERENCES)
    bleu, chrf = sacrebleu.BLEU(), sacrebleu.CHRF()
    assert found.bleu.score == bleu.corpus_score(FIRST, [REFERENCES]).score
    assert found.chrf.score == chrf.corpus_score(FIRST, [REFERENCES]).score
    assert found.bleu.signature == str(bleu.get_signature())
    assert found.chrf.signature == str(chrf.get_signature())
    assert found.bleu.signature.endswith(f"|version:{sacrebleu.__version__}")
    assert found.tokenized_bleu.score == multi_bleu(FIRST, REFERENCES)
    assert found.tokenized_bleu.score < found.bleu.score - 5  # "man." is a token here
    assert "tok:white-space" in found.tokenized_bleu.signature
    num_found, num_expected = (len(" ".join(lines).split()) for lines in (FIRST, REFERENCES))
    assert found.length_ratio == num_found / num_expected != 1
    assert found.bleu.mean is found.chrf.interval is found.tokenized_bleu.mean is None


@pytest.mark.parametrize("tokenize", ["13a", "intl", "zh", "char", "none"])
def test_words_can_be_parted_otherwise(tokenize: Any) -> None:
    hypotheses, references = ["我们去北京吧, 好吗?"] * 2, ["我们去北京, 好吗?"] * 2
    found = corpus_scores(hypotheses, references, tokenize=tokenize)
    metric = sacrebleu.BLEU(tokenize=tokenize)
    assert found.bleu.score == metric.corpus_score(hypotheses, [references]).score
    assert f"|tok:{tokenize}|" in found.bleu.signature


def resamples(num: int, seed: int) -> np.ndarray[Any, Any]:
    size = len(REFERENCES)
    return np.random.default_rng(seed).choice(size, (num, size), replace=True)


def drawn(metric: Any, hypotheses: list[str], rows: np.ndarray[Any, Any]) -> list[float]:
    """Scores of the resampled texts themselves."""
    return [
        metric.corpus_score([hypotheses[i] for i in row], [[REFERENCES[i] for i in row]]).score
        for row in rows
    ]


def spread(scores: list[float]) -> float:
    """Half the distance between the values that leave a fortieth out on each side."""
    ordered, out = sorted(scores), len(scores) // 40
    return (ordered[len(ordered) - 1 - out] - ordered[out]) / 2


METRICS: dict[str, Any] = {
    "bleu": sacrebleu.BLEU(),
    "chrf": sacrebleu.CHRF(),
    "tokenized_bleu": sacrebleu.BLEU(tokenize="none", smooth_method="none", force=True),
}


@pytest.mark.parametrize("name", METRICS)
def test_intervals_by_brute_force(name: str) -> None:
    found = getattr(corpus_scores(FIRST, REFERENCES, num_resamples=90, seed=7), name)
    scores = drawn(METRICS[name], FIRST, resamples(90, 7))
    assert found.score == pytest.approx(METRICS[name].corpus_score(FIRST, [REFERENCES]).score)
    assert found.mean == pytest.approx(np.mean(scores), rel=1e-5)
    assert found.interval == pytest.approx(spread(scores), rel=1e-4)
    assert "|bs:90|seed:7|" in found.signature and found.interval > 1


def test_the_paired_bootstrap_by_brute_force() -> None:
    """Koehn (2004), as sacreBLEU has it: how often resamples stray from their mean distance by
    more than the distance itself."""
    systems = {"first": FIRST, "second": SECOND, "reference": REFERENCES}
    found = paired_bootstrap(systems, REFERENCES, num_resamples=90, seed=7)
    assert list(found) == list(systems)
    for name, metric in (("BLEU", METRICS["bleu"]), ("chrF2", METRICS["chrf"])):
        score = {k: metric.corpus_score(own, [REFERENCES]).score for k, own in systems.items()}
        base = drawn(metric, FIRST, resamples(90, 7))
        assert found["first"][name].p_value is None
        for system in ("second", "reference"):
            scores = drawn(metric, systems[system], resamples(90, 7))
            apart = np.abs(np.array(scores) - np.array(base))
            distance = abs(score[system] - score["first"])
            expected = ((apart - apart.mean() > distance).sum() + 1) / 91
            own = found[system][name]
            assert own.score == score[system]
            assert own.mean == pytest.approx(np.mean(scores), rel=1e-5)
            assert own.interval == pytest.approx(spread(scores), rel=1e-4, abs=1e-4)
            assert own.p_value == pytest.approx(expected)
    values = [found["second"][name].p_value for name in ("BLEU", "chrF2")]
    assert max(filter(None, values)) > 0.05 > 1 / 91 == found["reference"]["BLEU"].p_value


def test_equal_systems_do_not_differ() -> None:
    """sacreBLEU would say p = 0.001 for two copies of one system."""
    found = paired_bootstrap({"a": FIRST, "b": list(FIRST)}, REFERENCES)
    assert [own.p_value for own in found["b"].values()] == [1.0, 1.0]
    assert found["a"]["BLEU"].score == found["b"]["BLEU"].score


@pytest.mark.parametrize("before", [None, "none", "3"])
def test_the_seed_is_the_argument_s(monkeypatch: pytest.MonkeyPatch, before: str | None) -> None:
    """Whatever the environment says, which is left as it was."""
    expected = paired_bootstrap({"a": FIRST, "b": SECOND}, REFERENCES, num_resamples=50)
    if before is None:
        monkeypatch.delenv(SEED_VARIABLE, raising=False)
    else:
        monkeypatch.setenv(SEED_VARIABLE, before)
    systems = {"a": FIRST, "b": SECOND}
    assert paired_bootstrap(systems, REFERENCES, num_resamples=50) == expected
    assert os.environ.get(SEED_VARIABLE) == before
    other = paired_bootstrap(systems, REFERENCES, num_resamples=50, seed=9)
    assert other != expected
    assert corpus_scores(FIRST, REFERENCES, num_resamples=50).bleu.mean == (
        expected["a"]["BLEU"].mean
    )


def test_copies_and_silence() -> None:
    sources = ["the  old bridge", "a b b", "", "we sing", "x y"]
    hypotheses = ["the old bridge ", "b b b a", " ", "", "y z"]
    assert copy_rate(sources, hypotheses) == 1 / 5
    # 3 of 3, 3 of 4 (b twice), none, none, 1 of 2
    assert copied_tokens(sources, hypotheses) == 7 / 9
    assert empty_rate(hypotheses) == 2 / 5
    assert copied_tokens(["a"], [""]) == 0
    assert copy_rate(sources, sources) == 4 / 5  # an empty one is no copy
    assert copied_tokens(sources, sources) == 1


WRONG: list[tuple[type[XlmError], str, Any]] = [
    (DataError, "2 hypotheses and 1 references: ", lambda: multi_bleu(["a", "b"], ["a"])),
    (DataError, "1 hypotheses and 2 references", lambda: corpus_scores(["a"], ["a", "b"])),
    (DataError, "found no hypotheses", lambda: corpus_scores([], [])),
    (ConfigError, "references: found one text", lambda: multi_bleu(["a"], "a")),
    (ConfigError, "hypotheses: found one text", lambda: multi_bleu("a", ["a"])),
    (DataError, "2 hypotheses and 1 sources", lambda: copy_rate(["a"], ["a", "b"])),
    (DataError, "2 hypotheses and 1 sources", lambda: copied_tokens(["a"], ["a", "b"])),
    (DataError, "found no hypotheses: expected", lambda: empty_rate([])),
    (
        ConfigError, "found 1 system, expected a baseline",
        lambda: paired_bootstrap({"a": FIRST}, REFERENCES),
    ),
    (
        DataError, "6 hypotheses of b and 5 references",
        lambda: paired_bootstrap({"a": FIRST[1:], "b": SECOND}, REFERENCES[1:]),
    ),
    (ConfigError, "1 resamples", lambda: corpus_scores(FIRST, REFERENCES, num_resamples=1)),
    (ConfigError, "-5 resamples", lambda: corpus_scores(FIRST, REFERENCES, num_resamples=-5)),
    (ConfigError, "seed 0", lambda: corpus_scores(FIRST, REFERENCES, num_resamples=9, seed=0)),
    (DataError, "a single line cannot", lambda: corpus_scores(["a"], ["a"], num_resamples=9)),
    (
        ConfigError, "expected at most 3,333,333 resamples",
        lambda: corpus_scores(FIRST, REFERENCES, num_resamples=MOST_DRAWS),
    ),
    (
        ConfigError, "'mecab': expected one of 13a",
        lambda: corpus_scores(FIRST, REFERENCES, tokenize="mecab"),  # type: ignore[arg-type]
    ),
]  # fmt: skip


@pytest.mark.parametrize("error, message, call", WRONG, ids=[message for _, message, _ in WRONG])
def test_a_mistake_is_one_line(error: type[XlmError], message: str, call: Any) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_said_of_sacrebleu_s_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    logger = logging.getLogger("sacrebleu")
    monkeypatch.setattr(logger, "level", logging.INFO)
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    monkeypatch.setattr(logger.handlers[0], "handle", lambda own: said.append(own.getMessage()))
    lines = ["the water is hot", "the house is big"]
    paired_bootstrap({"one": lines, "two": lines[::-1]}, lines, num_resamples=2)
    assert said == []
    logger.info("heard")
    assert said == ["heard"]

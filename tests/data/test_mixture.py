import json
from collections import Counter
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats

from tests.data.fakes import corpora
from xlm.data.mixture import Mixture, Sampling, advance, render_table
from xlm.data.sentence_streams import PairStream
from xlm.data.streams import TextStream
from xlm.errors import ConfigError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sampling.json").read_text())
CORPORA = corpora(en=[4] * 60, hi=[4] * 20, ne=[4] * 5, en_ne=([4] * 9, [4] * 9))


def text(objective, *languages):
    return [TextStream(CORPORA, name, objective=objective, length=8, rows=2) for name in languages]


def pairs(objective):
    return [PairStream(CORPORA, "en-ne", objective=objective, tokens_per_batch=24, num_specials=4)]


def two(**settings):
    return Mixture({"mlm": text("mlm", "en", "hi", "ne"), "tlm": pairs("tlm")}, **settings)


def ids(groups):
    return [[(stream.id, k) for stream, k in group.micro_batches] for group in groups]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(rule="uniform"), Sampling(rule="temperature", temperature=5)]
)
def test_languages_are_drawn_as_often_as_they_should(seed, sampling):
    mixture = Mixture(
        {"mlm": text("mlm", "en", "hi", "ne")}, {"mlm": sampling}, group_size=1000, seed=seed
    )
    drawn = Counter(
        stream.name
        for step in range(100)
        for group in mixture.plan(step, {})
        for stream, _ in group.micro_batches
    )
    q = sampling.probabilities({"en": 60, "hi": 20, "ne": 5})
    observed = [drawn[name] for name in q]
    assert sum(observed) == 10**5
    assert stats.chisquare(observed, np.array(list(q.values())) * 10**5).pvalue > 0.001


def test_a_plan_depends_on_seed_and_step_alone():
    again = two(seed=3)
    for step in (10**6, 0, 1):
        assert ids(two(seed=3).plan(step, {})) == ids(again.plan(step, {}))
    plans = [ids(two(seed=seed).plan(step, {})) for seed, step in [(0, 0), (1, 0), (0, 2)]]
    assert plans[0] != plans[1] and plans[0] != plans[2]


def test_cursors_go_on_where_the_last_step_stopped():
    mixture = two(order="together", group_size=4)
    cursors, seen = {"mlm/hi": 7}, Counter({"mlm/hi": 7})
    for step in range(50):
        groups = mixture.plan(step, cursors)
        before = dict(cursors)
        after = advance(cursors, groups)
        assert cursors == before
        for group in groups:
            for stream, k in group.micro_batches:
                assert k == seen[stream.id]
                seen[stream.id] += 1
        cursors = after
    assert cursors == dict(seen)
    assert sum(seen.values()) - 7 == 50 * 2 * 4


def test_rotate_takes_turns_and_skips_who_has_no_weight():
    weights = {"mlm": [[0, 1.0], [4, 1.0], [5, 0.0], [8, 0.0], [9, 2.0]], "tlm": 0.5}
    mixture = two(weights=weights)
    turns = []
    for step in range(12):
        (group,) = mixture.plan(step, {})
        turns.append((group.objective, group.weight))
        assert len(group.micro_batches) == 8
    mlm, tlm = ("mlm", 1.0), ("tlm", 0.5)
    late = [("tlm", 0.5), ("mlm", 2.0), ("tlm", 0.5)]
    assert turns == [mlm, tlm, mlm, tlm, mlm, tlm, tlm, tlm, tlm, *late]


def test_together_has_a_group_for_everyone_with_weight():
    mixture = two(order="together", weights={"mlm": [[0, 1.0], [10, 0.0]]})
    assert [(g.objective, g.weight) for g in mixture.plan(5, {})] == [("mlm", 0.5), ("tlm", 1.0)]
    assert [g.objective for g in mixture.plan(10, {})] == ["tlm"]


def test_one_language_a_group():
    mixture = Mixture({"mlm": text("mlm", "en", "hi")}, one_language_a_group=True)
    drawn = set()
    for step in range(40):
        (group,) = mixture.plan(step, {"mlm/en": 5})
        streams = {stream.id for stream, _ in group.micro_batches}
        assert len(streams) == 1
        start = 5 if streams == {"mlm/en"} else 0
        assert [k for _, k in group.micro_batches] == list(range(start, start + 8))
        drawn |= streams
    assert drawn == {"mlm/en", "mlm/hi"}


def test_a_staged_mixture_changes_with_the_step():
    sampling = Sampling(rule="shares", shares={"en": [[0, 1], [100, 0]], "hi": [[0, 0], [100, 1]]})
    mixture = Mixture({"mlm": text("mlm", "en", "hi")}, {"mlm": sampling}, group_size=100)
    names = [
        Counter(s.name for s, _ in mixture.plan(at, {})[0].micro_batches) for at in (0, 50, 100)
    ]
    assert names[0] == {"en": 100} and names[2] == {"hi": 100}
    assert 25 < names[1]["en"] < 75


@pytest.mark.parametrize("case", GOLDEN)
def test_one_iteration_is_the_original_s(case):
    """As many draws in a row of each kind, from as many streams, with the same probabilities."""
    sizes = {**case["sentences"], **case["pairs"]}
    sizes |= {"-".join(reversed(name.split("-"))): size for name, size in case["pairs"].items()}
    steps = case["one_iteration"]["steps"]
    kinds = {"mlm": [s for s in steps if "-" not in s], "tlm": [s for s in steps if "-" in s]}
    kinds = {kind: names for kind, names in kinds.items() if names}
    streams = {
        kind: [SimpleNamespace(id=f"{kind}/{s}", name=s, num_sentences=sizes[s]) for s in names]
        for kind, names in kinds.items()
    }
    rule = {"rule": "uniform"} if case["factor"] == -1 else {"alpha": case["factor"]}
    samplings = {kind: Sampling(**rule) for kind in kinds}
    mixture = Mixture(streams, samplings, order="original", group_size=1)
    draws = case["one_iteration"]["draws"]
    for (kind, names), expected in zip(kinds.items(), draws, strict=True):
        assert len(names) == expected["options"]
        uniform = np.full(len(names), 1 / len(names))
        probabilities = expected["probabilities"]
        found = mixture.probabilities(kind)
        assert np.abs(found - (uniform if probabilities is None else probabilities)).max() <= 1e-12
    plans = [mixture.plan(step, {}) for step in range(40 * sum(own["draws"] for own in draws))]
    turns = [group.objective for (group,) in plans]
    if len(kinds) > 1:
        runs = [(kind, len(list(own))) for kind, own in groupby(turns)]
        pattern = [(kind, own["draws"]) for kind, own in zip(kinds, draws, strict=True)]
        assert runs == pattern * 40
    # With replacement: some iteration has a stream twice.
    first = draws[0]["draws"]
    own = [group.micro_batches[0][0].name for (group,) in plans if group.objective == turns[0]]
    iterations = [own[at : at + first] for at in range(0, len(own), first)]
    assert first == 1 or any(len(set(names)) < first for names in iterations)


def test_an_objective_of_many_streams_has_five_updates_in_a_row():
    many = corpora(**{name: [4] * 9 for name in "abcdefg"})
    seven = [TextStream(many, name, objective="mlm", length=8, rows=2) for name in "abcdefg"]
    weights = {"tlm": [[0, 1.0], [12, 1.0], [13, 0.0]]}
    mixture = Mixture({"mlm": seven, "tlm": pairs("tlm")}, weights=weights, order="original")
    turns = [mixture.plan(step, {})[0].objective for step in range(18)]
    assert turns == (["mlm"] * 5 + ["tlm"]) * 2 + ["mlm"] * 6
    assert len(mixture.plan(0, {})[0].micro_batches) == 8


def test_objectives_with_more_turns_have_them_in_a_row():
    mixture = two(turns={"mlm": 3}, weights={"tlm": [[0, 1.0], [11, 1.0], [12, 0.0]]})
    turns = [mixture.plan(step, {})[0].objective for step in range(16)]
    assert turns == (["mlm"] * 3 + ["tlm"]) * 3 + ["mlm"] * 4
    for settings, message in [
        ({"turns": {"mlm": 0}}, "objectives.mlm.turns must be at least 1: found 0"),
        (
            {"turns": {"tlm": 2}, "order": "together"},
            "tlm.turns is 2, but order is together: .*rotate",
        ),
        ({"turns": {"tlm": 2}, "order": "original"}, "only works with order rotate"),
    ]:
        with pytest.raises(ConfigError, match=message):
            two(**settings)


@pytest.mark.parametrize("order", ["rotate", "together", "original", "rotate by turns"])
def test_the_table_says_what_is_then_seen(order):
    turns = {"turns": {"mlm": 3}} if order.endswith("turns") else {}
    order = order.split()[0]
    sampling = Sampling(rule="shares", shares={"en": [[0, 3], [400, 0]], "hi": 1.0, "ne": 1.0})
    mixture = two(
        samplings={"mlm": sampling}, weights={"tlm": [[0, 0.0], [300, 1.0]]}, order=order, **turns
    )
    num_steps, cursors = 2000, {}
    for step in range(num_steps):
        cursors = advance(cursors, mixture.plan(step, cursors))
    rows = mixture.table(num_steps)
    assert [(row.objective, row.stream) for row in rows] == [
        ("mlm", "en"), ("mlm", "hi"), ("mlm", "ne"), ("tlm", "en-ne"),
    ]  # fmt: skip
    streams = [stream for several in mixture.streams.values() for stream in several]
    for row, stream in zip(rows, streams, strict=True):
        seen = cursors[stream.id] / stream.batches_per_epoch
        assert row.epochs == pytest.approx(seen, rel=0.05)
        assert row.sentences == stream.num_sentences and row.tokens == stream.text_size.tokens
    assert rows[0].probability == pytest.approx(0.6) and rows[0].probability_at_end == 0
    text = render_table(rows)
    assert len(text.splitlines()) == 5 and "0.6000 -> 0.0000" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_mixtures_that_cannot_be():
    for settings, message in [
        ({"group_size": 0}, "group_size must be at least 1"),
        ({"order": "random"}, "expected rotate, together or original"),
        ({"weights": {"clm": 1.0}}, "a weight for clm: expected some of mlm, tlm"),
        ({"samplings": {"clm": Sampling()}}, "a sampling for clm"),
        ({"weights": {"mlm": -1.0}}, "the weight of mlm"),
        ({"weights": {"mlm": 0.0, "tlm": 0.0}}, "at step 0 no objective has a weight above 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            two(**settings)
    with pytest.raises(ConfigError, match="mlm/en is listed twice"):
        Mixture({"mlm": text("mlm", "en", "en")})
    with pytest.raises(ConfigError, match="mlm has nothing to draw from"):
        Mixture({"mlm": []})


# Units of size, caps on repeats, expectations.


def test_sizes_in_tokens():
    """Text of long sentences counts for more by tokens, and for as much by sentences."""
    both = corpora(en=[9] * 20, ne=[4] * 20)
    streams = [TextStream(both, name, objective="mlm", length=8, rows=2) for name in ("en", "ne")]
    for unit, expected in (("sentences", [0.5, 0.5]), ("tokens", [2 / 3, 1 / 3])):
        mixture = Mixture({"mlm": streams}, {"mlm": Sampling(alpha=1.0, by=unit)})
        assert mixture.probabilities("mlm") == pytest.approx(expected)
    assert [stream.text_size.tokens for stream in streams] == [200, 100]
    with pytest.raises(
        ConfigError, match="sampling by characters: the number of characters of mlm/en is"
    ):
        Mixture({"mlm": streams}, {"mlm": Sampling(by="characters")})


def test_no_text_is_repeated_more_often_than_the_cap():
    streams = text("mlm", "en", "hi", "ne")
    sampling = Sampling(rule="unimax", max_epochs=2.0)
    last = sum(2 * stream.batches_per_epoch for stream in streams)
    for steps in (1, 5, int(last)):
        mixture = Mixture({"mlm": streams}, {"mlm": sampling}, group_size=1, num_steps=steps)
        rows = mixture.table(steps)
        assert all(row.epochs <= 2 + 1e-9 for row in rows)
        assert sum(row.probability for row in rows) == pytest.approx(1)
        reached = [row for row in rows if row.epochs < 2 - 1e-9]
        assert len({round(row.probability, 9) for row in reached}) <= 1  # the others share alike
    with pytest.raises(ConfigError, match="objectives.mlm.sampling: max_epochs is 2, which"):
        Mixture({"mlm": streams}, {"mlm": sampling}, group_size=1, num_steps=int(last) + 1)
    with pytest.raises(ConfigError, match="rule unimax needs the run's number of steps"):
        Mixture({"mlm": streams}, {"mlm": sampling})


def test_the_cap_counts_the_draws_of_its_objective_alone():
    """Two objectives in turn: each has half of the updates."""
    sampling = Sampling(rule="unimax", max_epochs=1.0)
    streams = {"mlm": text("mlm", "en", "ne"), "tlm": pairs("tlm")}
    epochs = sum(stream.batches_per_epoch for stream in streams["mlm"])
    mixture = Mixture(streams, {"mlm": sampling}, group_size=1, num_steps=2 * int(epochs))
    found = {row.stream: row.epochs for row in mixture.table(2 * int(epochs))}
    assert found["en"] <= 1 + 1e-9 and found["ne"] <= 1 + 1e-9
    assert found["en"] + found["ne"] > 1.9


SIZES = {"en-ne": 15_009, "en-hi": 14_503, "hi-ne": 6_231}
ROWS = {"en-ne": 165.0, "en-hi": 141.0, "hi-ne": 39.0}
"""Pairs of a corpus of user interfaces, and rows of a micro-batch of 2,000 cells of each."""


def drawn_sentences(per):
    """The share of each pair's sentences in 10**5 micro-batches at temperature 5."""
    streams = [
        SimpleNamespace(
            id=f"mt/{name}", name=name, num_sentences=size, num_rows=size,
            batches_per_epoch=size / ROWS[name],
        )
        for name, size in SIZES.items()
    ]  # fmt: skip
    sampling = Sampling(rule="temperature", temperature=5.0, per=per)
    mixture = Mixture({"mt": streams}, {"mt": sampling}, group_size=1000)
    counts = Counter(
        stream.name for step in range(100) for stream, _ in mixture.plan(step, {})[0].micro_batches
    )
    sentences = {name: counts[name] * ROWS[name] for name in SIZES}
    total = sum(sentences.values())
    return {name: own / total for name, own in sentences.items()}, mixture.probabilities("mt")


def test_sentences_are_drawn_by_their_shares():
    shares = Sampling(rule="temperature", temperature=5.0).probabilities(SIZES)
    assert [round(own, 3) for own in shares.values()] == [0.353, 0.351, 0.296]
    found, chances = drawn_sentences("sentence")
    rows = np.array(list(ROWS.values()))
    mean = chances @ rows
    for at, (name, share) in enumerate(shares.items()):
        # the deviation of a ratio of sums over independent draws
        off = np.where(np.arange(3) == at, 1.0, 0.0) - share
        deviation = np.sqrt((chances * rows**2 * off**2).sum() / 1e5) / mean
        assert abs(found[name] - share) < 4.5 * deviation
    by_batch, _ = drawn_sentences("batch")
    expected = {"en-ne": 0.489, "en-hi": 0.415, "hi-ne": 0.097}
    assert by_batch == pytest.approx(expected, abs=0.005)


def test_sentences_of_running_text_are_refused():
    with pytest.raises(ConfigError, match="sampling.per is sentence, but mlm/en is running text"):
        Mixture({"mlm": text("mlm", "en", "hi")}, {"mlm": Sampling(per="sentence")})
    with pytest.raises(ConfigError, match="per is sentence, but rule unimax"):
        Sampling(rule="unimax", max_epochs=2, per="sentence")
    with pytest.raises(ConfigError, match="per is 'row': expected batch or sentence"):
        Sampling(per="row")

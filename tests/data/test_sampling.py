import json
import math
from pathlib import Path

import pytest

from xlm.data.sampling import Sampling, check_piecewise, piecewise
from xlm.errors import ConfigError

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "sampling.json").read_text())
SIZES = {"en": 900, "ne": 100}


@pytest.mark.parametrize("case", GOLDEN)
def test_alpha_gives_the_original_s_probabilities(case):
    uniform = case["factor"] == -1
    sampling = Sampling(rule="uniform") if uniform else Sampling(alpha=case["factor"])
    for counts, kind in (("sentences", "mono"), ("pairs", "pair")):
        if not (sizes := case[counts]):
            continue
        found = sampling.probabilities(sizes)
        expected = case[f"{kind}_probabilities"] or dict.fromkeys(sizes, 1 / len(sizes))
        assert found.keys() == expected.keys()
        for name, probability in expected.items():
            assert found[name] == pytest.approx(probability, rel=0, abs=1e-12)


def test_the_paper_s_default():
    found = Sampling().probabilities(SIZES)
    assert found["ne"] == pytest.approx(1 / (1 + 9**0.7), abs=1e-15)


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0.7, [0.774, 0.176, 0.050]), (0.5, [0.672, 0.233, 0.095])]
)
def test_three_sizes_worked_by_hand(alpha, expected):
    """XLM sections 3.1 and 3.5, on a large, a middling and a small language."""
    found = Sampling(alpha=alpha).probabilities({"en": 5_000_000, "hi": 600_000, "ne": 100_000})
    assert list(found.values()) == pytest.approx(expected, abs=5e-4)


def test_temperature_is_the_inverse_exponent():
    found = Sampling(rule="temperature", temperature=4).probabilities(SIZES)
    assert found == pytest.approx(Sampling(alpha=0.25).probabilities(SIZES))
    huge = Sampling(rule="temperature", temperature=1e9).probabilities(SIZES)
    assert huge["en"] == pytest.approx(0.5)


def test_a_language_without_sentences_is_never_drawn():
    for rule in ("alpha", "uniform"):
        found = Sampling(rule=rule, alpha=0.0).probabilities({"en": 5, "hi": 0, "ne": 1})
        assert found == {"en": 0.5, "hi": 0.0, "ne": 0.5}
    with pytest.raises(ConfigError, match="nothing to draw from"):
        Sampling().probabilities({"en": 0})


def test_shares_follow_the_step():
    sampling = Sampling(rule="shares", shares={"en": [[100, 3], [200, 1]], "ne": 1})
    assert sampling.staged
    found = [sampling.probabilities(SIZES, step)["en"] for step in (0, 100, 150, 200, 10**6)]
    assert found == pytest.approx([3 / 4, 3 / 4, 2 / 3, 1 / 2, 1 / 2])
    assert not Sampling(rule="shares", shares={"en": 2, "ne": 1}).staged


def test_piecewise_values():
    points = [[0, 1], [10, 0], [30, 0.5]]
    steps = (0, 5, 10, 20, 30, 10**9)
    assert [piecewise(points, step) for step in steps] == [1, 0.5, 0, 0.25, 0.5, 0.5]
    assert piecewise([[10, 2], [20, 3]], 0) == 2
    assert piecewise(0.3, 7) == 0.3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "found none"),
        ([[0, 1], [0, 2]], "ascending"),
        ([[5, 1], [0, 2]], "ascending"),
        ([[0, 1], [1.5, 2]], "whole number as the step, found 1.5"),
        ([[0, 1, 2]], r"points \[step, value\], found"),
        ([0, 1], r"points \[step, value\], found 0"),
        ([[0, -1]], "numbers >= 0"),
        (-0.5, "numbers >= 0"),
        (math.nan, "numbers >= 0"),
        ("1", "numbers >= 0"),
        (True, "numbers >= 0"),
    ],
)
def test_values_that_are_no_schedule(value, message):
    with pytest.raises(ConfigError, match=f"^the weight: .*{message}"):
        check_piecewise(value, "the weight")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rule": "fair"}, "expected alpha, temperature, shares, uniform or unimax"),
        ({"alpha": -1}, "alpha must be"),
        ({"alpha": math.inf}, "alpha must be"),
        ({"rule": "temperature", "temperature": 0}, "temperature must be"),
        ({"rule": "shares"}, "rule shares needs shares"),
        ({"shares": {"en": 1.0}}, "no other rule takes them"),
        ({"rule": "shares", "shares": {"en": -1.0}}, "the share of en"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**settings)


def test_shares_name_exactly_what_is_drawn_from():
    for shares in ({"en": 1.0}, {"en": 1.0, "ne": 1.0, "hi": 1.0}):
        with pytest.raises(ConfigError, match="the objective draws from en, ne"):
            Sampling(rule="shares", shares=shares).probabilities(SIZES)
    with pytest.raises(ConfigError, match="nothing to draw from at step 0"):
        Sampling(rule="shares", shares={"en": 0.0, "ne": [[0, 0], [9, 1]]}).probabilities(SIZES)


# Units, an alpha that changes, and caps on repeats.


def test_alpha_between_points():
    sampling = Sampling(alpha=[[0, 1.0], [100, 0.5]])
    assert sampling.staged and not Sampling().staged
    for step, alpha in ((0, 1.0), (50, 0.75), (100, 0.5), (10**6, 0.5)):
        assert sampling.probabilities(SIZES, step) == Sampling(alpha=alpha).probabilities(SIZES)


def published_unimax(sizes, num_draws, most):
    """Algorithm 1 of Chung et al. (2023), as it stands there: smallest text first."""
    left, chosen = num_draws, {}
    by_size = sorted(sizes, key=lambda name: sizes[name])
    for place, name in enumerate(by_size):
        share = left / (len(by_size) - place)
        chosen[name] = most * sizes[name] if share > most * sizes[name] else share
        left -= chosen[name]
    total = sum(chosen.values())
    return {name: chosen[name] / total for name in sizes}


@pytest.mark.parametrize("num_draws", [1, 50, 120, 250, 400])
@pytest.mark.parametrize("most", [1.0, 2.5, 4.0])
def test_unimax_is_the_published_algorithm(num_draws, most):
    epochs = {"en": 900.0, "hi": 60.0, "ne": 10.0, "zu": 10.0}
    sampling = Sampling(rule="unimax", max_epochs=most)
    found = sampling.capped(epochs, num_draws)
    assert found == pytest.approx(published_unimax(epochs, num_draws, most))
    assert sum(found.values()) == pytest.approx(1) and list(found) == list(epochs)
    for name, probability in found.items():
        assert probability * num_draws <= most * epochs[name] + 1e-9


def test_unimax_refuses_a_run_that_the_text_cannot_feed():
    sampling = Sampling(rule="unimax", max_epochs=2)
    assert sampling.capped({"en": 30.0, "ne": 20.0}, 100) == {"en": 0.6, "ne": 0.4}
    with pytest.raises(ConfigError, match="reaches after 100 micro-batches, but the run draws 150"):
        sampling.capped({"en": 30.0, "ne": 20.0}, 150)
    with pytest.raises(ConfigError, match="raise max_epochs to at least 2.87") as caught:
        sampling.capped({"en": 31.0, "ne": 20.0}, 146)
    advised = float(str(caught.value).split("max_epochs to at least ")[1].split(",")[0])
    found = Sampling(rule="unimax", max_epochs=advised).capped({"en": 31.0, "ne": 20.0}, 146)
    assert sum(found.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"rule": "unimax"},
            "rule is 'unimax' and max_epochs is None: rule unimax needs max_epochs",
        ),
        ({"max_epochs": 3.0}, "rule is 'alpha' and max_epochs is 3.0: .*no other rule takes it"),
        ({"rule": "unimax", "max_epochs": 0.0}, "max_epochs must be above 0: found 0.0"),
        ({"by": "words"}, "sampling by is 'words': expected sentences, tokens or characters"),
        ({"alpha": [[0, -1.0]]}, "sampling alpha: expected numbers >= 0"),
        ({"alpha": []}, "sampling alpha: expected a number or points"),
    ],
)
def test_new_settings_that_cannot_be(settings, message):
    with pytest.raises(ConfigError, match=message):
        Sampling(**settings)

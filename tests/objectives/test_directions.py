"""Many directions in one objective: the lists, what is measured, and how rows are batched."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.fakes import WordTokenizer
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.mixture import Mixture
from xlm.data.pairs import Pairs
from xlm.errors import ConfigError, DataError
from xlm.languages import LanguagePair
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.decoding import translation_figures
from xlm.objectives.directions import directed
from xlm.objectives.translation import Translation
from xlm.rng import Random

TOKENIZER = WordTokenizer(60)
NAMES = ["en-hi", "en-ne", "hi-ne"]
RANGES = {"en": (14, 30), "hi": (30, 45), "ne": (45, 60)}
"""The ids of each language's words."""


def side(language: str, num: int, seed: int, most: int = 9) -> Corpus:
    random = np.random.default_rng([seed, ord(language[0])])
    rows = [random.integers(*RANGES[language], random.integers(1, most + 1)) for _ in range(num)]
    return Corpus.from_sentences(rows, language=language, tokenizer=TOKENIZER)


def corpora(**sizes: int) -> Corpora:
    sizes = sizes or {"en_hi": 60, "en_ne": 40, "hi_ne": 20}
    pairs = {}
    for at, (name, num) in enumerate(sizes.items()):
        first, second = name.split("_")
        for split in ("train", "valid"):
            own = side(first, num, at, 5 + 2 * at), side(second, num, at + 9, 9)
            pairs[split, f"{first}-{second}"] = Pairs(*own)
    return Corpora(TOKENIZER, ["en", "hi", "ne"], pairs=pairs)


def pairs_of(*names: str) -> list[LanguagePair]:
    return [LanguagePair(*name.split("-")) for name in names]


@pytest.mark.parametrize(
    ("rule", "center", "names", "expected"),
    [
        (None, None, ["ne-en", "en-hi"], ["ne-en", "en-hi"]),
        ("m2m", None, NAMES, ["en-hi", "hi-en", "en-ne", "ne-en", "hi-ne", "ne-hi"]),
        ("m2o", "en", ["en-hi", "ne-en"], ["hi-en", "ne-en"]),
        ("o2m", "en", ["en-hi", "ne-en"], ["en-hi", "en-ne"]),
        ("m2o", "ne", ["en-ne", "hi-ne"], ["en-ne", "hi-ne"]),
    ],
)
def test_the_directions_of_a_rule(rule, center, names, expected) -> None:
    assert [str(way) for way in directed(pairs_of(*names), rule, center)] == expected
    objective = Translation(pairs=names, directions=rule, center=center)
    found = objective.streams("mt", corpora(), seed=0)
    assert [stream.id for stream in found] == [f"mt/{name}" for name in expected]


def test_a_rule_is_the_same_as_its_list() -> None:
    """Streams, their order and all that is drawn of them."""
    by_rule = Translation(pairs=NAMES, directions="m2m", tokens=60)
    by_list = Translation(pairs=["en-hi", "hi-en", "en-ne", "ne-en", "hi-ne", "ne-hi"], tokens=60)
    plans = []
    for objective in (by_rule, by_list):
        streams = objective.streams("mt", corpora(), seed=3)
        mixture = Mixture({"mt": streams}, {"mt": objective.sampling}, seed=3)
        drawn = [own for step in range(20) for own in mixture.plan(step, {})[0].micro_batches]
        batches = [
            objective.collate(stream.examples(k), Random(0), train=True) for stream, k in drawn
        ]
        plans.append(
            [(s.id, k, b.tokens.tolist()) for (s, k), b in zip(drawn, batches, strict=True)]
        )
    assert plans[0] == plans[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"directions": "m2o"}, "directions is m2o, but center is missing"),
        ({"directions": "m2m", "center": "en"}, "center is en, but directions is m2m: expected"),
        ({"center": "en"}, "center is en, but directions is null"),
        (
            {"directions": "m2o", "center": "en"},
            "m2o and center is en, which is missing from hi-ne: ",
        ),
        ({"directions": "o2m", "center": "fr"}, "missing from en-hi, en-ne, hi-ne: leave"),
        ({"directions": "m2m", "pairs": [*NAMES, "ne-en"]}, "pairs names en-ne in both orders"),
        ({"evaluate": ["en"]}, "evaluate names 'en': expected two languages"),
        ({"bucket_parts": 0}, "bucket_parts must be at least 1"),
    ],
)
def test_directions_that_cannot_be(settings, message) -> None:
    with pytest.raises(ConfigError, match=message):
        Translation(**{"pairs": NAMES, **settings}).streams("mt", corpora(), seed=0)


def test_directions_that_nothing_trains_are_measured() -> None:
    objective = Translation(pairs=["en-hi", "en-ne"], directions="m2m", evaluate=["ne-hi", "hi-en"])
    own = corpora()
    assert [s.name for s in objective.streams("mt", own, seed=0, split="valid")] == [
        "ne-hi", "hi-en",
    ]  # fmt: skip
    assert len(objective.streams("mt", own, seed=0)) == 4
    back = BackTranslation(pairs=["en-hi"], evaluate=["ne-hi"])
    assert [s.name for s in back.streams("bt", own, seed=0, split="valid")] == ["ne-hi"]
    with pytest.raises(DataError, match="evaluate names en-ne, which has no held-out text"):
        Translation(pairs=["en-hi"], evaluate=["en-ne"]).streams(
            "mt", corpora(en_hi=9, hi_ne=9), seed=0, split="valid"
        )


def test_the_commonest_wrong_language_is_named() -> None:
    """Translations into ne: half are in it, three of ten in the center, and two in hi."""
    own = corpora()
    stream = Translation(pairs=["hi-ne"]).streams("mt", own, seed=0, split="valid")[0]
    random = np.random.default_rng(0)
    spoken = ["ne"] * 10 + ["en"] * 6 + ["hi"] * 4
    said = {row: random.integers(*RANGES[name], 5) for row, name in enumerate(spoken)}
    figures = translation_figures(stream, said)
    assert figures["in_language"] == 0.5 and figures["like_en"] == 0.3
    assert not [name for name in figures if name.startswith("like_") and name != "like_en"]
    fine = translation_figures(stream, {row: said[row] for row in range(10)})
    assert fine["in_language"] == 1 and "like_en" not in fine


def cells_of(objective: Translation, own: Corpora) -> tuple[int, int, set[int]]:
    """Padding and cells of both sides in an epoch of all directions, and the padded lengths."""
    real = cells = 0
    lengths = set()
    for stream in objective.streams("mt", own, seed=0):
        seen: list[int] = []
        for k in range(stream.num_batches):
            batch = objective.collate(stream.examples(k), Random(0), train=True)
            assert batch.source is not None
            seen += batch.rows.tolist()
            lengths.add(batch.source.tokens.shape[1])
            for tokens, own_lengths, more in (
                (batch.source.tokens, batch.source.lengths, 0),
                (batch.tokens, batch.lengths, 1),
            ):
                cells += tokens.shape[0] * (tokens.shape[1] + more)
                real += int(own_lengths.sum()) + more * len(own_lengths)
        assert sorted(seen) == list(range(stream.num_rows))
    return cells - real, cells, lengths


def test_shared_lengths_are_few_and_parts_pad_less() -> None:
    own = corpora(en_hi=900, en_ne=700, hi_ne=500)
    plain = Translation(pairs=NAMES, directions="m2m", tokens=120, num_lengths=3)
    fields = {"pairs": NAMES, "directions": "m2m", "tokens": 120, "num_lengths": 3}
    shared = Translation(**fields, shared_lengths=True)
    both = Translation(**fields, shared_lengths=True, bucket_parts=4)
    found = {name: cells_of(made, own) for name, made in
             (("plain", plain), ("shared", shared), ("both", both))}  # fmt: skip
    assert len(found["shared"][2]) <= 3
    sets = {tuple(stream.buckets.lengths.tolist()) for stream in shared.streams("mt", own, seed=0)}
    assert len(sets) == 1
    share = {name: padding / cells for name, (padding, cells, _) in found.items()}
    assert share["both"] < 0.6 * share["shared"]
    assert share["both"] < 0.7 * share["plain"]


def test_back_translation_has_no_sides_to_pad() -> None:
    for settings in ({"bucket_parts": 4}, {"shared_lengths": True}):
        with pytest.raises(ConfigError, match="reads single sentences"):
            BackTranslation(pairs=["en-ne"], **settings)

"""conlleval's rules, written out in this file from their description, are the reference."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xlm.errors import DataError
from xlm.metrics.scores import Scores
from xlm.metrics.spans import Span, as_iob2, entity_spans, repair, span_figures, span_scores

KINDS = ["PER", "LOC", "ORG-X"]
TAGS = ["O", "B", "I"] + [f"{mark}-{kind}" for mark in "BI" for kind in KINDS]
sequences = st.lists(st.sampled_from(TAGS), max_size=12)
pairs = st.integers(0, 12).flatmap(
    lambda num: st.tuples(
        *[st.lists(st.sampled_from(TAGS), min_size=num, max_size=num) for _ in range(2)]
    )
)


def begins(before, now):
    """Whether a chunk begins at ``now``: conlleval's startOfChunk for the marks B, I and O."""
    (mark, kind), (own, own_kind) = split(before), split(now)
    if own == "B":
        return True
    if own == "I" and mark == "O":
        return True
    return own != "O" and kind != own_kind


def ends(before, now):
    """Whether a chunk ended before ``now``: conlleval's endOfChunk."""
    (mark, kind), (own, own_kind) = split(before), split(now)
    if mark in ("B", "I") and own in ("B", "O"):
        return True
    return mark != "O" and kind != own_kind


def split(tag):
    mark, _, kind = tag.partition("-")
    return mark, kind


def conlleval(gold, predicted):
    """Correct, found and true chunks, counted word by word as conlleval does."""
    correct = found = true = 0
    inside = False
    last = ("O", "O")
    for now in [*zip(gold, predicted, strict=True), ("O", "O")]:
        if inside:
            over = ends(last[0], now[0]), ends(last[1], now[1])
            same_kind = split(last[0])[1] == split(last[1])[1]
            if all(over) and same_kind:
                correct, inside = correct + 1, False
            elif over[0] != over[1] or split(now[0])[1] != split(now[1])[1]:
                inside = False
        start = begins(last[0], now[0]), begins(last[1], now[1])
        if all(start) and split(now[0])[1] == split(now[1])[1]:
            inside = True
        true += start[0]
        found += start[1]
        last = now
    return correct, found, true


@given(pairs)
def test_counts_are_conllevals(tags):
    gold, predicted = tags
    scores = span_scores(gold, predicted)
    sums = [
        sum(value for name, value in scores.items() if name.startswith(f"{part}."))
        for part in ("correct", "predicted", "gold")
    ]
    assert tuple(sums) == conlleval(gold, predicted)


@given(sequences)
def test_repair_gives_valid_tags_of_the_same_spans(tags):
    valid = repair(tags)
    assert repair(valid) == valid
    assert entity_spans(valid) == entity_spans(tags)
    for before, now in zip(["O", *valid], valid, strict=False):
        assert now[0] != "I" or (before != "O" and before[1:] == now[1:])
    assert [tag == "O" for tag in valid] == [tag == "O" for tag in tags]
    assert [tag[1:] for tag in valid] == [tag[1:] for tag in tags]


@given(sequences)
def test_spans_write_the_tags_again(tags):
    again = ["O"] * len(tags)
    for kind, start, end in entity_spans(tags):
        tail = f"-{kind}" if kind else ""
        again[start:end] = [f"B{tail}"] + [f"I{tail}"] * (end - start - 1)
    assert again == repair(tags)


def test_invalid_tags_begin_spans():
    tags = ["I-PER", "I-PER", "O", "B-LOC", "I-ORG", "B-ORG", "I-ORG"]
    assert repair(tags) == ["B-PER", "I-PER", "O", "B-LOC", "B-ORG", "B-ORG", "I-ORG"]
    assert entity_spans(tags) == [
        Span("PER", 0, 2),
        Span("LOC", 3, 4),
        Span("ORG", 4, 5),
        Span("ORG", 5, 7),
    ]


def test_figures_by_hand_and_added_over_sentences():
    # gold 3 spans, predicted 4, both 2
    one = span_scores(["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "B-LOC", "I-LOC"])
    two = span_scores(["B-LOC", "O", "O"], ["B-LOC", "B-PER", "I-LOC"])
    figures = span_figures(one + two)
    assert figures["precision"] == 2 / 5
    assert figures["recall"] == 2 / 3
    assert figures["f1"] == pytest.approx(2 * 2 / (5 + 3))
    assert figures["f1.PER"] == pytest.approx(2 * 1 / (1 + 2))
    assert figures["f1.LOC"] == pytest.approx(2 * 1 / (2 + 3))
    assert figures["accuracy"] == 3 / 7
    assert figures["spans"] == 3


def test_no_entities_at_all_is_zero_and_no_error():
    assert span_figures(span_scores(["O"], ["O"]))["f1"] == 0
    assert span_figures(Scores())["accuracy"] == 0


@pytest.mark.parametrize("tag", ["E-PER", "S-PER", "U-LOC", "", "O-PER", "NOUN", "b-PER"])
def test_tags_of_another_scheme_are_refused(tag):
    with pytest.raises(DataError, match="scheme BIO"):
        entity_spans(["O", tag])


def test_lengths_must_agree():
    with pytest.raises(DataError, match="1 predicted tags for a sentence of 2 words"):
        span_scores(["O", "O"], ["O"])


@pytest.mark.parametrize("marks", ["BIES", "BILU", "BMES"])
def test_every_scheme_means_the_same_spans(marks):
    begin, inside, last, single = marks
    if marks == "BILU":
        last, single = "L", "U"
    spans = [("PER", 1), ("LOC", 3), ("PER", 2), ("LOC", 1), ("LOC", 4)]
    tags, expected, at = [], [], 0
    for kind, length in spans:
        inner = [f"{inside}-{kind}"] * (length - 2)
        tags += (
            [f"{single}-{kind}"] if length == 1 else [f"{begin}-{kind}", *inner, f"{last}-{kind}"]
        )
        expected.append(Span(kind, at, at + length))
        at += length + 1
        tags.append("O")
    assert entity_spans(as_iob2(tags)) == expected
    assert as_iob2(as_iob2(tags)) == as_iob2(tags)


@given(sequences)
def test_iob_stays_as_it_is(tags):
    assert as_iob2(tags) == tags


def test_iob1_means_the_same_spans():
    tags = ["I-PER", "I-PER", "B-PER", "O", "I-LOC", "I-PER"]
    assert entity_spans(tags) == [
        Span("PER", 0, 2), Span("PER", 2, 3), Span("LOC", 4, 5), Span("PER", 5, 6)
    ]  # fmt: skip

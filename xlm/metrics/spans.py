"""Entities as spans of tagged words, scored by conlleval's rules, as sums that add.

A tag is ``O``, ``B-TYPE`` or ``I-TYPE`` (a bare ``B`` or ``I`` is of the type ""). A span ends
if the next tag is ``O``, begins another or is of another type; an ``I-`` without a span of its
type before it begins one. These are conlleval's rules, and also those by which the mBERT study
(section 4.3; its released code) makes valid spans of a tagger's output: see ``repair``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from xlm.errors import DataError
from xlm.metrics.scores import Scores


class Span(NamedTuple):
    """An entity: the words ``start`` to ``end`` (not included) of one sentence."""

    kind: str
    """The type, such as PER."""
    start: int
    end: int


_MARKS = {"S": "B", "U": "B", "E": "I", "L": "I", "M": "I"}
"""The IOB2 marks for those of IOBES, BILOU and BMES."""


def as_iob2(tags: Sequence[str]) -> list[str]:
    """Return tags of IOBES, BILOU or BMES as IOB2; other tags are unchanged.

    A single word (S, U) begins an entity, a last one (E, L) and a middle one (M) are inside.
    """
    found = []
    for tag in tags:
        mark, dash, kind = tag.partition("-")
        found.append(f"{_MARKS[mark]}-{kind}" if dash and mark in _MARKS else tag)
    return found


def repair(tags: Sequence[str]) -> list[str]:
    """Return ``tags`` as valid IOB2: an ``I-`` that continues no span of its type becomes ``B-``.

    IOB1 (CoNLL-2003's own files) becomes IOB2 by the same rule. Idempotent. Raises DataError for a
    tag that is not ``O``, ``B``, ``I``, ``B-TYPE`` or ``I-TYPE``.
    """
    valid = []
    before = "O"
    for tag in tags:
        mark, kind = _parse(tag)
        if mark == "I" and (before == "O" or _parse(before)[1] != kind):
            tag = "B" + tag[1:]
        valid.append(tag)
        before = tag
    return valid


def entity_spans(tags: Sequence[str]) -> list[Span]:
    """Return the spans of one sentence's tags, in order, as conlleval finds them; see the module.

    Raises DataError for a tag of another scheme (IOBES, BILOU).
    """
    spans: list[Span] = []
    start, kind = -1, ""
    for place, tag in enumerate([*repair(tags), "O"]):
        mark, own = _parse(tag)
        if start >= 0 and mark != "I":
            spans.append(Span(kind, start, place))
            start = -1
        if mark == "B":
            start, kind = place, own
    return spans


def span_scores(gold: Sequence[str], predicted: Sequence[str]) -> Scores:
    """Return the sums of a sentence: gold, predicted and correct spans by type; words, tags.

    A span is correct if type, start and end agree. Sums: ``gold.TYPE``, ``predicted.TYPE``,
    ``correct.TYPE``, ``words``, ``tags`` (words whose tag agrees). Raises DataError if the two
    differ in length, or for a tag of another scheme.
    """
    if len(gold) != len(predicted):
        raise DataError(
            f"{len(predicted)} predicted tags for a sentence of {len(gold)} words: expected one "
            "for each word"
        )
    true, found = entity_spans(gold), entity_spans(predicted)
    sums: Counter[str] = Counter(words=len(gold))
    sums["tags"] = sum(a == b for a, b in zip(gold, predicted, strict=True))
    sums.update(f"gold.{span.kind}" for span in true)
    sums.update(f"predicted.{span.kind}" for span in found)
    sums.update(f"correct.{span.kind}" for span in set(true) & set(found))
    return Scores({name: float(value) for name, value in sums.items()})


def span_figures(scores: Mapping[str, float]) -> dict[str, float]:
    """Return precision, recall and F1 over all spans, F1 of each type, accuracy over words.

    All are from 0 to 1. As in conlleval, a ratio without a denominator is 0: a text without
    entities, in which none was predicted, has an F1 of 0. ``spans`` is the number of gold ones.
    """
    kinds = sorted({name.partition(".")[2] for name in scores if name not in ("words", "tags")})
    totals = {
        part: sum(scores.get(f"{part}.{kind}", 0.0) for kind in kinds)
        for part in ("gold", "predicted", "correct")
    }
    precision = _ratio(totals["correct"], totals["predicted"])
    recall = _ratio(totals["correct"], totals["gold"])
    figures = {
        "precision": precision,
        "recall": recall,
        "f1": _ratio(2 * precision * recall, precision + recall),
        "accuracy": _ratio(scores.get("tags", 0.0), scores.get("words", 0.0)),
        "spans": totals["gold"],
    }
    for kind in kinds:
        both = scores.get(f"gold.{kind}", 0.0) + scores.get(f"predicted.{kind}", 0.0)
        figures[f"f1.{kind}"] = _ratio(2 * scores.get(f"correct.{kind}", 0.0), both)
    return figures


def _parse(tag: str) -> tuple[str, str]:
    mark, dash, kind = tag.partition("-")
    if mark in ("B", "I") or (mark == "O" and not dash):
        return mark, kind
    raise DataError(
        f"the tag {tag!r} does not follow the scheme BIO: expected O, B-TYPE or I-TYPE; "
        "convert the tags"
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else 0.0

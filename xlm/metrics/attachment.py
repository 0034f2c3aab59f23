"""Attachment scores of dependency trees: UAS and LAS as sums over sentences.

A sentence of n words has its root at 0 and its words at 1 to n. ``heads`` int64 ``[n]`` holds, for
words 1 to n in order, the number of the head (0: the root).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from xlm.errors import DataError
from xlm.metrics.scores import Scores

Heads = NDArray[np.int64]


def without_upos(upos: Sequence[str], left_out: Collection[str] = ("PUNCT",)) -> NDArray[np.bool_]:
    """Return bool ``[n]``: the words to score if some gold parts of speech are left out.

    ``("PUNCT", "SYM")`` is the rule of the mBERT study (section 4.5).
    """
    return np.array([tag not in left_out for tag in upos], dtype=bool)


def without_punctuation(forms: Sequence[str]) -> NDArray[np.bool_]:
    """Return bool ``[n]``: the words that CoNLL-X (2006) scores, those not all punctuation.

    A character is punctuation when its Unicode category begins with P; so ``$`` and ``+`` are not.
    """
    marks = [all(unicodedata.category(c).startswith("P") for c in form) for form in forms]
    return ~np.array(marks, dtype=bool)


def attachment_scores(
    gold_heads: Sequence[int] | Heads,
    gold_labels: Sequence[str],
    heads: Sequence[int] | Heads,
    labels: Sequence[str],
    *,
    scored: NDArray[np.bool_] | None = None,
    subtypes: bool = False,
) -> Scores:
    """Return one sentence's sums for UAS and LAS, over the words of the gold segmentation.

    The rule of the CoNLL 2018 / Universal Dependencies evaluator is ``scored=None`` (every word,
    punctuation too) and ``subtypes=False`` (``nsubj:pass`` is ``nsubj`` on both sides).
    ``scored`` bool ``[n]`` leaves words out: see ``without_upos`` and ``without_punctuation``.
    Sums: ``words``, ``heads``, ``labels`` (head and label agree), ``sentences``, and those that are
    right as a whole, ``trees`` and ``labeled_trees``. Raises DataError if lengths differ.
    """
    lengths = {len(gold_heads), len(gold_labels), len(heads), len(labels)}
    if scored is not None:
        lengths.add(len(scored))
    if len(lengths) != 1:
        raise DataError(
            f"{len(gold_heads)} gold heads, {len(gold_labels)} gold labels, {len(heads)} "
            f"heads and {len(labels)} labels for one sentence: expected one of each per word"
        )
    counted = np.ones(len(gold_heads), dtype=bool) if scored is None else scored
    right = np.asarray(gold_heads) == np.asarray(heads)
    same = [
        _label(a, subtypes) == _label(b, subtypes) for a, b in zip(gold_labels, labels, strict=True)
    ]
    both = right & np.array(same, dtype=bool)
    return Scores(
        {
            "words": float(counted.sum()),
            "heads": float((right & counted).sum()),
            "labels": float((both & counted).sum()),
            "sentences": 1.0,
            "trees": float((right | ~counted).all()),
            "labeled_trees": float((both | ~counted).all()),
        }
    )


def attachment_figures(scores: Mapping[str, float]) -> dict[str, float]:
    """Return ``uas``, ``las``, and the shares of entirely correct sentences ``uem``, ``lem``."""
    words, sentences = scores["words"], scores["sentences"]
    return {
        "uas": scores["heads"] / words if words else 0.0,
        "las": scores["labels"] / words if words else 0.0,
        "uem": scores["trees"] / sentences if sentences else 0.0,
        "lem": scores["labeled_trees"] / sentences if sentences else 0.0,
        "words": words,
    }


def _label(label: str, subtypes: bool) -> str:
    return label if subtypes else label.partition(":")[0]

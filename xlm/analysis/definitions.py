"""Definitions of the report's figures, how to read them, and which are shown first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Definition(NamedTuple):
    """The definition of one analysis in words."""

    text: str
    shown: tuple[str, ...]
    """Measures in curves and summaries; the others are only in the JSON and the TSV."""


DEFINITIONS: Mapping[str, Definition] = {
    "retrieval": Definition(
        "Row i of both sides says the same. A sentence is found if its translation is its nearest "
        "neighbor by cosine (@1), or among the 5 or 10 nearest; the mean of both directions. "
        "Centered: each side less its mean, which takes away what a language shares. CSLS and "
        "margins subtract how near everything is to a sentence. Lexical is what shared pieces "
        "alone find.",
        ("centered @1", "raw @1", "centered distance margin @1"),
    ),
    "mining": Definition(
        "The best pairs of both directions by distance margin, each row once. F1 at the best "
        "threshold, chosen on the same rows, so an upper bound; its interval keeps the threshold. "
        "Lexical does the same with counts of shared pieces.",
        ("best F1",),
    ),
    "word translation": Definition(
        "Precision at 1, 5 and 10 over the dictionary's usable source words; any of a word's "
        "translations counts. Candidates are all targets and the commonest words of the target "
        "text. A word's vector is the mean of the table's rows of its pieces, or the states of the "
        "word alone. After a map: an orthogonal map learned on half of the entries, tested on the "
        "others; words that share a translation lie in one half.",
        ("table, centered CSLS P@1", "centered CSLS P@1", "after a map, raw CSLS P@1"),
    ),
    "word pairs": Definition(
        "Mean cosine and distance of translated words' vectors beside random pairs of the same "
        "words; correlation of cosines with people's scores, and Spearman's of single words in "
        "lower case. All models have the same pairs, and coverage is their share. Cosines alone "
        "say nothing: in a table where everything points the same way all are near 1.",
        ("cosine", "L2 / norm", "Pearson", "Spearman"),
    ),
    "word alignment": Definition(
        "Words are linked if a piece of one is linked to a piece of the other by the cosine of "
        "their states; in scores named words, by the cosine of the means of their pieces. "
        "Precision against possible, recall against sure links. In languages with the same order "
        "positions alone align well: see diagonal and untrained.",
        ("argmax F1", "itermax F1"),
    ),
    "CKA": Definition(
        "How alike the similarities among sentences are in two sets of states, whatever their "
        "rotation and scale. Debiased: 0 for independent rows, and negative at times. Most of it "
        "may come from length and shared words: compare with length and untrained, not with 0.",
        ("debiased", "debiased, same text"),
    ),
    "spectra": Definition(
        "Singular values of each matrix: their norm, the largest, the stable rank ‖σ‖²/σ₁². With "
        "a parent: |Δ‖σ‖| ≤ d = ‖σ - σ_parent‖ ≤ ‖W - W_parent‖.",
        ("‖σ‖", "d"),
    ),
    "overlap": Definition(
        "p_type: the share of the test text's pieces that the training text has; p_token: the "
        "same weighted by how often they occur in the test text; both in percent, without the "
        "unknown piece.",
        ("p_token", "p_token of letters"),
    ),
    "transfer": Definition(
        "Correlation over languages of an indicator with scores. With few languages the interval "
        "is wide: look at it before the value.",
        ("Pearson", "Spearman"),
    ),
    "language probe": Definition(
        "Accuracy of a logistic regression that tells the language of two sentences from their "
        "states. Near 1 for random weights too, as pieces tell the language. Centered: less each "
        "language's mean over training rows; what is left is not in the mean.",
        ("raw accuracy", "centered accuracy"),
    ),
    "probes": Definition(
        "Accuracy of a logistic regression on labels, trained on the states of one language and "
        "tested on each.",
        ("accuracy",),
    ),
    "anisotropy": Definition(
        "Mean cosine of two sentences of one language: near 1 if all states point the same way, "
        "which they do in most models and need not harm. IsoScore is 1 if every dimension is used "
        "alike, 0 if only one is.",
        ("mean cosine", "IsoScore"),
    ),
    "separability": Definition(
        "The scatter of parallel sentences, divided into the means of languages, the means of "
        "sentences over languages, and the rest. Sentence without language, S / (S + rest), is 1 "
        "if translations lie on each other but for a shift.",
        ("language", "sentence without language"),
    ),
    "WiC": Definition(
        "Does a word have the same sense in two sentences? A probe on the first state of both "
        "sentences together, and on the word's states in each; context-free is the same of the "
        "words alone.",
        ("first state of the pair, accuracy", "words, accuracy"),
    ),
    "SCWS": Definition(
        "Correlation of the cosine of two words in their contexts with people's ratings; "
        "context-free is the same of the words alone.",
        ("Spearman",),
    ),
    "minimal pairs": Definition(
        "How often the right sentence of two is likelier. Chance is one half. A masked model sees "
        "the word that differs masked; pairs whose words are not one piece are left out, and "
        "coverage says how many are not.",
        ("accuracy",),
    ),
    "TLM gap": Definition(
        "Nats of masked tokens of a sentence beside its translation (true), beside another "
        "sentence (wrong), and alone. Gain, alone - true, is what the translation gives; gap, "
        "wrong - true, also holds how far a wrong partner misleads. Accuracy is the share of "
        "tokens that are the likeliest at their place, with its own gain and gap.",
        ("gain", "gap", "accuracy, gain"),
    ),
}

READING = (
    "Each figure stands beside what it is worth if nothing was learned. Untrained: random weights "
    "of the same shape. Permuted: one side's rows in 200 random orders; the band holds 95 % of "
    "them, p is the share that reach the figure. Length: the same, among rows of as many pieces. "
    "Lexical: pieces that both sides share. Chance: guessing. The best layer is chosen on even "
    "(test) rows, and its figure is that of odd ones. A figure above its nulls says "
    "that the model has something; one within them says nothing about the model. Intervals are "
    "95 %: Wilson's for shares, Fisher's for correlations, the bootstrap over sentences for other "
    "means; another seed of training is a source of variation that they do not hold."
)

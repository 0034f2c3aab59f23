"""Translations of held-out pairs in training: BLEU, chrF, and signs of a broken translator."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xlm.batch import Batch
from xlm.data.sentence_streams import PairStream
from xlm.data.streams import Stream
from xlm.metrics.translation import copied_tokens, copy_rate, corpus_scores, empty_rate
from xlm.metrics.words import choose_words
from xlm.model.generate import Generation, generate
from xlm.model.transformer import Transformer
from xlm.objectives.teacher_forcing import end_of
from xlm.text.normalize import normalize
from xlm.text.tokenizers.fastbpe import UNKNOWN
from xlm.text.tokenizers.layouts import TranslationLayout

log = logging.getLogger("xlm")

LIKE = "like_"
"""The beginning of the name of the share of translations that look like another language."""


def decode(
    model: Transformer, batch: Batch, settings: Generation, layout: TranslationLayout
) -> Tensor:
    """Return the best translation of each row of ``batch.source``, int64 ``[B, L]``.

    The last of the opening ids and the end symbol are included.
    """
    assert batch.source is not None
    generated = generate(
        model,
        batch.source,
        batch.langs[:, 0],
        end_id=end_of(batch),
        settings=settings,
        begin=batch.tokens[:, : layout.num_opening],
    )
    return generated.tokens[:, 0, layout.num_opening - 1 :]


def hypotheses(stream: Stream, batch: Batch, outputs: Tensor) -> dict[int, Any]:
    """Return the ids of each pair's translation, by its row, without the symbols around it."""
    end_id = stream.tokenizer.end_id
    found = {}
    for row, tokens in zip(batch.rows.tolist(), outputs.tolist(), strict=True):
        found[row] = tokens[1 : tokens.index(end_id, 1)]
    return found


@cache
def _say(stream_id: str, note: str, signature: str) -> None:
    """Log the settings that BLEU's figures depend on, once."""
    log.info("%s: BLEU is %s%s", stream_id, signature, f" ({note})" if note else "")


def translation_figures(stream: Stream, predictions: Mapping[int, Any]) -> dict[str, float]:
    """Return BLEU and chrF (0 to 100), and rates (0 to 1) that expose a broken translator.

    ``bleu`` and ``chrf`` are sacreBLEU's with their defaults, BLEU with the tokenizer of the target
    language; the signature is logged once. ``tokenized_bleu`` is that of multi-bleu.perl, with all
    text, the references' too, decoded by the tokenizer. ``copied`` is the share of translations
    that equal their source, ``copied_tokens`` that of their words, ``empty`` the share of empty
    ones, ``length_ratio`` words over the references'. ``in_language`` is the share of the others
    whose subwords are likelier under the target language's unigram model than under that of every
    other language of the corpora; it is left out if there is no training text, or if all are empty.
    With three languages or more, ``like_en`` is the share that is likeliest in the commonest wrong
    one, here en. An unknown piece of a
    reference matches nothing (docs/fidelity.md, A9).
    """
    assert isinstance(stream, PairStream)
    rows = sorted(predictions)
    decode_ids = stream.tokenizer.decode
    sources, references = (
        [decode_ids(ids.tolist()) for ids in side.sentences(torch.tensor(rows).numpy())]
        for side in stream.pairs.sides
    )
    references = [line.replace(UNKNOWN, "<unk>") for line in references]
    found = [normalize(decode_ids(predictions[row])) for row in rows]
    words = choose_words(stream.languages[1], references)
    scores = corpus_scores(found, references, tokenize=words.tokenize)
    _say(stream.id, words.note, scores.bleu.signature)
    figures = {
        "bleu": scores.bleu.score,
        "chrf": scores.chrf.score,
        "tokenized_bleu": scores.tokenized_bleu.score,
        "length_ratio": scores.length_ratio,
        "copied": copy_rate(sources, found),
        "copied_tokens": copied_tokens(sources, found),
        "empty": empty_rate(found),
    }
    if stream.unigram is not None and stream.languages[0] != stream.languages[1]:
        spoken = [predictions[row] for row, text in zip(rows, found, strict=True) if text]
        if spoken:
            figures |= _in_languages(spoken, stream.languages[1], stream.unigrams)
    return figures


def _in_languages(
    translations: Sequence[Any], target: str, unigrams: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Return the share of translations likeliest in ``target``, and in the commonest other one."""
    others = [language for language in unigrams if language != target]
    nats = {
        language: np.array([own[ids].sum() for ids in translations])
        for language, own in unigrams.items()
    }
    rivals = np.stack([nats[language] for language in others])
    right = nats[target] < rivals.min(axis=0)
    shares = {"in_language": float(right.mean())}
    if len(others) > 1 and not right.all():
        wrong, counts = np.unique(rivals.argmin(axis=0)[~right], return_counts=True)
        most = int(counts.argmax())
        shares[f"{LIKE}{others[int(wrong[most])]}"] = float(counts[most] / len(right))
    return shares

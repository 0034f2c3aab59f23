"""The uses of a model: the methods of ``PretrainedModel`` that answer texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xlm.model.asking import CELLS, Askable
from xlm.model.continuation import Writing, write
from xlm.model.embed import Embedding, embed
from xlm.model.facts import facts_of
from xlm.model.fill import Beside, Candidate, fill
from xlm.model.fill_words import Word, fill_words
from xlm.model.generate import Generation
from xlm.model.pooling import Pooling
from xlm.model.score import LineScore, Scoring, score
from xlm.model.translation import CELLS as SOURCE_CELLS
from xlm.model.translation import Translator


class Uses:
    """The base of ``PretrainedModel``: each method takes texts and answers them in their order."""

    def describe(self: Askable) -> dict[str, Any]:
        """Return the counts of parameters, the shape and the training of the model, as JSON.

        See ``xlm.model.facts.facts_of`` for the keys.
        """
        return facts_of(self)

    def translate(
        self: Askable,
        lines: Sequence[str],
        *,
        source: str | None = None,
        target: str | None = None,
        settings: Generation | None = None,
        tokens: int = SOURCE_CELLS,
    ) -> list[str]:
        """Return the best translation of each line; "" for a line without text.

        ``settings`` are a beam of 5 by default, ``tokens`` cells of a batch. A line that is longer
        than the model's positions is cut there, and said in the log. For several translations of a
        line, their scores, and the errors, see ``xlm.model.translation.Translator``.
        """
        return Translator(self, source, target, settings=settings, tokens=tokens).texts(lines)

    def fill(
        self: Askable,
        texts: Sequence[str],
        language: str | None = None,
        top: int = 5,
        *,
        translations: Sequence[str] | None = None,
        translation_language: str | None = None,
        layout: str | None = None,
        tokens: int = CELLS,
    ) -> list[list[list[Candidate]]]:
        """Return the most probable subwords of each mask (``<mask>`` or ``___``) of each text.

        Each candidate has its text and its probability, best first. ``translations`` are read
        with the texts as in TLM; ``tokens`` are the cells of a batch. The model must be a masked
        one; for the errors, see ``xlm.model.fill.fill``.
        """
        beside = _beside(translations, translation_language, layout)
        return fill(self, texts, language, top=top, beside=beside, tokens=tokens)

    def fill_words(
        self: Askable,
        texts: Sequence[str],
        language: str | None = None,
        top: int = 5,
        *,
        pieces: int = 3,
        translations: Sequence[str] | None = None,
        translation_language: str | None = None,
        layout: str | None = None,
        tokens: int = CELLS,
    ) -> list[list[list[Word]]]:
        """Return the best words of up to ``pieces`` subwords for each mask of each text.

        As ``fill``; see ``xlm.model.fill_words.fill_words``.
        """
        beside = _beside(translations, translation_language, layout)
        return fill_words(
            self, texts, language, pieces=pieces, top=top, beside=beside, tokens=tokens
        )

    def generate(
        self: Askable,
        prompts: Sequence[str],
        language: str | None = None,
        *,
        settings: Writing | None = None,
        seed: int = 0,
    ) -> list[str]:
        """Return each prompt as a causal model continues it; "" is written from nothing.

        ``settings`` are greedy by default. The random numbers of sampling are addressed by ``seed``
        and the number of the prompt. For scores, and the errors, see
        ``xlm.model.continuation.write``.
        """
        return [one.text for one in write(self, prompts, language, settings, seed=seed)]

    def score(
        self: Askable,
        lines: Sequence[str],
        language: str | None = None,
        *,
        sources: Sequence[str] | None = None,
        source_language: str | None = None,
        settings: Scoring | None = None,
        tokens: int = CELLS,
    ) -> list[LineScore]:
        """Return the nats of each line, with its subwords, words, characters and bytes.

        Causal models and translators (given ``sources``) exactly, masked ones by
        pseudo-log-likelihood. ``settings`` say more (their languages are left out for those given
        here); for the errors, see ``xlm.model.score.score``.
        """
        settings = replace(
            settings or Scoring(), language=language, source_language=source_language
        )
        return score(self, lines, settings, sources=sources, tokens=tokens)

    def embed(
        self: Askable,
        lines: Sequence[str],
        language: str | None = None,
        *,
        layer: int | None = None,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        tokens: int = CELLS,
    ) -> NDArray[np.float32]:
        """Return a vector for each line, float32 ``[N, D]``; zeros for a line without text.

        Without ``layer`` of the last one; the mean of a line's states at length 1, unless the model
        came from sentence-transformers and says otherwise. A line that is longer than the model's
        positions is cut there. For the errors, see ``xlm.model.embed.embed``.
        """
        settings = Embedding(layer=layer, pooling=pooling, normalize=normalize)
        return embed(self, lines, language, settings, tokens=tokens).vectors


def _beside(
    translations: Sequence[str] | None, language: str | None, layout: str | None
) -> Beside | None:
    return None if translations is None else Beside(translations, language, layout)

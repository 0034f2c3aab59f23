"""The held-out figures of one model: every unit of each test text, and nats by kind of subword."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from xlm.batch import IGNORED
from xlm.data.corpora import Corpora
from xlm.data.streams import Stream
from xlm.metrics.scores import language_model_figures
from xlm.objectives.language_model import LanguageModel
from xlm.text.tokenizers.tokenizer import Tokenizer
from xlm.training.learner import Learner
from xlm.training.precision import autocast

FEWEST_SEEN = 5
"""A subword counts as known from a language's training text if it occurs there so often."""


@dataclass(frozen=True)
class Sums:
    """One pass over a text, by the subword that was to be predicted."""

    nats: NDArray[np.float64]
    """Nats of all predictions of each subword, float64 ``[V]``."""
    counts: NDArray[np.int64]
    """Number of predictions of each subword, int64 ``[V]``."""
    correct: int

    def figures(self, stream: Stream) -> dict[str, float]:
        """Return every unit of ``xlm evaluate``."""
        assert stream.unigram is not None
        sums = {
            "nats": float(self.nats.sum()),
            "targets": float(self.counts.sum()),
            "correct": float(self.correct),
            "unigram_nats": float(stream.unigram[0] @ self.counts),
        }
        return language_model_figures(sums, stream.text_size)

    def by_kind(self, kinds: Mapping[str, NDArray[np.bool_]]) -> dict[str, dict[str, float]]:
        """Return nats a subword, and the share of all, of each kind of subword that occurs."""
        found = {}
        for name, mask in kinds.items():
            own = np.zeros(len(self.counts), dtype=bool)
            own[: len(mask)] = mask  # a shifted language's ids lie beyond, and are never targets
            num = int(self.counts[own].sum())
            if num:
                nats = float(self.nats[own].sum() / num)
                found[name] = {"nats": nats, "share": num / int(self.counts.sum())}
        return found


@torch.no_grad()
def measure(
    learner: Learner,
    objective: LanguageModel,
    stream: Stream,
    *,
    seed: int,
    precision: str,
    device: torch.device,
) -> Sums:
    """Return the sums of one pass over a held-out stream of text."""
    learner.eval()
    size = stream.tokenizer.vocab_size
    nats, counts, correct = np.zeros(size), np.zeros(size, dtype=np.int64), 0
    with autocast(device, precision):
        for batch in objective.evaluation_batches(stream, seed):
            batch = batch.to(device)
            logits = objective.logits(learner.model, batch).float()
            real = batch.targets != IGNORED
            targets, logits = batch.targets[real], logits[real]
            each = functional.cross_entropy(logits, targets, reduction="none")
            ids = targets.cpu().numpy()
            nats += np.bincount(ids, weights=each.double().cpu().numpy(), minlength=size)
            counts += np.bincount(ids, minlength=size)
            correct += int((logits.argmax(-1) == targets).sum())
    return Sums(nats, counts, correct)


def kinds_of_subwords(corpora: Corpora, target: str) -> dict[str, NDArray[np.bool_]]:
    """Return masks (bool ``[V]``) of kinds of subwords of ``target``'s text, by name.

    Those in the script of most of its letters and all others; of each other language those known
    from its training text and those that are not.
    """
    counts = corpora.text("train", target).counts
    scripts = [_script(piece) for piece in _texts(corpora.tokenizer)]
    common: Counter[str] = Counter()
    for script, count in zip(scripts, counts.tolist(), strict=True):
        common[script] += count
    common.pop("", None)
    own = common.most_common(1)[0][0] if common else ""
    written = np.array([script == own for script in scripts])
    kinds = {f"in {own.title()}": written, f"not in {own.title()}": ~written}
    for language in corpora.languages:
        if language != target:
            known = corpora.text("train", language).counts >= FEWEST_SEEN
            kinds |= {f"known from {language}": known, f"not known from {language}": ~known}
    return kinds


def _texts(tokenizer: Tokenizer) -> list[str]:
    return [tokenizer.decode([i]) for i in range(tokenizer.vocab_size)]


def _script(text: str) -> str:
    """Return the first word of the Unicode name of the first letter, such as DEVANAGARI."""
    for character in text:
        if character.isalpha():
            return unicodedata.name(character, "").split(" ")[0]
    return ""

"""Checks that a translator can be learned, before a run starts and while it lasts.

Most unsupervised translation that fails ends at BLEU 0 for one of a few reasons: a handful of
sentences an update, a pretrained model that has learned nothing, a translator that copies, is
silent or keeps to the source's language. None of them shows in the loss.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from xlm.data.corpora import Corpora
from xlm.data.mixture import Mixture
from xlm.data.sentence_streams import BucketedStream
from xlm.data.streams import Stream
from xlm.errors import ConfigError
from xlm.languages import Languages
from xlm.objective import Objective
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.causal import CausalLM
from xlm.objectives.decoding import LIKE
from xlm.objectives.denoising import Denoising
from xlm.objectives.infilling import Infilling
from xlm.objectives.language_model import LanguageModel
from xlm.objectives.masked import MaskedLM
from xlm.objectives.teacher_forcing import TeacherForced
from xlm.objectives.translation import Translation
from xlm.run.config import Run
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.journal import Journal
from xlm.training.learner import Learner
from xlm.training.trainer import Trainer

FEWEST_SENTENCES = 8.0
"""Fewer sentences in an update of back-translation are refused; those who reported BLEU 0 had set
token budgets that held one or two."""
MOST_BATCHES = 8
"""Batches a language by which a pretrained model is judged."""
MOST_TOKENS = 64
"""Tokens of their rows, which are no longer than the sentences that the run translates: a model
that was pretrained on short rows knows no positions beyond them."""
MOST_COPIES, MOST_EMPTY, FEWEST_IN_LANGUAGE = 0.5, 0.2, 0.5


def check_budget(run: Run, mixture: Mixture) -> None:
    """Raise ConfigError if an update of back-translation holds too few sentences to learn."""
    for name, objective in run.objectives.items():
        if not isinstance(objective, BackTranslation):
            continue
        for stream in mixture.streams[name]:
            assert isinstance(stream, BucketedStream)
            mean = stream.num_rows / stream.batches_per_epoch
            if mean * run.group_size < FEWEST_SENTENCES:
                raise ConfigError(
                    f"{stream.id}: tokens {objective.tokens} hold {mean:.1f} sentences on "
                    f"average, and group_size {run.group_size} makes updates of "
                    f"{mean * run.group_size:.1f}: with so few, back-translation has been "
                    f"seen to stay at BLEU 0; {_more_sentences(name, objective, stream, run)}"
                )


def _more_sentences(name: str, objective: BackTranslation, stream: BucketedStream, run: Run) -> str:
    """Name the setting that makes an update hold more sentences of a stream."""
    if stream.buckets.rows_of_full * run.group_size < FEWEST_SENTENCES:
        mean = stream.num_rows / stream.batches_per_epoch
        tokens = objective.tokens * FEWEST_SENTENCES / (mean * run.group_size)
        return (
            f"an update needs {FEWEST_SENTENCES:.0f} sentences: raise group_size to "
            f"{math.ceil(FEWEST_SENTENCES / mean)}, or objectives.{name}.tokens to about "
            f"{math.ceil(tokens)}"
        )
    return (
        f"the {stream.num_rows} sentences are divided by length into up to "
        f"{objective.num_lengths} kinds of batches, most of which are not full: raise group_size, "
        f"lower objectives.{name}.num_lengths, or give more text"
    )


def check_targets(run: Run, corpora: Corpora) -> None:
    """Raise ConfigError if the decoder cannot know which language to write.

    Language vectors tell it, or language tokens. Without them, one source language must have one
    target: two directions of one pair are fine, since the model can tell the source by its text.
    """
    if run.shape.language_embeddings and len(corpora.languages) > 1:
        return
    forced = [own for own in run.objectives.values() if isinstance(own, TeacherForced)]
    if any(own.arrangement.has_tokens for own in forced):
        return
    targets: dict[str, set[str]] = {}
    for objective in run.objectives.values():
        if isinstance(objective, Denoising | Infilling):
            for language in objective.languages:
                targets.setdefault(language, set()).add(language)
        elif isinstance(objective, Translation | BackTranslation):
            for pair in objective.ways(corpora.languages):
                # back-translation learns first -> second from pairs that it makes
                targets.setdefault(pair.first, set()).add(pair.second)
    for source, own in targets.items():
        if len(own) > 1:
            raise ConfigError(
                f"text in {source} is to be translated into {' and in '.join(sorted(own))}, "
                "but the model has no language vectors to tell them apart: set "
                "model.language_embeddings to true, or use a layout with language tokens"
            )


def pretrained_figures(
    learner: Learner, run: Run, corpora: Corpora, parallel: Parallel, mixture: Mixture
) -> dict[str, dict[str, float]]:
    """Measure the encoder of a translator as a language model before its first update.

    By ``masked/en`` and ``causal/en``, for each language of the run that has held-out text: the
    start of it, masked and read from left to right, since the weights do not say which of the two
    they were trained for. Empty if nothing of the run translates.
    """
    wanted = _languages(run.objectives.values(), corpora.languages)
    languages = [name for name in wanted if name in corpora.names("valid")["texts"]]
    if not languages:
        return {}
    length = min(MOST_TOKENS, run.shape.max_positions, longest_sentence(mixture))
    objectives: dict[str, LanguageModel] = {
        "masked": MaskedLM(languages=languages, length=length, evaluation_folds=1),
        "causal": CausalLM(languages=languages, length=length),
    }
    streams: dict[str, list[Stream]] = {
        name: objective.streams(name, corpora, seed=run.seed, split="valid")
        for name, objective in objectives.items()
    }
    judged = Learner(learner.model, objectives, run.shape)
    return evaluate(
        judged, streams, parallel, seed=run.seed, precision=run.precision,
        most_batches=MOST_BATCHES,
    )  # fmt: skip


def longest_sentence(mixture: Mixture) -> int:
    """Return the longest padded length of the sentence streams, in tokens; MOST_TOKENS if none."""
    streams = [stream for own in mixture.streams.values() for stream in own]
    lengths = [
        int(stream.buckets.lengths[-1]) for stream in streams if isinstance(stream, BucketedStream)
    ]
    return max(lengths, default=MOST_TOKENS)


def _languages(objectives: Iterable[Objective], known: Languages) -> list[str]:
    names: dict[str, None] = {}
    for objective in objectives:
        if isinstance(objective, Translation):
            names.update(dict.fromkeys(name for pair in objective.ways(known) for name in pair))
        elif isinstance(objective, Denoising):
            names.update(dict.fromkeys(objective.languages))
    return list(names)


def check_pretrained(trainer: Trainer, run: Run, corpora: Corpora, journal: Journal) -> list[str]:
    """Record how well a translator's encoder knows its languages before the first update.

    Returns a line of warning for each language that it knows no better than a unigram model.
    """
    with trainer.whole() as learner:
        figures = pretrained_figures(learner, run, corpora, trainer.parallel, trainer.mixture)
    lines, warnings = pretrained_lines(figures)
    if lines:
        journal.record("pretrained", trainer.state.step, figures)
    for line in lines:
        journal.say(line)
    return warnings


def pretrained_lines(figures: Mapping[str, Mapping[str, float]]) -> tuple[list[str], list[str]]:
    """Return the lines to log about ``pretrained_figures``, and the warnings."""
    lines, warnings = [], []
    for stream_id, masked in figures.items():
        kind, language = stream_id.split("/")
        if kind != "masked":
            continue
        causal = figures[f"causal/{language}"]
        unigram = masked.get("unigram_perplexity", float("inf"))
        lines.append(
            f"the encoder's held-out perplexity in {language}: masked {masked['perplexity']:.4g}, "
            f"causal {causal['perplexity']:.4g}, a unigram model {unigram:.4g}"
        )
        if min(masked["perplexity"], causal["perplexity"]) >= unigram:
            warnings.append(
                f"the encoder is no better than a unigram model in {language}, masked or causal: "
                "pretrain it longer; translation without pairs is not learned from such a start"
            )
    return lines, warnings


def translation_warnings(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Return the faults of held-out translations, a line each; empty if there seem to be none."""
    found = []
    for stream_id, own in figures.items():
        if "copied" not in own:
            continue
        if own["copied"] > MOST_COPIES:
            found.append(f"{stream_id}: {own['copied']:.0%} of the translations are their source")
        if own["empty"] > MOST_EMPTY:
            found.append(f"{stream_id}: {own['empty']:.0%} of the translations are empty")
        elif own.get("in_language", 1.0) < FEWEST_IN_LANGUAGE:
            wrong = "".join(
                f", and {share:.0%} like {name.removeprefix(LIKE)}"
                for name, share in own.items()
                if name.startswith(LIKE)
            )
            found.append(
                f"{stream_id}: only {own['in_language']:.0%} of the translations look like the "
                f"target language{wrong}"
            )
    return found

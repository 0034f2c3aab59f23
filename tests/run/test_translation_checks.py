"""What is looked at before a translator is trained, and while it is."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from pathlib import Path

import pytest

from tests.distributed import prepared
from tests.training import tiny
from xlm.errors import ConfigError
from xlm.model.generate import Generation
from xlm.objectives.backtranslation import BackTranslation
from xlm.objectives.denoising import Denoising
from xlm.objectives.masked import MaskedLM
from xlm.pretrain import pretrain
from xlm.run.build import build_mixture, training_streams
from xlm.run.config import Initialization
from xlm.run.translation_checks import (
    MOST_TOKENS,
    check_budget,
    longest_sentence,
    pretrained_lines,
    translation_warnings,
)

SHORT = Generation(ratio=1.0, extra=2)


def unsupervised(folder, *, num_decoder_layers=1, **settings):
    objectives = {
        "ae": Denoising(languages=["en", "hi"], tokens=96, length=12, num_lengths=3),
        "bt": BackTranslation(
            pairs=["en-hi", "hi-en"], tokens=96, length=12, num_lengths=3, generation=SHORT,
            decode=SHORT,
        ),
    }  # fmt: skip
    model = tiny.model(num_decoder_layers=num_decoder_layers, max_positions=40)
    return tiny.recipe(folder, objectives=objectives, model=model, **settings)


def test_an_update_of_a_sentence_or_two_is_refused(tmp_path: Path) -> None:
    run = unsupervised(tmp_path, group_size=1)
    few = dataclasses.replace(run.objectives["bt"], tokens=20)
    run = dataclasses.replace(run, objectives={**run.objectives, "bt": few})
    streams = training_streams(run, tiny.corpora())
    with pytest.raises(ConfigError, match=r"bt/en-hi: tokens 20 hold \d\.\d sentences .* BLEU 0"):
        check_budget(run, build_mixture(run, streams))
    with pytest.raises(ConfigError, match="BLEU 0") as caught:
        pretrain(run, tiny.corpora())
    named = re.search(
        r"raise group_size to (\d+), or objectives.bt.tokens to about (\d+)$", str(caught.value)
    )
    assert named is not None
    more = dataclasses.replace(few, tokens=int(named[2]), num_lengths=1)
    for changes in ({"group_size": int(named[1])}, {"objectives": {**run.objectives, "bt": more}}):
        enough = dataclasses.replace(run, **changes)
        check_budget(enough, build_mixture(enough, training_streams(enough, tiny.corpora())))
    enough = dataclasses.replace(run, group_size=8)
    check_budget(enough, build_mixture(enough, streams))


def test_held_out_translations_are_measured_and_judged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "xlm"):
        result = pretrain(unsupervised(tmp_path, steps=2, evaluate_every=2), tiny.corpora())
    for stream in ("bt/en-hi", "bt/hi-en"):
        own = result.figures[stream]
        assert 0 <= own["bleu"] <= 100 and 0 <= own["chrf"] <= 100
        assert all(0 <= own[name] <= 1 for name in ("copied", "copied_tokens", "empty"))
        assert (own["empty"] > 0.2) == any(
            stream in line and "empty" in line for line in caplog.messages
        )
    assert "bleu" not in result.figures["ae/en"]


def test_what_a_translator_starts_from_is_measured_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Two updates make no language model: that is said, in figures, and warned of."""
    data = prepared.write_corpora(tmp_path)
    settings = {"data": data, "steps": 2, "evaluate_every": 2}
    mlm = {"mlm": MaskedLM(languages=["en", "hi"], rows=8, length=16, evaluation_folds=2)}
    pretrain(
        tiny.recipe(
            tmp_path / "mlm", objectives=mlm, model=tiny.model(max_positions=40), **settings
        )
    )
    start = Initialization(encoder=str(tmp_path / "mlm"), decoder=str(tmp_path / "mlm"))
    run = unsupervised(tmp_path / "mt", initialize=start, num_decoder_layers=2, **settings)
    with caplog.at_level(logging.WARNING, "xlm"):
        pretrain(run)
    lines = [json.loads(line) for line in (tmp_path / "mt/metrics.jsonl").read_text().splitlines()]
    (found,) = (line for line in lines if line["event"] == "pretrained")
    for language in ("en", "hi"):
        masked, causal = found[f"masked/{language}"], found[f"causal/{language}"]
        poor = min(masked["perplexity"], causal["perplexity"]) >= masked["unigram_perplexity"]
        warned = any(f"unigram model in {language}" in line for line in caplog.messages)
        assert warned == poor
    assert any("no better than a unigram model" in line for line in caplog.messages)
    caplog.clear()
    start = Initialization(encoder=str(tmp_path / "mt"), decoder=str(tmp_path / "mt"))
    again = unsupervised(tmp_path / "again", initialize=start, num_decoder_layers=2, **settings)
    with caplog.at_level(logging.WARNING, "xlm"):
        pretrain(again)
    assert not any("unigram model" in line for line in caplog.messages)  # a translator's is none


def test_what_it_starts_from_is_judged_by_rows_as_long_as_its_sentences(tmp_path: Path) -> None:
    """A model of short rows is bad at positions that it has never seen, and not needed there."""
    run = unsupervised(tmp_path)
    streams = training_streams(run, tiny.corpora())
    lengths = {
        stream.examples(k).length
        for own in streams.values()
        for stream in own
        for k in range(int(stream.batches_per_epoch))
    }
    assert longest_sentence(build_mixture(run, streams)) == max(lengths) <= 12
    masked = tiny.recipe(tmp_path, objectives={"mlm": MaskedLM(languages=["en"], length=16)})
    streams = training_streams(masked, tiny.corpora())
    assert longest_sentence(build_mixture(masked, streams)) == MOST_TOKENS


def test_lines_and_warnings_say_what_was_found() -> None:
    good = {"perplexity": 20.0, "unigram_perplexity": 90.0}
    bad = {"perplexity": 95.0, "unigram_perplexity": 90.0}
    figures = {"masked/en": good, "masked/ne": bad, "causal/en": bad, "causal/ne": bad}
    lines, warnings = pretrained_lines(figures)
    assert len(lines) == 2 and "masked 20, causal 95, a unigram model 90" in lines[0]
    assert len(warnings) == 1 and "in ne" in warnings[0]
    fine = {"copied": 0.0, "empty": 0.0, "in_language": 1.0}
    assert translation_warnings({"bt/en-ne": fine, "ae/en": good}) == []
    broken = {"copied": 0.9, "empty": 0.0, "in_language": 0.1}
    copied, foreign = translation_warnings({"bt/en-ne": broken})
    assert "90% of the translations are their source" in copied and "only 10%" in foreign
    (silent,) = translation_warnings({"bt/en-ne": {**broken, "copied": 0.0, "empty": 0.9}})
    assert "90% of the translations are empty" in silent

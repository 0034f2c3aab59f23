"""Figures of held-out text, against sums over single rows."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training import tiny
from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.data.streams import Stream
from xlm.objective import Objective
from xlm.objectives import masked
from xlm.objectives.causal import CausalLM
from xlm.objectives.masked import MaskedLM
from xlm.objectives.original import OriginalCausalLM
from xlm.objectives.translation import Translation
from xlm.run import build as building
from xlm.run.config import Run
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import _shares, evaluate, evaluation_makers
from xlm.training.learner import Learner

ALONE = Parallel(torch.device("cpu"))
CLM = CausalLM(languages=["en", "hi"], rows=8, length=12)
Figures = dict[str, dict[str, float]]


def setting(objectives: dict[str, Objective], **changes: Any) -> tuple[Run, Corpora, Learner]:
    run = tiny.recipe(
        "", objectives=objectives, dtype="float64", model=tiny.model(dropout=0.3), **changes
    )
    made = tiny.corpora(50)
    return run, made, building.build_learner(run, made)


def figures(run: Run, made: Corpora, learner: Learner) -> Figures:
    streams = building.held_out_streams(run, made, "valid")
    return evaluate(learner, streams, ALONE, seed=run.seed)


def log_probabilities(
    learner: Learner, tokens: list[int], positions: list[int], langs: list[int], *, causal: bool
) -> Tensor:
    """[T, V] of one row, alone in its batch."""
    learner.eval()
    with torch.no_grad():
        hidden = learner.model.encode(
            torch.tensor([tokens]),
            torch.tensor([len(tokens)]),
            torch.tensor([positions]),
            torch.tensor([langs]),
            causal=causal,
        )[0]
        encoder = learner.model.encoder
        return (hidden @ encoder.words.weight.T + encoder.output_bias).log_softmax(-1)


def test_causal_figures_by_brute_force() -> None:
    """Every token once, predicted from those before it in its row of 12."""
    run, made, learner = setting({"clm": CLM})
    found = figures(run, made, learner)
    for number, language in enumerate(["en", "hi"]):
        corpus = made.text("valid", language)
        ids = [int(token) for token in corpus.ids]
        nats = correct = 0.0
        for start in range(0, len(ids), 12):
            row = ids[start : start + 12]
            inputs = [ids[start - 1] if start else 1, *row[:-1]]
            table = log_probabilities(
                learner, inputs, list(range(len(row))), [number] * len(row), causal=True
            )
            nats -= sum(float(table[place, token]) for place, token in enumerate(row))
            correct += sum(int(table[place].argmax()) == token for place, token in enumerate(row))
        assert len(ids) % 12  # the last row is shorter
        own = found[f"clm/{language}"]
        assert own["targets"] == len(ids)
        assert own["nats"] == pytest.approx(nats / len(ids), rel=1e-12)
        assert own["perplexity"] == pytest.approx(math.exp(nats / len(ids)), rel=1e-12)
        words = corpus.text_size.words
        assert own["word_perplexity"] == pytest.approx(math.exp(nats / words), rel=1e-12)
        assert own["accuracy"] == correct / len(ids)
        counts = Counter(int(token) for token in made.text("train", language).ids)
        size = sum(counts.values()) + tiny.VOCAB_SIZE
        unigram = -sum(math.log((counts[token] + 1) / size) for token in ids) / len(ids)
        assert own["unigram_perplexity"] == pytest.approx(math.exp(unigram), rel=1e-12)


def test_masked_figures_by_brute_force() -> None:
    """Disjoint masks predict every token of text, and every word of pairs, exactly once."""
    run, made, learner = setting({"mlm": tiny.MLM, "tlm": tiny.TLM})
    found = figures(run, made, learner)
    streams = building.held_out_streams(run, made, "valid")
    for name, stream in [(name, stream) for name, own in streams.items() for stream in own]:
        nats, predicted = 0.0, Counter[tuple[int, int]]()
        objective = run.objectives[name]
        for batch in objective.evaluation_batches(stream, run.seed):
            width = batch.tokens.shape[1]
            for row, length in enumerate(batch.lengths.tolist()):
                grids = (batch.tokens, batch.positions, batch.langs)
                cells = [grid[row, :length].tolist() for grid in grids]
                table = log_probabilities(learner, *cells, causal=False)
                for cell, target in zip(
                    batch.predict.tolist(), batch.targets.tolist(), strict=True
                ):
                    if cell // width == row and target >= 0:
                        nats -= float(table[cell % width, target])
                        assert int(batch.tokens[row, cell % width]) == 5
                        predicted[int(batch.rows[row]), cell % width] += 1
        # The end symbols around the sentences of a pair are given.
        ends = 2 * stream.num_sentences if name == "tlm" else 0
        assert set(predicted.values()) == {1}
        assert len(predicted) == stream.text_size.tokens - ends
        own = found[stream.id]
        assert own["targets"] == len(predicted)
        assert own["nats"] == pytest.approx(nats / len(predicted), rel=1e-12)


def test_classification_by_brute_force() -> None:
    run, made, learner = setting({"nli": tiny.NLI})
    own = figures(run, made, learner)["nli/en"]
    rows = tiny.NLI.read("20 51", "en")
    nats = correct = 0.0
    for row in rows:
        assert row.second is not None
        label = tiny.LABELS.index(row.label)
        tokens = [1, *map(int, row.first.split()), 1, *map(int, row.second.split()), 1]
        learner.eval()
        with torch.no_grad():
            hidden = learner.model.encode(
                torch.tensor([tokens]),
                torch.tensor([len(tokens)]),
                langs=torch.zeros(1, len(tokens), dtype=torch.int64),
            )
            scores = learner.heads["nli"].output(hidden[:, 0])[0].log_softmax(-1)
        nats -= float(scores[label])
        correct += int(scores.argmax()) == label
    assert own["targets"] == len(rows)
    assert own["nats"] == pytest.approx(nats / len(rows), rel=1e-12)
    assert own["accuracy"] == correct / len(rows)


def test_nothing_random_enters_and_nothing_is_left_changed() -> None:
    run, made, learner = setting({"mlm": tiny.MLM, "nli": tiny.NLI})
    learner.train()
    torch.manual_seed(1)
    first = figures(run, made, learner)
    assert learner.training and all(module.training for module in learner.modules())
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert figures(run, made, learner) == first
    assert torch.equal(torch.get_rng_state(), before)
    learner.eval()
    assert figures(run, made, learner) == first
    assert not learner.training
    other = tiny.recipe("", objectives=run.objectives, seed=1)
    streams = building.held_out_streams(run, made, "valid")
    masks = evaluate(learner, streams, ALONE, seed=other.seed)
    assert masks["mlm/en"]["nats"] != first["mlm/en"]["nats"]  # other masks
    assert masks["nli/en"] == first["nli/en"]


def test_an_error_inside_gives_the_training_mode_back() -> None:
    run, made, learner = setting({"mlm": tiny.MLM})
    streams = {"mlm": [*building.held_out_streams(run, made, "valid")["mlm"]]}
    learner.train()
    del learner.objectives["mlm"]
    with pytest.raises(KeyError):
        evaluate(learner, streams, ALONE, seed=0)
    assert learner.training


def test_half_precision() -> None:
    run = tiny.recipe("", objectives={"mlm": tiny.MLM})
    made = tiny.corpora(50)
    learner = building.build_learner(run, made)
    streams = building.held_out_streams(run, made, "valid")
    nats = {
        precision: evaluate(learner, streams, ALONE, seed=0, precision=precision)["mlm/en"]["nats"]
        for precision in ("fp32", "bf16", "fp16")
    }
    assert len(set(nats.values())) == 3
    assert nats["bf16"] == pytest.approx(nats["fp32"], rel=1e-2)
    assert nats["fp16"] == pytest.approx(nats["fp32"], rel=1e-3)


def test_a_share_of_the_masks() -> None:
    objective = MaskedLM(languages=["en"], rows=8, length=12, evaluation_folds=2)
    run, made, learner = setting({"mlm": objective})
    own = figures(run, made, learner)["mlm/en"]
    tokens = made.text("valid", "en").text_size.tokens
    assert own["targets"] == pytest.approx(2 / 7 * tokens, rel=0.1)


def test_a_rank_makes_only_the_batches_that_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all folds of all rows, on any number of processes; together they make each once."""
    run = tiny.recipe("")
    made = tiny.corpora(60)
    stream = building.held_out_streams(run, made, "valid")["mlm"][0]
    objective = run.objectives["mlm"]
    expected = [tiny.batch_digest(batch) for batch in objective.evaluation_batches(stream, 3)]
    counts: list[int] = []
    monkeypatch.setattr(
        "xlm.objectives.masked.masked_batch",
        lambda *rest, own=masked.masked_batch: (counts.append(1), own(*rest))[1],
    )
    for world in (1, 2, 3, 4):
        found: dict[int, str] = {}
        rounds = set()
        for rank in range(world):
            counts.clear()
            parallel = Parallel(torch.device("cpu"), world, rank)
            makers = iter(evaluation_makers(objective, stream, 3))
            batches = [make() for make in _shares(makers, parallel)]
            rounds.add(len(batches))
            real = {at * world + rank: b for at, b in enumerate(batches) if b is not None}
            assert len(counts) == len(real)
            found |= {at: tiny.batch_digest(batch) for at, batch in real.items()}
        assert [found[at] for at in range(len(expected))] == expected
        assert len(rounds) == 1


def test_a_class_that_only_yields_batches_is_asked_for_them() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Few(MaskedLM):
        def evaluation_batches(self, stream: Stream, seed: int) -> Iterable[Batch]:
            yield from list(super().evaluation_batches(stream, seed))[:2]

    run = tiny.recipe("", objectives={"mlm": Few(languages=["en"], rows=8, length=12)})
    stream = building.held_out_streams(run, tiny.corpora(), "valid")["mlm"][0]
    assert len(list(evaluation_makers(run.objectives["mlm"], stream, 0))) == 2


def test_batches_of_another_size_measure_the_same() -> None:
    """But for masks, of which others are drawn."""
    ways = Translation(pairs=["en-hi"], tokens=100, length=20, num_lengths=3)
    objectives: dict[str, Objective] = {"clm": CLM, "mlm": tiny.MLM, "nli": tiny.NLI, "mt": ways}
    run, made, learner = setting(objectives)
    run = replace(run, model=tiny.model(num_decoder_layers=1))
    learner = building.build_learner(run, made)
    own = figures(run, made, learner)
    for tokens in (24, 400, 10**13):  # the last would not fit in memory if rows were made for it
        larger = replace(run, evaluation_tokens=tokens)
        streams = building.held_out_streams(larger, made, "valid")
        batch = streams["clm"][0].examples(0)
        assert len(batch.first) == min(tokens // 12, 7)  # seven rows are all that there are
        found = figures(larger, made, learner)
        assert found.keys() == own.keys()
        for stream in found:
            assert found[stream]["targets"] == own[stream]["targets"]
            if not stream.startswith("mlm"):
                assert found[stream] == pytest.approx(own[stream], rel=1e-9)


def test_the_originals_batches_keep_their_size() -> None:
    original = OriginalCausalLM(languages=["en"], rows=8, length=12, evaluation="original")
    assert original.in_evaluation(1000) is original
    assert replace(original, evaluation="whole").in_evaluation(1000).rows == 83

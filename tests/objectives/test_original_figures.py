"""The original evaluator's figures, through our objectives, streams, model and evaluation loop.

The models and texts are not part of the project: without the golden folder these are skipped (see
tests/interchange/original/test_golden.py).
"""

import json

import numpy as np
import pytest
import torch

from tests.interchange.original.test_golden import GOLDEN
from tests.objectives.toys import real
from xlm.data.corpora import Corpora
from xlm.data.corpus import Corpus
from xlm.data.pairs import Pairs
from xlm.interchange.original.binarized import read_binarized
from xlm.interchange.original.checkpoint import read_original
from xlm.objectives.original import OriginalCausalLM, OriginalCausalTLM, OriginalMaskedLM
from xlm.objectives.translation import Translation
from xlm.rng import Random
from xlm.run.config import Stopping
from xlm.run.stopping import stopping_score
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.learner import Learner

pytestmark = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the original's figures are not at {GOLDEN} (set XLM_GOLDEN)"
)
NUM_VALUES, NUM_BLEU = 276, 24
LANGUAGES = ("en", "fr", "hi")
RUNS = json.loads((GOLDEN / "eval.json").read_text())["runs"] if GOLDEN.is_dir() else []


def read_corpora(folder, tokenizer):
    """The binarized files of a golden folder; a pair's file is there for each of its sides."""

    def corpus(name, language):
        found = read_binarized(GOLDEN / folder / f"{name}.{language}.pth")
        assert list(found.pieces) == list(tokenizer.pieces)
        return Corpus.from_sentences(found.sentences(), language=language, tokenizer=tokenizer)

    texts, pairs = {}, {}
    for split in ("valid", "test"):
        for language in LANGUAGES:
            if (GOLDEN / folder / f"{split}.{language}.pth").exists():
                texts[split, language] = corpus(split, language)
        for pair in ("en-fr", "en-hi"):
            sides = [corpus(f"{split}.{pair}", side) for side in pair.split("-")]
            pairs[split, pair] = Pairs(*sides)
    return Corpora(tokenizer, LANGUAGES, texts=texts, pairs=pairs)


def read_model(path):
    codes, vocabulary = (GOLDEN / "data" / name for name in ("codes", "vocab"))
    return read_original(GOLDEN / path, codes=codes, vocabulary=vocabulary)


def objectives_of(settings):
    """The original's steps as objectives, named as its figures are."""
    fixed = {"rows": settings["batch_size"], "evaluation": "original"}
    part = "encoder" if settings["encoder_only"] else "decoder"
    made = {}
    for steps, names in settings["steps"].items():
        kind = steps.removesuffix("_steps")
        languages = [name for name in names if "-" not in name]
        pairs = [name for name in names if "-" in name]
        if kind == "mt":
            made["mt"] = Translation(pairs=pairs, length=512)
        for given in ({"languages": languages}, {"pairs": pairs}):
            own = given | fixed | {"length": settings["bptt"] if "languages" in given else 512}
            if kind == "mt" or not next(iter(given.values())):
                continue
            if kind == "mlm":
                made["mlm" if "languages" in given else "tlm"] = OriginalMaskedLM(
                    mask_rate=settings["word_pred"], **own
                )
            elif "languages" in given:
                made["clm"] = OriginalCausalLM(part=part, **own)
            else:
                made["ctlm"] = OriginalCausalTLM(part=part, **own)
    return made


def figures_of(run, split):
    """Ours under the original's names, averages included."""
    settings = run["settings"]
    read = read_model(run["model_file"])
    model, own = read.transformer, read_corpora(settings["data_path"], read.tokenizer)
    objectives = objectives_of(settings)
    streams = {name: o.streams(name, own, seed=1, split=split) for name, o in objectives.items()}
    learner = Learner(model, objectives, model.config)
    found = evaluate(learner, streams, Parallel(torch.device("cpu")), seed=2)
    named = {}
    for stream_id, figures in found.items():
        objective, name = stream_id.split("/")
        kind = {"tlm": "mlm", "ctlm": "clm"}.get(objective, objective)
        name = name.replace("-", "_") if objective == "tlm" else name
        named[f"{split}_{name}_{kind}_ppl"] = figures["perplexity"]
        named[f"{split}_{name}_{kind}_acc"] = 100 * figures["accuracy"]
    for kind in {"mlm", "clm"} & set(objectives):
        single = {name: own for name, own in found.items() if name.startswith(kind + "/")}
        named[f"{split}_{kind}_ppl"], _ = stopping_score(Stopping(), single, set())
        named[f"{split}_{kind}_acc"] = 100 * np.mean([own["accuracy"] for own in single.values()])
    return named


def is_bleu(name):
    return name.endswith("_bleu")  # follow with the issue on translation


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run["name"])
def test_every_figure_of_the_evaluator(run):
    for split in ("valid", "test"):
        expected = {
            name: value
            for name, value in run["scores"].items()
            if name.startswith(split) and not is_bleu(name)
        }
        found = figures_of(run, split)
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if name.endswith("_ppl"):
                assert found[name] == pytest.approx(value, rel=1e-5), name
            else:
                assert found[name] == pytest.approx(value, rel=0, abs=1e-9), name


def test_all_values_are_accounted_for():
    names = [name for run in RUNS for name in run["scores"]]
    assert len(names) == NUM_VALUES
    assert sum(map(is_bleu, names)) == NUM_BLEU
    assert all(name.endswith(("_ppl", "_acc", "_bleu")) for name in names)


@pytest.mark.parametrize(
    ("name", "layout"),
    [("pair_en_fr_reset", "tlm"), ("pair_en_fr_default_positions", "tlm-run-on")],
)
@torch.no_grad()
def test_causal_pairs_of_evaluation_and_of_training(name, layout):
    """The original restarts positions in evaluation alone; here a layout says which (A1)."""
    with np.load(GOLDEN / "clm" / "forward.npz") as arrays:
        golden = {key.removeprefix(name + "."): arrays[key] for key in arrays.files
                  if key.startswith(name + ".")}  # fmt: skip
    read = read_model("clm/best-valid_clm_ppl.pth")
    rows = golden["tokens"].T
    sides = [[], []]
    for row, length in zip(rows, golden["lengths"], strict=True):
        ends = np.flatnonzero(row[:length] == read.tokenizer.end_id)
        sides[0].append(row[1 : ends[1]])
        sides[1].append(row[ends[2] + 1 : ends[3]])
    pairs = Pairs(*(
        Corpus.from_sentences(side, language=language, tokenizer=read.tokenizer)
        for side, language in zip(sides, ("en", "fr"), strict=True)
    ))  # fmt: skip
    made = Corpora(read.tokenizer, LANGUAGES, pairs={("train", "en-fr"): pairs})
    objective = OriginalCausalTLM(pairs=["en-fr"], layout=layout, rows=len(rows), tokens=None,
                          pair_order="original")  # fmt: skip
    (stream,) = objective.streams("clm", made, seed=0)
    batch = objective.collate(stream.examples(0), Random(0), train=True)
    order = batch.rows.tolist()
    assert batch.tokens.tolist() == rows[order, :-1].tolist()
    if "positions" in golden:
        inside = np.arange(rows.shape[1] - 1) < golden["lengths"][order, None] - 1
        found = batch.positions.numpy()[inside]
        assert found.tolist() == golden["positions"].T[order, :-1][inside].tolist()
    cells, targets = real(batch)
    expected = np.zeros((len(rows), rows.shape[1]), dtype=bool)
    expected[:] = golden["all_cells"].T[order]
    assert cells == np.flatnonzero(expected[:, :-1]).tolist() and not expected[:, -1].any()
    by_cell = np.full(golden["all_cells"].shape, -1)
    by_cell[golden["all_cells"]] = golden["all_targets"]
    assert targets == by_cell.T[order][expected].tolist()
    loss = objective.loss(read.transformer, None, batch)
    assert float(loss.total) / loss.count == pytest.approx(
        float(golden["loss_all_cells"]), abs=1e-5
    )

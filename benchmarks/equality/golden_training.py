"""What the original's evaluator and optimizers give, against those of xlm.

The files and their conventions are described in the README of the golden folder.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.equality.golden_data import corpora_of, read_json
from benchmarks.equality.golden_models import load_model
from benchmarks.support.agreement import Table
from xlm.batch import Batch
from xlm.data.corpora import Corpora
from xlm.metrics.translation import multi_bleu
from xlm.model.pretrained import PretrainedModel
from xlm.objective import Objective
from xlm.objectives.original import OriginalCausalLM, OriginalCausalTLM, OriginalMaskedLM
from xlm.objectives.translation import Translation
from xlm.training.distributed.processes import Parallel
from xlm.training.evaluation import evaluate
from xlm.training.learner import Learner
from xlm.training.optimizers.build import build_optimizer
from xlm.training.optimizers.config import Optimizer
from xlm.training.optimizers.step import guarded_step, set_lr
from xlm.training.schedule import Schedule

SPLITS = ("valid", "test")


def _objectives(settings: dict[str, Any]) -> dict[str, Objective]:
    """One objective per kind of step and of data, as the evaluator has it."""
    steps, rows, length = settings["steps"], settings["batch_size"], settings["bptt"]
    mlm = partial(
        OriginalMaskedLM, mask_rate=settings["word_pred"], rows=rows, evaluation="original"
    )
    part = "encoder" if settings["encoder_only"] else "decoder"
    makers: dict[tuple[str, bool], Callable[[list[str]], Objective]] = {
        ("mlm", False): lambda names: mlm(languages=names, length=length),
        ("mlm", True): lambda names: mlm(pairs=names, length=512),
        ("clm", False): lambda names: OriginalCausalLM(
            languages=names, length=length, evaluation="original", part=part
        ),
        ("clm", True): lambda names: OriginalCausalTLM(
            pairs=names, length=512, evaluation="original"
        ),
        ("mt", True): lambda names: Translation(pairs=names),
    }
    found: dict[str, Objective] = {}
    for (kind, paired), make in makers.items():
        names = [name for name in steps.get(f"{kind}_steps", []) if ("-" in name) == paired]
        if names:
            found[f"{kind}_{'pairs' if paired else 'text'}"] = make(names)
    return found


def _evaluate(
    model: PretrainedModel, settings: dict[str, Any], corpora: Corpora
) -> dict[str, float]:
    """The evaluator's metrics by its own names."""
    objectives = _objectives(settings)
    learner = Learner(model.transformer, objectives, model.transformer.config)
    parallel = Parallel.start("cpu")
    scores: dict[str, float] = {}
    for split in SPLITS:
        streams = {
            name: objective.streams(name, corpora, seed=0, split=split)
            for name, objective in objectives.items()
        }
        averages: dict[str, list[float]] = {}
        for stream_id, own in evaluate(learner, streams, parallel, seed=0).items():
            name, what = stream_id.split("/")
            kind, _, data = name.partition("_")
            what = what.replace("-", "_") if kind == "mlm" else what
            for metric, value in (("ppl", own["perplexity"]), ("acc", 100 * own["accuracy"])):
                scores[f"{split}_{what}_{kind}_{metric}"] = value
                if data == "text":
                    averages.setdefault(f"{split}_{kind}_{metric}", []).append(value)
        scores |= {name: sum(values) / len(values) for name, values in averages.items()}
    return scores


@torch.no_grad()
def evaluator(golden: Path, table: Table) -> None:
    """Perplexities and accuracies that the original reports for its models."""
    corpora = {folder: corpora_of(golden, folder) for folder in ("data", "data_seen")}
    compared: dict[str, dict[str, list[tuple[Any, Any]]]] = {}
    for run in read_json(golden, "eval.json")["runs"]:
        settings = run["settings"]
        model = load_model(golden, run["model_file"])
        found = _evaluate(model, settings, corpora[settings["data_path"]])
        for name, value in run["scores"].items():
            if name.endswith("bleu"):
                continue
            kind, metric = name.split("_")[-2:]
            own = compared.setdefault(kind, {"ppl": [], "acc": []})
            own[metric].append((found.get(name, math.nan), value))
    for kind, own in compared.items():
        what = f"{kind.upper()} evaluation: "
        table.close("eval.json", what + "perplexities", own["ppl"], 1e-5, relative=True)
        table.close("eval.json", what + "accuracies, percent", own["acc"], 1e-9)


def bleu(golden: Path, table: Table) -> None:
    """What Moses' multi-bleu.perl printed, of the texts that the original scored."""
    described = read_json(golden, "eval.json")
    texts = described["hypotheses_and_references"]
    compared = []
    for run in described["runs"]:
        for name, value in run["scores"].items():
            split, pair = name.split("_")[:2]
            kinds = (f"{run['name']}/{kind}.{pair}.{split}.txt" for kind in ("hyp0", "ref"))
            hypotheses, references = (texts.get(file) for file in kinds)
            if name.endswith("_mt_bleu") and hypotheses is not None:
                compared.append((multi_bleu(hypotheses, references), value))
    table.close("eval.json", "BLEU of the texts that are there, percent", compared, 0.01)


def evaluation_masks(golden: Path, table: Table) -> None:
    """The cells that the evaluator hides, batch by batch."""
    runs = {run["name"]: run["settings"] for run in read_json(golden, "eval.json")["runs"]}
    corpora = corpora_of(golden, "data")
    compared: dict[str, list[tuple[Any, Any]]] = {
        "tokens": [],
        "mask": [],
        "masked": [],
        "lengths": [],
    }
    with np.load(golden / "masks.npz") as arrays:
        names = [name for name in arrays.files if name.split(".")[0] in runs]
        for run in dict.fromkeys(name.split(".")[0] for name in names):
            for split, stream, k, batch in _batches(runs[run], corpora):
                prefix = f"{run}.{split}.{stream}.{k}"
                for name, found in zip(compared, _unmasked(batch), strict=True):
                    compared[name].append((found.numpy(), arrays[f"{prefix}.{name}"].T))
        num_batches = sum(name.endswith(".mask") for name in names)
    for name, pairs in compared.items():
        what = {"mask": "hidden cells", "masked": "what the model sees"}.get(name, name)
        own = [*pairs, (len(pairs), num_batches)]
        table.exact("masks.npz", f"{num_batches} evaluation batches: {what}", own)


def _batches(settings: dict[str, Any], corpora: Corpora) -> Iterator[tuple[str, str, int, Batch]]:
    """Split, language or pair, number, and the batch."""
    for objective in _objectives(settings).values():
        for split in SPLITS:
            for stream in objective.streams("mlm", corpora, seed=0, split=split):
                for k, batch in enumerate(objective.evaluation_batches(stream, seed=0)):
                    yield split, stream.name, k, batch


def _unmasked(batch: Batch) -> tuple[Tensor, ...]:
    """Tokens before they were masked, which cells are hidden, what is seen there, lengths."""
    kept = batch.targets >= 0
    before, hidden = batch.tokens.clone(), torch.zeros_like(batch.tokens)
    before.view(-1)[batch.predict[kept]] = batch.targets[kept]
    hidden.view(-1)[batch.predict[kept]] = 1
    return before, hidden, batch.tokens, batch.lengths


def schedule_of(string: str) -> Schedule:
    """The schedule that an optimizer string of the original stands for (docs/fidelity.md, B7)."""
    name, *settings = string.split(",")
    given = dict(setting.split("=") for setting in settings)
    kinds = {"adam": "constant", "adam_inverse_sqrt": "inverse-sqrt", "adam_cosine": "cosine"}
    return Schedule(
        kind=kinds[name],
        peak_lr=float(given["lr"]),
        warmup_steps=int(given.get("warmup_updates", 0 if name == "adam" else 4000)),
        warmup_init_lr=float(given.get("warmup_init_lr", 1e-7)),
        exponent=float(given.get("exp_factor", 0.5)),
        final_lr=float(given.get("min_lr", 1e-9)),
        period=int(given.get("init_period", 1_000_000)),
        period_factor=float(given.get("period_mult", 1)),
        shrink=float(given.get("lr_shrink", 0.75)),
    )


def optimizer_of(string: str) -> Optimizer:
    """The optimizer that such a string stands for."""
    given = dict(setting.split("=") for setting in string.split(",")[1:])
    return Optimizer(
        kind="xlm-adam",
        betas=(float(given.get("beta1", 0.9)), float(given.get("beta2", 0.999))),
        eps=float(given.get("eps", 1e-8)),
        weight_decay=float(given.get("weight_decay", 0)),
    )


def optimizers(golden: Path, table: Table) -> None:
    """Rates and parameters of 14 settings, update by update, under the library's own rates."""
    rates, values = [], []
    with np.load(golden / "optim.npz") as file:
        arrays = {name: file[name] for name in file.files}
    strings = json.loads(str(arrays["strings"]))
    for name, string in strings.items():
        schedule = schedule_of(string)
        used = arrays[f"{name}.lr_used"]
        found = [schedule.lr(step) for step in range(len(used) + 1)]
        rates.append((found, [*used, arrays[f"{name}.lr_after_last"]]))
        own = {key: nn.Parameter(torch.tensor(arrays[f"init.{key}"])) for key in "wbz"}
        optimizer = build_optimizer(optimizer_of(string), own.items())
        for k in range(len(arrays[f"{name}.w"])):
            for key, parameter in own.items():
                parameter.grad = torch.tensor(arrays[f"grads.{key}"][k])
            set_lr(optimizer, schedule.lr(k))
            guarded_step(optimizer, torch.tensor(0.0))
            for key, parameter in own.items():
                expected = arrays[f"{name}.{key}"][k]
                values.append((parameter.detach().numpy().copy(), expected))
    table.close("optim.npz", f"rates, {len(strings)} settings", rates, 1e-12)
    table.close("optim.npz", f"parameters, {len(strings)} settings", values, 2e-6)


def families() -> Iterator[Any]:
    """Everything of this module, in the order of the table."""
    yield from (evaluator, bleu, evaluation_masks, optimizers)

"""The signs of a language that a model learned, measured when its run ends and kept with it."""

from __future__ import annotations

import logging
from dataclasses import replace

from torch import nn

from xlm.analysis.convergence import Signs, measure, to_tensors
from xlm.data.corpora import Corpora
from xlm.data.streams import Stream
from xlm.model.pretrained import PretrainedModel
from xlm.objective import Objective
from xlm.objectives.language_model import LanguageModel
from xlm.run.build import held_out_streams
from xlm.run.config import Run

log = logging.getLogger("xlm")


def measured(
    model: PretrainedModel, name: str, objective: Objective, stream: Stream, seed: int
) -> Signs:
    """Return the signs of a language of the model's own vocabulary, on a held-out stream.

    ``name`` is the objective's in the run that trained the model, whose head it takes if it has
    one.
    """
    transformer = model.transformer.float().eval()
    return measure(transformer, objective, stream, head_of(model, name, objective), seed=seed)


def head_of(model: PretrainedModel, name: str, objective: Objective) -> nn.Module | None:
    """Return the head that an objective of a model's run has, in evaluation mode; None if none."""
    head = objective.head(model.transformer.config)
    if head is not None:
        own = f"heads.{name}."
        tensors = {n.removeprefix(own): t for n, t in model.heads.items() if n.startswith(own)}
        head.load_state_dict(tensors)
        head.eval()
    return head


def with_signs(model: PretrainedModel, run: Run, corpora: Corpora) -> PretrainedModel:
    """Return the model with the signs of the first language that the run has held-out text of.

    That is one of the model's own vocabulary, in a language model's objective. Without any the
    model is returned as it is, and the log says so.
    """
    for name, streams in held_out_streams(run, corpora, "valid").items():
        objective = run.objectives[name]
        plain = [one for one in streams if not one.is_pair and not one.table]
        if isinstance(objective, LanguageModel) and plain:
            found = measured(model, name, objective, plain[0], run.seed)
            return replace(model, signs=to_tensors(found))
    log.warning("signs: no objective has held-out text of one language, so none are recorded")
    return model

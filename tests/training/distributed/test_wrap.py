"""The model in DDP: wrapped if there is a group, and released with it."""

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from tests.training.distributed.test_processes import launch
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.wrap import no_sync, wrap

SCRIPT = """
import json
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.wrap import no_sync, wrap

parallel = Parallel.start("cpu", timeout_seconds=60)
model = nn.Linear(2, 1, bias=False)
with torch.no_grad():
    model.weight.fill_(1)
wrapped = wrap(model, parallel, find_unused_parameters=True)
x = torch.full((1, 2), 1.0 + parallel.rank)
with no_sync(wrapped, active=True):
    wrapped(x).sum().backward()
alone = model.weight.grad.tolist()
with no_sync(wrapped, active=False):
    wrapped(x).sum().backward()
found = {"is DDP": isinstance(wrapped, DistributedDataParallel), "alone": alone,
         "unused": wrapped.find_unused_parameters, "together": model.weight.grad.tolist()}
parallel.close()
found["released"] = not hasattr(wrapped, "reducer")
print(json.dumps(found), flush=True)
"""


def test_gradients_are_summed_when_they_are_asked_to_be() -> None:
    """Each rank's own gradient first; then the mean over ranks of both passes."""
    expected = {"is DDP": True, "unused": True, "together": [[3.0, 3.0]], "released": True}
    assert launch(SCRIPT, 2) == [
        {**expected, "alone": [[1.0, 1.0]]},
        {**expected, "alone": [[2.0, 2.0]]},
    ]


def test_a_single_process_trains_the_module_itself() -> None:
    module = nn.Linear(1, 1)
    parallel = Parallel(torch.device("cpu"))
    assert wrap(module, parallel, find_unused_parameters=False) is module
    assert not isinstance(module, DistributedDataParallel) and not parallel.wrapped
    with no_sync(module, active=True):
        module(torch.ones(1, 1)).sum().backward()
    assert module.weight.grad is not None

"""The model in rows, some on each rank (FSDP2): memory of parameters, gradients, moments / ranks.

    the learner, whose parameters FSDP owns, gathers layer by layer for each pass, and frees
    ``own``, plain tensors of this rank: clipped, updated, averaged, saved
    ``whole``, a learner of its values now: evaluated, initialized

The tensors of ``own`` are the memory that FSDP gathers from. So nothing that updates them knows of
sharding, as long as it works value by value; optimizers that do not ask for ``rows_of_ranks``.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils import _pytree

from xlm.batch import Loss
from xlm.errors import ConfigError
from xlm.training.distributed.processes import Parallel
from xlm.training.distributed.wrap import Sums
from xlm.training.learner import Learner
from xlm.training.optimizers.rows import RowsOfRanks
from xlm.training.pieces import Rows

Sharding = Literal["none", "full", "hybrid"]
"""none: every rank has the whole model. full: rows of it. hybrid: rows on each machine, all of them
together the whole model."""
BY_ROWS = ("adam", "adamw", "xlm-adam", "apex-adam", "lamb", "muon")
"""Kinds of optimizers that work on rows: a value's update depends on that value alone, or they
exchange what they need of the others (``optimizers/rows.py``)."""


def check_sharding(sharding: Sharding, *, optimizer: str, precision: str) -> None:
    """Raise ConfigError if a run with these settings cannot be sharded."""
    if sharding == "none":
        return
    if optimizer not in BY_ROWS:
        raise ConfigError(
            f"sharding {sharding} with optimizer.kind {optimizer}: its steps depend on means over "
            "rows and columns of matrices, of which a process has some rows; choose one of "
            f"{', '.join(BY_ROWS)}, or sharding none"
        )
    if precision == "fp16":
        raise ConfigError(
            f"sharding {sharding} with precision fp16: gradients are summed over processes before "
            "they are unscaled; choose bf16 or fp32, or sharding none"
        )


class Shards:
    """The rows of a learner's parameters that this rank holds."""

    def __init__(
        self,
        learner: Learner,
        parallel: Parallel,
        sharding: Sharding,
        precision: str,
        sums: Sums = "fp32",
    ) -> None:
        """Shard ``learner``, which every rank has whole and alike. Collective.

        ``sums`` is the type in which gradients travel and are added.

        Raises ConfigError if this torch cannot, or if machines have different numbers of ranks.
        """
        self.parallel = parallel
        self._twin = _without_values(learner)
        self._places = _places(self._twin)
        mesh = _mesh(parallel, sharding)
        self._group = mesh.get_group("shard")
        self.number, self.of_how_many = mesh.get_local_rank("shard"), self._group.size()
        self.writes = mesh.ndim == 1 or mesh.get_local_rank("copies") == 0
        """True if this rank's rows are those that are saved: one of each copy's ranks is."""
        _shard(learner, mesh, precision, sums)
        self._distributed: dict[str, Any] = dict(learner.named_parameters())
        self._names = _names(learner)
        self.own: dict[str, nn.Parameter] = {
            name: nn.Parameter(p.detach().to_local(), requires_grad=p.requires_grad)
            for name, p in self._distributed.items()
        }
        """The rows of each parameter on this rank, by the parameter's name."""
        self.rows: dict[str, Rows] = {
            name: rows_of(len(p), self.number, self.of_how_many)
            for name, p in self._distributed.items()
        }
        assert all(len(self.own[name]) == own.num for name, own in self.rows.items())

    def rows_of_ranks(self) -> RowsOfRanks:
        """Return what an optimizer of ``own`` needs to work on whole matrices."""
        rows = {id(self.own[name]): rows for name, rows in self.rows.items()}
        return RowsOfRanks(rows, self._group)

    def take_gradients(self) -> None:
        """Move the gradients, summed over the ranks, to ``own``."""
        for name, p in self._distributed.items():
            self.own[name].grad = None if p.grad is None else p.grad.to_local()
            p.grad = None

    def sum_squares(self, squares: Tensor) -> Tensor:
        """Return the sum over the ranks that hold one copy; nothing waits for the device."""
        dist.all_reduce(squares, group=self._group)
        return squares

    def state_dict(self) -> dict[str, Tensor]:
        """Return this rank's rows under every name of the learner's state, tied ones too."""
        return {name: self.own[first].detach() for name, first in self._names.items()}

    def rows_of_key(self, key: str) -> Rows | None:
        """Return the rows of a saved tensor on this rank: NAME of a state, or MOMENT/NAME.

        None for a name that is no parameter's.
        """
        first = self._names.get(key.partition("/")[2] or key)
        return None if first is None else self.rows[first]

    @contextmanager
    def whole(self) -> Iterator[Learner]:
        """Hold the whole model, in float32, on every rank: a plain learner of its values now.

        Collective at its beginning alone, so that ranks may do different things with it.
        """
        learner = self.gathered()
        try:
            yield learner
        finally:
            self._put({name: places[0][2] for name, places in self._places.items()})

    @torch.no_grad()
    def gathered(self) -> Learner:
        """Return the whole model, as ``whole`` does, to keep."""
        self._put(
            {
                name: nn.Parameter(p.full_tensor().detach(), requires_grad=p.requires_grad)
                for name, p in self._distributed.items()
            }
        )
        self._twin.train(True)
        return self._twin

    @torch.no_grad()
    def take(self, learner: nn.Module) -> None:
        """Copy this rank's rows out of a whole learner, as one that was initialized."""
        for name, p in learner.named_parameters():
            rows = self.rows[name]
            self.own[name].copy_(p[rows.first : rows.first + rows.num])

    def _put(self, parameters: Mapping[str, nn.Parameter]) -> None:
        for name, places in self._places.items():
            for module, key, _ in places:
                module._parameters[key] = parameters[name]


def rows_of(total: int, number: int, of_how_many: int) -> Rows:
    """Return the rows of part ``number``: each has as many, but for the last ones."""
    size = -(-total // of_how_many)
    first = min(number * size, total)
    return Rows(first, min(size, total - first), total)


def _without_values(learner: Learner) -> Learner:
    """Return a copy of ``learner`` with parameters that take no memory."""
    memo: dict[int, Any] = {
        id(p): nn.Parameter(p.detach().to("meta"), requires_grad=p.requires_grad)
        for p in learner.parameters()
    }
    memo[id(learner.objectives)] = learner.objectives
    return copy.deepcopy(learner, memo)


def _places(learner: nn.Module) -> dict[str, list[tuple[nn.Module, str, nn.Parameter]]]:
    """Return everywhere that a parameter is found, by its first name."""
    first = {id(p): name for name, p in learner.named_parameters()}
    places: dict[str, list[tuple[nn.Module, str, nn.Parameter]]] = {}
    for module in learner.modules():
        for key, p in module._parameters.items():
            if p is not None:
                places.setdefault(first[id(p)], []).append((module, key, p))
    return places


def _names(learner: nn.Module) -> dict[str, str]:
    """Return the first name of the parameter behind each name of a learner's state."""
    first = {id(p): name for name, p in learner.named_parameters()}
    every = learner.named_parameters(remove_duplicate=False)
    return {name: first[id(p)] for name, p in every}


def _mesh(parallel: Parallel, sharding: Sharding) -> Any:
    from torch.distributed.device_mesh import init_device_mesh

    kind = parallel.device.type
    if sharding == "full":
        return init_device_mesh(kind, (parallel.world,), mesh_dim_names=("shard",))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", parallel.world))
    sizes = parallel.gather(local)
    if len(set(sizes)) > 1 or parallel.world % local:
        raise ConfigError(
            f"sharding hybrid on machines of {', '.join(map(str, sorted(set(sizes))))} processes, "
            f"{parallel.world} in all: each must have as many; or choose sharding full"
        )
    shape = (parallel.world // local, local)
    return init_device_mesh(kind, shape, mesh_dim_names=("copies", "shard"))


def _shard(learner: Learner, mesh: Any, precision: str, sums: Sums) -> None:
    try:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    except ImportError as error:
        raise ConfigError(
            f"sharding: torch {torch.__version__} has no fully_shard ({error}); install torch 2.6 "
            "or newer, or choose sharding none"
        ) from error
    register_loss()
    # In bf16 the weights are cast as they are gathered, and autocast finds nothing left to cast.
    low = torch.bfloat16 if precision == "bf16" else None
    added = torch.bfloat16 if sums == "bf16" else torch.float32 if low else None
    policy = MixedPrecisionPolicy(param_dtype=low, reduce_dtype=added, cast_forward_inputs=False)
    stacks = [stack for stack in (learner.model.encoder, learner.model.decoder) if stack]
    parts: list[Any] = [layer for stack in stacks for layer in stack.layers]
    for part in [*parts, learner]:
        fully_shard(part, mesh=mesh, mp_policy=policy)
    for part in [*parts, learner]:
        # So that the memory of the rows is settled before ``own`` takes hold of it.
        part.unshard()
        part.reshard()


def register_loss() -> None:
    """Let FSDP find the tensors of a loss, whose backward pass begins with the learner's."""
    if Loss in _pytree.SUPPORTED_NODES:
        return

    def flatten(loss: Loss) -> tuple[list[Any], Any]:
        return [loss.total, loss.parts], (loss.count, loss.scores, loss.outputs)

    def unflatten(values: Any, rest: Any) -> Loss:
        total, parts = values
        count, scores, outputs = rest
        return Loss(total, count, scores, parts, outputs)

    _pytree.register_pytree_node(Loss, flatten, unflatten)

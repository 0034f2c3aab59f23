"""Values for the names in torch's pickles, each made by this module from checked parts.

Tensors come out of a pickle empty, because their numbers lie elsewhere in the file: the caller
fills them in place through ``TorchMachine.views``. No value may be larger than the bytes that the
file provides for it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from xlm.errors import CheckpointError
from xlm.interchange.safe_torch.pickle_machine import Machine, Refused, checked_keys, make_dict

MAX_DEPTH = 64
"""Limit of containers inside containers: a checkpoint has about 6."""
MAX_EXTENT = 1 << 48
"""Limit of one dimension of a tensor."""


@dataclass(eq=False, slots=True)
class Record:
    """An object whose class is known by name alone: nothing of the class was looked up."""

    name: str
    arguments: tuple[Any, ...] = ()
    state: Any = None


class Storage(NamedTuple):
    """A run of numbers that lies elsewhere in the file."""

    key: str
    dtype: torch.dtype
    num: int

    @property
    def num_bytes(self) -> int:
        """Size in the file, in bytes."""
        return self.num * self.dtype.itemsize


class View(NamedTuple):
    """Part of a storage that a tensor shows; checked to lie inside it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class TorchMachine(Machine):
    """Machine that knows the names in torch's files.

    ``limit`` is the number of bytes that may be made from other values.
    """

    def __init__(self, limit: int):
        super().__init__()
        self.limit = limit
        self.storages: dict[str, Storage] = {}
        self.views: dict[int, tuple[Tensor, View]] = {}
        """Views by the tensor's ``id``; keeping the tensor, too, prevents reuse of its id."""
        self.unbuilt: dict[int, Any] = {}

    def spend(self, num_bytes: int) -> None:
        """Account for bytes made from others, so that a short file cannot ask for many."""
        self.limit -= num_bytes
        if self.limit < 0:
            raise Refused("makes more bytes than the file holds: it is hostile or damaged")

    def find(self, module: str, name: str) -> Any:
        return _NAMES[module, name]

    def call(self, known: Any, arguments: tuple[Any, ...]) -> Any:
        if not isinstance(known, _Known):
            raise TypeError(f"calls a {type(known).__name__}")
        return known.make(self, arguments)

    def give_state(self, target: Any, state: Any) -> None:
        if isinstance(target, Record):
            target.state = state
        elif type(target) is argparse.Namespace:
            if type(state) is not dict or not all(type(key) is str for key in state):
                raise TypeError("a namespace whose names are no strings")
            vars(target).update(state)
        elif type(target) is dict:
            # torch's state dicts carry the versions of their modules as an attribute
            if type(state) is not dict or set(state) != {"_metadata"}:
                raise TypeError("a dictionary with attributes")
        elif isinstance(target, np.ndarray):
            _fill_array(self, target, state)
        elif isinstance(target, np.dtype):
            _check_dtype(state)
        else:
            raise TypeError(f"gives a state to a {type(target).__name__}")

    def refer(self, reference: Any) -> Storage:
        """Return a storage: ``("storage", kind, key, location, number of elements[, view])``."""
        known = type(reference) is tuple and len(reference) in (5, 6)
        if not known or reference[0] != "storage":
            raise Refused("refers to something other than numbers (a module?): it is no checkpoint")
        _, kind, key, _, num, *view = reference
        if view not in ([], [None]):
            raise Refused("holds views of storages, as torch before 0.4 wrote: save it again")
        if not isinstance(kind, _StorageKind) or type(key) is not str or type(num) is not int:
            raise TypeError("a storage of no known kind")
        storage = self.storages.setdefault(key, Storage(key, kind.dtype, num))
        if num < 0 or storage != (key, kind.dtype, num):
            raise Refused(
                f"describes storage {ascii(key[:40])} in two ways, or with {num} elements"
            )
        return storage


class _StorageKind(NamedTuple):
    """Class of a storage, such as ``torch.FloatStorage``."""

    name: str
    dtype: torch.dtype


@dataclass(frozen=True, eq=False, slots=True)
class _Known:
    """A name of the table: ``make(machine, arguments)`` returns the result of calling it here."""

    name: str
    make: Callable[[TorchMachine, tuple[Any, ...]], Any]


def collect_tensors(value: Any, where: str) -> list[Tensor]:
    """Return every tensor in ``value``, after checking everything else in it.

    Raises CheckpointError if containers are nested too deep (or in themselves) to be walked safely,
    or if a name is found in place of a value.
    """
    tensors: dict[int, Tensor] = {}
    level: list[Any] = [(value,)]
    for _ in range(MAX_DEPTH):
        following: dict[int, Any] = {}
        for container in level:
            for child in _children(container):
                kind = type(child)
                if kind is Tensor:
                    tensors[id(child)] = child
                elif kind in _CONTAINERS:
                    following[id(child)] = child
                elif kind in _PARTS:
                    name = child.key if isinstance(child, Storage) else child.name
                    raise CheckpointError(
                        f"{where} holds the name {ascii(name[:100])}, expected a value: it "
                        "is not a checkpoint"
                    )
        if not following:
            return list(tensors.values())
        level = list(following.values())
    raise CheckpointError(
        f"{where} nests containers more than {MAX_DEPTH} deep, or inside themselves: it is "
        "not a checkpoint"
    )


def _children(container: Any) -> Any:
    kind = type(container)
    if kind is dict:
        return container.values()
    if kind is Record:
        return (container.arguments, container.state)
    if kind is argparse.Namespace:
        return (vars(container),)
    return container


_CONTAINERS = frozenset({dict, list, tuple, set, frozenset, Record, argparse.Namespace})
_PARTS = frozenset({_Known, _StorageKind, Storage})


def _check_dtype(state: Any) -> None:
    """Raise Refused for numbers of another byte order, or with fields.

    The state of a plain number is ``(version, byte order, None, None, None, -1, -1, 0)``.
    """
    if type(state) is not tuple or state[1] not in ("<", "|", "=") or state[2:5] != (None,) * 3:
        raise Refused("holds numbers of another byte order, or with fields: save it again")


def _fill_array(machine: TorchMachine, target: Any, state: Any) -> None:
    if machine.unbuilt.pop(id(target), None) is None:
        raise TypeError("an array that is filled twice")
    _, shape, dtype, is_fortran, content = state
    if type(content) is str:
        content = content.encode("latin1")  # written by Python 2
    is_known = isinstance(dtype, np.dtype) and type(is_fortran) in (bool, int)
    if not is_known or not _are_sizes(shape) or type(content) is not bytes:
        raise TypeError("an array of no known kind")
    if prod(shape) * dtype.itemsize != len(content):
        raise Refused(
            f"announces an array of {list(shape)} {dtype.name}, but holds {len(content)} bytes of "
            "it: it is hostile or damaged"
        )
    machine.spend(len(content))
    target.__setstate__((1, shape, dtype, bool(is_fortran), content))


def _are_sizes(values: Any) -> bool:
    kinds = type(values) is tuple and all(type(value) is int for value in values)
    return kinds and all(0 <= value <= MAX_EXTENT for value in values)


def _make_tensor(machine: TorchMachine, arguments: tuple[Any, ...]) -> Tensor:
    """Make the tensor of a call of torch's ``_rebuild_tensor`` or ``_rebuild_tensor_v2``.

    Its arguments are ``(storage, offset, size, stride)``; v2 adds requires_grad and hooks.
    """
    storage, offset, size, stride, *more = arguments
    if not isinstance(storage, Storage) or not _are_sizes((offset,)):
        raise TypeError("a tensor without a storage")
    if not (_are_sizes(size) and _are_sizes(stride) and len(size) == len(stride)):
        raise TypeError("a tensor without sizes")
    if any(hook for hook in more[1:]):
        raise Refused("holds a tensor with hooks or metadata: it is no checkpoint")
    last = sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if prod(size) and (prod(size) > storage.num or offset + last >= storage.num):
        raise Refused(
            f"announces a tensor of {list(size)} in a storage of {storage.num} elements: it is "
            "hostile or damaged"
        )
    tensor = torch.empty(0, dtype=storage.dtype)
    machine.views[id(tensor)] = (tensor, View(storage, offset, size, stride))
    return tensor


def _make_parameter(machine: TorchMachine, arguments: tuple[Any, ...]) -> Tensor:
    tensor, _, hooks = arguments
    if not isinstance(tensor, Tensor) or hooks:
        raise TypeError("a parameter without a tensor, or with hooks")
    return tensor


def _make_dict(machine: TorchMachine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """Return the dictionary of ``OrderedDict()``, empty or from a list of pairs."""
    if not arguments:
        return {}
    (pairs,) = arguments
    if type(pairs) is not list or not all(type(p) in (list, tuple) and len(p) == 2 for p in pairs):
        raise TypeError("a dictionary of no pairs")
    return make_dict([part for pair in pairs for part in pair])


def _make_set(machine: TorchMachine, arguments: tuple[Any, ...]) -> set[Any]:
    (items,) = arguments
    if type(items) is not list:
        raise TypeError("a set of no list")
    return set(checked_keys(items))


def _make_bytes(machine: TorchMachine, arguments: tuple[Any, ...]) -> bytes:
    """Return bytes that protocol 2 wrote as a string with one letter for each byte."""
    if not arguments:
        return b""
    text, encoding = arguments
    if type(text) is not str or encoding != "latin1":
        raise TypeError("bytes of no string")
    machine.spend(len(text))
    return text.encode("latin1")


def _make_empty_bytes(machine: TorchMachine, arguments: tuple[Any, ...]) -> bytes:
    if arguments:
        raise TypeError("bytes of something")
    return b""


def _make_size(machine: TorchMachine, arguments: tuple[Any, ...]) -> tuple[int, ...]:
    (sizes,) = arguments
    if not _are_sizes(tuple(sizes)):
        raise TypeError("a size of no integers")
    return tuple(sizes)


def _make_device(machine: TorchMachine, arguments: tuple[Any, ...]) -> str:
    """Return the device's name only: everything is read onto the CPU."""
    if not all(type(part) in (str, int) for part in arguments):
        raise TypeError("a device of no name")
    return ":".join(map(str, arguments))


def _make_dtype(machine: TorchMachine, arguments: tuple[Any, ...]) -> np.dtype[Any]:
    kind = arguments[0]
    if isinstance(kind, bytes):
        kind = kind.decode("ascii")
    if kind not in _NUMPY_KINDS:
        raise Refused(f"holds a numpy array of {ascii(kind)[:40]}, expected plain numbers")
    dtype: np.dtype[Any] = np.dtype("<" + kind)  # on every machine
    return dtype


def _make_array(machine: TorchMachine, arguments: tuple[Any, ...]) -> Any:
    """Return the array of ``_reconstruct(ndarray, (0,), b"b")``: empty until its state is given."""
    if arguments[0] is not _NAMES["numpy", "ndarray"] or arguments[1:2] != ((0,),):
        raise TypeError("an array of no known kind")
    array = np.empty(0, np.int8)
    machine.unbuilt[id(array)] = array
    return array


def _make_scalar(machine: TorchMachine, arguments: tuple[Any, ...]) -> Any:
    dtype, content = arguments
    content = content.encode("latin1") if isinstance(content, str) else content
    if not isinstance(dtype, np.dtype) or type(content) is not bytes:
        raise TypeError("a scalar of no known kind")
    if len(content) != dtype.itemsize:
        raise TypeError(f"a scalar of {len(content)} bytes")
    return np.frombuffer(content, dtype)[0]


def _make_namespace(machine: TorchMachine, arguments: tuple[Any, ...]) -> argparse.Namespace:
    if arguments:
        raise TypeError("a namespace of something")
    return argparse.Namespace()


def _make_nothing(machine: TorchMachine, arguments: tuple[Any, ...]) -> Any:
    raise TypeError("calls what is only a name")


def _record(name: str) -> Callable[[TorchMachine, tuple[Any, ...]], Record]:
    return lambda machine, arguments: Record(name, arguments)


_NUMPY_KINDS = frozenset("b1 i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split())
_DTYPES = {
    "Bool": torch.bool, "Byte": torch.uint8, "Char": torch.int8, "Short": torch.int16,
    "Int": torch.int32, "Long": torch.int64, "Half": torch.float16, "BFloat16": torch.bfloat16,
    "Float": torch.float32, "Double": torch.float64,
}  # fmt: skip
_BUILTINS = ("builtins", "__builtin__")
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_MAKERS: dict[tuple[str, str], Callable[[TorchMachine, tuple[Any, ...]], Any]] = {
    ("collections", "OrderedDict"): _make_dict,
    ("argparse", "Namespace"): _make_namespace,
    ("_codecs", "encode"): _make_bytes,
    ("numpy", "dtype"): _make_dtype,
    ("numpy", "ndarray"): _make_nothing,
    ("torch", "Size"): _make_size,
    ("torch", "device"): _make_device,
    ("torch._utils", "_rebuild_tensor"): _make_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _make_tensor,
    ("torch._utils", "_rebuild_parameter"): _make_parameter,
    **{(module, "_reconstruct"): _make_array for module in _MULTIARRAY},
    **{(module, "scalar"): _make_scalar for module in _MULTIARRAY},
    **{(module, "bytes"): _make_empty_bytes for module in _BUILTINS},
    **{(module, "set"): _make_set for module in _BUILTINS},
}
# kept as records: the original's dictionary (its module has the name of this package or src), and
# objects that fairseq's files hold beside weights
_METERS = ("AverageMeter", "TimeMeter", "StopwatchMeter")
_RECORDS = [
    ("xlm.data.dictionary", "Dictionary"),
    ("src.data.dictionary", "Dictionary"),
    ("fairseq.data.dictionary", "Dictionary"),
    *(("fairseq.meters", name) for name in _METERS),
    *(("fairseq.logging.meters", name) for name in _METERS),
]  # fmt: skip
_NAMES: Mapping[tuple[str, str], Any] = {
    **{key: _Known(".".join(key), make) for key, make in _MAKERS.items()},
    **{key: _Known(".".join(key), _record(".".join(key))) for key in _RECORDS},
    **{
        ("torch", f"{kind}Storage"): _StorageKind(f"torch.{kind}Storage", dtype)
        for kind, dtype in _DTYPES.items()
    },
    **{("torch", str(dtype).removeprefix("torch.")): dtype for dtype in _DTYPES.values()},
}

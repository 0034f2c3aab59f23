"""Read a pickle of numbers, strings and containers without unpickling it.

    bytes --pickletools--> opcodes --Machine--> values

A pickle is a program: Python's unpickler imports every name it asks for and calls it with the
arguments it gives. Lists of allowed names on top of such an unpickler have been bypassed more than
once, through the effects of allowed names on hostile arguments. So there is no unpickler here:
nothing is imported and no method of a foreign object is called. A name is handed to a subclass, and
its own table says how *we* make the value; a file with any other name is refused. Opcodes that no
checkpoint needs (INST, OBJ, NEWOBJ_EX, EXT, buffers) are refused too.
"""

from __future__ import annotations

import pickletools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol

from xlm.errors import CheckpointError, one_line

MAX_BITS = 128
"""Largest size of an integer: torch's magic number has 80 bits."""
_ADVICE = "nothing was run; do not unpickle it, ask for the weights as safetensors"


class Stream(Protocol):
    """A mapped file, or bytes in memory, which return no more bytes than they have.

    A buffered file would first allocate memory for as many bytes as are asked for.
    """

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


class Refused(ValueError):
    """The rest of an error message that begins with the file's name."""


class Machine(ABC):
    """Interpreter of the opcodes of one pickle after another."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    @abstractmethod
    def find(self, module: str, name: str) -> Any:
        """Return our value for ``module.name``; KeyError if it is unknown."""

    @abstractmethod
    def call(self, known: Any, arguments: tuple[Any, ...]) -> Any:
        """Return the result of calling a value from ``find`` (opcodes REDUCE and NEWOBJ)."""

    @abstractmethod
    def give_state(self, target: Any, state: Any) -> None:
        """Give an object its state in place (BUILD)."""

    @abstractmethod
    def refer(self, reference: Any) -> Any:
        """Return the value of a persistent id (BINPERSID)."""

    def read(self, stream: Stream, where: str) -> Any:
        """Return the value of the next pickle; CheckpointError's message begins with ``where``.

        If one of these methods raises ``Refused``, its text completes that message; every other
        error from values of the wrong kind means that the file is damaged.
        """
        self.stack, self.marks, self.memo = [], [], {}
        arguments, operations = _ARGUMENTS, _OPERATIONS
        try:
            for opcode, argument, _ in pickletools.genops(stream):  # type: ignore[arg-type]
                name = opcode.name
                if name in arguments:
                    self.stack.append(argument)
                elif name in operations:
                    operations[name](self, argument)
                elif name != "STOP":
                    raise Refused(_explain_opcode(name, argument))
            return self.stack.pop()
        except Refused as error:
            raise CheckpointError(f"{where} {error}") from None
        except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
            reason = one_line(error, most=120)
            raise CheckpointError(
                f"{where} is damaged or not a checkpoint ({type(error).__name__}: {reason}): "
                "fetch the file again"
            ) from None

    def since_mark(self) -> list[Any]:
        """Return the values that were pushed after the last mark."""
        items = self.stack
        self.stack = self.marks.pop()
        return items

    def push_name(self, module: Any, name: Any) -> None:
        """Push the value of a name."""
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is not a string")
        try:
            known = self.find(module, name)
        except KeyError:
            raise Refused(_explain_name(f"{module}.{name}")) from None
        self.stack.append(known)


def make_dict(items: list[Any]) -> dict[Any, Any]:
    """Return a dictionary of alternating keys and values; TypeError for keys that are not plain."""
    made: dict[Any, Any] = {}
    _update(made, items)
    return made


def checked_keys(keys: list[Any]) -> list[Any]:
    """Return the keys; TypeError unless they are numbers, strings and flat tuples of them.

    Python hashes nested tuples by C recursion.
    """
    for key in keys:
        if type(key) is tuple:
            if not all(type(part) in _SCALARS for part in key):
                raise TypeError("a key that is a tuple of containers")
        elif type(key) not in _SCALARS:
            raise TypeError(f"a key that is a {type(key).__name__}")
    return keys


def _explain_name(name: str) -> str:
    # a name that the file made up: keep it to one short line
    shown = name if name.isprintable() and len(name) < 100 else ascii(name[:100])
    return f"names {shown}, which is not among what a checkpoint may hold: {_ADVICE}"


def _explain_opcode(name: str, argument: Any) -> str:
    if name == "INST":
        return _explain_name(str(argument).replace(" ", ".", 1))
    code = f" {argument}" if isinstance(argument, int) else ""
    return f"uses the pickle opcode {name}{code}, which no checkpoint needs: {_ADVICE}"


# Opcodes


def _check_argument_size(machine: Machine, argument: int) -> None:
    if argument.bit_length() > MAX_BITS:
        raise Refused(f"holds an integer of {argument.bit_length()} bits: it is no checkpoint")
    machine.stack.append(argument)


def _mark(machine: Machine, argument: Any) -> None:
    machine.marks.append(machine.stack)
    machine.stack = []


def _pop(machine: Machine, argument: Any) -> None:
    if machine.stack:
        machine.stack.pop()
    else:
        machine.since_mark()


def _pop_mark(machine: Machine, argument: Any) -> None:
    machine.since_mark()


def _wrap(kind: Callable[[list[Any]], Any]) -> Callable[[Machine, Any], None]:
    """Return an operation that replaces everything since the mark by one value."""

    def operation(machine: Machine, argument: Any) -> None:
        items = machine.since_mark()
        machine.stack.append(kind(items))

    return operation


def _tuple_of(num: int) -> Callable[[Machine, Any], None]:
    def operation(machine: Machine, argument: Any) -> None:
        if len(machine.stack) < num:
            raise IndexError("stack underflow")
        machine.stack[-num:] = [tuple(machine.stack[-num:])]

    return operation


def _push(make: Callable[[], Any]) -> Callable[[Machine, Any], None]:
    return lambda machine, argument: machine.stack.append(make())


def _put(machine: Machine, argument: int | None) -> None:
    machine.memo[len(machine.memo) if argument is None else argument] = machine.stack[-1]


def _get(machine: Machine, argument: int) -> None:
    machine.stack.append(machine.memo[argument])


def _append(machine: Machine, argument: Any) -> None:
    item = machine.stack.pop()
    _extend(machine.stack[-1], [item])


def _appends(machine: Machine, argument: Any) -> None:
    items = machine.since_mark()
    _extend(machine.stack[-1], items)


def _extend(target: Any, items: list[Any]) -> None:
    if type(target) is not list:
        raise TypeError(f"appends to a {type(target).__name__}")
    target.extend(items)


def _add_items(machine: Machine, argument: Any) -> None:
    items = machine.since_mark()
    if type(machine.stack[-1]) is not set:
        raise TypeError(f"adds to a {type(machine.stack[-1]).__name__}")
    machine.stack[-1].update(checked_keys(items))


def _set_item(machine: Machine, argument: Any) -> None:
    value, key = machine.stack.pop(), machine.stack.pop()
    _update(machine.stack[-1], [key, value])


def _set_items(machine: Machine, argument: Any) -> None:
    items = machine.since_mark()
    _update(machine.stack[-1], items)


def _update(target: Any, items: list[Any]) -> None:
    if type(target) is not dict:
        raise TypeError(f"sets items of a {type(target).__name__}")
    target.update(zip(checked_keys(items[::2]), items[1::2], strict=True))


def _global(machine: Machine, argument: str) -> None:
    module, _, name = argument.partition(" ")
    machine.push_name(module, name)


def _stack_global(machine: Machine, argument: Any) -> None:
    name, module = machine.stack.pop(), machine.stack.pop()
    machine.push_name(module, name)


def _call(machine: Machine, argument: Any) -> None:
    arguments, known = machine.stack.pop(), machine.stack.pop()
    if type(arguments) is not tuple:
        raise TypeError("a call without a tuple of arguments")
    machine.stack.append(machine.call(known, arguments))


def _build(machine: Machine, argument: Any) -> None:
    state = machine.stack.pop()
    machine.give_state(machine.stack[-1], state)


def _refer(machine: Machine, argument: Any) -> None:
    machine.stack.append(machine.refer(machine.stack.pop()))


_SCALARS = frozenset({str, int, float, bool, bytes, type(None)})
_ARGUMENTS = frozenset(
    "BININT BININT1 BININT2 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE "
    "SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8".split()
)
_OPERATIONS: dict[str, Callable[[Machine, Any], None]] = {
    **dict.fromkeys(("INT", "LONG", "LONG1", "LONG4"), _check_argument_size),
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, argument: None),
    "NONE": _push(lambda: None),
    "NEWTRUE": _push(lambda: True),
    "NEWFALSE": _push(lambda: False),
    "EMPTY_DICT": _push(dict),
    "EMPTY_LIST": _push(list),
    "EMPTY_SET": _push(set),
    "EMPTY_TUPLE": _push(tuple),
    "MARK": _mark,
    "POP": _pop,
    "POP_MARK": _pop_mark,
    "DUP": lambda machine, argument: machine.stack.append(machine.stack[-1]),
    "TUPLE": _wrap(tuple),
    "TUPLE1": _tuple_of(1),
    "TUPLE2": _tuple_of(2),
    "TUPLE3": _tuple_of(3),
    "LIST": _wrap(list),
    "DICT": _wrap(make_dict),
    "FROZENSET": _wrap(lambda items: frozenset(checked_keys(items))),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _get),
    "APPEND": _append,
    "APPENDS": _appends,
    "ADDITEMS": _add_items,
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "GLOBAL": _global,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _call,
    "NEWOBJ": _call,
    "BUILD": _build,
    "BINPERSID": _refer,
}

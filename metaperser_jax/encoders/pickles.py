"""The state dict in a torch checkpoint, read without torch and without running it.

A pickle is a program: it may import and call whatever it likes. Here the instructions
that a dict of tensors needs are interpreted one by one, all others are refused, and
none of them imports, calls or changes a Python object: the name of a class is a name
to compare, and what torch's functions would build is noted down, not built.
"""

import pickle  # its instructions' names only
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from metaperser_jax.errors import InputError

MAX_BYTES = 16 * 2**20  # of a pickle; those of published encoders have 0.1 MB
MAX_INSTRUCTIONS = 1_000_000
MAX_DIMENSIONS = 16


class StridedTensor(NamedTuple):
    """Where a tensor lies in its storage; sizes count elements. Checked to fit."""

    storage: str  # its key in the archive
    storage_size: int
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Name(NamedTuple):
    """A class or function that the pickle names; never looked up."""

    module: str
    name: str


class _Storage(NamedTuple):
    key: str
    size: int
    dtype: np.dtype


class _PickleError(ValueError):
    """What is wrong, for the message."""


_STORAGES = {
    _Name("torch", f"{name}Storage"): np.dtype(dtype)
    for name, dtype in {
        "Double": "<f8",
        "Float": "<f4",
        "Half": "<f2",
        "BFloat16": ml_dtypes.bfloat16,
        "Long": "<i8",
        "Int": "<i4",
        "Short": "<i2",
        "Char": "i1",
        "Byte": "u1",
        "Bool": "?",
    }.items()
}


def read_state_dict(data: bytes, where: str) -> dict[str, StridedTensor]:
    """Reads which tensors a state dict holds, and where.

    Args:
      data: what the archive's data.pkl holds.
      where: the file, for messages.

    Returns:
      Name -> tensor, in the order of the file; each lies within its storage, as far as
      the pickle tells the storage's size.

    Raises:
      InputError: the pickle wants more than a dict of tensors needs, is damaged or too
        big, or holds something else.
    """
    if len(data) > MAX_BYTES:
        raise InputError(
            f"{where}: its pickle has {len(data)} bytes, expected at most {MAX_BYTES}. "
            "Not read; convert it to safetensors."
        )
    machine = _Machine(data)
    try:
        found = _unwrap(machine.run())
    except _PickleError as fault:
        raise InputError(
            f"{where}: its pickle, byte {machine.position}: {fault}. Nothing was run; "
            "convert it to safetensors where you trust it, or download it again."
        ) from fault
    return found


def _unwrap(found: Any) -> dict[str, StridedTensor]:
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict):
        raise _PickleError("it holds no dict of tensors")
    others = [k for k, v in found.items() if not isinstance(v, StridedTensor)]
    if others:
        raise _PickleError(f"its entry {others[0][:80]!r} is no tensor")
    return found


class _Machine:
    """Stack, marks and memo of a pickle while it is read."""

    def __init__(self, data: bytes):
        self.data, self.position = data, 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Interprets up to the end; returns what is on top of the stack."""
        for _ in range(MAX_INSTRUCTIONS):
            code = self.take(1)
            if code == pickle.STOP:
                return self.pop()
            if code not in _INSTRUCTIONS:
                raise _PickleError(
                    f"instruction {code!r}, which no dict of tensors needs"
                )
            read, execute = _INSTRUCTIONS[code]
            execute(self, read(self))
        raise _PickleError(f"more than {MAX_INSTRUCTIONS} instructions")

    def take(self, count: int) -> bytes:
        """Returns the next bytes."""
        found = self.data[self.position : self.position + count]
        if len(found) < count:
            raise _PickleError("it ends too early")
        self.position += count
        return found

    def take_line(self) -> str:
        """Returns the next line without its end."""
        end = self.data.find(b"\n", self.position)
        if end < 0:
            raise _PickleError("it ends too early")
        return _decode(self.take(end + 1 - self.position)[:-1])

    def push(self, value: Any) -> None:
        """Puts a value on the stack."""
        self.stack.append(value)

    def pop(self) -> Any:
        """Takes the top of the stack, which must lie above the last mark."""
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise _PickleError("a value is missing")
        return self.stack.pop()

    def pop_to_mark(self) -> list[Any]:
        """Takes what lies above the last mark, and the mark."""
        if not self.marks:
            raise _PickleError("a mark is missing")
        start = self.marks.pop()
        found = self.stack[start:]
        del self.stack[start:]
        return found

    def top(self, kind: type | tuple[type, ...] = object) -> Any:
        """Returns the top of the stack, which stays there."""
        value = self.pop()
        if not isinstance(value, kind):
            raise _PickleError(f"an instruction does not fit a {type(value).__name__}")
        self.push(value)
        return value


def _decode(text: bytes) -> str:
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _PickleError("a text that is not UTF-8") from error


# --- What follows an instruction ---


def _nothing(machine: _Machine) -> None:
    return None


def _number(layout: str) -> Callable[[_Machine], Any]:
    size = struct.calcsize(layout)
    return lambda machine: struct.unpack(layout, machine.take(size))[0]


def _text(length: str) -> Callable[[_Machine], str]:
    count = _number(length)
    return lambda machine: _decode(machine.take(count(machine)))


def _long(machine: _Machine) -> int:
    count = machine.take(1)[0]
    return int.from_bytes(machine.take(count), "little", signed=True)


def _name(machine: _Machine) -> _Name:
    return _Name(machine.take_line(), machine.take_line())


# --- What an instruction does ---


def _ignore(machine: _Machine, _: Any) -> None:
    """A frame's size, the protocol."""


def _mark(machine: _Machine, _: None) -> None:
    machine.marks.append(len(machine.stack))


def _push_new(make: Callable[[], Any]) -> Callable[[_Machine, None], None]:
    return lambda machine, _: machine.push(make())


def _push_tuple(count: int | None) -> Callable[[_Machine, None], None]:
    def execute(machine: _Machine, _: None) -> None:
        if count is None:
            machine.push(tuple(machine.pop_to_mark()))
        else:
            machine.push(tuple([machine.pop() for _ in range(count)][::-1]))

    return execute


def _append(machine: _Machine, _: None) -> None:
    value = machine.pop()
    machine.top(list).append(value)


def _appends(machine: _Machine, _: None) -> None:
    values = machine.pop_to_mark()
    machine.top(list).extend(values)


def _set_item(machine: _Machine, _: None) -> None:
    value, key = machine.pop(), machine.pop()
    _put(machine.top(dict), [key, value])


def _set_items(machine: _Machine, _: None) -> None:
    values = machine.pop_to_mark()
    _put(machine.top(dict), values)


def _put(target: dict[Any, Any], values: list[Any]) -> None:
    keys = values[::2]
    if len(values) % 2 or not all(isinstance(key, str) for key in keys):
        raise _PickleError("a dict whose keys are no texts")
    target.update(zip(keys, values[1::2], strict=True))


def _remember(machine: _Machine, index: int | None) -> None:
    index = len(machine.memo) if index is None else index
    if index > MAX_INSTRUCTIONS:
        raise _PickleError(f"it keeps value {index}")
    machine.memo[index] = machine.top()


def _recall(machine: _Machine, index: int) -> None:
    if index not in machine.memo:
        raise _PickleError(f"value {index} was never kept")
    machine.push(machine.memo[index])


def _push_name(machine: _Machine, name: _Name | None) -> None:
    if name is None:
        name = _Name(*[machine.pop(), machine.pop()][::-1])
        if not all(isinstance(part, str) for part in name):
            raise _PickleError("a name that is no text")
    if name not in _BUILDERS and name not in _STORAGES:
        raise _PickleError(
            f"it asks for {'.'.join(name)[:80]!r}, which no tensor needs"
        )
    machine.push(name)


def _push_storage(machine: _Machine, _: None) -> None:
    """('storage', type, key, device, size) stands for a member of the archive."""
    match machine.pop():
        case ("storage", _Name() as kind, str(key), str(), int(size)) if (
            kind in _STORAGES and size >= 0
        ):
            machine.push(_Storage(key, size, _STORAGES[kind]))
        case _:
            raise _PickleError("a storage that is none of torch's")


def _reduce(machine: _Machine, _: None) -> None:
    """Does by hand what the function would do with its arguments."""
    arguments, function = machine.pop(), machine.pop()
    build = _BUILDERS.get(function) if isinstance(function, _Name) else None
    if build is None or not isinstance(arguments, tuple):
        raise _PickleError("a call that builds no tensor")
    machine.push(build(arguments))


def _build_dict(arguments: tuple[Any, ...]) -> dict[str, Any]:
    if arguments:
        raise _PickleError("an OrderedDict that is made from something else")
    return {}


def _build_parameter(arguments: tuple[Any, ...]) -> StridedTensor:
    match arguments:
        case (StridedTensor() as tensor, bool(), _):
            return tensor
    raise _PickleError("a parameter that is no tensor")


def _build_tensor(arguments: tuple[Any, ...]) -> StridedTensor:
    match arguments:
        case (_Storage() as storage, offset, shape, strides, bool(), _, *rest) if (
            rest in ([], [None], [{}])  # else it is to be conjugated or negated
        ):
            return _check_tensor(storage, offset, shape, strides)
    raise _PickleError("a tensor that is more than a part of a storage")


def _check_tensor(storage: _Storage, offset, shape, strides) -> StridedTensor:
    """Refuses what does not lie within its storage."""
    sizes = (offset, *shape, *strides) if _are_tuples(shape, strides) else (None,)
    if not all(type(size) is int and 0 <= size < 2**62 for size in sizes):
        raise _PickleError(
            "a tensor whose shape, strides or offset are no whole numbers"
        )
    if len(shape) != len(strides) or len(shape) > MAX_DIMENSIONS:
        raise _PickleError(f"a tensor of {len(shape)} sizes and {len(strides)} strides")
    elements, last = 1, offset
    for size, stride in zip(shape, strides, strict=True):
        elements *= size
        last += (size - 1) * stride
    if elements and max(last + 1, elements) > storage.size:
        raise _PickleError(
            f"a tensor {list(shape)} with strides {list(strides)} from {offset} does "
            f"not lie in its storage of {storage.size} elements"
        )
    return StridedTensor(*storage, offset, shape, strides)


def _are_tuples(*values: Any) -> bool:
    return all(type(value) is tuple for value in values)


def _drop_attributes(machine: _Machine, _: None) -> None:
    """Torch keeps the versions of modules in an OrderedDict's attributes."""
    machine.pop()
    machine.top(dict)


_BUILDERS: dict[_Name, Callable[[tuple[Any, ...]], Any]] = {
    _Name("collections", "OrderedDict"): _build_dict,
    _Name("torch._utils", "_rebuild_parameter"): _build_parameter,
    _Name("torch._utils", "_rebuild_tensor_v2"): _build_tensor,
}

_INSTRUCTIONS: dict[bytes, tuple[Callable[..., Any], Callable[..., None]]] = {
    pickle.PROTO: (_number("<B"), _ignore),
    pickle.FRAME: (_number("<Q"), _ignore),
    pickle.MARK: (_nothing, _mark),
    pickle.NONE: (_nothing, _push_new(lambda: None)),
    pickle.NEWTRUE: (_nothing, _push_new(lambda: True)),
    pickle.NEWFALSE: (_nothing, _push_new(lambda: False)),
    pickle.EMPTY_DICT: (_nothing, _push_new(dict)),
    pickle.EMPTY_LIST: (_nothing, _push_new(list)),
    pickle.EMPTY_TUPLE: (_nothing, _push_new(tuple)),
    pickle.BININT: (_number("<i"), _Machine.push),
    pickle.BININT1: (_number("<B"), _Machine.push),
    pickle.BININT2: (_number("<H"), _Machine.push),
    pickle.LONG1: (_long, _Machine.push),
    pickle.BINFLOAT: (_number(">d"), _Machine.push),
    pickle.BINUNICODE: (_text("<I"), _Machine.push),
    pickle.SHORT_BINUNICODE: (_text("<B"), _Machine.push),
    pickle.TUPLE: (_nothing, _push_tuple(None)),
    pickle.TUPLE1: (_nothing, _push_tuple(1)),
    pickle.TUPLE2: (_nothing, _push_tuple(2)),
    pickle.TUPLE3: (_nothing, _push_tuple(3)),
    pickle.APPEND: (_nothing, _append),
    pickle.APPENDS: (_nothing, _appends),
    pickle.SETITEM: (_nothing, _set_item),
    pickle.SETITEMS: (_nothing, _set_items),
    pickle.BINPUT: (_number("<B"), _remember),
    pickle.LONG_BINPUT: (_number("<I"), _remember),
    pickle.MEMOIZE: (_nothing, _remember),
    pickle.BINGET: (_number("<B"), _recall),
    pickle.LONG_BINGET: (_number("<I"), _recall),
    pickle.GLOBAL: (_name, _push_name),
    pickle.STACK_GLOBAL: (_nothing, _push_name),
    pickle.BINPERSID: (_nothing, _push_storage),
    pickle.REDUCE: (_nothing, _reduce),
    pickle.BUILD: (_nothing, _drop_attributes),
}

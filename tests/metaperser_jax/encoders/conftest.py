"""Torch's archives written by hand: valid ones and hostile ones, without torch."""

import io
import pickle
import struct
import types
import zipfile

import numpy as np
import pytest

_STORAGES = {
    "float32": "FloatStorage",
    "float64": "DoubleStorage",
    "float16": "HalfStorage",
    "bfloat16": "BFloat16Storage",
    "int64": "LongStorage",
    "bool": "BoolStorage",
}


def text(value):
    return pickle.BINUNICODE + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    size = value.bit_length() // 8 + 1
    return pickle.LONG1 + bytes([size]) + value.to_bytes(size, "little", signed=True)


def name(module, attribute):
    return pickle.GLOBAL + f"{module}\n{attribute}\n".encode()


def tuple_of(*items):
    return pickle.MARK + b"".join(items) + pickle.TUPLE


def call(function, *arguments):
    return function + tuple_of(*arguments) + pickle.REDUCE


def storage(key, dtype, size):
    kind = name("torch", _STORAGES[dtype])
    parts = text("storage"), kind, text(key), text("cpu"), number(size)
    return tuple_of(*parts) + pickle.BINPERSID


def tensor(stored, shape, strides=None, offset=0, rest=b""):
    """The call that torch writes; strides default to rows one after the other."""
    if strides is None:
        strides = [int(np.prod(shape[i + 1 :])) for i in range(len(shape))]
    return call(
        name("torch._utils", "_rebuild_tensor_v2"),
        stored,
        number(offset),
        tuple_of(*map(number, shape)),
        tuple_of(*map(number, strides)),
        pickle.NEWFALSE,
        call(name("collections", "OrderedDict")),
        rest,
    )


def dict_of(entries):
    items = b"".join(text(key) + value for key, value in entries.items())
    return pickle.EMPTY_DICT + pickle.MARK + items + pickle.SETITEMS


def program(body):
    return pickle.PROTO + b"\x02" + body + pickle.STOP


def archive(members, root="archive", **settings):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **settings) as zipped:
        for member, data in members.items():
            zipped.writestr(f"{root}/{member}" if root else member, data)
    return file.getvalue()


def state_dict(arrays):
    """(pickle, members) of a state dict, as torch.save writes it."""
    entries, members = {}, {}
    for key, (label, array) in enumerate(arrays.items()):
        stored = storage(str(key), array.dtype.name, array.size)
        entries[label] = tensor(stored, array.shape)
        members[f"data/{key}"] = array.tobytes()
    return program(dict_of(entries)), members


def save(arrays, **settings):
    """The bytes of a torch archive."""
    pickled, members = state_dict(arrays)
    fixed = {"data.pkl": pickled, "byteorder": b"little", "version": b"3\n"}
    return archive({**fixed, **members}, **settings)


@pytest.fixture(scope="session")
def torch_format():
    """The functions above, under one name."""
    return types.SimpleNamespace(**{n: v for n, v in globals().items() if callable(v)})

"""State dicts in pickles: read without being run, refused when they want more."""

import collections
import pickle
import struct

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.encoders import pickles
from metaperser_jax.encoders.pickles import StridedTensor, read_state_dict
from metaperser_jax.errors import InputError


@pytest.mark.parametrize(
    ("storage", "dtype"),
    [
        ("float32", np.float32),
        ("float64", np.float64),
        ("float16", np.float16),
        ("bfloat16", ml_dtypes.bfloat16),
        ("int64", np.int64),
        ("bool", np.bool_),
    ],
)
def test_a_tensor_is_a_place_in_a_storage(torch_format, storage, dtype):
    t = torch_format
    body = {"a.b": t.tensor(t.storage("k", storage, 30), (2, 3), (1, 7), 4)}
    assert read_state_dict(t.program(t.dict_of(body)), "x") == {
        "a.b": StridedTensor("k", 30, np.dtype(dtype), 4, (2, 3), (1, 7))
    }


def whole(t, size=6):
    return t.tensor(t.storage("0", "float32", size), (size,))


def test_parameters_metadata_and_nesting_are_as_torch_writes_them(torch_format):
    t = torch_format
    parameter = t.call(
        t.name("torch._utils", "_rebuild_parameter"),
        whole(t),
        pickle.NEWTRUE,
        t.call(t.name("collections", "OrderedDict")),
    )
    ordered = t.call(t.name("collections", "OrderedDict"))
    ordered += t.text("a") + parameter + pickle.SETITEM
    versions = t.dict_of({"_metadata": t.dict_of({"": pickle.NONE})})
    ordered += versions + pickle.BUILD
    expected = {"a": StridedTensor("0", 6, np.dtype("f4"), 0, (6,), (1,))}
    assert read_state_dict(t.program(ordered), "x") == expected
    nested = t.dict_of({"state_dict": ordered, "epoch": t.number(3)})
    assert read_state_dict(t.program(nested), "x") == expected


def test_values_that_are_kept_are_found_again(torch_format):
    t = torch_format
    kept = t.storage("0", "float32", 6) + pickle.BINPUT + b"\x07"
    again = t.tensor(pickle.BINGET + b"\x07", (2,), offset=4)
    found = read_state_dict(
        t.program(t.dict_of({"a": t.tensor(kept, (6,)), "b": again})), "x"
    )
    assert found["b"] == found["a"]._replace(offset=4, shape=(2,))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_protocol_is_understood(protocol):
    plain = collections.OrderedDict()
    assert read_state_dict(pickle.dumps(plain, protocol), "x") == {}


class Evil:
    """What a pickle can do to one who loads it."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    ("value", "asked"),
    [
        (Evil(exec, "import os; os.environ['hit'] = '1'"), "exec"),
        (Evil(__import__, "os"), "__import__"),
        (Evil(getattr, {}, "keys"), "getattr"),
        (collections.Counter("aab"), r"collections\.Counter"),
        (print, "print"),
        (np.float32(1), "numpy"),
    ],
)
def test_nothing_is_imported_or_called(monkeypatch, value, asked, protocol):
    monkeypatch.delenv("hit", raising=False)
    message = rf"^x: its pickle, byte \d+: it asks for '[\w.]*{asked}.*safetensors"
    with pytest.raises(InputError, match=message):
        read_state_dict(pickle.dumps({"a": value}, protocol), "x")
    with pytest.raises(InputError, match=r"x: .*it asks for 'torch\.hub\.load'"):
        read_state_dict(b"\x80\x02ctorch.hub\nload\n.", "x")


def instruction(code):
    return rf"instruction {code!r}, which no dict of tensors needs"


HOSTILE = {
    "an instance": (b"(ios\nsystem\n.", instruction(b"i")),
    "an object": (b"(o.", instruction(b"o")),
    "a new object": (b"\x80\x02)\x81.", instruction(b"\x81")),
    "an extension": (b"\x82\x01.", instruction(b"\x82")),
    "a number as text": (b"I" + b"9" * 5000 + b"\n.", instruction(b"I")),
    "a long number": (pickle.LONG4 + b"\xff\xff\xff\x7f.", instruction(b"\x8b")),
    "a text persistent id": (b"Pname\n.", instruction(b"P")),
    "a set": (b"\x8f.", instruction(b"\x8f")),
    "nothing": (b"", "ends too early"),
    "no end": (b"}", "ends too early"),
    "a text longer than the file": (b"X\xff\xff\xff\xffabc.", "ends too early"),
    "a name without end": (b"cos", "ends too early"),
    "no value": (b".", "a value is missing"),
    "a value below the mark": (b"N(.", "a value is missing"),
    "no mark": (b"t.", "a mark is missing"),
    "a value never kept": (b"h\x05.", "value 5 was never kept"),
    "a value kept far away": (b"Nr\xff\xff\xff\xff.", "it keeps value 4294967295"),
    "text that is none": (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
    "a name from numbers": (b"K\x01K\x02\x93.", "a name that is no text"),
    "a key without value": (b"}(K\x01u.", "keys are no texts"),
    "a number as key": (b"}K\x01K\x01s.", "keys are no texts"),
    "an entry of a number": (b"K\x01K\x01K\x02s.", "does not fit a int"),
    "an element of a dict": (b"}K\x01a.", "does not fit a dict"),
    "attributes of a list": (b"]}b.", "does not fit a list"),
    "attributes of a function": (
        b"ctorch._utils\n_rebuild_tensor_v2\n}b.",
        "does not fit a _Name",
    ),
    "a call of a text": (b"X\x01\x00\x00\x00a)R.", "a call that builds no tensor"),
    "a call of a storage": (b"ctorch\nFloatStorage\n)R.", "a call that builds no"),
    "a call with a list": (
        b"ctorch._utils\n_rebuild_tensor_v2\n]R.",
        "a call that builds no tensor",
    ),
    "a dict of a list": (
        b"ccollections\nOrderedDict\n]\x85R.",
        "made from something else",
    ),
    "a parameter of a list": (
        b"ctorch._utils\n_rebuild_parameter\n]\x85R.",
        "a parameter that is no tensor",
    ),
    "a tensor of a list": (
        b"ctorch._utils\n_rebuild_tensor_v2\n]\x85R.",
        "a tensor that is more than a part",
    ),
    "a storage of a text": (b"X\x01\x00\x00\x00aQ.", "none of torch's"),
    "a list": (b"].", "holds no dict of tensors"),
    "an entry that is no tensor": (
        b"}X\x05\x00\x00\x00epochK\x01s.",
        "its entry 'epoch' is no tensor",
    ),
}


@pytest.mark.parametrize(("data", "message"), HOSTILE.values(), ids=list(HOSTILE))
def test_what_no_state_dict_needs_is_refused(data, message):
    with pytest.raises(InputError, match=r"^x: its pickle, byte") as caught:
        read_state_dict(data, "x")
    assert message in str(caught.value)


OUTSIDE = {
    "beyond the end": ((3,), (1,), 4),
    "a stride beyond the end": ((2, 2), (5, 1), 0),
    "one element beyond": ((1,), (1,), 6),
    "more elements than there are": ((1000,), (0,), 0),
    "a huge size": ((2**40,), (1,), 0),
    "a huge stride": ((2,), (2**61,), 0),
    "a negative stride": ((2,), (-1,), 3),
    "a negative offset": ((2,), (1,), -1),
    "a negative size": ((-2,), (1,), 0),
    "sizes that overflow": ((2**40, 2**40), (1, 1), 0),
    "more sizes than strides": ((2, 2), (1,), 0),
    "more strides than sizes": ((2,), (1, 1), 0),
    "too many dimensions": ((1,) * 17, (1,) * 17, 0),
}


@pytest.mark.parametrize(
    ("shape", "strides", "offset"), OUTSIDE.values(), ids=list(OUTSIDE)
)
def test_a_tensor_outside_its_storage_is_refused(torch_format, shape, strides, offset):
    t = torch_format
    faulty = t.tensor(t.storage("0", "float32", 6), shape, strides, offset)
    with pytest.raises(InputError, match=r"a tensor .*safetensors"):
        read_state_dict(t.program(t.dict_of({"a": faulty})), "x")


def test_a_tensor_that_is_to_be_changed_first_is_refused(torch_format):
    t = torch_format
    negated = t.dict_of({"neg": pickle.NEWTRUE})
    for rest, fits in ((pickle.NONE, True), (t.dict_of({}), True), (negated, False)):
        one = t.tensor(t.storage("0", "float32", 6), (6,), rest=rest)
        data = t.program(t.dict_of({"a": one}))
        if fits:
            assert read_state_dict(data, "x")["a"].shape == (6,)
        else:
            with pytest.raises(InputError, match="more than a part of a storage"):
                read_state_dict(data, "x")


def test_a_bomb_is_stopped(monkeypatch):
    monkeypatch.setattr(pickles, "MAX_INSTRUCTIONS", 1000)
    long = b"](" + b"]" * 5000 + b"e."
    with pytest.raises(InputError, match="more than 1000 instructions"):
        read_state_dict(long, "x")
    monkeypatch.setattr(pickles, "MAX_BYTES", 100)
    with pytest.raises(InputError, match="5004 bytes, expected at most 100"):
        read_state_dict(long, "x")


def test_deep_nesting_is_no_trouble():
    deep = b")" + b"\x85" * 100_000 + b"."
    with pytest.raises(InputError, match="holds no dict"):
        read_state_dict(deep, "x")


def valid(t):
    arrays = {
        "encoder.weight": np.ones((2, 3), np.float32),
        "encoder.bias": np.ones(3, np.float16),
    }
    return t.state_dict(arrays)[0]


def test_truncated_anywhere_it_is_refused(torch_format):
    data = valid(torch_format)
    for end in range(len(data)):
        with pytest.raises(InputError):
            read_state_dict(data[:end], "x")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_whatever_the_bytes_it_is_read_or_refused(torch_format, data):
    pickled = bytearray(valid(torch_format))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(pickled) - 1))
        piece = data.draw(st.binary(max_size=4))
        pickled[place : place + data.draw(st.integers(0, 4))] = piece
    check_read_or_refused(bytes(pickled))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(list(pickles._INSTRUCTIONS)), max_size=40))
def test_any_row_of_instructions_is_read_or_refused(codes):
    argument = struct.pack("<Q", 0)
    reads = {
        c: r is not pickles._nothing for c, (r, _) in pickles._INSTRUCTIONS.items()
    }
    row = b"".join(code + (argument if reads[code] else b"") for code in codes)
    check_read_or_refused(row + b".")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    check_read_or_refused(data)


def check_read_or_refused(data):
    try:
        found = read_state_dict(data, "x")
    except InputError:
        return
    for tensor in found.values():
        last = tensor.offset + sum(
            (n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True)
        )
        assert 0 in tensor.shape or 0 <= last < tensor.storage_size

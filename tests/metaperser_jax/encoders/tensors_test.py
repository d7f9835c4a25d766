"""Files of tensors: safetensors and torch's archives, whole, damaged and hostile."""

import json
import os
import pathlib
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st

from metaperser_jax.encoders import tensors
from metaperser_jax.encoders.tensors import open_tensors, write_safetensors
from metaperser_jax.errors import InputError

ARRAYS = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a.bias": np.array([0.5, -2.0, 1e-8], np.float16),
    "b": np.array([1.5, 3.0], ml_dtypes.bfloat16),
    "c.count": np.array(7, np.int64),
    "d": np.array([[0.1]], np.float64),
    "none": np.zeros((0, 4), np.float32),
}


def check_equal(found, expected=ARRAYS):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape
        assert found[name].dtype == array.dtype
        read = found[name].read()
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)


def by_library(arrays):
    """The bytes that the safetensors library writes."""
    names = {"bfloat16": "BF16", "int64": "I64", "bool": "BOOL"}
    names |= {f"float{bits}": f"F{bits}" for bits in (16, 32, 64)}
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        offsets = [len(body), len(body) + array.nbytes]
        dtype = names[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        body += array.tobytes()
    return pack(header, body)


def pack(header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


WHOLE = by_library(ARRAYS)


def write(folder, data, name="model.safetensors"):
    path = pathlib.Path(folder) / name
    path.write_bytes(data)
    return path


def refused(path, message):
    with pytest.raises(InputError, match=message) as caught:
        open_tensors(path)
    assert str(path) in str(caught.value)


# --- safetensors ---


def test_the_example_is_what_the_library_reads():
    found = {n: t["data"] for n, t in safetensors.deserialize(WHOLE)}
    assert found == {n: bytearray(a.tobytes()) for n, a in ARRAYS.items()}


def test_safetensors_are_read(tmp_path):
    check_equal(open_tensors(write(tmp_path, WHOLE)))


def test_what_is_written_is_read_here_and_by_the_library(tmp_path):
    path = tmp_path / "a.safetensors"
    write_safetensors(path, {**ARRAYS, "t": ARRAYS["a.weight"].T}, {"format": "pt"})
    found = open_tensors(path)
    expected = {**ARRAYS, "t": ARRAYS["a.weight"].T}
    check_equal({name: found[name] for name in expected}, expected)
    assert len(found) == len(expected)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"format": "pt"}
        np.testing.assert_array_equal(file.get_tensor("t"), ARRAYS["a.weight"].T)
    for name, tensor in found.items():
        place = tensor.read().__array_interface__["data"][0]
        assert place % tensor.dtype.itemsize == 0, name


def test_nothing_can_be_written_through_a_view(tmp_path):
    view = open_tensors(write(tmp_path, WHOLE))["a.weight"].read()
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1


def test_numbers_are_read_only_when_they_are_looked_at(tmp_path):
    size = 2**31
    entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    path = write(tmp_path, pack({"big": entry}))
    os.truncate(path, path.stat().st_size + size)  # a sparse file of zeros
    found = open_tensors(path)["big"]
    assert found.shape == (size // 4,)
    assert found.read()[-1] == 0.0


def entry(dtype="F32", shape=(2,), offsets=(0, 8)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


EIGHT = bytes(8)
FAULTS = {
    "empty": (b"", "empty"),
    "too short": (b"\x02\0\0", "only 3 bytes"),
    "header beyond the end": (pack(b'{"a":')[:-2], "truncated within its header"),
    "absurd header": (b"\xff" * 8 + b"{}", "neither a safetensors file nor a torch"),
    "other bytes": (b"\x10" + bytes(30), "neither a safetensors file nor a torch"),
    "no JSON": (pack(b'{"a": nul}'), "no valid JSON"),
    "no UTF-8": (pack(b'{"\xff": 1}'), "no valid JSON"),
    "deep JSON": (pack(b'{"a":' + b"[" * 100_000), "nested too deeply"),
    "a name twice": (pack(b'{"a": 1, "a": 2}'), "the key 'a' comes twice"),
    "a list": (pack(b"[]"), "neither a safetensors file nor a torch"),
    "no entry": (pack({"a": 1}), "tensor 'a' has no dtype, shape or offsets"),
    "no shape": (pack({"a": {"dtype": "F32"}}), "'a' has no dtype, shape or"),
    "three offsets": (pack({"a": entry(offsets=(0, 8, 9))}), "'a' has no dtype"),
    "unknown dtype": (pack({"a": entry("F4")}, EIGHT), "'F4', expected one of F64"),
    "wrong size": (pack({"a": entry(shape=[3])}, EIGHT), "has 8 bytes, expected 12"),
    "negative size": (pack({"a": entry(shape=[-2])}, EIGHT), "impossible shape"),
    "true as a size": (pack({"a": entry(shape=[True, 2])}, EIGHT), "impossible"),
    "a fraction": (pack({"a": entry(shape=[2.0])}, EIGHT), "impossible shape"),
    "huge size": (pack({"a": entry(shape=[2**62])}, EIGHT), "impossible shape"),
    "many sizes": (pack({"a": entry(shape=[1] * 20 + [2])}, EIGHT), "impossible"),
    "negative offset": (pack({"a": entry(offsets=(-8, 0))}, EIGHT), "impossible"),
    "truncated": (pack({"a": entry()}, EIGHT[:5]), "8 bytes .* 5 are there: trunc"),
    "more than told": (pack({"a": entry()}, EIGHT * 2), "tells of 8 bytes.* 16 are"),
    "overlap": (
        pack({"a": entry(), "b": entry(offsets=(4, 12))}, bytes(12)),
        "tensor 'b' at byte 4 overlaps",
    ),
    "gap": (pack({"a": entry(offsets=(8, 16))}, bytes(16)), "'a' at byte 8 leaves"),
    "metadata": (pack({"__metadata__": 3}), "its metadata is no object"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "web page": (b"<!DOCTYPE html><html>not found</html>", "a web page or XML"),
    "HDF5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
    "old torch": (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "before version 1.6"),
    "bare pickle": (b"\x80\x04}.              ", "a bare pickle"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "compressed"),
}


@pytest.mark.parametrize(("data", "message"), FAULTS.values(), ids=list(FAULTS))
def test_a_damaged_or_foreign_file_is_named_with_its_fault(tmp_path, data, message):
    refused(write(tmp_path, data), message)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    refused(tmp_path / "no.safetensors", "cannot be read: No such file")
    refused(tmp_path, "no file")
    os.mkfifo(tmp_path / "pipe.safetensors")
    refused(tmp_path / "pipe.safetensors", "no file")


@pytest.mark.parametrize("data", [WHOLE, b"torch"], ids=["safetensors", "torch"])
def test_truncated_anywhere_it_is_refused(tmp_path, torch_format, data):
    data = torch_format.save(ARRAYS) if data == b"torch" else data
    path = write(tmp_path, data)
    for end in [*range(0, len(data), 7), len(data) - 1][::-1]:
        os.truncate(path, end)
        with pytest.raises(InputError):
            open_tensors(path)


def mutate(data, whole):
    """A few bytes changed, put in or taken out."""
    changed = bytearray(whole)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(changed) - 1))
        piece = data.draw(st.binary(max_size=3))
        changed[place : place + data.draw(st.integers(0, 3))] = piece
    return bytes(changed)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_what_is_accepted_the_library_accepts_too(scratch, data):
    changed = mutate(data, WHOLE)
    try:
        found = open_tensors(write(scratch, changed))
    except InputError:
        return
    theirs = {name: tensor["data"] for name, tensor in safetensors.deserialize(changed)}
    assert {name: t.read().tobytes() for name, t in found.items()} == theirs


# --- torch archives ---


@pytest.mark.parametrize("root", ["archive", "model", "../../../tmp", "/etc", ""])
def test_a_torch_archive_is_read_wherever_its_names_point(tmp_path, torch_format, root):
    path = write(tmp_path, torch_format.save(ARRAYS, root=root), "pytorch_model.bin")
    if root:
        check_equal(open_tensors(path))
        assert list(tmp_path.iterdir()) == [path]
    else:  # torch has no archive without a root
        refused(path, "expected one data.pkl")


def test_strides_offsets_and_shared_storages_are_followed(tmp_path, torch_format):
    t = torch_format
    stored = t.storage("0", "float32", 12)
    entries = {
        "whole": t.tensor(stored, (3, 4)),
        "transposed": t.tensor(stored, (4, 3), (1, 4)),
        "column": t.tensor(stored, (3,), (4,), 2),
        "repeated": t.tensor(stored, (2, 3), (0, 1), 9),
        "number": t.tensor(stored, (), (), 11),
        "none": t.tensor(stored, (0, 3), (3, 1), 12),
    }
    numbers = np.arange(12, dtype=np.float32)
    members = {"data.pkl": t.program(t.dict_of(entries)), "data/0": numbers.tobytes()}
    whole = numbers.reshape(3, 4)
    expected = {
        "whole": whole,
        "transposed": whole.T,
        "column": whole[:, 2],
        "repeated": np.stack([numbers[9:]] * 2),
        "number": np.float32(11),
        "none": np.zeros((0, 3), np.float32),
    }
    path = write(tmp_path, t.archive(members), "pytorch_model.bin")
    check_equal(open_tensors(path), {k: np.asarray(v) for k, v in expected.items()})


def broken(t, **changed):
    pickled, members = t.state_dict({"a": np.ones(4, np.float32)})
    members = {"data.pkl": pickled, "byteorder": b"little", **members, **changed}
    return {name: data for name, data in members.items() if data is not None}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"byteorder": b"big"}, "byte order b'big', expected little endian"),
        ({"data/0": None}, "the storage of tensor 'a' is missing"),
        ({"data/0": bytes(15)}, "tensor 'a' has 15 bytes, expected 16"),
        ({"data/0": bytes(20)}, "tensor 'a' has 20 bytes, expected 16"),
        ({"data.pkl": None}, "expected one data.pkl and no code"),
        ({"constants.pkl": b""}, "expected one data.pkl and no code"),
        ({"more/data.pkl": b""}, "expected one data.pkl and no code"),
        ({"data.pkl": b"cos\nsystem\n."}, "it asks for 'os.system'"),
    ],
)
def test_a_broken_archive_is_named_with_its_fault(
    tmp_path, torch_format, changed, message
):
    data = torch_format.archive(broken(torch_format, **changed))
    refused(write(tmp_path, data, "pytorch_model.bin"), message)


def test_an_archive_without_a_byte_order_is_an_old_one(tmp_path, torch_format):
    data = torch_format.archive(broken(torch_format, byteorder=None))
    assert list(open_tensors(write(tmp_path, data, "pytorch_model.bin"))) == ["a"]


def test_a_compressed_archive_is_refused_before_it_is_unpacked(tmp_path, torch_format):
    bomb = broken(torch_format, **{"data/0": bytes(10**6)})
    data = torch_format.archive(bomb, compression=zipfile.ZIP_DEFLATED)
    refused(write(tmp_path, data, "pytorch_model.bin"), "compressed or encrypted")


def test_a_pickle_bomb_is_refused(tmp_path, torch_format):
    bomb = broken(torch_format, **{"data.pkl": b"]" * (2**24 + 1)})
    path = write(tmp_path, torch_format.archive(bomb), "pytorch_model.bin")
    refused(path, "16777217 bytes, expected at most 16777216")


def test_a_member_that_is_there_twice_is_refused(tmp_path, torch_format):
    path = tmp_path / "pytorch_model.bin"
    path.write_bytes(torch_format.archive(broken(torch_format)))
    with (
        zipfile.ZipFile(path, "a") as zipped,
        pytest.warns(UserWarning, match="Duplicate name"),
    ):
        zipped.writestr("archive/data/0", bytes(16))
    refused(path, "'archive/data/0' is there twice")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_changed_archive_is_read_or_refused(scratch, torch_format, data):
    changed = mutate(data, torch_format.save({"a": ARRAYS["a.weight"]}))
    check_read_or_refused(write(scratch, changed, "pytorch_model.bin"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"PK\x03\x04"]))
def test_any_bytes_are_read_or_refused(scratch, data, start):
    check_read_or_refused(write(scratch, start + data, "pytorch_model.bin"))


def check_read_or_refused(path):
    try:
        found = open_tensors(path)
    except InputError:
        return
    for tensor in found.values():
        assert tensor.read().shape == tensor.shape


# --- shards ---

SHARDS = {"model-1.safetensors": ["a.weight"], "model-2.safetensors": ["a.bias", "b"]}


def write_shards(folder, listed=None, shards=SHARDS):
    for file, names in shards.items():
        write(folder, by_library({name: ARRAYS[name] for name in names}), file)
    if listed is None:
        listed = {name: file for file, names in shards.items() for name in names}
    index = {"metadata": {"total_size": 1}, "weight_map": listed}
    text = json.dumps(index).encode()
    return write(folder, text, "model.safetensors.index.json")


def test_shards_are_read_as_one(tmp_path):
    found = open_tensors(write_shards(tmp_path))
    check_equal(found, {name: ARRAYS[name] for name in ("a.weight", "a.bias", "b")})


def test_a_missing_shard_is_named(tmp_path):
    index = write_shards(tmp_path)
    (tmp_path / "model-2.safetensors").unlink()
    refused(index, r"its file model-2\.safetensors is missing")


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ({"a.weight": "model-1.safetensors", "b": "model-1.safetensors"},
         r"tensor 'b' is listed in model-1\.safetensors but not there"),
        ({"a.bias": "model-2.safetensors"},
         r"tensor 'b' is in model-2\.safetensors but not listed there"),
        ({"a.weight": "../x.safetensors"}, r"'\.\./x\.safetensors', expected a plain"),
        ({"a.weight": "/etc/passwd"}, "'/etc/passwd', expected a plain file name"),
        ({"a.weight": ".."}, "expected a plain file name"),
        ({"a.weight": "sub/model-1.safetensors"}, "expected a plain file name"),
        ({"a.weight": "..\\x"}, "expected a plain file name"),
        ({"a.weight": ""}, "expected a plain file name"),
        ({"a.weight": 3}, "expected a plain file name"),
        ({}, "no weight_map"),
        (["a.weight"], "no weight_map"),
    ],
)  # fmt: skip
def test_an_index_that_lies_is_refused(tmp_path, listed, message):
    refused(write_shards(tmp_path, listed), message)


def test_an_index_within_an_index_is_not_followed(tmp_path):
    name = "model.safetensors.index.json"
    refused(write_shards(tmp_path, {"a.weight": name}), "but not there")


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    index = write_shards(folder)
    (folder / "model-1.safetensors").rename(tmp_path / "elsewhere")
    (folder / "model-1.safetensors").symlink_to("../elsewhere")
    refused(index, r"model-1\.safetensors is a link out of the folder")


def test_the_links_of_the_hub_s_cache_are_followed(tmp_path):
    snapshot = tmp_path / "models--a--b" / "snapshots" / "0123"
    blobs = tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    index = write_shards(snapshot)
    (snapshot / "model-1.safetensors").rename(blobs / "abc")
    (snapshot / "model-1.safetensors").symlink_to("../../blobs/abc")
    assert list(open_tensors(index)) == ["a.weight", "a.bias", "b"]
    (blobs / "abc").rename(tmp_path / "models--a--b" / "other")
    (snapshot / "model-1.safetensors").unlink()
    (snapshot / "model-1.safetensors").symlink_to("../../other")
    refused(index, "link out of the folder")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"{", "no valid JSON"),
        (b"[" * 99_999, "nested too deeply"),
        (b'\xef\xbb\xbf{"weight_map": []}', "no weight_map"),
        (b"3", "no weight_map"),
        (b" " * (2**24 + 1), "16777217 bytes, expected at most"),
    ],
)
def test_an_index_that_is_none_is_refused(tmp_path, text, message):
    refused(write(tmp_path, text, "model.safetensors.index.json"), message)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_changed_index_is_read_or_refused(scratch, data):
    index = write_shards(scratch)
    index.write_bytes(mutate(data, index.read_bytes()))
    check_read_or_refused(index)


def test_the_reader_knows_what_the_writer_writes():
    assert set(tensors._NAMES.values()) == set(tensors._DTYPES)

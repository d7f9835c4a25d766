"""Tensors in files: safetensors and torch's archives, mapped into memory, and written.

Names, shapes and dtypes are known and checked before any number is read; a tensor's
numbers come from the disk when it is looked at. Nothing a file says is trusted: what it
claims must lie within it.
"""

import collections
import json
import math
import mmap
import pathlib
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from metaperser_jax.encoders.pickles import (
    MAX_BYTES,
    MAX_DIMENSIONS,
    StridedTensor,
    read_state_dict,
)
from metaperser_jax.errors import InputError


class StoredTensor(NamedTuple):
    """A tensor in a file."""

    shape: tuple[int, ...]
    dtype: np.dtype
    path: pathlib.Path
    read: Callable[[], np.ndarray]  # a read-only view into the file, any strides


_DTYPES = {  # as safetensors names them
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_BLOCK = 64  # columns copied at once
_MAX_JSON = 16 * 2**20  # bytes of a header or an index; those published have 0.2 MB
_FOREIGN = {  # first bytes -> what the file is instead
    b"version https://git-lfs": "a pointer of git LFS: fetch the file (git lfs pull)",
    b"<": "a web page or XML: the download went wrong",
    b"\x89HDF": "HDF5, as TensorFlow's checkpoints are: take the PyTorch one",
    b"\x80\x02\x8a\nl\xfc\x9cF": "torch's format before version 1.6: convert it to "
    "safetensors",
    b"\x80": "a bare pickle: convert it to safetensors",
    b"\x1f\x8b": "compressed: unpack it first",
}


def open_tensors(path: pathlib.Path) -> dict[str, StoredTensor]:
    """Opens one file of tensors, or all files that an index lists.

    Args:
      path: *.safetensors, a torch archive (*.bin), or an index (*.index.json).

    Returns:
      Name -> tensor, in the order of the file.

    Raises:
      InputError: the file is truncated, damaged, of another format or claims what is
        not there; an index lists a file that is missing or not its own.
    """
    if path.name.endswith(".index.json"):
        return _open_shards(path)
    data = _map(path)
    if bytes(data[:4]) == b"PK\x03\x04":
        return _open_torch(path, data)
    return _open_safetensors(path, data)


def parse_json(text: bytes, where: str) -> Any:
    """Parses JSON; a key that comes twice is a fault.

    Raises:
      InputError: it is none.
    """
    try:
        return json.loads(text.decode("utf-8-sig"), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        fault = "nested too deeply" if type(error) is RecursionError else error
        raise InputError(
            f"{where}: no valid JSON ({fault}); download it again."
        ) from error


def read_json(path: pathlib.Path) -> Any:
    """Reads a JSON file.

    Raises:
      InputError: it cannot be read, is too big or holds no JSON.
    """
    data = _map(path)
    if len(data) > _MAX_JSON:
        raise InputError(f"{path}: {len(data)} bytes, expected at most {_MAX_JSON}.")
    return parse_json(bytes(data), str(path))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        ((twice, _),) = collections.Counter(name for name, _ in pairs).most_common(1)
        raise ValueError(f"the key {twice[:80]!r} comes twice")
    return found


def _map(path: pathlib.Path) -> memoryview:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path}: no file.")
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except ValueError as error:  # what mmap says of an empty file
        raise _damaged(path, "empty") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}.") from error


def _damaged(path: pathlib.Path, fault: str) -> InputError:
    return InputError(f"{path}: {fault}. Download it again.")


def _view(
    data: memoryview,
    dtype: np.dtype,
    shape: tuple[int, ...],
    offset: int = 0,
    strides: tuple[int, ...] | None = None,
) -> np.ndarray:
    """Bytes as an array; numpy refuses what does not lie within them."""
    if 0 in shape:
        return np.zeros(shape, dtype)
    return np.ndarray(shape, dtype, data, offset, strides)


# --- safetensors ---


def _open_safetensors(path: pathlib.Path, data: memoryview) -> dict[str, StoredTensor]:
    header, start = _read_header(path, data)
    found, end = {}, 0
    spans = {name: _read_entry(path, name, entry) for name, entry in header.items()}
    for name, (begin, stop, _, _) in sorted(spans.items(), key=lambda s: s[1][:2]):
        if begin != end:
            kind = "overlaps the one before" if begin < end else "leaves a gap before"
            raise _damaged(path, f"tensor {name!r} at byte {begin} {kind} ({end})")
        end = stop
    if end != len(data) - start:
        raise _damaged(
            path,
            f"its header tells of {end} bytes of tensors, {len(data) - start} are there"
            + (": truncated" if end > len(data) - start else ""),
        )
    for name, (begin, stop, dtype, shape) in spans.items():
        part = data[start + begin : start + stop]
        found[name] = StoredTensor(shape, dtype, path, _reader(part, dtype, shape))
    return found


def _reader(*arguments: Any) -> Callable[[], np.ndarray]:
    return lambda: _view(*arguments)


def _read_header(path: pathlib.Path, data: memoryview) -> tuple[dict[str, Any], int]:
    """Returns the header without its metadata, and where the tensors begin."""
    start = bytes(data[:32])
    for first, kind in _FOREIGN.items():
        if start.startswith(first) and start[8:9] != b"{":
            raise InputError(f"{path}: no safetensors file but {kind}.")
    if len(data) < 8:
        raise _damaged(path, f"only {len(data)} bytes")
    (size,) = struct.unpack("<Q", data[:8])
    if size > _MAX_JSON or bytes(data[8:9]) != b"{":
        raise InputError(
            f"{path}: neither a safetensors file nor a torch archive. Download it "
            "again, or convert it to safetensors."
        )
    if size > len(data) - 8:
        raise _damaged(path, f"truncated within its header of {size} bytes")
    header = parse_json(bytes(data[8 : 8 + size]), f"{path}: header")
    metadata = header.pop("__metadata__", {})  # begins with '{': a dict
    if not isinstance(metadata, dict):
        raise _damaged(path, "its metadata is no object")
    return header, 8 + size


def _read_entry(path: pathlib.Path, name: str, entry: Any):
    """Returns (begin, end, dtype, shape) of one tensor, consistent in themselves."""
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [begin, end]}:
            sizes = [*shape, begin, end]
        case _:
            raise _damaged(path, f"tensor {name!r} has no dtype, shape or offsets")
    if kind not in _DTYPES:
        raise InputError(
            f"{path}: tensor {name!r} has dtype {kind[:20]!r}, expected one of "
            f"{', '.join(_DTYPES)}."
        )
    whole = all(type(size) is int and 0 <= size < 2**62 for size in sizes)
    if not whole or len(shape) > MAX_DIMENSIONS:
        raise _damaged(path, f"tensor {name!r} has an impossible shape or offsets")
    expected = math.prod(shape) * _DTYPES[kind].itemsize
    if end - begin != expected:
        raise _damaged(
            path,
            f"tensor {name!r}, {kind}{shape}, has {end - begin} bytes, expected "
            f"{expected}",
        )
    return begin, end, _DTYPES[kind], tuple(shape)


def write_safetensors(
    path: pathlib.Path, tensors: Mapping[str, np.ndarray], metadata: dict[str, str]
) -> None:
    """Writes a safetensors file, one tensor in memory at a time.

    Args:
      path: a new file.
      tensors: name -> array of any strides; those of wide dtypes come first, so that
        all are aligned.
      metadata: texts for the header.

    Raises:
      OSError: the disk is full or not writable.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    end, ordered = 0, sorted(tensors, key=lambda name: -tensors[name].dtype.itemsize)
    for name in ordered:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(header, ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % 64)  # so that the first tensor is aligned
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in ordered:
            tensor = tensors[name]
            if not tensor.flags.c_contiguous:
                tensor = copy_rows(tensor, tensor.dtype)
            file.write(tensor.reshape(-1).view(np.uint8).data)


def copy_rows(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Copies an array of any strides into rows.

    By blocks of columns: a transpose stays within the cache, and is ten times faster.
    """
    rows = np.empty(array.shape, dtype)
    for i in range(0, array.shape[-1], _BLOCK):
        rows[..., i : i + _BLOCK] = array[..., i : i + _BLOCK]
    return rows


# --- torch archives ---


def _open_torch(path: pathlib.Path, data: memoryview) -> dict[str, StoredTensor]:
    members = _list_members(path)
    roots = [n.removesuffix("/data.pkl") for n in members if n.endswith("/data.pkl")]
    if len(roots) != 1 or f"{roots[0]}/constants.pkl" in members:
        raise InputError(
            f"{path}: an archive, but no state dict of torch (expected one data.pkl and"
            " no code). Save the state dict, best as safetensors."
        )

    def find(name: str) -> memoryview | None:
        info = members.get(f"{roots[0]}/{name}")
        return None if info is None else _find_member(path, data, info)

    order = bytes((find("byteorder") or b"little")[:16])
    if order != b"little":
        raise InputError(
            f"{path}: byte order {order!r}, expected little endian. Convert it to "
            "safetensors."
        )
    pickled = bytes((find("data.pkl") or b"")[: MAX_BYTES + 1])
    tensors = read_state_dict(pickled, str(path))
    return {
        n: _place(path, n, t, find(f"data/{t.storage}")) for n, t in tensors.items()
    }


def _place(
    path: pathlib.Path, name: str, tensor: StridedTensor, part: memoryview | None
) -> StoredTensor:
    """Ties a tensor to its storage, whose size must be as the pickle says."""
    itemsize = tensor.dtype.itemsize
    if part is None:
        raise _damaged(path, f"the storage of tensor {name!r} is missing")
    if len(part) != tensor.storage_size * itemsize:
        raise _damaged(
            path,
            f"the storage of tensor {name!r} has {len(part)} bytes, expected "
            f"{tensor.storage_size * itemsize}",
        )
    strides = tuple(itemsize * stride for stride in tensor.strides)
    read = _reader(part, tensor.dtype, tensor.shape, itemsize * tensor.offset, strides)
    return StoredTensor(tensor.shape, tensor.dtype, path, read)


def _list_members(path: pathlib.Path) -> dict[str, zipfile.ZipInfo]:
    """Returns what is there; nothing is extracted, so names are only names."""
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (
        zipfile.BadZipFile,
        ValueError,
        struct.error,
        NotImplementedError,
        OverflowError,
        OSError,
    ) as error:
        raise _damaged(path, f"a torch archive that is truncated ({error})") from error
    members: dict[str, zipfile.ZipInfo] = {}
    for info in infos:
        if info.filename in members:
            raise _damaged(path, f"{info.filename!r} is there twice")
        members[info.filename] = info
    return members


def _find_member(
    path: pathlib.Path, data: memoryview, info: zipfile.ZipInfo
) -> memoryview:
    """Returns a member's bytes as they lie in the file."""
    name = info.filename[-80:]
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
        raise InputError(
            f"{path}: {name!r} is compressed or encrypted, which torch never does. "
            "Convert it to safetensors."
        )
    header = bytes(data[max(info.header_offset, 0) :][:30])
    if info.header_offset < 0 or len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise _damaged(path, f"{name!r} is not where the archive says")
    start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
    if info.compress_size != info.file_size or start + info.file_size > len(data):
        raise _damaged(path, f"{name!r} is truncated")
    return data[start : start + info.file_size]


# --- shards ---


def read_index(path: pathlib.Path) -> dict[str, str]:
    """Reads which file of an index holds which tensor.

    Args:
      path: the index.

    Returns:
      Tensor name -> file name; each a plain name in the index's own folder.

    Raises:
      InputError: it is no index, or names a file elsewhere.
    """
    index = read_json(path)
    listed = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(listed, dict) or not listed:
        raise _damaged(path, "no weight_map, expected the file of each tensor there")
    for name, file in listed.items():
        if not isinstance(file, str) or not re.fullmatch(r"[\w\-.]+", file) or (
            file.startswith(".")
        ):  # fmt: skip
            raise InputError(
                f"{path}: tensor {name!r} is listed in {str(file)[:80]!r}, expected a "
                "plain file name in the same folder. Not read."
            )
    return listed


def _open_shards(path: pathlib.Path) -> dict[str, StoredTensor]:
    listed = read_index(path)
    found: dict[str, StoredTensor] = {}
    for file in sorted(set(listed.values())):
        shard = path.with_name(file)
        _refuse_elsewhere(path, shard)
        tensors = open_tensors(shard) if not file.endswith(".index.json") else {}
        wanted = {name for name, place in listed.items() if place == file}
        for names, fault in (
            (wanted - set(tensors), "is listed in {} but not there"),
            (set(tensors) - wanted, "is in {} but not listed there"),
        ):
            if names:
                count = f" ({len(names)} such tensors)" if len(names) > 1 else ""
                raise _damaged(
                    path, f"tensor {min(names)!r} {fault.format(file)}{count}"
                )
        found |= tensors
    return found


def _refuse_elsewhere(index: pathlib.Path, shard: pathlib.Path) -> None:
    """A link may lead out of the folder only as the hub's cache makes them."""
    if not shard.exists():
        raise _damaged(index, f"its file {shard.name} is missing")
    folder = index.parent.resolve()
    allowed = [folder]
    if folder.parent.name == "snapshots":  # <repository>/snapshots/<revision>
        allowed.append(folder.parent.parent / "blobs")
    if not any(shard.resolve().is_relative_to(place) for place in allowed):
        raise InputError(
            f"{index}: its file {shard.name} is a link out of the folder. Not read; put"
            " the file itself there."
        )

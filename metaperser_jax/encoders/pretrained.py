"""The door to all encoders: a name or a folder in, an encoder and its params out."""

import collections
import json
import math
import pathlib
import tempfile
import types
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax import trees
from metaperser_jax.encoders import convert, hub, logmel
from metaperser_jax.encoders.config import (
    SpeechConfig,
    from_json,
    preprocessor_to_json,
    to_json,
)
from metaperser_jax.encoders.encoder import Encoder
from metaperser_jax.encoders.tensors import (
    StoredTensor,
    open_tensors,
    read_json,
    write_safetensors,
)
from metaperser_jax.encoders.transformer import param_shapes, speech_encoder
from metaperser_jax.errors import InputError, MachineError, did_you_mean
from metaperser_jax.typing import Params

DTYPES = ("float32", "bfloat16", "float16")
_BUILT_IN = {"logmel": logmel.logmel}
_SINGLE = "model.safetensors"
_INDEX = f"{_SINGLE}.index.json"


class LoadReport(NamedTuple):
    """What was loaded, and what became of each tensor of the files."""

    source: str  # as it was asked for
    revision: str = ""  # commit of the hub
    files: tuple[tuple[str, int], ...] = ()  # path, bytes
    format: str = ""  # 'safetensors' | 'torch'
    config: SpeechConfig | None = None
    num_tensors: int = 0  # of the files that were used
    num_parameters: int = 0
    stored_dtypes: Mapping[str, int] = types.MappingProxyType({})  # tensors of each
    dropped: Mapping[str, str] = types.MappingProxyType({})  # tensor -> why
    missing: tuple[str, ...] = ()  # parameters for training that are zeros now
    renamed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # what is doubtful
    random_weights: bool = False  # never trained


class Loaded(NamedTuple):
    """An encoder with what is known of its origin."""

    encoder: Encoder
    params: Params
    report: LoadReport


def load_encoder(
    name_or_path: str, revision: str | None = None, dtype: Any = "float32"
) -> tuple[Encoder, Params]:
    """Loads an encoder.

    Args:
      name_or_path: 'logmel', the encoder without weights; a folder with config.json
        and safetensors or a torch state dict as transformers keeps them; or an id of
        the Hugging Face hub, looked for in its cache first. wav2vec 2.0, HuBERT, WavLM
        and data2vec-audio are read.
      revision: branch, tag or commit of the hub; None = its main branch.
      dtype: 'float32' | 'bfloat16' | 'float16', of the operands of products; 'logmel'
        computes in float32 only.

    Returns:
      The encoder and its params, a nested dict (empty without weights).

    Raises:
      InputError: no such encoder, or its files are not what they should be.
      MachineError: the hub cannot be reached.
    """
    loaded = read_encoder(name_or_path, revision, dtype)
    return loaded.encoder, loaded.params


def read_encoder(
    name_or_path: str, revision: str | None = None, dtype: Any = "float32"
) -> Loaded:
    """As `load_encoder`, with a report."""
    dtype = _dtype_name(dtype)
    if name_or_path in _BUILT_IN:
        return _make_built_in(name_or_path, revision, dtype)
    if dtype not in DTYPES:
        raise InputError(
            f"encoder {name_or_path!r}, dtype {dtype!r}: expected one of "
            f"{', '.join(DTYPES)}."
        )
    if not hub.is_path(name_or_path) and "/" not in name_or_path:
        known = (*_BUILT_IN, *(name.partition("/")[2] for name in hub.KNOWN))
        raise InputError(
            f"encoder {name_or_path!r}: not available, expected one of "
            f"{', '.join(_BUILT_IN)}, a folder, or an id of the hub like "
            f"{hub.KNOWN[-1]!r}.{did_you_mean(name_or_path, known)}"
        )
    return _read_files(hub.find_files(name_or_path, revision), dtype)


def _dtype_name(dtype: Any) -> str:
    try:
        return jnp.dtype(dtype).name
    except TypeError:
        return str(dtype)


def _make_built_in(name: str, revision: str | None, dtype: str) -> Loaded:
    if revision is not None:
        raise InputError(
            f"encoder {name!r}, revision {revision!r}: this encoder has no weights and "
            "so no revisions; leave the revision out."
        )
    if dtype != "float32":
        raise InputError(
            f"encoder {name!r}, dtype {dtype!r}: this encoder computes in float32; "
            "leave the dtype out."
        )
    return Loaded(_BUILT_IN[name](), {}, LoadReport(name))


def _read_files(files: hub.Files, dtype: str) -> Loaded:
    settings = read_json(files.config)
    config = from_json(settings, _read_preprocessor(files), files.source)
    tensors = open_tensors(files.weights)
    where = str(files.weights)
    plan = convert.make_plan(tensors, param_shapes(config), where)
    leaves = convert.read_params(plan, tensors, dtype, where)
    # one at a time: what is in memory is the params and one tensor
    params = _nest({path: jax.device_put(leaf) for path, leaf in leaves})
    report = _describe(files, config, plan, tensors)
    report = report._replace(random_weights=settings.get("random_weights") is True)
    encoder = speech_encoder(
        config,
        params,
        dtype=dtype,
        name=files.source,
        revision=files.revision,
        random_weights=report.random_weights,
    )
    return Loaded(encoder, params, report)


def _read_preprocessor(files: hub.Files) -> Any:
    if files.preprocessor is None:
        return None
    found = read_json(files.preprocessor)
    if files.preprocessor.name == hub.PROCESSOR and isinstance(found, dict):
        return found.get("feature_extractor")
    return found


def _nest(leaves: dict[str, Any]) -> Params:
    """{'projection/kernel': leaf} -> {'projection': {'kernel': leaf}}."""
    tree: Params = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = leaf
    return tree


# --- What was loaded ---


def _describe(
    files: hub.Files,
    config: SpeechConfig,
    plan: convert.Plan,
    tensors: Mapping[str, StoredTensor],
) -> LoadReport:
    used = [tensors[name] for name in {s.name for s in plan.sources.values()}]
    return LoadReport(
        source=files.source,
        revision=files.revision,
        files=tuple((str(path), path.stat().st_size) for path in files.all()),
        format="safetensors" if "safetensors" in files.weights.name else "torch",
        config=config,
        num_tensors=len(used),
        num_parameters=sum(math.prod(tensor.shape) for tensor in used),
        stored_dtypes=collections.Counter(tensor.dtype.name for tensor in used),
        dropped=plan.dropped,
        missing=tuple(plan.missing),
        renamed=plan.renamed,
        notes=files.notes,
    )


def report_lines(report: LoadReport) -> list[str]:
    """Returns the report as lines for the console."""
    if report.config is None:
        return [f"encoder {report.source}: no weights"]
    c = report.config
    revision = f", revision {report.revision[:12]}" if report.revision else ""
    kind = f"{c.model_type}, {c.num_hidden_layers} layers of width {c.hidden_size}"
    size = sum(size for _, size in report.files) / 1e6
    dtypes = ", ".join(report.stored_dtypes)
    lines = [
        f"encoder {report.source}{revision}: {kind}",
        f"  {report.num_parameters / 1e6:.1f} M parameters in {report.num_tensors} "
        f"tensors, {dtypes}, {len(report.files)} files of {report.format} {size:.1f} MB"
        f" in {pathlib.Path(report.files[0][0]).parent}",
    ]
    whys = collections.Counter(report.dropped.values()).items()
    lines += [f"  not used: {count} tensor(s), {why}" for why, count in whys]
    lines += [f"  not in the file: {path} (serves training only), zeros instead"
              for path in report.missing]  # fmt: skip
    lines += [f"  {note}" for note in (*report.renamed, *report.notes)]
    if report.random_weights:
        lines.append("  RANDOM WEIGHTS, never trained: its features tell nothing")
    return lines


# --- Saving ---


def save_encoder(
    folder: str | pathlib.Path,
    config: SpeechConfig,
    params: Params,
    *,
    random_weights: bool = False,
    seed: int | None = None,
    max_shard_bytes: int = 5 * 10**9,
) -> None:
    """Writes an encoder as transformers keeps it; `load_encoder` reads it as well.

    All is written beside what is there and then moved, config.json last: a folder that
    was left in between holds no encoder rather than half of one.

    Args:
      folder: made where it is missing; an encoder that is there is replaced.
      config: the architecture.
      params: nested dict of arrays, stored in the dtypes they have.
      random_weights: say in config.json that they were never trained.
      seed: of random weights.
      max_shard_bytes: tensors of more than this together go to several files.

    Raises:
      InputError: params do not fit the config.
      MachineError: the disk is full or not writable.
    """
    _refuse_misfits(config, params)
    tensors = convert.to_hugging_face(params, config)
    about = {"random_weights": True, "seed": seed} if random_weights else {}
    files = {
        hub.PREPROCESSOR: preprocessor_to_json(config),
        hub.CONFIG: {**to_json(config), "dtype": "float32", **about},
    }
    folder = pathlib.Path(folder).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as scratch:
            written = _write_weights(pathlib.Path(scratch), tensors, max_shard_bytes)
            for name, content in files.items():
                text = json.dumps(content, indent=2) + "\n"
                (pathlib.Path(scratch) / name).write_text(text, encoding="utf-8")
            _move(pathlib.Path(scratch), folder, [*written, *files])
    except OSError as error:
        raise MachineError(
            f"{folder}: the encoder could not be saved: {error}. Free some disk space "
            "or choose another folder."
        ) from error


def _refuse_misfits(config: SpeechConfig, params: Params) -> None:
    wanted = {path: leaf.shape for path, leaf in param_shapes(config).items()}
    found = {path: np.shape(leaf) for path, leaf in trees.flatten(params).items()}
    paths = sorted(wanted.keys() | found.keys())
    lines = [
        f"  {path}: found {found.get(path, 'nothing')}, expected "
        f"{wanted.get(path, 'nothing')}"
        for path in paths
        if found.get(path) != wanted.get(path)
    ]
    if lines:
        raise InputError(
            f"{len(lines)} parameter(s) do not fit the {config.model_type} settings "
            "they are to be saved with.\n" + "\n".join(lines[:10])
        )


def _write_weights(
    folder: pathlib.Path, tensors: dict[str, np.ndarray], max_bytes: int
) -> list[str]:
    """Writes one file, or shards and their index; returns the names."""
    shards: list[dict[str, np.ndarray]] = [{}]
    size = 0
    for name, tensor in tensors.items():
        if shards[-1] and size + tensor.nbytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = tensor
        size += tensor.nbytes
    count = len(shards)
    names = [f"model-{i + 1:05}-of-{count:05}.safetensors" for i in range(count)]
    names = [_SINGLE] if count == 1 else names
    for name, shard in zip(names, shards, strict=True):
        write_safetensors(folder / name, shard, {"format": "pt"})
    if count == 1:
        return names
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
        "weight_map": {t: n for n, s in zip(names, shards, strict=True) for t in s},
    }
    (folder / _INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    return [*names, _INDEX]


def _move(scratch: pathlib.Path, folder: pathlib.Path, names: list[str]) -> None:
    """Puts the new files in place of an encoder that is there."""
    old = [hub.CONFIG, _SINGLE, _INDEX]
    old += [path.name for path in folder.glob("model-*-of-*.safetensors")]
    for name in old:
        (folder / name).unlink(missing_ok=True)
    for name in names:
        (scratch / name).replace(folder / name)

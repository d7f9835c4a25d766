"""Checkpoints of Hugging Face's transformers, tensor by tensor, in both directions.

One table says what each of our parameters is called there and how it lies. Reading
fills every parameter exactly once; every tensor of a file is used once or dropped by a
rule that says why. Writing goes through the same table.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from metaperser_jax import trees
from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.numerics import kernel_dtype
from metaperser_jax.encoders.tensors import StoredTensor, copy_rows
from metaperser_jax.errors import InputError
from metaperser_jax.typing import Params

Shape = tuple[int, ...]


class Layout(NamedTuple):
    """How a parameter lies in a file; both ways give views."""

    write: Callable[[np.ndarray], np.ndarray]  # ours to theirs
    read: Callable[[np.ndarray], np.ndarray]


class Rule(NamedTuple):
    """Parameters whose path matches in full are called like this there."""

    path: str  # regular expression on our path, 'module/leaf'
    leaf: str  # what stands for the leaf in the file
    layout: Layout


class Place(NamedTuple):
    """Where one parameter lies in a file."""

    name: str
    layout: Layout
    shape: Shape  # there


class Source(NamedTuple):
    """A tensor of a file that fills a parameter."""

    name: str
    read: Callable[[np.ndarray], np.ndarray]  # to our layout
    shape: Shape  # that it must have


class Plan(NamedTuple):
    """What is to be read."""

    sources: dict[str, Source]  # our path -> what fills it
    missing: dict[str, Shape]  # our path -> shape: not there, and for training only
    dropped: dict[str, str]  # tensor of the file -> why it is not wanted
    renamed: tuple[str, ...]  # what the file calls otherwise


SAME = Layout(lambda a: a, lambda a: a)
DENSE = Layout(np.transpose, np.transpose)  # [in, out] <-> [out, in]
CONV = Layout(  # [taps, in, out] <-> [out, in, taps]
    lambda a: a.transpose(2, 1, 0), lambda a: a.transpose(2, 1, 0)
)
TAPS = Layout(  # [taps] <-> [1, 1, taps]
    lambda a: a[None, None], lambda a: a.reshape(-1)
)
HEADS = Layout(  # [heads] <-> [1, heads, 1, 1]
    lambda a: a[None, :, None, None], lambda a: a.reshape(-1)
)

_POSITIONAL = "encoder/pos_conv_embed/conv"
_NORMED_KERNEL = Rule(
    f"{_POSITIONAL}/kernel", "parametrizations.weight.original1", CONV
)
RULES = (  # the first that matches
    Rule(f"{_POSITIONAL}/scale", "parametrizations.weight.original0", TAPS),
    Rule(r".*/conv/kernel", "weight", CONV),
    Rule(r".*/kernel", "weight", DENSE),
    Rule(r".*/(scale|embedding)", "weight", SAME),
    Rule(r".*/bias", "bias", SAME),
    Rule(r".*/batch_norm/mean", "running_mean", SAME),
    Rule(r".*/batch_norm/var", "running_var", SAME),
    Rule(r".*/gru_rel_pos_const", "gru_rel_pos_const", HEADS),
    Rule(r"masked_spec_embed", "masked_spec_embed", SAME),
)
OPTIONAL = {"masked_spec_embed"}  # serves training only
DROPPED = (  # regular expression on the beginning of a name, why it is not wanted
    (r"(.*\.)?num_batches_tracked$", "counts training steps"),
    (r"lm_head\.", "speech recognition head"),
    (r"(projector|classifier)\.", "classification head"),
    (r"layer_weights$", "classification head"),
    (r"(tdnn\.|objective\.|feature_extractor\.(weight|bias)$)", "speaker head"),
    (r"(quantizer|project_q|project_hid)\.", "pretraining"),
    (r"(final_proj\.|label_embs_concat$)", "pretraining"),
    (r"adapter\.", "convolutions after the encoder"),
)
_OLD_SPELLINGS = {  # of weight norm, before torch 2
    "weight_g": "parametrizations.weight.original0",
    "weight_v": "parametrizations.weight.original1",
}
_FUSED = "encoder.pos_conv_embed.conv.weight"  # weight norm multiplied out
_COUNTER = "encoder.pos_conv_embed.batch_norm.num_batches_tracked"
_PREFIXES = tuple(
    wrapper + model
    for wrapper in ("", "module.", "model.", "module.model.", "model.module.")
    for model in ("", "wav2vec2.", "hubert.", "wavlm.", "data2vec_audio.")
)
_WRAPPED = re.compile(r"(module\.|model\.)*")
_FAIRSEQ = re.compile(r"(.*\.)?(post_extract_proj\.|mask_emb$|.*\.self_attn\.)")
_MAX_LISTED = 10  # tensors of each kind of fault
_FLOATS = ("float64", "float32", "float16", "bfloat16")


def find_places(shapes: Mapping[str, Any]) -> dict[str, Place]:
    """Says where each parameter of an architecture lies in a file.

    Args:
      shapes: our path -> array, or its shape and dtype.

    Returns:
      Our path -> its place, in the same order.
    """
    is_normed = f"{_POSITIONAL}/scale" in shapes
    rules = (_NORMED_KERNEL, *RULES) if is_normed else RULES
    return {path: _find_place(path, leaf.shape, rules) for path, leaf in shapes.items()}


def _find_place(path: str, shape: Shape, rules: tuple[Rule, ...]) -> Place:
    rule = next(rule for rule in rules if re.fullmatch(rule.path, path))
    modules = path.split("/")[:-1]
    modules = [re.sub(r"(?<=layers)_(\d+)$", r".\1", module) for module in modules]
    blank = np.broadcast_to(np.float32(0), shape)  # takes no memory
    name = ".".join([*modules, rule.leaf])
    return Place(name, rule.layout, rule.layout.write(blank).shape)


def to_hugging_face(params: Params, config: SpeechConfig) -> dict[str, np.ndarray]:
    """Returns a checkpoint as transformers reads it.

    Args:
      params: nested dict of arrays.
      config: their architecture.

    Returns:
      Name in the file -> array, a view where that is possible. The vector for masked
      frames is left out where transformers has none, because it masks nothing.
    """
    leaves = trees.flatten(params)
    unmasked = config.mask_time_prob == 0.0 and config.mask_feature_prob == 0.0
    tensors = {
        place.name: place.layout.write(np.asarray(leaves[path]))
        for path, place in find_places(leaves).items()
        if not (unmasked and path in OPTIONAL)
    }
    if config.conv_pos_batch_norm:  # transformers misses it otherwise
        tensors[_COUNTER] = np.zeros((), np.int64)
    return tensors


def make_plan(
    tensors: Mapping[str, Any], shapes: Mapping[str, Any], where: str
) -> Plan:
    """Decides which tensor of a file fills which parameter.

    Args:
      tensors: name in the file -> anything with a shape and a dtype.
      shapes: our path -> shape and dtype of every parameter.
      where: the file, for messages.

    Returns:
      The plan.

    Raises:
      InputError: one message with all tensors that are unknown, missing, there twice,
        of the wrong shape or dtype; or the checkpoint is of another architecture.
    """
    places = find_places(shapes)
    start = _find_prefix(tensors, places, where)
    dropped = {n: why for n in tensors if (why := _why_dropped(n, start))}
    names: dict[str, list[str]] = {}  # as in the table -> in the file
    for name in tensors:
        if name not in dropped and name.startswith(start):
            names.setdefault(_respell(name.removeprefix(start)), []).append(name)
    found = _list_sources(places, names)
    faults = _find_faults(tensors, places, found, start)
    used = {source.name for sources in found.values() for source in sources}
    faults["unknown"] = [n for n in tensors if n not in used and n not in dropped]
    if any(faults.values()):
        raise InputError(_explain(faults, where))
    return Plan(
        sources={path: sources[0] for path, sources in found.items() if sources},
        missing={path: shapes[path].shape for path in found if not found[path]},
        dropped=dropped,
        renamed=_find_renamed(found, start),
    )


def _find_prefix(tensors: Iterable[str], places: dict[str, Place], where: str) -> str:
    """Returns the prefix under which most parameters are there."""
    known = {place.name for place in places.values()} | {_FUSED}

    def count(start: str) -> int:
        inner = (n.removeprefix(start) for n in tensors if n.startswith(start))
        return sum(_respell(name) in known for name in inner)

    best = max(_PREFIXES, key=count)
    names = sorted(tensors)
    if 4 * count(best) < max(1, min(len(names), len(places))):
        first = ", ".join(names[:5]) or "no tensors"
        fairseq = any(_FAIRSEQ.match(name) for name in names)
        hint = " These are fairseq's names: take the one converted to transformers."
        raise InputError(
            f"{where}: the checkpoint of another architecture than its config.json "
            f"says: {count(best)} of {len(places)} tensors are there by name. It holds "
            f"{first}, ...{hint if fairseq else ''}"
        )
    return best


def _respell(name: str) -> str:
    module, _, leaf = name.rpartition(".")
    if module != _FUSED.rpartition(".")[0]:
        return name
    return f"{module}.{_OLD_SPELLINGS.get(leaf, leaf)}"


def _why_dropped(name: str, start: str) -> str:
    """Returns why a tensor is not wanted, '' if it is."""
    is_inside = start and name.startswith(start)
    short = name.removeprefix(start) if is_inside else _WRAPPED.sub("", name, count=1)
    return next((why for pattern, why in DROPPED if re.match(pattern, short)), "")


def _list_sources(
    places: dict[str, Place], names: dict[str, list[str]]
) -> dict[str, list[Source]]:
    """Returns path -> what could fill it."""
    found = {
        path: [
            Source(n, place.layout.read, place.shape) for n in names.get(place.name, ())
        ]
        for path, place in places.items()
    }
    kernel, scale = (f"{_POSITIONAL}/{leaf}" for leaf in ("kernel", "scale"))
    for name in names.get(_FUSED, ()) if scale in places else ():
        shape = places[kernel].shape
        found[kernel].append(Source(name, CONV.read, shape))
        found[scale].append(Source(name, _norm_of_taps, shape))
    return found


def _norm_of_taps(weight: np.ndarray) -> np.ndarray:
    """The scale that leaves a fused kernel [out, in, taps] as it is, [taps]."""
    return np.sqrt(np.square(weight.astype(np.float64)).sum(axis=(0, 1)))


def _find_faults(
    tensors: Mapping[str, Any],
    places: dict[str, Place],
    found: dict[str, list[Source]],
    start: str,
) -> dict[str, list[str]]:
    """Returns kind of fault -> tensors."""
    single = {sources[0] for sources in found.values() if len(sources) == 1}
    return {
        "missing": [
            f"{start}{places[path].name} {list(places[path].shape)}"
            for path, sources in found.items()
            if not sources and path not in OPTIONAL
        ],
        "there twice": [
            " and ".join(source.name for source in sources)
            for sources in found.values()
            if len(sources) > 1
        ],
        "of the wrong shape": [
            f"{s.name} {list(tensors[s.name].shape)}, expected {list(s.shape)}"
            for s in single
            if tuple(tensors[s.name].shape) != s.shape
        ],
        "no floating-point numbers": [
            f"{s.name} ({tensors[s.name].dtype})"
            for s in single
            if tensors[s.name].dtype.name not in _FLOATS
        ],
    }


def _explain(faults: dict[str, list[str]], where: str) -> str:
    lines = [f"{where}: the checkpoint does not fit its config.json."]
    for kind, tensors in faults.items():
        lines += [f"  {len(tensors)} tensor(s) {kind}:"] if tensors else []
        lines += [f"    {tensor}" for tensor in sorted(tensors)[:_MAX_LISTED]]
        lines += ["    ..."] if len(tensors) > _MAX_LISTED else []
    return "\n".join(lines)


def _find_renamed(found: dict[str, list[Source]], start: str) -> tuple[str, ...]:
    """Returns what the file calls otherwise than the table does."""
    sources = [source for sources in found.values() for source in sources]
    inner = sorted(source.name.removeprefix(start) for source in sources)
    notes = [f"all names begin with {start!r}"] if start else []
    notes += [f"{n}: spelt as before torch 2" for n in inner if _respell(n) != n]
    if any(source.read is _norm_of_taps for source in sources):
        notes.append(f"{_FUSED}: weight norm multiplied out, taken apart again")
    return tuple(notes)


def read_params(
    plan: Plan, tensors: Mapping[str, StoredTensor], dtype: str, where: str
) -> Iterator[tuple[str, np.ndarray]]:
    """Reads the parameters one at a time.

    Args:
      plan: from `make_plan`.
      tensors: name in the file -> tensor.
      dtype: 'float32', or 'bfloat16' | 'float16' for the kernels of products; norms,
        biases, embeddings and the positional convolution stay in float32.
      where: the file, for messages.

    Yields:
      Our path and a new array in our layout.

    Raises:
      InputError: a number is not finite, or too big for the dtype.
    """
    for path, source in plan.sources.items():
        stored = source.read(tensors[source.name].read())
        yield path, _cast(stored, kernel_dtype(path, dtype), f"{where}: {source.name}")
    for path, shape in plan.missing.items():
        yield path, np.zeros(shape, np.float32)


def _cast(stored: np.ndarray, dtype: str, name: str) -> np.ndarray:
    """Copies into rows of another dtype; refuses what is or becomes infinite."""
    with np.errstate(over="ignore", invalid="ignore"):
        wide = copy_rows(stored, np.dtype(np.float32))
        largest = max(-wide.min(), wide.max())  # NaN if there is one
        if largest <= float(ml_dtypes.finfo(dtype).max):
            return wide.astype(dtype, copy=False)
        exact = stored.astype(np.float64)
    if not np.isfinite(exact).all():
        raise InputError(
            f"{name}: {(~np.isfinite(exact)).sum()} of {exact.size} numbers are NaN or "
            "infinite. The checkpoint is damaged; download it again."
        )
    raise InputError(
        f"{name}: its largest number, {np.abs(exact).max():.3g}, is too big for "
        f"{dtype}. Use bfloat16 or float32."
    )

"""Makes docs/encoders.md: what the encoders are, and how near they come to PyTorch's.

python docs/make_encoders.py            measures all; needs torch, 5 GB and minutes
python docs/make_encoders.py --speed    only puts docs/encoders_speed.md into its place

Every number of the page is measured here; the text is below.
"""

import argparse
import functools
import importlib.util
import math
import os
import pathlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.numerics import Numerics
from metaperser_jax.encoders.published import PUBLISHED
from metaperser_jax.encoders.transformer import SpeechModel, num_frames, param_shapes

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "encoders.md"
SPEED = ROOT / "docs" / "encoders_speed.md"
SPEED_MARKS = ("<!-- speed -->", "<!-- /speed -->")
SHAPES = (
    "facebook/wav2vec2-base",
    "facebook/wav2vec2-large-lv60",
    "facebook/hubert-base-ls960",
    "facebook/hubert-large-ll60k",
    "microsoft/wavlm-base-plus",
    "microsoft/wavlm-large",
    "facebook/data2vec-audio-base",
)
SAMPLES, MATE = 11_111, 16_000  # the clip that is compared, and its neighbour
SEED = 12
GROUPS = (
    *("front end", "positional convolution", "input of the first layer"),
    *("lower third of layers", "middle third", "upper third", "last hidden state"),
)
COLUMNS = (
    *("float32 alone", "float32 padded", "bfloat16 alone", "bfloat16 padded"),
    "PyTorch bfloat16 alone",
)

INTRO = """# Encoders

Written by `python docs/make_encoders.py`, which measures every number below.

An encoder turns a waveform (16 kHz) into the hidden states of its layers, one frame
every 20 ms. wav2vec 2.0, HuBERT, WavLM and data2vec-audio are one Flax module here,
in float32, bfloat16 or float16, with parameters named as in the checkpoints of
transformers; PyTorch is not needed. `logmel` is a stand-in without weights.

```python
import numpy as np

from metaperser_jax.encoders.encoder import encode, encode_pooled
from metaperser_jax.encoders.pretrained import load_encoder

encoder, params = load_encoder("microsoft/wavlm-base-plus")  # or a folder
waveforms = np.zeros((2, 32_000), np.float32)  # what lies beyond a clip is ignored
lengths = np.array([32_000, 20_000])
output = encode(encoder, params, waveforms, lengths)
output.hidden_states  # [batch, layers + 1, frames, width]; 0: the first's input
output.mask  # [batch, frames]
pooled = encode_pooled(encoder, params, waveforms, lengths)  # frames averaged
```

`load_encoder` takes a name on the hub or a folder with config.json and safetensors or
a torch state dict, which is read without torch and without running it. In a run it is
`--config.encoder.name=NAME`. Jit with `jax.jit(functools.partial(encode, encoder))`.

"""

PADDING = """## Padding

A clip's valid frames are those of the clip alone, whatever the padding holds (NaN
included) and whoever else is in the batch:

- The mean and variance of the waveform, and the group norm of the first convolution,
  are taken over the clip's own samples and frames.
- The positional convolution sees zeros beyond the clip, as at the end of a clip
  alone, in each of data2vec-audio's convolutions.
- Attention gives the padding a weight of exactly zero.
- A clip shorter than 25 ms counts as one frame, with silence behind it; PyTorch
  refuses it. An empty clip has no valid frame; its pooled states are zero.

PyTorch differs here. In models with group norm (the base sizes of wav2vec 2.0, HuBERT
and WavLM, and wav2vec2-large) the norm also sees the padding, so a padded batch does
not give what the single clip gives; their feature extractor gives no mask either, so
attention sees it as well. With a mask, data2vec-audio differs too: from its second
positional convolution on, the padding holds what the one before made of it.

Below, a clip of {clip:.2f} s is padded to {mate:.2f} s: largest and mean difference
of the last hidden state from the single clip in PyTorch, relative to the largest and
the mean absolute value.

"""

TRAINING = """## Training

`encode_training` adds what the config asks for: dropout, layer drop and SpecAugment,
all from one key. With the noise at zero it is `encode_pooled`. Gradients reach every
parameter that the pooled states depend on, have derivatives themselves, and stay
finite whatever the padding holds. Deliberately different from transformers:

- Layer drop is a choice between two results, so that one compilation serves all
  draws: a dropped layer costs its time all the same. One draw a layer holds for the
  whole batch. WavLM's first layer is never dropped, there and here: it learns the
  bias of all others.
- SpecAugment masks valid frames only. A clip shorter than one span is not masked,
  where transformers raises an error if the whole batch is.
- Batch norms (some HuBERT models) use their stored statistics, and these are not
  trained.
- Norm statistics, softmax and the residual stream are float32 in every dtype; in
  bfloat16 PyTorch rounds what they return.
- `remat=True` computes each layer a second time for its gradient and holds less.
- A fused attention kernel (`Numerics.fused_attention`) is for inference: it has no
  second derivative, which meta-learning through the encoder needs.

"""

PARITY = """## Parity

The reference is PyTorch {torch} with transformers {transformers}: the clip of
{clip:.2f} s alone, without padding, in float32. Weights are drawn (no norm is one, no
bias zero), the shapes are those of the published models. Cells hold the largest and
the mean difference, relative to the largest and the mean absolute value of the same
state; of several layers, the worst one. "Padded": in a batch with a clip of
{mate:.2f} s and garbage beyond the end. PyTorch's own bfloat16 stands beside ours.
`make parity` demands 1e-4 of every hidden state in float32, a smaller mean error than
PyTorch's in bfloat16, and gradients of all parameters within 1e-3; golden files
(`tests/golden`) check each stage without PyTorch.

"""

SPEED_TEXT = """## Speed and memory

"""


class Error(NamedTuple):
    """How far a state is from the reference."""

    largest: float  # of the largest absolute value
    mean: float  # of the mean absolute value


class Measured(NamedTuple):
    """One shape: errors of each group of states, and of padded batches."""

    parity: dict[str, dict[str, Error]]  # group -> column -> error
    padding: dict[str, Error]  # way of padding -> error of the last hidden state


States = dict[str, list[np.ndarray]]  # group -> states [frames, width]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speed", action="store_true", help="nothing is measured")
    if parser.parse_args(arguments).speed:
        PAGE.write_text(with_speed(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
        return 0
    import torch
    import transformers

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    measured = {}
    for name in SHAPES:
        print(name, file=sys.stderr, flush=True)
        measured[name] = measure(PUBLISHED[name], SEED + len(measured))
        jax.clear_caches()
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    PAGE.write_text(with_speed(page(measured, versions)), encoding="utf-8")
    return 0


# --- Measurements ---


@functools.cache
def load(name: str) -> Any:
    """Imports a file of tests/golden."""
    path = ROOT / "tests" / "golden" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(config: SpeechConfig, seed: int) -> Measured:
    """Compares one shape with PyTorch."""
    import torch

    cases, pytorch = load("encoder_cases"), load("torch_encoders")
    params = cases.make_params(param_shapes(config), seed)
    clips = [cases.make_clip(row, length) for row, length in enumerate((SAMPLES, MATE))]
    nested = unflatten_dict(params, sep="/")
    columns = {
        f"{dtype} {how}": run_ours(config, nested, clips[:count], dtype)
        for dtype in ("float32", "bfloat16")
        for how, count in (("alone", 1), ("padded", 2))
    }
    model = pytorch.make_model(config, params)
    with torch.no_grad():
        expected = run_torch(config, model, clips[0])
        ways = run_padded(config, model, clips)
        columns["PyTorch bfloat16 alone"] = run_torch(
            config, model.bfloat16(), clips[0]
        )
    reference = expected["last hidden state"]
    ways["this library"] = columns["float32 padded"]["last hidden state"][0]
    return Measured(
        parity={
            group: {
                column: worst(columns[column][group], expected[group])
                for column in COLUMNS
            }
            for group in GROUPS
        },
        padding={way: worst([found], reference) for way, found in ways.items()},
    )


def run_torch(config: SpeechConfig, model: Any, clip: np.ndarray) -> States:
    """Returns PyTorch's states of a clip alone."""
    pytorch = load("torch_encoders")
    stages = pytorch.encode(model, pytorch.normalise(config, clip))
    hidden = [state.float().numpy() for state in stages.hidden]
    rest = (stages.front, stages.positions, stages.last)
    return grouped(hidden, *(state.float().numpy() for state in rest))


def run_padded(
    config: SpeechConfig, model: Any, clips: list[np.ndarray]
) -> dict[str, np.ndarray]:
    """Returns PyTorch's last hidden state of the first clip, padded with zeros."""
    pytorch = load("torch_encoders")
    lengths = np.array([len(clip) for clip in clips])
    batch = np.zeros((len(clips), lengths.max()), np.float32)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = pytorch.normalise(config, clip)
    frames = count_frames(config, lengths[0])
    return {
        way: pytorch.encode_batch(model, batch, lengths, masked)[-1][0, :frames].numpy()
        for way, masked in (("PyTorch without mask", False), ("PyTorch, mask", True))
    }


def run_ours(
    config: SpeechConfig, params: Any, clips: list[np.ndarray], dtype: str
) -> States:
    """Returns our states of the first clip, from a batch with garbage as padding."""
    model = SpeechModel(config, Numerics(dtype))
    lengths = np.array([len(clip) for clip in clips])
    batch = np.full((len(clips), lengths.max()), 9.0, np.float32)
    for row, clip in enumerate(clips):
        batch[row, : len(clip)] = clip
    names = ("feature_extractor", "pos_conv_embed")

    @jax.jit
    def run(params):
        (hidden, last, _), noted = model.apply(
            {"params": params},
            batch,
            lengths,
            lambda x, mask: x,
            capture_intermediates=lambda module, _: module.name in names,
            mutable="intermediates",
        )
        (front,) = noted["intermediates"]["feature_extractor"]["__call__"]
        (added,) = noted["intermediates"]["encoder"]["pos_conv_embed"]["__call__"]
        return hidden, jnp.asarray(front), added, last

    frames = count_frames(config, lengths[0])
    hidden, *rest = run(params)
    return grouped(
        [np.asarray(state[0, :frames]) for state in hidden],
        *(np.asarray(state[0, :frames]) for state in rest),
    )


def count_frames(config: SpeechConfig, samples: int) -> int:
    """Returns the valid frames of a clip."""
    return int(num_frames(np.array([samples]), config)[0])


def grouped(hidden: list[np.ndarray], front, added, last) -> States:
    """Returns group -> states; the layers in three thirds."""
    first, *layers = hidden
    third = math.ceil(len(layers) / 3)
    thirds = [layers[i * third : (i + 1) * third] for i in range(3)]
    return dict(zip(GROUPS, ([front], [added], [first], *thirds, [last]), strict=True))


def worst(found: list[np.ndarray], expected: list[np.ndarray]) -> Error:
    """Returns the largest of each error over the states of a group."""
    errors = [error_of(*pair) for pair in zip(found, expected, strict=True)]
    return Error(*map(max, zip(*errors, strict=True)))


def error_of(found: np.ndarray, expected: np.ndarray) -> Error:
    """Returns the errors of one state."""
    difference, size = np.abs(found - expected), np.abs(expected)
    return Error(
        float(difference.max() / size.max()), float(difference.mean() / size.mean())
    )


# --- The page ---


def page(measured: Mapping[str, Measured], versions: Mapping[str, str]) -> str:
    """Returns the page, its place for speed empty."""
    numbers = {"clip": SAMPLES / 16_000, "mate": MATE / 16_000, **versions}
    parts = [
        INTRO,
        "The published architectures, as `metaperser_jax/encoders/published.py` has "
        "them:\n\n",
        markdown(architectures()),
        "\n",
        PADDING.format(**numbers),
        markdown(padding_rows(measured)),
        "\n",
        TRAINING,
        PARITY.format(**numbers),
    ]
    for name, found in measured.items():
        parts += [f"### {name}\n\n", markdown(parity_rows(found)), "\n"]
    return "".join([*parts, SPEED_TEXT, *(f"{mark}\n" for mark in SPEED_MARKS)])


def architectures() -> Iterator[list[str]]:
    """Yields the rows of the table of architectures."""
    yield ["name", "layers", "width", "M parameters", "norm", "waveform"]
    for name, config in PUBLISHED.items():
        count = sum(math.prod(s.shape) for s in param_shapes(config).values())
        norm = config.feat_extract_norm
        norm += ", before each block" if config.do_stable_layer_norm else ""
        yield [
            f"`{name}`",
            str(config.num_hidden_layers),
            str(config.hidden_size),
            f"{count / 1e6:,.1f}",
            norm,
            "normalised" if config.do_normalize else "as it is",
        ]


def padding_rows(measured: Mapping[str, Measured]) -> Iterator[list[str]]:
    """Yields the rows of the table of padded batches."""
    ways = list(next(iter(measured.values())).padding)
    yield ["shape", "norm of the front end", *ways]
    for name, found in measured.items():
        cells = [cell(found.padding[way]) for way in ways]
        yield [f"`{name}`", PUBLISHED[name].feat_extract_norm, *cells]


def parity_rows(found: Measured) -> Iterator[list[str]]:
    """Yields the rows of one shape's table."""
    yield ["largest / mean error", *COLUMNS]
    for group in GROUPS:
        yield [group, *(cell(found.parity[group][column]) for column in COLUMNS)]


def cell(error: Error) -> str:
    """Returns 'largest / mean'."""
    return f"{error.largest:.1e} / {error.mean:.1e}"


def markdown(rows: Iterator[list[str]]) -> str:
    """Returns a table; its first row is the heading."""
    head, *body = ["| " + " | ".join(row) + " |\n" for row in rows]
    return head + "|" + "---|" * (head.count("|") - 1) + "\n" + "".join(body)


def with_speed(text: str) -> str:
    """Puts docs/encoders_speed.md, where it is there, between the marks."""
    start, end = SPEED_MARKS
    inner = "Measured by `python -m perf.encoders`; not yet done here.\n"
    if SPEED.exists():
        lines = SPEED.read_text(encoding="utf-8").strip().splitlines()
        inner = "\n".join(lines[1:] if lines[0].startswith("# ") else lines).strip()
        inner = re.sub(r"^(#+ )", r"#\1", inner, flags=re.MULTILINE) + "\n"
    before, after = text.split(start)[0], text.split(end)[1]
    return f"{before}{start}\n\n{inner}\n{end}{after}"


if __name__ == "__main__":
    sys.exit(main())

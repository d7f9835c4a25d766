"""A numeric self-test of an encoder: is it finite, exact under padding, and how fast.

It needs no reference: it says that this machine computes with these files what their
float32 weights mean, not that the weights are good ones.
"""

import time
from typing import NamedTuple

import jax
import numpy as np

from metaperser_jax.encoders.encoder import Encoder, encode_pooled, prepare
from metaperser_jax.typing import Params

SECONDS = 2.0
_PADDING_TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2, "float16": 5e-3}


class SelfTest(NamedTuple):
    """What was found with a synthetic voice of `SECONDS`."""

    finite: bool
    padding_error: float  # alone against padded in a batch, relative to the largest
    num_layers: int
    width: int
    real_time: float  # seconds of audio encoded in a second, compiled and warm
    tolerance: float

    @property
    def passed(self) -> bool:
        """Whether all is as it must be."""
        return self.finite and self.padding_error <= self.tolerance


def self_test(encoder: Encoder, params: Params) -> SelfTest:
    """Encodes a clip alone and the same clip padded beside a longer one.

    Args:
      encoder: from `load_encoder`.
      params: from `load_encoder`.

    Returns:
      What was found.
    """
    short, long = synthetic_voice(SECONDS), synthetic_voice(1.5 * SECONDS)
    batch = np.stack([np.pad(short, (0, len(long) - len(short))), long])
    lengths = np.array([len(short), len(long)], np.int32)
    run = jax.jit(lambda p, w, n: encode_pooled(encoder, p, w, n))
    ready = jax.jit(lambda tree: prepare(encoder, tree))(params)
    alone = np.asarray(run(ready, short[None], lengths[:1]))[0]
    padded = np.asarray(run(ready, batch, lengths))[0]
    start = time.perf_counter()
    jax.block_until_ready(run(ready, batch, lengths))
    seconds = time.perf_counter() - start
    largest = max(float(np.abs(alone).max()), 1e-30)
    dtype = str(encoder.config.get("numerics", "float32"))
    return SelfTest(
        finite=bool(np.isfinite(alone).all() and np.isfinite(padded).all()),
        padding_error=float(np.abs(alone - padded).max()) / largest,
        num_layers=encoder.num_layers,
        width=encoder.width,
        real_time=float(lengths.sum()) / 16_000 / max(seconds, 1e-9),
        tolerance=_PADDING_TOLERANCE.get(dtype, 1e-4),
    )


def synthetic_voice(seconds: float) -> np.ndarray:
    """[samples] 16 kHz: a gliding tone with overtones, syllables and a little noise."""
    time_axis = np.arange(int(16_000 * seconds)) / 16_000
    phase = 2 * np.pi * (140 * time_axis + 15 * np.sin(2 * np.pi * time_axis))
    tone = sum(np.sin(k * phase) / k for k in range(1, 9))
    syllables = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * time_axis)
    noise = np.random.default_rng(0).standard_normal(len(time_axis))
    return (0.08 * syllables * tone + 0.005 * noise).astype(np.float32)


def describe(found: SelfTest) -> list[str]:
    """Returns lines for the console, each beginning with ok or error."""
    grade = "ok     " if found.finite else "error  "
    lines = [
        f"{grade}  self-test: {found.num_layers} hidden states of {found.width} "
        f"channels, {'all finite' if found.finite else 'NaN or infinity in them'}"
    ]
    exact = found.padding_error <= found.tolerance
    lines.append(
        f"{'ok     ' if exact else 'error  '}  self-test: a clip alone and padded in a "
        f"batch differ by {found.padding_error:.0e} of the largest value (at most "
        f"{found.tolerance:.0e})"
    )
    lines.append(f"ok       self-test: {found.real_time:.1f} x real time")
    return lines

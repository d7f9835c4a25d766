"""Arithmetic the encoders share: what runs in which precision, norms, activations.

Matrix products and convolutions run in the encoder's dtype and accumulate in float32;
norm statistics, softmax and the residual stream stay in float32.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from metaperser_jax.typing import Array

Layout = Literal["cpu", "accelerator"]


class Numerics(NamedTuple):
    """How an encoder computes."""

    dtype: str = "float32"  # of the operands of products
    layout: Layout | None = None  # None = by the default backend
    fused_attention: bool = False  # one kernel, without a second derivative

    @property
    def on_cpu(self) -> bool:
        """Whether the layouts that suit a CPU are wanted."""
        return (self.layout or default_layout()) == "cpu"


def default_layout() -> Layout:
    """Returns the layout for JAX's default backend."""
    return "cpu" if jax.default_backend() == "cpu" else "accelerator"


# kept in float32 whatever the dtype: the first convolution, on which all depends,
# the positional one, and WavLM's gates
_IN_FLOAT32 = ("/conv_layers_0/", "/pos_conv_embed/", "/gru_rel_pos_linear/")


def kernel_dtype(path: str, dtype: str) -> str:
    """Returns the dtype of a parameter in an encoder of some dtype.

    Args:
      path: of the parameter, as 'encoder/layers_0/attention/q_proj/kernel'.
      dtype: of the encoder.

    Returns:
      `dtype` for the kernels of products, 'float32' for all else.
    """
    is_product = path.endswith("/kernel") and not any(p in path for p in _IN_FLOAT32)
    return dtype if is_product else "float32"


def product(spec: str, a: Array, b: Array, numerics: Numerics) -> jax.Array:
    """Einsum in the encoder's dtype that accumulates in, and returns, float32.

    A float32 product is a float32 product everywhere: without `HIGHEST` a GPU rounds
    its operands to 10 bits of mantissa and a TPU to 7.
    """
    operands = jnp.asarray(a, numerics.dtype), jnp.asarray(b, numerics.dtype)
    precision = lax.Precision.HIGHEST if numerics.dtype == "float32" else None
    return jnp.einsum(
        spec, *operands, precision=precision, preferred_element_type=jnp.float32
    )


def gelu(x: Array) -> jax.Array:
    """Exact GELU by erf; `jax.nn.gelu` goes by erfc, which is slower on a CPU."""
    x = jnp.asarray(x)
    return 0.5 * x * (1.0 + lax.erf(x * math.sqrt(0.5)))


ACTIVATION_FNS: dict[str, Callable[[Array], jax.Array]] = {
    "gelu": gelu,
    "gelu_new": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu_pytorch_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "swish": jax.nn.silu,
}


def layer_norm(
    x: Array, scale: Array | None, bias: Array | None, eps: float
) -> jax.Array:
    """Norm over the last axis of [batch, frames, width], statistics in float32."""
    x = jnp.asarray(x, jnp.float32)
    mean = x.mean(axis=-1, keepdims=True)
    centred = x - mean
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    normed = centred * lax.rsqrt(variance + eps)
    if scale is None or bias is None:
        return normed
    return normed * jnp.asarray(scale)[None, None] + jnp.asarray(bias)[None, None]


def channel_norm(
    x: Array, mask: Array, scale: Array, bias: Array, eps: float
) -> jax.Array:
    """Norm of each channel over a clip's valid frames, one pass over the data.

    Group norm with one channel a group. Sums are taken around the first frame: a
    constant offset of the recording would otherwise cancel catastrophically.

    Args:
      x: [batch, frames, width].
      mask: [batch, frames] valid frames.
      scale: [width].
      bias: [width].
      eps: added to the variance.

    Returns:
      [batch, frames, width] float32.
    """
    x = jnp.asarray(x, jnp.float32)
    keep = mask[:, :, None]  # [batch, frames, 1]
    count = jnp.maximum(mask.sum(axis=1), 1).astype(jnp.float32)[:, None, None]
    first = lax.stop_gradient(x[:, :1])  # [batch, 1, width]
    shifted = jnp.where(keep, x - first, 0.0)
    mean = shifted.sum(axis=1, keepdims=True) / count
    square = jnp.square(shifted).sum(axis=1, keepdims=True) / count
    variance = jnp.maximum(square - jnp.square(mean), 0.0)
    factor = lax.rsqrt(variance + eps) * jnp.asarray(scale)[None, None]
    return (x - first - mean) * factor + jnp.asarray(bias)[None, None]


def normalise_waveforms(waveforms: Array, inside: Array) -> jax.Array:
    """Zero mean and unit variance over each clip's own samples.

    Args:
      waveforms: [batch, samples].
      inside: [batch, samples] True = a sample of the clip.

    Returns:
      [batch, samples] float32, zero outside.
    """
    count = jnp.maximum(inside.sum(axis=1, keepdims=True), 1).astype(jnp.float32)
    mean = jnp.where(inside, waveforms, 0.0).sum(axis=1, keepdims=True) / count
    centred = jnp.where(inside, waveforms - mean, 0.0)
    variance = jnp.square(centred).sum(axis=1, keepdims=True) / count
    return centred * lax.rsqrt(variance + 1e-7)

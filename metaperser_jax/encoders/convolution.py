"""The convolutional front end and the positional convolution.

All functions take [batch, frames, channels]. A CPU gets matrix products over blocks of
frames where XLA's own convolution is slow there: strided ones in low precision, and
the grouped positional one (in the frequency domain). Accelerators get XLA's.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.numerics import (
    ACTIVATION_FNS,
    Numerics,
    channel_norm,
    layer_norm,
    product,
)
from metaperser_jax.typing import Array

_FRONT_EPS = 1e-5  # of the front end's norms, whatever the config says of the others


def num_frames(lengths: Array, config: SpeechConfig) -> jax.Array:
    """Valid frames of clips of `lengths` samples: at least one, none if empty."""
    frames = jnp.maximum(lengths, receptive_field(config))
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        frames = (frames - kernel) // stride + 1
    return jnp.where(lengths > 0, frames, 0)


def receptive_field(config: SpeechConfig) -> int:
    """Samples that one frame sees."""
    samples = 1
    layers = zip(config.conv_kernel, config.conv_stride, strict=True)
    for kernel, stride in reversed(list(layers)):
        samples = (samples - 1) * stride + kernel
    return samples


def strided_convolution(
    x: Array, kernel: Array, stride: int, numerics: Numerics
) -> jax.Array:
    """Convolution without padding.

    Args:
      x: [batch, frames, channels].
      kernel: [taps, channels, outputs].
      stride: frames between outputs.
      numerics: how to compute.

    Returns:
      [batch, (frames - taps) // stride + 1, outputs] float32.
    """
    if numerics.on_cpu and numerics.dtype != "float32" and x.shape[-1] > 1:
        return _blockwise_convolution(x, kernel, stride, numerics)
    return lax.conv_general_dilated(
        jnp.asarray(x, numerics.dtype),
        jnp.asarray(kernel, numerics.dtype),
        (stride,),
        "VALID",
        dimension_numbers=("NWC", "WIO", "NWC"),
        precision=lax.Precision.HIGHEST if numerics.dtype == "float32" else None,
        preferred_element_type=jnp.float32,
    )


def _blockwise_convolution(x, kernel, stride: int, numerics: Numerics):
    """Blocks of `stride` frames are rows of a matrix: one product for each block.

    Output n is the sum over j of block n + j times the kernel's j-th block of taps.
    """
    taps, channels, outputs = kernel.shape
    count = (x.shape[1] - taps) // stride + 1
    needed = (count + math.ceil(taps / stride) - 1) * stride
    x = x.astype(numerics.dtype)[:, :needed]
    x = jnp.pad(x, ((0, 0), (0, needed - x.shape[1]), (0, 0)))
    blocks = x.reshape(x.shape[0], -1, stride * channels)
    terms = []
    for j, start in enumerate(range(0, taps, stride)):
        part = kernel[start : start + stride].reshape(-1, outputs)
        rows = blocks[:, j : j + count, : part.shape[0]]
        terms.append(product("bnk,kd->bnd", rows, part, numerics))
    return functools.reduce(jnp.add, terms)


def same_convolution(
    x: Array, kernel: Array, groups: int, numerics: Numerics
) -> jax.Array:
    """Grouped convolution with zeros around; output n sees n - taps // 2 onwards.

    Args:
      x: [batch, frames, channels].
      kernel: [taps, channels / groups, outputs].
      groups: of channels.
      numerics: how to compute.

    Returns:
      [batch, frames, outputs] float32.
    """
    if numerics.on_cpu:
        taps = kernel.shape[0]
        return spectral_convolution(x, filters(kernel, groups), taps)
    padding = (kernel.shape[0] // 2, (kernel.shape[0] - 1) // 2)
    return lax.conv_general_dilated(
        jnp.asarray(x, numerics.dtype),
        jnp.asarray(kernel, numerics.dtype),
        (1,),
        [padding],
        dimension_numbers=("NWC", "WIO", "NWC"),
        feature_group_count=groups,
        precision=lax.Precision.HIGHEST if numerics.dtype == "float32" else None,
        preferred_element_type=jnp.float32,
    )


def filters(kernel: Array, groups: int) -> jax.Array:
    """Spectrum of a grouped kernel, for `spectral_convolution`.

    Args:
      kernel: [taps, channels / groups, outputs].
      groups: of channels.

    Returns:
      [2, bins, groups, channels / groups, outputs / groups] float32, the real part
      and the negative imaginary one: a correlation needs the conjugate.
    """
    taps, inputs, outputs = kernel.shape
    bins = _block_size(taps) // 2 + 1
    forward, _ = _transforms(_block_size(taps))
    grouped = kernel.astype(jnp.float32).reshape(taps, inputs, groups, -1)
    grouped = grouped.transpose(0, 2, 1, 3).reshape(taps, -1)
    signs = np.repeat([1.0, -1.0], bins).astype(np.float32)[:, None]
    spectrum = _dot("kt,tm->km", forward[:, :taps] * signs, grouped)
    return spectrum.reshape(2, bins, groups, inputs, outputs // groups)


def spectral_convolution(x: Array, spectrum: Array, taps: int) -> jax.Array:
    """Same as `same_convolution`, by overlap-save with real transforms.

    Transforms are products with fixed matrices over short blocks, so that clips of
    all lengths share them; for each frequency and group there is one small product.

    Args:
      x: [batch, frames, channels].
      spectrum: from `filters`.
      taps: of the kernel.

    Returns:
      [batch, frames, outputs] float32.
    """
    _, bins, groups, inputs, outputs = spectrum.shape
    size = _block_size(taps)
    hop = size - taps + 1  # outputs of a block
    batch, frames, _ = x.shape
    count = math.ceil(frames / hop)
    after = (count - 1) * hop + size - taps // 2 - frames
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (taps // 2, after), (0, 0)))
    blocks = jnp.stack([x[:, i * hop : i * hop + size] for i in range(count)])
    rows = count * batch
    blocks = blocks.reshape(rows, size, groups, inputs).transpose(1, 2, 0, 3)
    forward, backward = _transforms(size)
    parts = _dot("kt,tm->km", forward, blocks.reshape(size, -1))
    parts = parts.reshape(2, bins, groups, rows, inputs)
    stacked = jnp.concatenate([parts[0], parts[1]], axis=2)  # [bins, groups, 2 rows, ]
    a = _dot("fgni,fgio->fgno", stacked, spectrum[0])
    b = _dot("fgni,fgio->fgno", stacked, spectrum[1])
    real = a[:, :, :rows] - b[:, :, rows:]
    imaginary = b[:, :, :rows] + a[:, :, rows:]
    both = jnp.concatenate([real, imaginary]).reshape(2 * bins, -1)
    y = _dot("tk,km->tm", backward[:hop], both)  # [hop, groups * rows * outputs]
    y = y.reshape(hop, groups, count, batch, outputs).transpose(3, 2, 0, 1, 4)
    return y.reshape(batch, count * hop, groups * outputs)[:, :frames]


def _block_size(taps: int) -> int:
    return 2 ** math.ceil(math.log2(2 * taps))


def _dot(spec: str, a, b):
    return jnp.einsum(spec, a, b, precision=lax.Precision.HIGHEST)


@functools.lru_cache
def _transforms(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Real DFT [2 bins, size], real rows first, and its inverse [size, 2 bins]."""
    angle = 2 * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(size)) / size
    forward = np.concatenate([np.cos(angle), -np.sin(angle)])
    weight = np.full(size // 2 + 1, 2.0)
    weight[[0, -1]] = 1.0  # all others stand for a conjugate pair
    weight = weight[:, None] / size
    backward = np.concatenate([np.cos(angle) * weight, -np.sin(angle) * weight]).T
    return forward.astype(np.float32), backward.astype(np.float32)


class Affine(nn.Module):
    """Scale and bias of a norm, which its caller applies."""

    width: int

    @nn.compact
    def __call__(self) -> tuple[Array, Array]:
        """Returns scale [width] and bias [width]."""
        scale = self.param("scale", nn.initializers.ones, (self.width,))
        return scale, self.param("bias", nn.initializers.zeros, (self.width,))


class Kernel(nn.Module):
    """Kernel and optional bias of a convolution, which its caller applies."""

    shape: tuple[int, int, int]  # taps, inputs, outputs
    use_bias: bool
    weight_norm: bool = False  # over all but the taps

    @nn.compact
    def __call__(self) -> tuple[Array, Array | None]:
        """Returns the kernel [taps, inputs, outputs] and the bias [outputs].

        Where `prepare` has put its filters in the kernel's place, returns those.
        """
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, self.shape[2:])
        if self.has_variable("params", "filters"):
            return self.get_variable("params", "filters"), bias
        kernel = self.param("kernel", nn.initializers.he_normal(), self.shape)
        if self.weight_norm:
            scale = self.param("scale", _norm_init(kernel), self.shape[:1])
            kernel = weight_normed(kernel, scale)
        return kernel, bias


def weight_normed(kernel: Array, scale: Array) -> jax.Array:
    """Gives each tap [inputs, outputs] of a kernel the norm `scale` [taps]."""
    norm = jnp.sqrt(jnp.square(kernel).sum(axis=(1, 2)))
    return jnp.multiply(kernel, (scale / norm)[:, None, None])


def _norm_init(kernel):
    """Initial scale that leaves the kernel as it was drawn."""
    return lambda key, shape: jnp.sqrt(jnp.square(kernel).sum(axis=(1, 2)))


class ConvLayer(nn.Module):
    """One convolution of the front end with its norm and activation."""

    config: SpeechConfig
    numerics: Numerics
    index: int

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        config, i = self.config, self.index
        width = config.conv_dim[i]
        inputs = config.conv_dim[i - 1] if i else 1
        self.conv = Kernel((config.conv_kernel[i], inputs, width), config.conv_bias)
        if config.feat_extract_norm == "layer" or i == 0:
            self.layer_norm = Affine(width)

    def __call__(self, x: jax.Array, counts: Array) -> jax.Array:
        """[batch, frames, channels], [batch] valid frames after it -> the next."""
        config, numerics = self.config, self.numerics
        if self.index == 0:  # one channel: cheap, and all else depends on it
            numerics = numerics._replace(dtype="float32")
        kernel, bias = self.conv()
        x = strided_convolution(x, kernel, config.conv_stride[self.index], numerics)
        if bias is not None:
            x = x + bias[None, None]
        if config.feat_extract_norm == "layer":
            x = layer_norm(x, *self.layer_norm(), _FRONT_EPS)
        elif self.index == 0:
            mask = jnp.arange(x.shape[1])[None] < counts[:, None]
            x = channel_norm(x, mask, *self.layer_norm(), _FRONT_EPS)
        return ACTIVATION_FNS[config.feat_extract_activation](x)


class FeatureExtractor(nn.Module):
    """Waveform to frames of 20 ms: seven strided convolutions."""

    config: SpeechConfig
    numerics: Numerics

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        count = len(self.config.conv_dim)
        self.conv_layers = [
            ConvLayer(self.config, self.numerics, i) for i in range(count)
        ]

    def __call__(self, waveforms: jax.Array, lengths: Array) -> jax.Array:
        """[batch, samples], [batch] -> [batch, frames, channels] float32."""
        x = waveforms[:, :, None]  # [batch, samples, 1]
        counts = lengths
        strides = zip(self.config.conv_kernel, self.config.conv_stride, strict=True)
        for layer, (kernel, stride) in zip(self.conv_layers, strides, strict=True):
            counts = (counts - kernel) // stride + 1
            x = layer(x, counts)
        return x


class BatchNorm(nn.Module):
    """Batch norm with its stored statistics, as some HuBERT models have it."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, width] -> the same shape."""
        scale, bias, mean = (
            self.param(name, init, (self.width,))
            for name, init in (
                ("scale", nn.initializers.ones),
                ("bias", nn.initializers.zeros),
                ("mean", nn.initializers.zeros),
            )
        )
        variance = self.param("var", nn.initializers.ones, (self.width,))
        factor = scale * lax.rsqrt(lax.stop_gradient(variance) + 1e-5)
        centred = x - lax.stop_gradient(mean)[None, None]
        return centred * factor[None, None] + bias[None, None]


class PositionalConv(nn.Module):
    """A wide grouped convolution in place of position embeddings."""

    config: SpeechConfig
    numerics: Numerics
    taps: int
    weight_norm: bool
    output_norm: bool = False  # data2vec-audio: a norm without parameters

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        width = self.config.hidden_size
        inputs = width // self.config.num_conv_pos_embedding_groups
        self.conv = Kernel((self.taps, inputs, width), True, self.weight_norm)
        if self.config.conv_pos_batch_norm:
            self.batch_norm = BatchNorm(width)

    def __call__(self, x: jax.Array, mask: Array) -> jax.Array:
        """[batch, frames, width], [batch, frames] -> [batch, frames, width]."""
        if self.config.conv_pos_batch_norm:
            x = self.batch_norm(x)
        x = jnp.where(mask[:, :, None], x, 0.0)
        kernel, bias = self.conv()
        if kernel.ndim == 5:
            x = spectral_convolution(x, kernel, self.taps)
        else:
            groups = self.config.num_conv_pos_embedding_groups
            x = same_convolution(x, kernel, groups, self.numerics)
        x = x if bias is None else x + bias[None, None]
        if self.output_norm:
            x = layer_norm(x, None, None, _FRONT_EPS)
        return ACTIVATION_FNS[self.config.feat_extract_activation](x)


class PositionalConvStack(nn.Module):
    """Several narrower positional convolutions, as in data2vec-audio."""

    config: SpeechConfig
    numerics: Numerics

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        taps, count = (
            self.config.conv_pos_kernel_size,
            self.config.num_conv_pos_embeddings,
        )
        self.layers = [
            PositionalConv(self.config, self.numerics, taps, False, output_norm=True)
            for _ in range(count)
        ]

    def __call__(self, x: jax.Array, mask: Array) -> jax.Array:
        """[batch, frames, width], [batch, frames] -> [batch, frames, width]."""
        for layer in self.layers:
            x = layer(x, mask)
        return x


def positional_conv(config: SpeechConfig, numerics: Numerics) -> nn.Module:
    """Returns the positional convolution that the architecture has."""
    if config.model_type == "data2vec-audio":
        return PositionalConvStack(config, numerics)
    taps = config.num_conv_pos_embeddings
    return PositionalConv(config, numerics, taps, not config.conv_pos_batch_norm)

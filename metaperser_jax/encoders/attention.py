"""Self-attention, with the gated relative position bias of WavLM."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.dense import Dense
from metaperser_jax.encoders.numerics import Numerics, product
from metaperser_jax.typing import Array

_MASKED = -1e30  # finite: a row without a valid key must not become NaN


class Gate(nn.Module):
    """The small linear map of WavLM's gates, one for all heads."""

    head_width: int

    @nn.compact
    def __call__(self, heads: jax.Array) -> jax.Array:
        """[batch, heads, frames, head width] -> [batch, heads, frames, 2]."""
        init = nn.initializers.normal(0.02)
        kernel = self.param("kernel", init, (self.head_width, 8))
        bias = self.param("bias", nn.initializers.zeros, (8,))
        # eight outputs are summed four by four: sum the kernel instead
        kernel = kernel.reshape(-1, 2, 4).sum(axis=-1)
        bias = bias.reshape(2, 4).sum(axis=-1)
        logits = jnp.einsum("bhtd,dg->bhtg", heads, kernel) + bias[None, None, None]
        return jax.nn.sigmoid(logits)


class Buckets(nn.Module):
    """A learned bias a head for each bucket of relative positions."""

    config: SpeechConfig

    @nn.compact
    def __call__(self, frames: int) -> jax.Array:
        """Returns [heads, frames, frames], entry [h, i, j] for key j - query i."""
        config = self.config
        shape = (config.num_buckets, config.num_attention_heads)
        table = self.param("embedding", nn.initializers.normal(0.02), shape)
        offsets = np.arange(1 - frames, frames)
        buckets = relative_buckets(
            offsets, config.num_buckets, config.max_bucket_distance
        )
        return toeplitz(table[buckets].T)  # from [heads, offsets]


def relative_buckets(
    offsets: np.ndarray, num_buckets: int, max_distance: int
) -> np.ndarray:
    """Buckets of relative positions (T5, Raffel et al., 2020; bidirectional).

    Half of the buckets for each sign; of these, half exact, half on a log scale up to
    `max_distance`.

    Args:
      offsets: [...] key position minus query position.
      num_buckets: in all.
      max_distance: beyond it there is one bucket.

    Returns:
      [...] int64.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = np.abs(offsets)
    # float32 as in the training code: rounding decides at the edges of buckets
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    scaled = ratio / np.float32(math.log(max_distance / exact)) * (half - exact)
    far = np.minimum((exact + scaled).astype(np.int64), half - 1)
    return (offsets > 0) * half + np.where(distance < exact, distance, far)


def toeplitz(values: Array) -> jax.Array:
    """[heads, 2 n - 1] -> [heads, n, n]: entry [i, j] is values[j - i + n - 1].

    By copies with a row length one shorter than the period; a gather is slower.
    """
    heads, length = values.shape
    n = (length + 1) // 2
    padded = jnp.pad(values, ((0, 0), (0, 1)))  # period 2 n
    rows = jnp.tile(padded, (1, n))[:, : n * length].reshape(heads, n, length)
    return rows[:, :, n - 1 :]


class Attention(nn.Module):
    """Multi-head self-attention."""

    config: SpeechConfig
    numerics: Numerics
    has_position_bias: bool = False  # WavLM's first layer holds it for all

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        config = self.config
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            width = config.hidden_size
            setattr(self, name, Dense(width, width, self.numerics))
        self.dropout = nn.Dropout(config.attention_dropout)
        if config.model_type == "wavlm":
            head_width = config.hidden_size // config.num_attention_heads
            self.gru_rel_pos_linear = Gate(head_width)
            shape = (config.num_attention_heads,)
            ones = nn.initializers.ones
            self.gru_rel_pos_const = self.param("gru_rel_pos_const", ones, shape)
            if self.has_position_bias:
                self.rel_attn_embed = Buckets(config)

    def position_bias(self, frames: int) -> jax.Array:
        """Returns WavLM's bias before the gates, [heads, frames, frames]."""
        return self.rel_attn_embed(frames)

    def _heads(self, x):
        """[batch, frames, width] -> [batch, heads, frames, head width]."""
        x = x.reshape(*x.shape[:2], self.config.num_attention_heads, -1)
        return x.transpose(0, 2, 1, 3)

    def _gated(self, x, position_bias):
        """Position bias of each clip and query, [batch, heads, frames, frames]."""
        gates = self.gru_rel_pos_linear(self._heads(x))
        constant = self.gru_rel_pos_const[None, :, None]
        gate = gates[..., 0] * (gates[..., 1] * constant - 1.0) + 2.0
        return gate[..., None] * position_bias[None]

    def __call__(
        self, x: jax.Array, mask: Array, position_bias: Array | None, train: bool
    ) -> jax.Array:
        """Attends to the valid frames.

        Args:
          x: [batch, frames, width].
          mask: [batch, frames] valid frames.
          position_bias: [heads, frames, frames] for WavLM.
          train: whether to drop attention weights.

        Returns:
          [batch, frames, width] float32.
        """
        head_width = x.shape[-1] // self.config.num_attention_heads
        query = self._heads(self.q_proj(x) * head_width**-0.5)
        key, value = self._heads(self.k_proj(x)), self._heads(self.v_proj(x))
        bias = None if position_bias is None else self._gated(x, position_bias)
        if self.numerics.fused_attention and not train:
            mixed = fused_attention(query, key, value, mask, bias, self.numerics)
        else:
            mixed = self._mix(query, key, value, mask, bias, train)
        return self.out_proj(mixed.transpose(0, 2, 1, 3).reshape(x.shape))

    def _mix(self, query, key, value, mask, bias, train: bool):
        """Mixes the values by the softmax of the scores; all in float32."""
        scores = product("bhqd,bhkd->bhqk", query, key, self.numerics)
        scores = scores if bias is None else scores + bias
        scores = jnp.where(mask[:, None, None], scores, _MASKED)
        # softmax, divided by its sum after the product: fewer numbers to divide
        largest = jax.lax.stop_gradient(scores.max(axis=-1, keepdims=True))
        weights = jnp.exp(scores - largest)
        total = weights.sum(axis=-1)[..., None]  # [batch, heads, frames, 1]
        weights = self.dropout(weights, deterministic=not train)
        return product("bhqk,bhkd->bhqd", weights, value, self.numerics) / total


def fused_attention(
    query: Array,
    key: Array,
    value: Array,
    mask: Array,
    bias: Array | None,
    numerics: Numerics,
) -> jax.Array:
    """Attention by `jax.nn.dot_product_attention`, one kernel where there is one.

    It never holds all scores, and has no second derivative.

    Args:
      query: [batch, heads, frames, head width], scaled.
      key: [batch, heads, frames, head width].
      value: [batch, heads, frames, head width].
      mask: [batch, frames] valid frames.
      bias: [batch, heads, frames, frames] added to the scores.
      numerics: how to compute.

    Returns:
      [batch, heads, frames, head width] float32.
    """
    query, key, value = (
        jnp.asarray(x, numerics.dtype).transpose(0, 2, 1, 3)
        for x in (query, key, value)
    )  # [batch, frames, heads, head width]
    bias = None if bias is None else jnp.asarray(bias, numerics.dtype)
    keep = jnp.asarray(mask)[:, None, None]
    mixed = jax.nn.dot_product_attention(query, key, value, bias, keep, scale=1.0)
    return mixed.transpose(0, 2, 1, 3).astype(jnp.float32)

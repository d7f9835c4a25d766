"""SpecAugment on hidden states: spans of frames and of channels are masked."""

import jax
import jax.numpy as jnp

from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.typing import Array


def span_mask(
    key: jax.Array,
    lengths: Array,
    size: int,
    probability: float,
    span: int,
    min_spans: int,
) -> jax.Array:
    """Draws which positions are masked, in spans that may overlap.

    About `probability` of the positions are in a span if none overlap, at least
    `min_spans` spans, as many as fit; starts are drawn without replacement
    (Baevski et al., 2020, section 4.2; the fraction of a span is rounded at random).

    Args:
      key: random key.
      lengths: [batch] positions that count.
      size: positions in all.
      probability: share of masked positions.
      span: positions of one span.
      min_spans: fewest spans.

    Returns:
      [batch, size] True = masked.
    """
    round_key, start_key = jax.random.split(key)
    epsilon = jax.random.uniform(round_key)
    lengths = jnp.asarray(lengths)
    wanted = jnp.floor(probability * lengths / span + epsilon).astype(jnp.int32)
    room = jnp.maximum(lengths - span + 1, 0)  # possible starts
    count = jnp.minimum(jnp.maximum(wanted, min_spans), size // span)
    count = jnp.minimum(count, room)[:, None]  # [batch, 1]
    scores = jax.random.uniform(start_key, (lengths.shape[0], size))
    inside = jnp.arange(size)[None] < room[:, None]
    rank = jnp.argsort(jnp.argsort(jnp.where(inside, scores, 2.0), axis=1), axis=1)
    starts = (rank < count).astype(jnp.int32)  # [batch, size]
    ends = jnp.pad(starts, ((0, 0), (span, 0)))[:, :size]
    return jnp.cumsum(starts - ends, axis=1) > 0


def spec_augment(
    key: jax.Array, x: Array, mask: Array, embedding: Array, config: SpeechConfig
) -> jax.Array:
    """Replaces spans of frames by a learned vector and spans of channels by zero.

    Args:
      key: random key.
      x: [batch, frames, width].
      mask: [batch, frames] valid frames.
      embedding: [width] what a masked frame becomes.
      config: probabilities and lengths of the spans.

    Returns:
      [batch, frames, width].
    """
    time_key, feature_key = jax.random.split(key)
    x = jnp.asarray(x)
    batch, frames, width = x.shape
    if config.mask_time_prob > 0:
        masked = span_mask(
            time_key,
            mask.sum(axis=1),
            frames,
            config.mask_time_prob,
            config.mask_time_length,
            config.mask_time_min_masks,
        )
        x = jnp.where(masked[:, :, None], embedding[None, None].astype(x.dtype), x)
    if config.mask_feature_prob > 0:
        masked = span_mask(
            feature_key,
            jnp.full((batch,), width),
            width,
            config.mask_feature_prob,
            config.mask_feature_length,
            config.mask_feature_min_masks,
        )
        x = jnp.where(masked[:, None], 0.0, x)
    return x

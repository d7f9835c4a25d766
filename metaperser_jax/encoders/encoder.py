"""What an encoder is: a NamedTuple of pure functions from waveform to hidden states."""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Integer

from metaperser_jax.errors import InputError
from metaperser_jax.typing import Array, EncoderOutput, Params


class Encoder(NamedTuple):
    """An encoder; its params travel beside it."""

    name: str
    apply_fn: Callable[[Params, Array, Array], EncoderOutput]
    pooled_fn: Callable[[Params, Array, Array], Array]  # see `encode_pooled`
    frames_fn: Callable[[Array], Array]  # samples -> valid frames, any shape
    config: dict[str, Any]  # what JSON can hold
    fingerprint: str  # sha256 of config and params: what a features cache keys on
    num_layers: int  # hidden states returned
    width: int
    random_weights: bool = False  # drawn from a seed, never trained: worthless features
    revision: str = ""  # of the weights, where the hub tells
    train_fn: Callable[..., Array] | None = None  # see `encode_training`; None: nothing
    #   to train
    prepare_fn: Callable[[Params], Params] | None = None  # see `prepare`


def prepare(encoder: Encoder, params: Params) -> Params:
    """Computes once what inference with fixed params would compute in every call.

    Casts to the encoder's dtype, weight norms and the like. The result serves `encode`
    and `encode_pooled` in the place of the params (and gives what they give), not
    training and not saving.

    Args:
      encoder: from `load_encoder`.
      params: from `load_encoder`.

    Returns:
      A nested dict of arrays, its tensors in part other ones.
    """
    return params if encoder.prepare_fn is None else encoder.prepare_fn(params)


def encode(
    encoder: Encoder,
    params: Params,
    waveforms: Float[Array, "batch samples"],
    lengths: Integer[Array, " batch"],
) -> EncoderOutput:
    """Encodes a padded batch; pure, jit with `functools.partial(encode, encoder)`.

    Args:
      encoder: from `load_encoder`.
      params: from `load_encoder`.
      waveforms: [batch, samples] 16 kHz, about -1 to 1; what lies beyond a clip's
        length is ignored.
      lengths: [batch] samples of each clip.

    Returns:
      hidden_states [batch, layers, frames, width] and mask [batch, frames]. A clip's
      valid frames do not depend on the padding or on the other clips.
    """
    return encoder.apply_fn(params, waveforms, lengths)


def encode_pooled(
    encoder: Encoder,
    params: Params,
    waveforms: Float[Array, "batch samples"],
    lengths: Integer[Array, " batch"],
) -> Float[Array, "batch layers width"]:
    """Mean over the valid frames of each hidden state, in float32.

    Equals `pool(encode(...))`; each hidden state is pooled as soon as it is there, so
    that no more than one of them is held in memory.

    Args:
      encoder: from `load_encoder`.
      params: from `load_encoder`.
      waveforms: [batch, samples], see `encode`.
      lengths: [batch] samples of each clip.

    Returns:
      [batch, layers, width] float32; zeros for a clip without a valid frame.
    """
    return encoder.pooled_fn(params, waveforms, lengths)


def encode_training(
    encoder: Encoder,
    params: Params,
    waveforms: Float[Array, "batch samples"],
    lengths: Integer[Array, " batch"],
    key: jax.Array,
    *,
    remat: bool = False,
) -> Float[Array, "batch layers width"]:
    """Pooled hidden states as in `encode_pooled`, with dropout and its like on.

    Args:
      encoder: one with weights, from `load_encoder`.
      params: from `load_encoder`.
      waveforms: [batch, samples], see `encode`.
      lengths: [batch] samples of each clip.
      key: of dropout, layer drop and SpecAugment.
      remat: whether gradients compute each layer anew, and so hold the hidden states
        of one layer only; on a CPU XLA's order of operations undoes the gain.

    Returns:
      [batch, layers, width] float32.

    Raises:
      InputError: an encoder without weights.
    """
    if encoder.train_fn is None:
        raise InputError(
            f"encoder {encoder.name!r} has no weights to train: choose another "
            "encoder.name, or encoder.tuning='frozen'."
        )
    return encoder.train_fn(params, waveforms, lengths, key, remat=remat)


def pool(output: EncoderOutput) -> Float[Array, "batch layers width"]:
    """Mean over the valid frames, in float32.

    Args:
      output: hidden_states [batch, layers, frames, width], mask [batch, frames].

    Returns:
      [batch, layers, width] float32; zeros for a clip without a valid frame.
    """
    layers = jax.vmap(mean_frames, in_axes=(1, None), out_axes=1)
    return layers(output.hidden_states, output.mask)


def mean_frames(x: Array, mask: Array) -> jax.Array:
    """Mean over the valid frames, [batch, frames, width] -> [batch, width] float32."""
    count = jnp.maximum(mask.sum(axis=1), 1).astype(jnp.float32)
    kept = jnp.where(mask[:, :, None], x.astype(jnp.float32), 0.0)
    return kept.sum(axis=1) / count[:, None]


def fingerprint(config: dict[str, Any], params: Params) -> str:
    """Sha256 over an encoder's config and params.

    Args:
      config: what JSON can hold.
      params: nested dict of arrays.

    Returns:
      64 hexadecimal digits; any changed setting, path, shape, dtype or value shows.
    """
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        value = np.asarray(leaf)
        header = [jax.tree_util.keystr(path), str(value.dtype), value.shape]
        digest.update(json.dumps(header).encode())
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()

"""The wav2vec 2.0 family: waveform to the hidden states of every layer.

One module serves wav2vec2, HuBERT, WavLM and data2vec-audio. Sub-modules are named as
in the Hugging Face checkpoints. A clip's valid frames depend neither on the padding nor
on the other clips of the batch, in every layout.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Float, Integer

from metaperser_jax import trees
from metaperser_jax.encoders.attention import Attention
from metaperser_jax.encoders.augmentation import spec_augment
from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.convolution import (
    Affine,
    FeatureExtractor,
    filters,
    num_frames,
    positional_conv,
    receptive_field,
    weight_normed,
)
from metaperser_jax.encoders.dense import Dense, FeedForward
from metaperser_jax.encoders.encoder import Encoder, fingerprint, mean_frames
from metaperser_jax.encoders.numerics import (
    Numerics,
    kernel_dtype,
    layer_norm,
    normalise_waveforms,
)
from metaperser_jax.errors import InputError
from metaperser_jax.typing import Array, EncoderOutput, Params

Collect = Callable[[Array, Array], jax.Array]  # hidden state, mask -> what is kept


class FeatureProjection(nn.Module):
    """Norm and linear map from the front end's channels to the stack's width."""

    config: SpeechConfig
    numerics: Numerics

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        if self.config.feat_proj_layer_norm:
            self.layer_norm = Affine(self.config.conv_dim[-1])
        inputs, width = self.config.conv_dim[-1], self.config.hidden_size
        self.projection = Dense(inputs, width, self.numerics)
        self.dropout = nn.Dropout(self.config.feat_proj_dropout)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, frames, channels] -> [batch, frames, width]."""
        if self.config.feat_proj_layer_norm:
            x = layer_norm(x, *self.layer_norm(), self.config.layer_norm_eps)
        return self.dropout(self.projection(x), deterministic=not train)


class AdapterLayer(nn.Module):
    """The bottleneck that MMS puts behind each layer for a language."""

    config: SpeechConfig
    numerics: Numerics

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        self.norm = Affine(self.config.hidden_size)
        width, inner = self.config.hidden_size, self.config.adapter_attn_dim
        self.linear_1 = Dense(width, inner, self.numerics)
        self.linear_2 = Dense(inner, width, self.numerics)

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, width] -> [batch, frames, width]."""
        x = layer_norm(x, *self.norm(), 1e-5)
        return self.linear_2(jax.nn.relu(self.linear_1(x)))


class EncoderLayer(nn.Module):
    """Attention and feed-forward, each with its residual and norm."""

    config: SpeechConfig
    numerics: Numerics
    has_position_bias: bool

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        config, numerics = self.config, self.numerics
        self.attention = Attention(config, numerics, self.has_position_bias)
        self.layer_norm = Affine(config.hidden_size)
        self.feed_forward = FeedForward(config, numerics)
        self.final_layer_norm = Affine(config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)
        if config.do_stable_layer_norm and config.adapter_attn_dim:
            self.adapter_layer = AdapterLayer(config, numerics)

    def position_bias(self, frames: int) -> jax.Array:
        """Returns WavLM's bias before the gates, [heads, frames, frames]."""
        return self.attention.position_bias(frames)

    def __call__(
        self, x: jax.Array, mask: Array, position_bias: Array | None, train: bool
    ) -> jax.Array:
        """[batch, frames, width], [batch, frames] -> [batch, frames, width]."""
        eps = self.config.layer_norm_eps
        attend = functools.partial(
            self.attention, mask=mask, position_bias=position_bias, train=train
        )
        drop = functools.partial(self.dropout, deterministic=not train)
        if not self.config.do_stable_layer_norm:
            x = layer_norm(x + drop(attend(x)), *self.layer_norm(), eps)
            x = x + self.feed_forward(x, train)
            return layer_norm(x, *self.final_layer_norm(), eps)
        x = x + drop(attend(layer_norm(x, *self.layer_norm(), eps)))
        x = x + self.feed_forward(layer_norm(x, *self.final_layer_norm(), eps), train)
        return x + self.adapter_layer(x) if self.config.adapter_attn_dim else x


class Transformer(nn.Module):
    """Positional convolution and the stack of layers."""

    config: SpeechConfig
    numerics: Numerics
    remat: bool = False

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        config, numerics = self.config, self.numerics
        # `train`, the fourth argument after the module itself, is static
        layer = nn.remat(EncoderLayer, static_argnums=4) if self.remat else EncoderLayer
        self.pos_conv_embed = positional_conv(config, numerics)
        self.layer_norm = Affine(config.hidden_size)
        self.dropout = nn.Dropout(config.hidden_dropout)
        self.layers = [
            layer(config, numerics, config.model_type == "wavlm" and i == 0)
            for i in range(config.num_hidden_layers)
        ]

    def __call__(
        self, x: jax.Array, mask: Array, collect: Collect, wanted: set[int], train: bool
    ) -> tuple[list[jax.Array], jax.Array]:
        """Runs the layers up to the last one that is wanted.

        Args:
          x: [batch, frames, width].
          mask: [batch, frames].
          collect: what to keep of a hidden state.
          wanted: which hidden states to keep, 0 = the input of the first layer.
          train: whether to drop units and layers.

        Returns:
          What was kept, in order, and the last hidden state after the final norm
          (where the stack has one) [batch, frames, width].
        """
        config, eps = self.config, self.config.layer_norm_eps
        x = x + self.pos_conv_embed(x, mask)
        if not config.do_stable_layer_norm:
            x = layer_norm(x, *self.layer_norm(), eps)
        x = self.dropout(x, deterministic=not train)
        bias = None
        if config.model_type == "wavlm":
            bias = self.layers[0].position_bias(x.shape[1])
        kept = [collect(x, mask)] if 0 in wanted else []
        for i, layer in enumerate(self.layers[: max(wanted)]):
            after = layer(x, mask, bias, train)
            x = self._maybe_skip(x, after) if train and self._may_skip(i) else after
            if i + 1 in wanted:
                kept.append(collect(x, mask))
        # always called, so that its parameters exist
        normed = layer_norm(x, *self.layer_norm(), eps)
        return kept, normed if config.do_stable_layer_norm else x

    def _may_skip(self, index: int) -> bool:
        """WavLM keeps its first layer, which learns the bias of all others."""
        is_kept = self.config.model_type == "wavlm" and index == 0
        return self.config.layerdrop > 0.0 and not is_kept

    def _maybe_skip(self, before, after):
        """Layer drop (Fan et al., 2020): one draw a layer for the whole batch."""
        skip = jax.random.bernoulli(self.make_rng("dropout"), self.config.layerdrop)
        return jnp.where(skip, before, after)


class SpeechModel(nn.Module):
    """The whole encoder."""

    config: SpeechConfig
    numerics: Numerics = Numerics()
    remat: bool = False  # gradients compute each layer anew and keep less

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        config, numerics = self.config, self.numerics
        self.feature_extractor = FeatureExtractor(config, numerics)
        self.feature_projection = FeatureProjection(config, numerics)
        self.encoder = Transformer(config, numerics, self.remat)
        init = nn.initializers.uniform(1.0)
        self.masked_spec_embed = self.param(
            "masked_spec_embed", init, (config.hidden_size,)
        )

    def __call__(
        self,
        waveforms: Array,
        lengths: Array,
        collect: Collect,
        layers: Sequence[int] | None = None,
        train: bool = False,
    ) -> tuple[list[jax.Array], jax.Array, jax.Array]:
        """Runs the encoder.

        Args:
          waveforms: [batch, samples] 16 kHz.
          lengths: [batch] samples of each clip.
          collect: what to keep of a hidden state [batch, frames, width].
          layers: which hidden states, 0 = input of the first layer; None = all.
          train: dropout, layer drop and SpecAugment, with the rng 'dropout'.

        Returns:
          What was kept of each hidden state; the last hidden state after the final
          norm [batch, frames, width]; the mask [batch, frames].
        """
        config = self.config
        clips, lengths = self._prepare(waveforms, lengths)
        x = self.feature_extractor(clips, lengths)
        mask = jnp.arange(x.shape[1])[None] < num_frames(lengths, config)[:, None]
        x = self.feature_projection(x, train)
        if train and config.apply_spec_augment:
            key = self.make_rng("dropout")
            x = spec_augment(key, x, mask, self.masked_spec_embed, config)
        last = config.num_hidden_layers
        wanted = set(range(last + 1)) if layers is None else set(layers)
        kept, normed = self.encoder(x, mask, collect, wanted, train)
        return kept, normed, mask

    def _prepare(self, waveforms, lengths):
        """Clears the padding, normalises, and pads short clips to one frame."""
        least = receptive_field(self.config)
        lack = max(0, least - waveforms.shape[1])
        clips = jnp.pad(jnp.asarray(waveforms, jnp.float32), ((0, 0), (0, lack)))
        inside = jnp.arange(clips.shape[1])[None] < lengths[:, None]
        if self.config.do_normalize:
            clips = normalise_waveforms(clips, inside)
        clips = jnp.where(inside, clips, 0.0)
        return clips, jnp.where(lengths > 0, jnp.maximum(lengths, least), 0)


def speech_encoder(
    config: SpeechConfig,
    params: Params,
    *,
    dtype: str = "float32",
    name: str = "",
    revision: str = "",
    random_weights: bool = False,
    layers: Sequence[int] | None = None,
    numerics: Numerics | None = None,
) -> Encoder:
    """Makes the encoder of a configuration.

    Args:
      config: the architecture.
      params: as `init_params` or a checkpoint give them; only hashed here.
      dtype: 'float32' | 'bfloat16' | 'float16', of the operands of products.
      name: for messages and reports; default the model type.
      revision: of the weights.
      random_weights: whether the weights were never trained.
      layers: which hidden states to return, 0 = the input of the first layer, in
        ascending order; None = all. Layers above the last one are not computed.
      numerics: overrides dtype and layout.

    Returns:
      The encoder.

    Raises:
      InputError: a layer that the architecture does not have.
    """
    chosen = tuple(range(config.num_hidden_layers + 1)) if layers is None else layers
    _check_layers(tuple(chosen), config)
    numerics = numerics or Numerics(dtype)
    model = SpeechModel(config, numerics)
    settings = {"numerics": numerics.dtype, "layers": list(chosen), **config._asdict()}
    run = functools.partial(_run, model, tuple(chosen))
    return Encoder(
        name=name or config.model_type,
        apply_fn=functools.partial(_apply, run),
        pooled_fn=functools.partial(_apply_pooled, run),
        frames_fn=functools.partial(num_frames, config=config),
        config=settings,
        fingerprint=fingerprint(settings, params),
        num_layers=len(chosen),
        width=config.hidden_size,
        random_weights=random_weights,
        revision=revision,
        train_fn=functools.partial(_train, config, numerics, tuple(chosen)),
        prepare_fn=functools.partial(prepare_params, config, numerics),
    )


def prepare_params(config: SpeechConfig, numerics: Numerics, params: Params) -> Params:
    """Casts the kernels of products and transforms those of positional convolutions.

    Args:
      config: the architecture.
      numerics: how the encoder computes.
      params: nested dict.

    Returns:
      A nested dict for inference.
    """
    ready = {}
    flat: dict[tuple[str, ...], jax.Array] = traverse_util.flatten_dict(params)  # pyright: ignore[reportAssignmentType]
    for path, tensor in flat.items():
        dtype = kernel_dtype("/".join(path), numerics.dtype)
        ready[path] = tensor.astype(dtype) if path[-1] == "kernel" else tensor
    if numerics.on_cpu:
        groups = config.num_conv_pos_embedding_groups
        for path in [p for p in ready if "pos_conv_embed" in p and p[-1] == "kernel"]:
            kernel, scale = ready.pop(path), ready.pop((*path[:-1], "scale"), None)
            kernel = kernel if scale is None else weight_normed(kernel, scale)
            ready[(*path[:-1], "filters")] = filters(kernel, groups)
    return traverse_util.unflatten_dict(ready)


def _check_layers(layers: tuple[int, ...], config: SpeechConfig) -> None:
    last = config.num_hidden_layers
    ascending = list(layers) == sorted(set(layers))
    if not layers or not ascending or layers[0] < 0 or layers[-1] > last:
        raise InputError(
            f"layers={layers}: expected ascending numbers from 0 (the input of the "
            f"first layer) to {last}."
        )


def _run(model, layers, params, waveforms, lengths, collect, **training):
    inputs = waveforms, lengths, collect, layers
    return model.apply({"params": params}, *inputs, **training)


def _apply(
    run: Callable[..., Any],
    params: Params,
    waveforms: Float[Array, "batch samples"],
    lengths: Integer[Array, " batch"],
) -> EncoderOutput:
    kept, last, mask = run(params, waveforms, lengths, lambda x, mask: x)
    return EncoderOutput(jnp.stack(kept, axis=1), mask, last)


def _apply_pooled(
    run: Callable[..., Any],
    params: Params,
    waveforms: Float[Array, "batch samples"],
    lengths: Integer[Array, " batch"],
) -> Float[Array, "batch layers width"]:
    kept, _, _ = run(params, waveforms, lengths, mean_frames)
    return jnp.stack(kept, axis=1)


def _train(
    config: SpeechConfig,
    numerics: Numerics,
    layers: tuple[int, ...],
    params: Params,
    waveforms: Float[Array, "batch samples"],
    lengths: Integer[Array, " batch"],
    key: jax.Array,
    remat: bool = False,
) -> Float[Array, "batch layers width"]:
    run = functools.partial(_run, SpeechModel(config, numerics, remat), layers)
    training: dict[str, Any] = {"train": True, "rngs": {"dropout": key}}
    kept, _, _ = run(params, waveforms, lengths, mean_frames, **training)
    return jnp.stack(kept, axis=1)


def init_params(config: SpeechConfig, seed: int) -> Params:
    """Draws weights; they encode nothing, and serve tests and measurements.

    Args:
      config: the architecture.
      seed: of all draws.

    Returns:
      Nested dict of float32 arrays.
    """
    model = SpeechModel(config)
    shapes = jnp.zeros((1, receptive_field(config))), jnp.ones((1,), jnp.int32)
    init = functools.partial(model.init, collect=lambda x, mask: x)
    return jax.jit(init)(jax.random.key(seed), *shapes)["params"]


def param_shapes(config: SpeechConfig) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns path -> shape and dtype of every parameter of the architecture."""
    return trees.flatten(jax.eval_shape(lambda: init_params(config, 0)))

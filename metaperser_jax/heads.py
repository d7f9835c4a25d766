"""The head on a frozen encoder: layer-weighted sum, masked mean, two linear layers.

Mean pooling commutes with the layer-weighted sum, so the head reads hidden states that
were pooled once; `encoders.encoder.pool` gives them.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Float

from metaperser_jax import kernels
from metaperser_jax.errors import InputError
from metaperser_jax.typing import Array, Params

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda x: x,
    "relu": jax.nn.relu,
    "gelu": jax.nn.gelu,
}


def mix_layers(weights: Float[Array, " layers"], pooled: Array) -> Array:
    """[..., layers, width] -> [..., width]: the softmax-weighted sum (SUPERB)."""
    if pooled.shape[-2] == 1:
        return pooled[..., 0, :]  # the softmax of one weight is 1, its gradient 0
    return jnp.einsum("l,...lw->...w", jax.nn.softmax(weights), pooled)


class LayerWeightedSum(nn.Module):
    """Softmax-weighted sum over the layers of an encoder (SUPERB)."""

    @nn.compact
    def __call__(self, pooled: Array) -> Array:
        """[..., layers, width] -> [..., width]."""
        layers = pooled.shape[-2]
        weights = self.param("weights", nn.initializers.zeros, (layers,))
        return mix_layers(weights, pooled)


class DenseOnInputs(nn.Module):
    """`nn.Dense`, whose kernel may be given in any form of `kernels.dense`."""

    features: int

    @nn.compact
    def __call__(self, inputs: Array) -> jax.Array:
        """[..., width] -> [..., features]."""
        shape = (inputs.shape[-1], self.features)
        if self.is_initializing():
            kernel = self.param("kernel", nn.linear.default_kernel_init, shape)
        else:
            kernel = self.get_variable("params", "kernel")
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        units = jnp.asarray(kernels.dense(inputs, kernel))
        return units + jnp.broadcast_to(bias, units.shape)


class EmotionHead(nn.Module):
    """Layer-weighted sum -> Dense(hidden) -> activation -> Dense(classes + dimensions).

    With `listener_width` > 0 a listener embedding of that width shifts the hidden
    units; it starts at zero and is what the embedding baseline adapts.
    """

    num_classes: int
    hidden: int = 256
    activation: str = "none"
    listener_width: int = 0
    num_dimensions: int = 0

    def setup(self) -> None:
        """Names the parts as the paths in the adapted set do."""
        self.layers = LayerWeightedSum()
        self.projector = DenseOnInputs(self.hidden)
        self.classifier = nn.Dense(self.num_classes + self.num_dimensions)
        if self.listener_width:
            self.listener = ListenerShift(self.hidden, self.listener_width)

    def embed(self, pooled: Array) -> jax.Array:
        """[..., layers, width] pooled states -> [..., hidden] units."""
        units = self.projector(self.layers(pooled))
        if self.listener_width:
            units = self.listener(units)
        return ACTIVATIONS[self.activation](units)

    def __call__(self, pooled: Array) -> jax.Array:
        """[..., layers, width] pooled states -> [..., outputs].

        Outputs are the logits of the classes, then the values of the dimensions.
        """
        return self.classifier(self.embed(pooled))


class ListenerShift(nn.Module):
    """Scales and shifts the hidden units by a listener's embedding (FiLM)."""

    hidden: int
    width: int

    @nn.compact
    def __call__(self, units: Array) -> jax.Array:
        """[..., hidden] -> [..., hidden]; the identity while the embedding is zero."""
        embedding = self.param("embedding", nn.initializers.zeros, (self.width,))
        init = nn.initializers.lecun_normal()
        scale = self.param("scale", init, (self.width, self.hidden))
        shift = self.param("shift", init, (self.width, self.hidden))
        moved = jnp.einsum("...h,h->...h", units, 1.0 + embedding @ scale)
        offset = embedding @ shift  # [hidden]
        return moved + jnp.broadcast_to(offset, moved.shape)


def make_head(
    num_classes: int,
    hidden: int = 256,
    activation: str = "none",
    listener_width: int = 0,
    num_dimensions: int = 0,
) -> EmotionHead:
    """Returns the head module.

    Raises:
      InputError: the activation is unknown or a size is too small.
    """
    if activation not in ACTIVATIONS:
        raise InputError(
            f"activation={activation!r}: expected one of {', '.join(ACTIVATIONS)}."
        )
    outputs = num_classes >= 2 or (num_classes == 0 and num_dimensions >= 1)
    if not outputs or hidden < 1 or min(listener_width, num_dimensions) < 0:
        raise InputError(
            f"num_classes={num_classes}, num_dimensions={num_dimensions}, "
            f"hidden={hidden}, listener_width={listener_width}: expected at least two "
            "classes (or none, and one dimension), one hidden unit and a width of 0 "
            "(no listener embedding) or more."
        )
    return EmotionHead(num_classes, hidden, activation, listener_width, num_dimensions)


def init_head(head: EmotionHead, key: jax.Array, layers: int, width: int) -> Params:
    """Returns fresh parameters for inputs [samples, layers, width]."""
    return head.init(key, jnp.zeros((1, layers, width), jnp.float32))["params"]


def apply_head(head: EmotionHead, params: Params, inputs: Array) -> jax.Array:
    """[samples, layers, width] -> [samples, outputs], see `EmotionHead`."""
    return head.apply({"params": params}, inputs)  # pyright: ignore[reportReturnType]


def first_layer(layers: int) -> kernels.FixedDense:
    """Returns the head's layer on its inputs, for the dual form of the inner loop.

    Args:
      layers: of the inputs; the weighted sum over a single one has nothing to learn.
    """

    def mixed(params: Params, inputs: Array) -> Array:
        return mix_layers(params["layers"]["weights"], inputs)

    reads = ("layers/weights",) if layers > 1 else ()
    return kernels.FixedDense("projector/kernel", mixed, reads)


def embed_inputs(head: EmotionHead, params: Params, inputs: Array) -> jax.Array:
    """[samples, layers, width] -> hidden units [samples, hidden]."""
    return head.apply({"params": params}, inputs, method="embed")  # pyright: ignore[reportReturnType]

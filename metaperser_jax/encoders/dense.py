"""Dense layers: the linear map and the feed-forward block."""

import flax.linen as nn
import jax

from metaperser_jax.encoders.config import SpeechConfig
from metaperser_jax.encoders.numerics import ACTIVATION_FNS, Numerics, product


class Dense(nn.Module):
    """Linear map of the last axis of [batch, frames, inputs], float32 out."""

    inputs: int
    features: int
    numerics: Numerics

    def setup(self) -> None:
        """Names the parameters."""
        init = nn.initializers.normal(0.02)
        self.kernel = self.param("kernel", init, (self.inputs, self.features))
        self.bias = self.param("bias", nn.initializers.zeros, (self.features,))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[batch, frames, inputs] -> [batch, frames, features]."""
        y = product("bti,io->bto", x, self.kernel, self.numerics)
        return y + self.bias[None, None]


class FeedForward(nn.Module):
    """Two linear maps with an activation between."""

    config: SpeechConfig
    numerics: Numerics

    def setup(self) -> None:
        """Names the parts as in the checkpoints."""
        width, inner = self.config.hidden_size, self.config.intermediate_size
        self.intermediate_dense = Dense(width, inner, self.numerics)
        self.output_dense = Dense(inner, width, self.numerics)
        self.intermediate_dropout = nn.Dropout(self.config.activation_dropout)
        self.output_dropout = nn.Dropout(self.config.hidden_dropout)

    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """[batch, frames, width] -> [batch, frames, width]."""
        inner = self.config.intermediate_size
        chunk = inner
        if self.numerics.on_cpu and self.numerics.dtype != "float32" and not train:
            chunk = self.config.hidden_size
        terms = [
            self._chunk(x, slice(i, i + chunk), train) for i in range(0, inner, chunk)
        ]
        y = sum(terms[1:], start=terms[0]) + self.output_dense.bias[None, None]
        return self.output_dropout(y, deterministic=not train)

    def _chunk(self, x, units: slice, train: bool):
        """What some of the inner units add to the output.

        On a CPU in low precision, products over few units at a time run faster: their
        float32 results stay in the cache.
        """
        first, second = self.intermediate_dense, self.output_dense
        y = product("bti,io->bto", x, first.kernel[:, units], self.numerics)
        y = y + first.bias[None, None, units]
        y = ACTIVATION_FNS[self.config.hidden_act](y)
        y = self.intermediate_dropout(y, deterministic=not train)
        return product("bti,io->bto", y, second.kernel[units], self.numerics)

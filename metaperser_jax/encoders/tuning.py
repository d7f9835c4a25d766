"""Which parameters of an encoder are trained, and how they join the rest.

`trainable` divides the parameters by path, `merge` puts them together again; between
the two only what is trained travels through gradients, optimisers and checkpoints.
"""

import math
import re
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import lax

from metaperser_jax import trees
from metaperser_jax.encoders.encoder import Encoder, fingerprint
from metaperser_jax.errors import InputError, did_you_mean
from metaperser_jax.typing import Array, Params

Mode = Literal["frozen", "top_n", "lora", "full"]
Leaves = dict[str, Array]  # path -> tensor

LORA_PATTERN = r".*/(q_proj|v_proj)/kernel"  # as in Hu et al., 2022, section 7.1
_LAYER = re.compile(r"encoder/layers_(\d+)/.*")
_FRONT_END = re.compile(r"feature_extractor/.*")
_FINAL_NORM = re.compile(r"encoder/layer_norm/.*")
_NEVER = re.compile(r"(.*/)?batch_norm/.*")  # its statistics would have to move too


class Tuning(NamedTuple):
    """What of an encoder is trained."""

    mode: Mode
    num_layers: int = 4  # top_n: so many of the last layers
    rank: int = 8  # lora
    alpha: float = 16.0  # lora: updates count alpha / rank times
    pattern: str = LORA_PATTERN  # lora: kernels that get an update, the whole path
    front_end: bool = False  # full: the convolutional front end as well
    final_norm: bool = False  # top_n: whether the stack ends with a norm


def trainable(params: Params, tuning: Tuning, seed: int = 0) -> tuple[Leaves, Leaves]:
    """Divides an encoder's parameters.

    What is trained is kept in float32. Batch norms are never trained.

    Args:
      params: of the encoder, a nested dict.
      tuning: what is trained.
      seed: of the first factors of 'lora'; the second ones are zero, so that the
        start equals the encoder (Hu et al., 2022, section 4.1).

    Returns:
      Trained and frozen tensors by path. 'lora' trains 'PATH/lora_a' [inputs, rank]
      and 'PATH/lora_b' [rank, outputs]; the kernel at PATH stays among the frozen.

    Raises:
      InputError: there are not so many layers, or the pattern fits no kernel.
    """
    leaves = trees.flatten(params)
    if tuning.mode == "lora":
        return _init_factors(leaves, tuning, seed), leaves
    chosen = _paths(leaves, tuning)
    trained: Leaves = {p: jnp.asarray(leaves[p], jnp.float32) for p in chosen}
    return trained, {path: v for path, v in leaves.items() if path not in trained}


def merge(frozen: Leaves, trained: Leaves, tuning: Tuning) -> Params:
    """Returns the parameters of the tuned encoder, a nested dict; differentiable.

    'lora': W + alpha / rank * A B, so that the encoder runs as without it (Hu et al.,
    2022, equation 3).

    Args:
      frozen: as `trainable` gives them.
      trained: as `trainable` gives them, or later.
      tuning: what is trained.
    """
    leaves = {**frozen, **trained}
    if tuning.mode == "lora":
        leaves = dict(frozen)
        for path in _adapted(trained):
            a, b = trained[f"{path}/lora_a"], trained[f"{path}/lora_b"]
            update = jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
            leaves[path] = frozen[path] + tuning.alpha / tuning.rank * update
    return unflatten_dict(leaves, sep="/")


def num_parameters(leaves: Any) -> int:
    """Returns how many numbers a tree holds."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(leaves))


def tuned_encoder(encoder: Encoder, tuning: Tuning, trained: Leaves) -> Encoder:
    """Returns the encoder that runs with merged parameters, by a name of its own.

    Args:
      encoder: before it was tuned.
      tuning: what was trained.
      trained: what training made of it.

    Returns:
      Its fingerprint is that of the encoder it comes from, and of what was trained.
    """
    settings = {
        **encoder.config,
        "base": encoder.fingerprint,
        "tuning": tuning._asdict(),
    }
    return encoder._replace(
        name=f"{encoder.name} ({tuning.mode})",
        config=settings,
        fingerprint=fingerprint(settings, trained),
    )


def _paths(leaves: Leaves, tuning: Tuning) -> list[str]:
    """Returns what 'top_n' and 'full' train."""
    free = [path for path in leaves if not _NEVER.fullmatch(path)]
    if tuning.mode == "frozen":
        return []
    if tuning.mode == "full":
        return [p for p in free if tuning.front_end or not _FRONT_END.fullmatch(p)]
    numbers = {p: int(found[1]) for p in free if (found := _LAYER.fullmatch(p))}
    depth = max(numbers.values(), default=-1) + 1
    if not 1 <= tuning.num_layers <= depth:
        raise InputError(
            f"encoder.num_tuned_layers={tuning.num_layers}: expected 1 to {depth}, the "
            "layers of this encoder."
        )
    first = depth - tuning.num_layers
    norms = [p for p in free if tuning.final_norm and _FINAL_NORM.fullmatch(p)]
    return [p for p, number in numbers.items() if number >= first] + norms


def _init_factors(leaves: Leaves, tuning: Tuning, seed: int) -> Leaves:
    """Draws A with variance 1 / inputs and sets B to zero, for each kernel chosen."""
    key = jax.random.key(seed)
    factors: Leaves = {}
    for number, path in enumerate(_matching_kernels(leaves, tuning)):
        inputs, outputs = leaves[path].shape
        drawn = jax.random.normal(
            jax.random.fold_in(key, number), (inputs, tuning.rank), jnp.float32
        )
        factors[f"{path}/lora_a"] = drawn * np.float32(inputs**-0.5)
        factors[f"{path}/lora_b"] = jnp.zeros((tuning.rank, outputs), jnp.float32)
    return factors


def _matching_kernels(leaves: Leaves, tuning: Tuning) -> list[str]:
    chosen = [path for path in leaves if re.fullmatch(tuning.pattern, path)]
    wrong = [path for path in chosen if leaves[path].ndim != 2]
    if wrong:
        raise InputError(
            f"encoder.lora_pattern={tuning.pattern!r}: it fits {wrong[0]!r} of shape "
            f"{list(leaves[wrong[0]].shape)}, expected kernels [inputs, outputs] only."
        )
    if not chosen:
        kernels = [path for path, leaf in leaves.items() if leaf.ndim == 2]
        raise InputError(
            f"encoder.lora_pattern={tuning.pattern!r} fits no kernel (the whole path "
            f"must match).{did_you_mean(tuning.pattern, kernels)} There are: "
            f"{', '.join(kernels[:10])}."
        )
    return chosen


def _adapted(trained: Leaves) -> list[str]:
    """Returns the paths of the kernels that have an update."""
    end = "/lora_a"
    return [path.removesuffix(end) for path in trained if path.endswith(end)]

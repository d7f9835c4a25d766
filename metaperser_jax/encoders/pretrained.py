"""The door to all encoders: a name or a folder in, an encoder and its params out."""

import numpy as np

from metaperser_jax.encoders import logmel
from metaperser_jax.encoders.encoder import Encoder
from metaperser_jax.errors import InputError, did_you_mean
from metaperser_jax.typing import Params

_BUILT_IN = {"logmel": logmel.logmel}


def load_encoder(
    name_or_path: str, revision: str | None = None, dtype="float32"
) -> tuple[Encoder, Params]:
    """Loads an encoder.

    Args:
      name_or_path: 'logmel', the encoder without weights.
      revision: which version of the weights; None for encoders without weights.
      dtype: of the hidden states; 'logmel' computes in float32 only.

    Returns:
      The encoder and its params, a nested dict (empty without weights).

    Raises:
      InputError: no such encoder, or a setting that it does not have.
    """
    if name_or_path not in _BUILT_IN:
        raise InputError(
            f"encoder {name_or_path!r}: not available, expected one of "
            f"{', '.join(sorted(_BUILT_IN))}.{did_you_mean(name_or_path, _BUILT_IN)}"
        )
    if revision is not None:
        raise InputError(
            f"encoder {name_or_path!r}, revision {revision!r}: this encoder has no "
            "weights and so no revisions; leave the revision out."
        )
    if dtype not in ("float32", np.float32):
        raise InputError(
            f"encoder {name_or_path!r}, dtype {dtype!r}: this encoder computes in "
            "float32; leave the dtype out."
        )
    return _BUILT_IN[name_or_path](), {}

"""Encoders by name."""

import jax.numpy as jnp
import numpy as np
import pytest

from metaperser_jax.encoders.pretrained import load_encoder
from metaperser_jax.errors import InputError


@pytest.mark.parametrize(
    "dtype", ["float32", np.float32, np.dtype("float32"), jnp.float32]
)
def test_logmel_has_no_params_and_one_layer(dtype):
    encoder, params = load_encoder("logmel", dtype=dtype)
    assert params == {}
    assert encoder.name == "logmel"
    assert encoder.num_layers == 1
    assert encoder.fingerprint == load_encoder("logmel")[0].fingerprint


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "logmell",
            {},
            r"'logmell': not available, expected one of logmel. Did you mean",
        ),
        ("/no/such/folder", {}, "expected one of logmel"),
        ("logmel", {"revision": "main"}, "revision 'main': .*leave the revision out"),
        ("logmel", {"dtype": "bfloat16"}, "dtype 'bfloat16': .*leave the dtype out"),
        ("logmel", {"dtype": "float99"}, "dtype 'float99': .*leave the dtype out"),
    ],
)
def test_what_there_is_not_is_named(name, settings, message):
    with pytest.raises(InputError, match=message):
        load_encoder(name, **settings)

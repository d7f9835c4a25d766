"""The published architectures: as many parameters as their authors count."""

import functools
import math

import numpy as np
import pytest

from metaperser_jax.encoders import config as config_lib
from metaperser_jax.encoders.convolution import num_frames, receptive_field
from metaperser_jax.encoders.published import PUBLISHED
from metaperser_jax.encoders.transformer import param_shapes

MILLIONS = {  # as stated without quantizer and heads, and to what precision
    "facebook/wav2vec2-base": (94.4, 0.05),
    "facebook/wav2vec2-large": (315.4, 0.05),
    "facebook/wav2vec2-large-lv60": (315.4, 0.05),
    "facebook/wav2vec2-large-robust": (315.4, 0.05),
    "facebook/wav2vec2-xls-r-300m": (315.4, 0.05),
    "facebook/wav2vec2-xls-r-1b": (962, 1),
    "facebook/wav2vec2-xls-r-2b": (2160, 5),
    "facebook/mms-1b": (962, 1),
    "facebook/hubert-base-ls960": (94.4, 0.05),
    "facebook/hubert-large-ll60k": (315.4, 0.05),
    "facebook/hubert-xlarge-ll60k": (962, 1),
    "microsoft/wavlm-base": (94.4, 0.05),
    "microsoft/wavlm-base-plus": (94.4, 0.05),
    "microsoft/wavlm-large": (315.5, 0.05),
    "facebook/data2vec-audio-base": (93.8, 1),  # these two with their heads
    "facebook/data2vec-audio-large": (314.3, 2),
}


@functools.lru_cache
def count(name):
    shapes = param_shapes(PUBLISHED[name])
    return sum(math.prod(leaf.shape) for leaf in shapes.values())


@pytest.mark.parametrize("name", MILLIONS)
def test_parameters_are_as_many_as_published(name):
    millions, precision = MILLIONS[name]
    assert count(name) / 1e6 == pytest.approx(millions, abs=precision)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_comes_back_from_its_files(name):
    config = PUBLISHED[name]
    files = config_lib.to_json(config), config_lib.preprocessor_to_json(config)
    assert config_lib.from_json(*files, name) == config


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_encoder_sees_frames_of_25_ms_every_20_ms(name):
    config = PUBLISHED[name]
    assert receptive_field(config) == 400
    np.testing.assert_array_equal(
        num_frames(np.array([400, 719, 720, 16_000]), config), [1, 1, 2, 49]
    )


def test_adapters_are_a_small_part():
    width, inner, layers = 1280, 16, 48
    one = 2 * width + (width + 1) * inner + (inner + 1) * width
    more = count("facebook/mms-1b-all") - count("facebook/mms-1b")
    assert more == layers * one

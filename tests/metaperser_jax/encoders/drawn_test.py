"""Drawn encoders load like trained ones and say what they are."""

import numpy as np
import pytest

from metaperser_jax import trees
from metaperser_jax.encoders import drawn
from metaperser_jax.encoders.pretrained import read_encoder


@pytest.mark.parametrize("shape", sorted(drawn.SHAPES))
def test_a_drawn_encoder_is_loaded_and_marked(shape, tmp_path, capsys):
    folder = tmp_path / "an encoder"
    assert drawn.main([shape, str(folder)]) == 0
    assert str(folder) in capsys.readouterr().out
    loaded = read_encoder(str(folder))
    assert loaded.report.random_weights
    assert loaded.encoder.random_weights
    assert loaded.encoder.width == drawn.SHAPES[shape].hidden_size
    assert loaded.report.config == drawn.SHAPES[shape]


def test_the_seed_decides(tmp_path):
    kernels = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        drawn.main(["wavlm_tiny", str(tmp_path / name), "--seed", str(seed)])
        _, params, _ = read_encoder(str(tmp_path / name))
        kernels.append(trees.flatten(params)["feature_projection/projection/kernel"])
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert not np.array_equal(kernels[0], kernels[2])


def test_a_place_that_cannot_be_written_ends_with_3(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert drawn.main(["wavlm_tiny", str(tmp_path / "file" / "x")]) == 3
    assert "file" in capsys.readouterr().err


def test_an_unknown_shape_is_refused(tmp_path):
    with pytest.raises(SystemExit) as refused:
        drawn.main(["wavlm_huge", str(tmp_path)])
    assert refused.value.code == 2

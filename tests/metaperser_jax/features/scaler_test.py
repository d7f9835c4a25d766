"""The scaler: standardises, survives its file, and harms no constant."""

import numpy as np
import pytest

from metaperser_jax import features
from metaperser_jax.errors import InputError


class TestScaler:
    def test_standardises_to_mean_zero_and_deviation_one(self, rng):
        values = rng.normal(3.0, 5.0, (500, 2, 4)).astype(np.float32)
        scaler = features.fit_scaler(values)
        scaled = features.standardise(scaler, values)
        np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-5)
        np.testing.assert_allclose(scaler.mean, values.astype(float).mean(0), rtol=1e-5)
        assert scaled.dtype == scaler.scale.dtype == np.float32

    @pytest.mark.parametrize("constant", [0.0, 1e-12, 0.1, -1000.1, 1e6])
    def test_a_constant_feature_becomes_zero_not_nan(self, constant):
        values = np.full((50, 1, 1), constant, np.float32)
        scaler = features.fit_scaler(values)
        assert scaler.scale[0, 0] == 1
        scaled = features.standardise(scaler, values)
        np.testing.assert_allclose(scaled, 0, atol=1e-6 * max(abs(constant), 1))

    def test_one_sample(self):
        scaler = features.fit_scaler(np.full((1, 1, 2), 7.0, np.float32))
        assert (scaler.scale == 1).all()

    def test_it_is_kept_for_the_trained_models(self, rng, tmp_path):
        scaler = features.fit_scaler(rng.normal(size=(9, 2, 3)).astype(np.float32))
        features.save_scaler(tmp_path, scaler)
        found = features.load_scaler(tmp_path)
        for a, b in zip(scaler, found, strict=True):
            np.testing.assert_array_equal(a, b)
        assert len(list(tmp_path.iterdir())) == 1

    @pytest.mark.parametrize(
        "data", [None, b"", b"no scaler", b"\x02" + bytes(7) + b"{}"]
    )
    def test_a_scaler_that_cannot_be_read(self, tmp_path, data):
        if data is not None:
            (tmp_path / features.SCALER_FILE).write_bytes(data)
        with pytest.raises(InputError, match=rf"{features.SCALER_FILE}.*Train first"):
            features.load_scaler(tmp_path)

    def test_an_outlier_is_clipped(self, rng):
        scaler = features.fit_scaler(rng.normal(size=(100, 1, 1)).astype(np.float32))
        far = np.array([[[1e9]], [[-1e9]]], np.float32)
        np.testing.assert_array_equal(
            features.standardise(scaler, far)[:, 0, 0], [10, -10]
        )

"""What a method predicted in a fold survives a kill, whole or not at all."""

import jax
import numpy as np
import pytest

from metaperser_jax.errors import Problems
from metaperser_jax.evaluation.predictions import (
    kept_predictions,
    load_predictions,
    save_predictions,
)
from metaperser_jax.evaluation.protocol import Predictions


class TestKeptPredictions:
    def test_what_is_saved_is_read(self, rng, tmp_path):
        shape = (2, 3, 4)
        part = Predictions(
            np.array([5, 7]),
            rng.integers(-1, 9, shape).astype(np.int32),
            rng.random((*shape, 2)).astype(np.float32),
            rng.random((*shape, 2)) < 0.5,
            {
                ("full", 4): rng.random((*shape, 2)),
                ("maml", 16): rng.random((*shape, 2)),
            },
        )
        path = tmp_path / "predictions.npz"
        save_predictions(path, {"seen": part, "unseen": part._replace(probs={})})
        found = load_predictions(path)
        assert list(found) == ["seen", "unseen"]
        jax.tree.map(np.testing.assert_array_equal, found["seen"], part)
        assert found["unseen"].probs == {}
        assert [p.name for p in tmp_path.iterdir()] == ["predictions.npz"]

    @pytest.mark.parametrize("length", [0, 10, 500, -1])
    def test_what_is_damaged_is_reported_and_made_anew(self, tmp_path, length):
        path, problems = tmp_path / "predictions.npz", Problems()
        assert kept_predictions(path, problems) is None
        assert problems.rows == []
        row = np.zeros((1, 1, 1))
        save_predictions(path, {"seen": Predictions(row, row, row, row, {})})
        assert list(kept_predictions(path, problems)) == ["seen"]
        path.write_bytes(path.read_bytes()[:length])
        assert kept_predictions(path, problems) is None
        assert problems.counts() == {"warning damaged_predictions": 1}

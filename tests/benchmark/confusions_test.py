import numpy as np
import pytest
from sklearn import metrics

from benchmark.confusions import macro_f1


@pytest.mark.parametrize("clustered", [False, True])
def test_replicates_of_macro_f1_have_the_spread_of_a_loop(clustered, rng):
    truth, other = rng.integers(0, 3, 240), rng.integers(0, 3, 240)
    answers = np.where(rng.random(240) < 0.7, truth, other)
    speakers = [f"s{i // 8}" for i in range(240)] if clustered else []
    value, drawn = macro_f1(truth * 4 + answers, 3, speakers, 600, 1)
    assert value == pytest.approx(metrics.f1_score(truth, answers, average="macro"))
    groups = np.arange(240).reshape(30, 8) if clustered else np.arange(240)[:, None]
    loop = []
    for _ in range(300):
        rows = groups[rng.integers(0, len(groups), len(groups))].ravel()
        loop.append(metrics.f1_score(truth[rows], answers[rows], average="macro"))
    assert np.mean(drawn) == pytest.approx(np.mean(loop), abs=0.01)
    assert np.std(drawn) == pytest.approx(np.std(loop), rel=0.2)

"""The page of times says what was measured, and differing results do not pass."""

import math

import numpy as np
import pytest

from perf import measure, workload

MACHINE = {"processor": "A chip", "load": "0.1 on 2 cores", "jax": "1.2"}


def row(ours=(0.002, 0.004, 0.003), torch=(0.009, 0.006, 0.003), error=1e-7):
    return measure.Row("one", list(ours), torch and list(torch), error)


def test_medians_and_their_ratio():
    page = measure.page([row()], MACHINE)
    assert "| one | 3.00 ms | 6.00 ms | 2.00 | 3 | 1e-07 |" in page
    assert "A chip, one thread; load average 0.1 on 2 cores; jax 1.2." in page


@pytest.mark.parametrize(("seconds", "word"), [(0.004, "met"), (0.006, "missed")])
def test_the_target_is_judged_by_the_median(seconds, word):
    assert f"is {word}: the median" in measure.page([row([seconds] * 3)], MACHINE)


@pytest.mark.parametrize("busy", [True, False])
def test_a_busy_machine_is_told(busy):
    machine = MACHINE | ({"busy": "yes"} if busy else {})
    assert ("upper bounds" in measure.page([row()], machine)) == busy


def test_an_absent_peer_is_named():
    page = measure.page([row(torch=None, error=None)], MACHINE)
    assert "PyTorch was not installed" in page
    assert "| one | 3.00 ms | – | – | 3 | – |" in page  # noqa: RUF001


@pytest.mark.parametrize(
    ("error", "code"), [(None, 0), (1e-6, 0), (1e-4, 1), (math.nan, 1)]
)
def test_differing_results_fail(error, code, capsys):
    assert measure.tell_differences([row(error=error)]) == code
    assert ("results differ: one" in capsys.readouterr().err) == bool(code)


def test_the_error_is_relative_to_the_largest_value():
    wanted = np.array([0.0, -4.0])
    assert workload.relative_error(wanted * 1.1, wanted) == pytest.approx(0.1)


def test_calls_take_turns():
    order = []
    calls = [lambda: order.append("a"), lambda: order.append("b")]
    times = workload.alternate(calls, 3)
    assert order == ["a", "b"] * 3
    assert [len(seconds) for seconds in times] == [3, 3]


def test_every_clip_has_a_label():
    listeners = workload.make_listeners(5)
    assert listeners.targets.sum(-1).min() >= 1
    assert listeners.support.shape == (5, workload.SUPPORT, 1, workload.WIDTH)

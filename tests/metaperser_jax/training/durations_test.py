"""Durations: what a text means in steps, and what is no duration."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metaperser_jax.errors import InputError
from metaperser_jax.training.durations import to_steps


@pytest.mark.parametrize(
    ("duration", "steps"),
    [
        (300, 300),
        ("300", 300),
        ("300 steps", 300),
        ("1 step", 1),
        ("25 epochs", 250),
        ("25epochs", 250),
        ("1 epoch", 10),
        (" 2 epochs ", 20),
        ("0.5 epochs", 5),
        ("0.26 epochs", 3),
        ("2.4 steps", 2),
        ("0 epochs", 0),
        ("40%", 80),
        ("40 %", 80),
        ("100%", 200),
        ("0.4 %", 1),
    ],
)
def test_what_a_duration_means_with_10_steps_an_epoch_of_200(duration, steps):
    assert to_steps(duration, 10, total=200) == steps


@pytest.mark.parametrize(
    "duration",
    [
        "", "soon", "-3 epochs", "-1", "3 weeks", "epochs", "3 epoch s", "1e3",
        "1,5 epochs", "inf", "nan", ".5 epochs", "3 epochs 2", "3.%",
        "١٢ weeks", "25 Epochs",
    ],
)  # fmt: skip
def test_what_is_no_duration(duration):
    with pytest.raises(InputError, match="expected a number of steps, '25 epochs'"):
        to_steps(duration, 10, total=200)


def test_a_percentage_needs_something_to_be_a_part_of():
    with pytest.raises(InputError, match="40%"):
        to_steps("40%", 10)


@given(
    st.floats(0, 1e6, allow_nan=False).map(lambda x: round(x, 3)),
    st.integers(1, 10_000),
    st.sampled_from(["epochs", "epoch"]),
)
def test_epochs_are_steps_to_within_half_a_step(number, steps_per_epoch, unit):
    text = f"{number:.3f} {unit}"
    found = to_steps(text, steps_per_epoch)
    assert abs(found - number * steps_per_epoch) <= 0.5 + 1e-6
    assert isinstance(found, int)


@given(st.text(max_size=12))
def test_any_text_is_a_duration_or_an_input_error(text):
    with contextlib.suppress(InputError):
        assert to_steps(text, 3, total=9) >= 0

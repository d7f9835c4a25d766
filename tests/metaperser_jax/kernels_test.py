"""Each form of a kernel gives the products of the entries it stands for."""

import numpy as np
import pytest

from metaperser_jax import kernels
from metaperser_jax.kernels import Probed, Products, Updated


@pytest.fixture
def parts(rng):
    names = ("rows", "kernel", "seen", "coefficients", "shift")
    shapes = ((5, 4), (4, 3), (2, 4), (2, 3), (5, 3))
    return {n: rng.normal(size=s) for n, s in zip(names, shapes, strict=True)}


def test_entries(parts):
    found = kernels.dense(parts["rows"], parts["kernel"])
    np.testing.assert_allclose(found, parts["rows"] @ parts["kernel"])


def test_an_update_in_factors(parts):
    kernel = Updated(parts["kernel"], parts["seen"], parts["coefficients"])
    entries = parts["kernel"] - parts["seen"].T @ parts["coefficients"]
    found = kernels.dense(parts["rows"], kernel)
    np.testing.assert_allclose(found, parts["rows"] @ entries)


def test_known_products_do_not_read_the_rows(parts):
    units = parts["rows"] @ parts["kernel"]
    assert kernels.dense(np.full((5, 4), np.nan), Products(units)) is units


def test_a_shift_of_any_form(parts):
    units = parts["rows"] @ parts["kernel"]
    for kernel in (parts["kernel"], Products(units)):
        found = kernels.dense(parts["rows"], Probed(kernel, parts["shift"]))
        np.testing.assert_allclose(found, units + parts["shift"])

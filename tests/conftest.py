"""Tests feel what users feel: rank promotion raises, warnings are errors.

No example of a property is timed: a busy machine is no fault of the code. The examples
are the same in each run; `--hypothesis-profile=search` looks for new ones.
"""

import os

import hypothesis
import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", "cpu")
hypothesis.settings.register_profile("search", deadline=None)
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(scope="session", autouse=True)
def own_compilations(tmp_path_factory):
    """Nothing is compiled into the user's folders, by processes of tests neither."""
    os.environ.setdefault(
        "JAX_COMPILATION_CACHE_DIR", str(tmp_path_factory.mktemp("compiled"))
    )


LONG = ("test_run.py", "tune_test.py")  # minutes; workers take whole files, in order


def pytest_collection_modifyitems(items):
    """The longest files come first, so that all workers end at about one time."""
    items.sort(key=lambda item: item.path.name not in LONG)


@pytest.fixture
def rng():
    return np.random.default_rng(0)

"""A small generated copy, planned and written once."""

import pytest

from metaperser_jax.data.crema_d import fake

SIZE = fake.FakeSize(num_clips=60, num_raters=24, seed=5)


@pytest.fixture(scope="session")
def plan():
    return fake.plan_fake(SIZE)


@pytest.fixture(scope="session")
def copy(plan, tmp_path_factory):
    """The generated copy on disk; tests that change it take a copy of their own."""
    folder = tmp_path_factory.mktemp("generated") / "CREMA-D"
    fake.write_fake(plan, folder)
    return folder

"""Invented trees that the tests of this room share; none may change them."""

import pytest

from metaperser_jax.data.iemocap import fake


@pytest.fixture(scope="session")
def clean(tmp_path_factory):
    """A small tree without quirks: 5 sessions, 10 dialogs, 80 utterances."""
    return fake.fake_tree(tmp_path_factory.mktemp("clean"), 2, 8, quirks=False)


@pytest.fixture(scope="session")
def quirky(tmp_path_factory):
    """The same with all quirks."""
    return fake.fake_tree(tmp_path_factory.mktemp("quirky"), 2, 8)

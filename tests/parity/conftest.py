"""What the comparisons with PyTorch share."""

import importlib.util
import pathlib

import jax
import pytest
import torch


def pytest_collection_modifyitems(items):
    here = pathlib.Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.parity)


@pytest.fixture(scope="session")
def oracle():
    torch.set_num_threads(1)
    path = pathlib.Path(__file__).with_name("oracle.py")
    spec = importlib.util.spec_from_file_location("oracle", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=["float64", "float32"])
def precision(request):
    """(dtype, relative tolerance): both sides compute in this precision."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param, {"float64": 1e-9, "float32": 1e-4}[request.param]
